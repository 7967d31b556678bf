"""The site of the documents: it is whole, it stands alone, and its build refuses links that lead nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.docs import without_blocks
from tests.support.processes import ROOT

CONFIGURATION = ROOT / "mkdocs.yml"
FETCHED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
                     r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon|dns-prefetch))"""
                     r"""[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
                     r"""|url\(["']?((?:https?:)?//[^"')]+)|@import\s+["']((?:https?:)?//[^"']+)""")  # fmt: skip


def build(directory: Path) -> subprocess.CompletedProcess[str]:
    """What `make site` does, of a copy."""
    zensical = Path(sys.executable).with_name("zensical")
    if not zensical.exists():
        pytest.skip("the extra `docs` is not installed")
    return subprocess.run(
        [zensical, "build", "--clean", "--strict"],
        cwd=directory, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Configuration and documents."""
    shutil.copy(CONFIGURATION, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    return tmp_path


@pytest.mark.long
def test_the_site_is_built_and_fetches_nothing_from_other_hosts(copy: Path) -> None:
    done = build(copy)
    assert done.returncode == 0, done.stderr
    files = [file for file in (copy / ".site").rglob("*") if file.suffix in (".html", ".css")]
    assert len(files) > 60
    fetched = {next(filter(None, found)) for file in files for found in FETCHED.findall(file.read_text("utf-8"))}
    assert fetched == set()


@pytest.mark.parametrize(
    "link",
    [
        "cli.md#no-such-heading",
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in ("no-such-page.md", "#no-such-heading", "../README.md")
        ),
    ],
)
@pytest.mark.long
def test_a_link_that_leads_nowhere_ends_the_build(copy: Path, link: str) -> None:
    with (copy / "docs" / "faq.md").open("a", encoding="utf-8") as page:
        page.write(f"\nSee [there]({link}).\n")
    done = build(copy)
    assert done.returncode != 0
    assert "faq.md" in done.stdout + done.stderr


def test_no_document_links_out_of_the_site() -> None:
    """A page names the repository's files as code: on the site they are not there."""
    docs = ROOT / "docs"
    out = [
        f"{page.name}: {target}"
        for page in docs.rglob("*.md")
        for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", without_blocks(page))
        if not (page.parent / target).resolve().is_relative_to(docs)
    ]
    assert out == []


def test_every_document_stands_in_the_navigation_or_in_the_list_of_decisions() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for each in (entry.values() if isinstance(entry, dict) else entry) for page in pages(each)]

    docs = ROOT / "docs"
    shown = set(pages(yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))["nav"]))
    written = {str(page.relative_to(docs)) for page in docs.rglob("*.md")}
    assert {page for page in written - shown if not page.startswith("adr/0")} == set()
    assert shown <= written
