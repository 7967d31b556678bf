"""The journal: what each writer did, a line of JSON for each transaction; and which embeddings that called for."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Entry:
    """One transaction that was committed (or may have been: its connection broke), or one call of the bulk endpoint."""

    rows: int = 0
    """Rows inserted, updated or deleted."""
    texts: list[tuple[str, str]] = field(default_factory=list)
    """(item id, text) wherever a text became the text of a row."""
    asked: list[str] = field(default_factory=list)
    """Item ids that the bulk endpoint was asked for."""
    error: str | None = None
    """What no writer should ever see."""


def line(entry: Entry) -> str:
    """The entry as it is written."""
    return json.dumps(asdict(entry)) + "\n"


def read(paths: Iterable[Path]) -> list[Entry]:
    """All entries of all writers."""
    lines = [each for path in paths for each in path.read_text(encoding="utf-8").splitlines()]
    entries = [Entry(**json.loads(each)) for each in lines]
    for entry in entries:
        entry.texts = [(item_id, text) for item_id, text in entry.texts]
    return entries


def wasted(entries: Sequence[Entry], answered: Iterable[str]) -> int:
    """Embeddings beyond those that the edits called for.

    An edit calls for one embedding of the text that it gives to a row: an insert, another text, another key. A call of
    the bulk endpoint for an item calls for one embedding of any text that the item ever had. `answered` are the inputs
    to which the provider gave a vector; of each text those count that are more than were called for. So these are what
    faults cost: batches of workers that were killed, answers that were cut, claims that were doubtful.
    """
    called: Counter[str] = Counter()
    texts_of: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for item_id, text in entry.texts:
            called[text] += 1
            texts_of[item_id].add(text)
    for entry in entries:
        for item_id in entry.asked:
            called.update(texts_of[item_id])
    return (Counter(answered) - called).total()
