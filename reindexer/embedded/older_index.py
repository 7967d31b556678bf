"""What the embedded Qdrant of an older version left in its folder. It imitated the engine, and kept other files."""

from __future__ import annotations

import shutil
from pathlib import Path

_EMPTIED = "emptied"
_NAMES = ("meta.json", "payload_schema.json", "collection", ".lock")


def holds_older_index(folder: Path) -> bool:
    """Whether an older version's index lies there, which this one can't read."""
    return (folder / "meta.json").exists() and (folder / "collection").exists()


def is_to_be_filled_anew(folder: Path) -> bool:
    """Whether an older index lies there, or lay there and nobody has said since that all is written again."""
    return holds_older_index(folder) or (folder / _EMPTIED).exists()


def is_filled_anew(folder: Path) -> None:
    """Say so."""
    (folder / _EMPTIED).unlink(missing_ok=True)


def told_of_older_index(folder: Path) -> str:
    """One line about that."""
    return f"the index in {folder} is an older version's: it is emptied, and filled anew from Postgres"


def forget_older_index(folder: Path) -> None:
    """Take it away; nothing where there is none."""
    if not holds_older_index(folder):
        return
    (folder / _EMPTIED).touch()
    for path in (folder / name for name in _NAMES):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
