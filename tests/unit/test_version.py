"""The version stands in `reindexer/__init__.py`; what repeats it says the same."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import reindexer

ROOT = Path(__file__).parents[2]


def test_compose_and_package_have_the_version_of_the_program() -> None:
    images = re.findall(r"image: reindexer:(\S+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert images == [reindexer.__version__]
    assert metadata("reindexer")["Version"] == reindexer.__version__


def test_the_package_says_under_which_licence_it_is() -> None:
    assert metadata("reindexer")["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
