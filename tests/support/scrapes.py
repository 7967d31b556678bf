"""Scrapes of `/metrics` that are kept as files; tests/integration/test_scrapes.py records them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import ROOT

FOLDER = ROOT / "tests" / "scrapes"

Scrape = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""By name and labels."""


def recorded(text: str) -> Scrape:
    """Every sample of Prometheus' text format."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(file: Path) -> Scrape:
    """A recorded one."""
    return recorded(file.read_text(encoding="utf-8"))
