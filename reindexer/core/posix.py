"""Functions that Windows lacks."""

from __future__ import annotations

import os

from reindexer.core.errors import UsageError


def require_posix() -> None:
    """Raises UsageError on Windows, which lacks the locks and signals that keep our processes apart."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        raise UsageError("this runs on Linux and macOS; on Windows, install and run it inside WSL") from None


def user_id() -> int | None:
    """Return the effective user id of this process. None on Windows."""
    return os.geteuid() if hasattr(os, "geteuid") else None
