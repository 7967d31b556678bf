"""All collections and aliases of an embedded Qdrant, in one folder that one process locks.

`collections.json` lists them; each collection's shard has a folder of its own beside it. The file is replaced as a
whole, after a shard is created and before one is deleted. So a shard that it lists always exists, and a shard folder
that it does not list is left from a crash.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from reindexer.embedded.older_index import forget_older_index
from reindexer.embedded.qdrant_collection import Collection, Described
from reindexer.embedded.qdrant_words import Json

YOUNG_S = 60.0
"""A folder that changed within this time may be one that another process is just creating."""


class Missing(LookupError):
    """There is no such collection or alias."""


class Taken(Exception):
    """The name is in use."""


class Store:
    """The store in one folder. `log`: whether writes survive the process."""

    def __init__(self, folder: Path, *, log: bool = True) -> None:
        """Raises BlockingIOError if another process holds it; OSError or ValueError if it can't be read."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._log = folder, log
        self._names = folder / "collections.json"
        self._lock = _locked(folder / "lock")
        forget_older_index(folder)
        kept = json.loads(self._names.read_text(encoding="utf-8")) if self._names.exists() else {}
        self.aliases: dict[str, str] = kept.get("aliases", {})
        described = {name: Described(**each) for name, each in kept.get("collections", {}).items()}
        self._forget_leftovers({each.folder for each in described.values()})
        self.collections = {name: Collection(folder, each, log=log) for name, each in described.items()}

    def close(self) -> None:
        """Write everything to disk."""
        self.keep()
        for collection in self.collections.values():
            collection.close()
        self._lock.close()

    def name_of(self, asked: str) -> str:
        """The name of a collection, from its name or an alias. Raises Missing."""
        name = self.aliases.get(asked, asked)
        if name not in self.collections:
            raise Missing(f"Collection `{asked}` doesn't exist!")
        return name

    def create(self, name: str, params: Mapping[str, Json]) -> None:
        """Create a collection. Raises Taken, ValueError."""
        if name in self.collections:
            raise Taken(f"Collection `{name}` already exists!")
        if name in self.aliases:
            raise ValueError(f"Alias with the same name already exists: {name}")
        described = Described(uuid.uuid4().hex, dict(params))
        try:
            self.collections[name] = Collection(self._folder, described, log=self._log, is_new=True)
            self.keep()
        except BaseException:  # what is not persisted is gone after a restart: so it does not count as created
            self.collections.pop(name, None)  # guard embedded-create-rollback
            shutil.rmtree(self._folder / described.folder, ignore_errors=True)
            raise

    def drop(self, name: str) -> bool:
        """Delete the collection and its aliases. False if there is none of this name."""
        collections, aliases = dict(self.collections), self.aliases
        collection = self.collections.pop(name, None)
        if collection is None:
            return False
        self.aliases = {alias: target for alias, target in aliases.items() if target != name}
        try:
            self.keep()
        except BaseException:
            self.collections, self.aliases = collections, aliases
            raise
        collection.drop()
        return True

    def change_aliases(self, actions: Sequence[Mapping[str, Json]]) -> None:
        """Apply all actions, or none. Raises Missing, Taken, ValueError."""
        aliases = dict(self.aliases)
        for action in actions:
            match action:
                case {"create_alias": {"collection_name": str(target), "alias_name": str(alias)}}:
                    if target not in self.collections:
                        raise Missing(f"Collection `{target}` doesn't exist!")
                    self._require_free(alias)
                    aliases[alias] = target
                case {"delete_alias": {"alias_name": str(alias)}}:
                    aliases.pop(alias, None)
                case {"rename_alias": {"old_alias_name": str(old), "new_alias_name": str(new)}}:
                    self._require_free(new)
                    if old not in aliases:
                        raise Missing(f"Alias {old} does not exists!")
                    aliases[new] = aliases.pop(old)
                case _:
                    raise ValueError("actions: an action that is not known")
        before, self.aliases = self.aliases, aliases
        if before == aliases:
            return
        try:
            self.keep()
        except BaseException:
            self.aliases = before
            raise

    def _require_free(self, alias: str) -> None:
        if alias in self.collections:
            raise Taken(f"Collection `{alias}` already exists!")

    def keep(self) -> None:
        """Persist the names and descriptions."""
        collections = {name: asdict(each.described) for name, each in self.collections.items()}
        draft = self._names.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"aliases": self.aliases, "collections": collections}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._names)

    def disk_s(self) -> float:
        """The present time of one fsync, in seconds: the longest of five, because a busy disk is busy by turns."""
        took = []
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for _ in range(5):
                began = time.perf_counter()
                file.write(b".")
                file.flush()
                os.fsync(file)
                took.append(time.perf_counter() - began)
        return max(took)

    def _forget_leftovers(self, named: set[str]) -> None:
        for each in self._folder.iterdir():
            if each.is_dir() and each.name not in named and (each / "edge_config.json").exists():
                shutil.rmtree(each, ignore_errors=True)


def forget_abandoned(folder: Path) -> None:
    """Delete a store's folder if no process holds it. A young one stays: its process may not have locked it yet."""
    with suppress(OSError):  # held, gone already, or somebody else's
        if time.time() - folder.stat().st_mtime < YOUNG_S:
            return
        lock = _locked(folder / "lock", "r")
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _locked(path: Path, mode: str = "a") -> IO[str]:
    lock = path.open(mode, encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock
