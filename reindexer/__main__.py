"""`reindexer` and `python -m reindexer` are the same program."""

from reindexer.cli import main

if __name__ == "__main__":
    main()
