"""Environments of their own, with wheels that are really installed. The libraries come from the tests' environment."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path


def wheel_of(project: Path, folder: Path) -> Path:
    """Build a project's wheel."""
    before = set(folder.glob("*.whl"))
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=project, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = set(folder.glob("*.whl")) - before
    return wheel


def environment_with(wheels: Sequence[Path], folder: Path) -> Path:
    """Make a virtual environment that holds the wheels; returns its folder of programs."""
    venv.create(folder, symlinks=True)
    purelib = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder)]
    command = [*pip, "install", "--quiet", "--no-deps", "--no-index", *map(str, wheels)]
    subprocess.run(command, check=True, timeout=60)
    # A folder in a .pth file comes after the environment's own; its .pth files, one of which names this checkout, are
    # not read.
    (Path(purelib) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"
