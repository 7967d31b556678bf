"""`reindexer demo`: what it shows, and when it refuses."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import psutil
import pytest

from reindexer.cli.demo import QUERY, words_of
from reindexer.cli.stdlib_texts import stdlib_texts
from tests.support.commands import reindexer
from tests.support.docs import blocks
from tests.support.processes import ROOT


def test_the_demo_tells_its_figures_and_the_lines_that_the_readme_shows_and_leaves_no_process(directory: Path) -> None:
    """With --json, its lines are on standard error."""
    done = reindexer("demo", "--limit", "1000", "--json", env={"TMPDIR": str(directory)}, forked=False)
    assert done.returncode == 0, done.stderr
    (shown,) = [block for block in blocks(ROOT / "README.md") if block.mark == "demo"]
    told = iter(masked(done.stderr))
    assert [line for line in masked(shown.text) if line not in told] == [], "shown, but not printed in this order"
    figures = json.loads(done.stdout)
    assert figures["indexed"] == 1000
    found = re.search(r"^ +0\.\d{3}  (\S+): ", done.stderr, re.MULTILINE)
    assert found
    (text,) = [each.text for each in stdlib_texts() if each.name == found[1]]
    assert not words_of(QUERY) & words_of(f"{found[1]} {text}")
    assert figures["edit_searchable_ms"] < 500
    assert figures["delete_gone_ms"] < 500
    assert figures["bulk_queued"] == figures["bulk_succeeded"] == 100
    assert [each for each in psutil.process_iter(["cmdline"]) if str(directory) in str(each.info)] == []
    assert list(directory.iterdir()) == []


def masked(output: str) -> list[str]:
    """Its lines without numbers, without the names of what the search found and of this machine."""
    here = f"on {platform.system().replace('Darwin', 'macOS')} {platform.machine()};"
    lines = [line.strip().replace(here, "on Linux x86_64;") for line in output.splitlines() if line.strip()]
    return [re.sub(r"\d[\d,.]*", "N", re.sub(r"^(0\.\d{3}) .*", r"\1 NAME", line)) for line in lines]


@pytest.mark.long
def test_without_its_listener_the_demo_fails() -> None:
    done = reindexer("demo", "--limit", "50", "--without", "listener")
    assert done.returncode == 1
    assert "does a listener run?" in done.stderr


def test_the_demo_asks_before_it_spends_money() -> None:
    paid = {"OPENAI_API_KEY": "sk-none"}
    done = reindexer("demo", "--limit", "50", env=paid)
    assert done.returncode == 1
    assert re.search(r"embeds about [\d,]+ tokens with text-embedding-3-small, about \$0\.\d\d", done.stdout)
