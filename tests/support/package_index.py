"""The package index that pip asks, for tests that need packages which the tests' own environment does not have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """uv, asking the index that pip is told to ask."""

    options: tuple[str, ...]
    certificates: Mapping[str, str] = field(default_factory=dict)

    def uv(
        self, *words: str | Path, given: str | None = None, cwd: Path | None = None, timeout_s: float = 110,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run `uv pip …`. `given`: its input."""
        program = [str(Path(sys.executable).with_name("uv")), "--quiet", "--no-config", "pip", words[0]]
        return subprocess.run(
            [*program, *self.options, *words[1:]], input=given, cwd=cwd, capture_output=True, text=True, check=False,
            timeout=timeout_s, env={**os.environ, **self.certificates, **(env or {})},
        )  # fmt: skip


def package_index() -> PackageIndex:
    """Return the index. Skips the test where there is none."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True, timeout=60
    )
    # A command's own value overrides the general one, the environment both.
    of = dict[str, str]()
    for where in ("global", "install", ":env:"):
        of |= dict(re.findall(rf"^{where}\.([\w-]+)='(.*)'$", listed.stdout, re.MULTILINE))
    if of.get("no-index"):
        pytest.skip("pip is told to ask no index")
    options = ["--default-index", of["index-url"]] if "index-url" in of else []
    options += [part for url in of.get("extra-index-url", "").split() for part in ("--index", url)]
    found = PackageIndex(tuple(options), {"SSL_CERT_FILE": of["cert"]} if of.get("cert") else {})
    impatient = {"UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0"}
    tried = found.uv("compile", "-", given="packaging", timeout_s=60, env=impatient)
    if tried.returncode:
        pytest.skip(f"no package index: {' '.join(tried.stderr.split())[:200]}")
    return found
