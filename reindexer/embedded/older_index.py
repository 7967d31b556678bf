"""Detects and removes what an older version's embedded Qdrant left: it imitated the engine, and kept other files."""

from __future__ import annotations

import shutil
from pathlib import Path

_EMPTIED = "emptied"
_NAMES = ("meta.json", "payload_schema.json", "collection", ".lock")


def holds_older_index(folder: Path) -> bool:
    """Whether the folder holds an older version's index, which this version can't read."""
    return (folder / "meta.json").exists() and (folder / "collection").exists()


def is_to_be_filled_anew(folder: Path) -> bool:
    """Whether an older index is there, or was there and `is_filled_anew` was not called since."""
    return holds_older_index(folder) or (folder / _EMPTIED).exists()


def is_filled_anew(folder: Path) -> None:
    """Record that the new index is filled."""
    (folder / _EMPTIED).unlink(missing_ok=True)


def told_of_older_index(folder: Path) -> str:
    """One line for the user about an older index."""
    return f"the index in {folder} is an older version's: it is emptied, and filled anew from Postgres"


def forget_older_index(folder: Path) -> None:
    """Remove an older index, if there is one."""
    if not holds_older_index(folder):
        return
    (folder / _EMPTIED).touch()
    for path in (folder / name for name in _NAMES):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
