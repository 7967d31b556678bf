"""Folders that Postgres can use, in memory where that has room.

A database is 300 files. ext4 takes no inode that was freed just now, and looks through all of those for each new file: a
database made after some dozen others were dropped cost 0.4 s of the processor, in memory 0.02 s.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reindexer.embedded.qdrant_store import forget_abandoned

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 * 1024**3
"""For four parts of the suite at once, each with a server whose log may grow to 1 GiB."""
PREFIX = "rx-test-"
"""A later run deletes in memory what a killed one left there."""


@contextmanager
def room(name: str = "room") -> Iterator[Path]:
    """A new folder, deleted afterwards. Another user may enter it: as root, Postgres runs as one."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    parent = MEMORY if has_room else Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        forget_abandoned(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as made:
        directory = Path(made) / name
        directory.mkdir()
        directory.parent.chmod(0o755)
        directory.chmod(0o755)
        with directory.with_name("lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield directory
