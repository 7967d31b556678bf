"""All collections and aliases of an embedded Qdrant, in one folder that one process holds.

`collections.json` names them; each collection's shard has a folder of its own beside it. It is exchanged as a whole
after a shard was made and before one is taken away, so what it names is always there, and a folder that it does not
name is left from a crash.
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
"""A folder in which something was made so lately may be one that is being begun."""


class Missing(LookupError):
    """There is no such collection or alias."""


class Taken(Exception):
    """Something else has this name."""


class Store:
    """`log`: whether writes survive the process."""

    def __init__(self, folder: Path, *, log: bool = True) -> None:
        """Raises BlockingIOError where another process holds it; OSError or ValueError where it can't be read."""
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
        """The name of a collection that is asked for by its own, or by an alias. Raises Missing."""
        name = self.aliases.get(asked, asked)
        if name not in self.collections:
            raise Missing(f"Collection `{asked}` doesn't exist!")
        return name

    def create(self, name: str, params: Mapping[str, Json]) -> None:
        """Raises Taken, ValueError."""
        if name in self.collections:
            raise Taken(f"Collection `{name}` already exists!")
        if name in self.aliases:
            raise ValueError(f"Alias with the same name already exists: {name}")
        described = Described(uuid.uuid4().hex, dict(params))
        try:
            self.collections[name] = Collection(self._folder, described, log=self._log, is_new=True)
            self.keep()
        except BaseException:  # what is not written down is gone at the next start: so it was not made
            self.collections.pop(name, None)  # guard embedded-create-rollback
            shutil.rmtree(self._folder / described.folder, ignore_errors=True)
            raise

    def drop(self, name: str) -> bool:
        """The collection of this name, with its aliases; False where there is none."""
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
        """All of them, or none. Raises Missing, Taken, ValueError."""
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
        """Write down what there is."""
        collections = {name: asdict(each.described) for name, each in self.collections.items()}
        draft = self._names.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"aliases": self.aliases, "collections": collections}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._names)

    def disk_s(self) -> float:
        """How long it takes now to write something to the disk: the longest of a few tries, for who is busy is so by
        turns."""
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
    """Take a store's folder away if no process holds it; one that is being made may not be held yet, and stays."""
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
