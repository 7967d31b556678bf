"""`reindexer` and `python -m reindexer` are the same program."""

from __future__ import annotations

import signal


def main() -> None:
    """The command line. Ctrl-C during its imports ends it at once, without a traceback."""
    hears = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if hears:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from reindexer.cli import main as run

    if hears:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
