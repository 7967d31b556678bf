"""What commands print of facts."""

from __future__ import annotations

import json

import pytest

from reindexer.cli.output import report


def test_people_are_told_nothing_where_there_is_nothing_and_programs_all(capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, object] = {"points": 0, "queued": None, "examples": {}, "done": False}
    report(facts, as_json=False)
    assert capsys.readouterr().out == "points  0\ndone    False\n"
    report(facts, as_json=True)
    assert json.loads(capsys.readouterr().out) == facts
