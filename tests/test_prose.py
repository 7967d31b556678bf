"""What users read is plain English: a few rules that a program can check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(p.relative_to(ROOT) for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WIDTH = 120
RULES = {
    r"\beach \d+ (ms|s|min)\b": "every 50 ms, not each",
    r"^(Who|Whoever) \w+s\b(?!.*\?)": "name the actor: a caller that waits, not who waits",
    r"\bthe bell rings\b": "the trigger notifies",
}


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without code, tables, comments and lists of links."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "<!--", "    ")):
            yield number, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_lines_are_narrow_enough_to_review(document: Path) -> None:
    wide = [number for number, line in prose((ROOT / document).read_text(encoding="utf-8")) if len(line) > WIDTH]
    assert wide == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_sentences_name_their_actor(document: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [
        f"{number}: {rule}"
        for number, line in prose(text)
        for pattern, rule in RULES.items()
        if re.search(pattern, line)
    ]
    assert found == []
