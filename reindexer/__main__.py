"""`reindexer` and `python -m reindexer` are the same program."""

from __future__ import annotations

import signal


def main() -> None:
    """The command line. While it imports what it needs, Ctrl-C ends it at once, and without a word of Python's."""
    hears = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if hears:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from reindexer.cli import main as run

    if hears:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
