"""Distributions as pip would have installed them: a module, and the metadata that names its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    site: Path, package: str, entry_points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str]
) -> None:
    """Write a distribution into a directory of `sys.path`. `entry_points`: group → name → object."""
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
            for group, named in entry_points.items()
        ),
        encoding="utf-8",
    )
    for name, code in modules.items():
        (site / f"{name}.py").write_text(code, encoding="utf-8")
