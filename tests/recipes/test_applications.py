"""docs/applications.md: each how-to as it stands there, with the real framework, beside running processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reindexer.embedded.children import free_port
from tests.support.docs import Reader
from tests.support.processes import ROOT, Processes

DOCUMENT = ROOT / "docs" / "applications.md"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_documents_how_tos_work_beside_running_processes(
    env: Mapping[str, str], processes: Processes, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    processes.listener()
    processes.worker()
    _, url = processes.api()
    port = int(url.rpartition(":")[2])
    Reader(
        processes.children, env, port, preset=True, folder=project, other_ports={8010: free_port(), 8020: free_port()}
    ).follow(DOCUMENT)
