"""Wheels of everything that we depend on, for the platforms that the README names: nobody has to compile anything."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import Environment
from packaging.pylock import Package, PackageWheel, Pylock
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from tests.support.package_index import PackageIndex, package_index
from tests.support.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("", *PROJECT["optional-dependencies"])

MARKERS = {"Linux": ("linux", "posix"), "macOS": ("darwin", "posix"), "Windows": ("win32", "nt")}


def named_platforms() -> list[tuple[str, str, tuple[int, int], str]]:
    """What the README's table says: system, machine, oldest version (of glibc, of macOS) and Python, cell by cell."""
    rows = re.findall(
        r"^\| (Linux|macOS) (\w+), .*?(\d+)(?:\.(\d+))? or newer \| ([\d., ]+) \|$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [
        (system, machine, (int(major), int(minor or 0)), python)
        for system, machine, major, minor, pythons in rows
        for python in pythons.split(", ")
    ]


def tags(system: str, machine: str, oldest: tuple[int, int], python: str) -> Iterator[Tag]:
    """Of the wheels that can be installed there."""
    if system == "macOS":
        platforms = list(mac_platforms(oldest, machine))
    elif system == "Windows":
        platforms = ["win_amd64"]
    else:
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(oldest[1], 4, -1)]
        platforms += [f"manylinux{year}_{machine}" for year in (2014, 2010, 1)]
    version = tuple(map(int, python.split(".")))
    yield from cpython_tags(version, platforms=platforms)
    yield from compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)


@pytest.fixture(scope="module")
def index() -> PackageIndex:
    """Skips the test where there is none."""
    return package_index()


def test_the_readme_names_the_platforms_that_we_want() -> None:
    cells = {(system, machine, python) for system, machine, _, python in named_platforms()}
    machines = (("Linux", "x86_64"), ("Linux", "aarch64"), ("macOS", "arm64"))
    assert cells == {(*each, python) for each in machines for python in ("3.11", "3.12", "3.13", "3.14")}


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "no extra")
@pytest.mark.first(2)
def test_whatever_is_installed_has_a_wheel_on_every_platform_that_the_readme_names(
    index: PackageIndex, tmp_path: Path, extra: str
) -> None:
    """Whatever a resolver chooses from our ranges now, transitive dependencies too. And on Windows, so that `up` can
    tell of WSL, except the tools of development."""
    locked = tmp_path / "pylock.toml"
    options = ["--universal", "--python-version", "3.11", "--format", "pylock.toml", "-o", str(locked)]
    done = index.uv("compile", "pyproject.toml", *(["--extra", extra] if extra else []), *options, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lock = Pylock.from_dict(tomllib.loads(locked.read_text(encoding="utf-8")))
    cells = named_platforms()
    if extra != "dev":
        cells += [("Windows", "AMD64", (10, 0), python) for *_, python in cells[:4]]
    assert [
        f"{package.name} {package.version} on {cell[0]} {cell[1]} with Python {cell[3]}"
        for cell in cells
        for package in without_wheel(lock, *cell)
    ] == []


def without_wheel(lock: Pylock, system: str, machine: str, oldest: tuple[int, int], python: str) -> Iterator[Package]:
    sys_platform, os_name = MARKERS[system]
    environment: Environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": os_name,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Darwin" if system == "macOS" else system,
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": sys_platform,
    }
    chosen = lock.select(environment=environment, tags=list(tags(system, machine, oldest, python)))
    found = list(chosen)
    assert len(found) > 50, "all that we depend on"
    for package, source in found:
        if not isinstance(source, PackageWheel):
            yield package
