"""What the embedded Qdrant of an older version left in its folder. It imitated the engine, and kept other files."""

from __future__ import annotations

import shutil
from pathlib import Path

_NAMES = ("meta.json", "payload_schema.json", "collection", ".lock")


def holds_older_index(folder: Path) -> bool:
    """Whether an older version's index lies there, which this one can't read."""
    return (folder / "meta.json").exists() and (folder / "collection").exists()


def told_of_older_index(folder: Path) -> str:
    """One line about that."""
    return f"the index in {folder} is an older version's: it is emptied, and filled anew from Postgres"


def forget_older_index(folder: Path) -> None:
    """Take it away; nothing where there is none."""
    if not holds_older_index(folder):
        return
    for path in (folder / name for name in _NAMES):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
