"""The version stands in `reindexer/__init__.py`; what repeats it says the same."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import reindexer

ROOT = Path(__file__).parents[2]


def test_compose_and_package_have_the_version_of_the_program() -> None:
    images = re.findall(r"image: reindexer:(\S+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert images == [reindexer.__version__]
    assert metadata("reindexer")["Version"] == reindexer.__version__


def test_the_package_says_under_which_licence_it_is() -> None:
    assert metadata("reindexer")["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_lock_pins_every_dependency_within_its_range_and_names_no_index() -> None:
    locked = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in locked
    pins: dict[str, list[str]] = {}
    for line in locked.splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition(";")[0].partition("==")
            pins.setdefault(canonicalize_name(name), []).append(version.strip())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert len(wanted) > 30
    for requirement in map(Requirement, wanted):
        versions = pins[canonicalize_name(requirement.name)]
        assert all(version in requirement.specifier for version in versions), requirement
