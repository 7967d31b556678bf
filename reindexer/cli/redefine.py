"""How a change of a source's definition is shown, and when it needs a confirmation."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, TextIO

from reindexer.cli.output import require_yes
from reindexer.core.source import Source
from reindexer.embedder_choice import advice
from reindexer.settings import Settings
from reindexer.sources.redefinition import Redefinition

NOTHING = "nothing would be changed"


def in_words(wanted: Redefinition) -> dict[str, str]:
    """One line per changed key, and one for the rows that enter or leave the index."""
    if not wanted.changes:
        return {wanted.after.name: NOTHING}
    told = {key: str(change) for key, change in wanted.changes.items()}
    return told | ({"rows": str(wanted.moved)} if wanted.before else {})


def as_facts(wanted: Redefinition) -> dict[str, Any]:
    """The change in a form for programs."""
    changes = {key: asdict(change) for key, change in wanted.changes.items()}
    return {wanted.after.name: {"new": wanted.before is None, "changes": changes, "rows": asdict(wanted.moved)}}


def tell_advice(settings: Settings, sources: Iterable[Source]) -> None:
    """Say on stderr what a profile should say for a well-known model."""
    for source in sources:
        if told := advice(settings, source):
            sys.stderr.write(f"reindexer: note: {told}\n")


def confirm(wanted: Redefinition, *, yes: bool, told: TextIO) -> None:
    """Show the change, and ask if rows would move. Raises Failed if the answer is no, or if there is no terminal."""
    if not wanted.changes:
        return
    words = in_words(wanted)
    width = max(map(len, words))
    told.writelines(f"{key:<{width}}  {value}\n" for key, value in words.items())
    if yes or not wanted.moved:  # guard definition-confirm-row-moves
        return
    told.flush()
    undone = "nothing was changed" if sys.stdin.isatty() else f"rows: {wanted.moved}; nothing was changed"
    require_yes("Go on?", yes=yes, otherwise=undone, err=told is sys.stderr)
