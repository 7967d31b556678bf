"""docs/traces.md: its how-to as it stands there, with a collector in the place of Jaeger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reindexer.postgres.connect import Connection
from reindexer.testing.waiting import eventually
from tests.support.collector import collecting
from tests.support.docs import Reader
from tests.support.processes import ROOT, Processes

DOCUMENT = ROOT / "docs" / "traces.md"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_documents_how_to_leads_from_a_span_of_the_application_to_the_point(
    env: Mapping[str, str], processes: Processes, db: Connection, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    with collecting() as collector:
        port = int(collector.url.rpartition(":")[2])
        Reader(processes.children, env, 0, preset=True, folder=project, other_ports={4318: port}).follow(DOCUMENT)
        (saved,) = [span for span in collector.spans() if span.name == "save"]
        told = ["drain", "dispatch", "index", "claim", "read", "embed", "upsert", "look", "settle"]
        text = DOCUMENT.read_text(encoding="utf-8")
        assert all(f"─ {name}" in text for name in told)
        spans = collector.awaited(saved.trace_id, *told)
        assert {spans[name].parent_id for name in told[:3]} == {saved.span_id}
        assert {spans[name].parent_id for name in told[3:]} == {spans["index"].span_id}
        eventually(lambda: "run" in {span.name for span in collector.spans("4bf92f3577b34da6a3ce929d0e0e4736")})
