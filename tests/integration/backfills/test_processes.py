"""Backfills with listener, worker and command as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import httpx
import pytest

from reindexer.backfills import runs
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from tests.support.backfills import KEY, PATH
from tests.support.flow import insert
from tests.support.forks import forked_python
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes


def command(processes: Processes, *arguments: str, forked: bool = True) -> subprocess.Popen[str]:
    python = forked_python() if forked else [sys.executable, "-m"]
    return subprocess.Popen(
        [*python, "reindexer", "backfill", *arguments],
        env=processes.env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.long
def test_ctrl_c_leaves_the_backfill_running_and_says_how_to_watch_and_end_it(
    db: Connection, processes: Processes
) -> None:
    insert(db, "text")
    running = command(processes, "context_items", forked=False)
    assert running.stderr is not None
    assert "no listener runs" in running.stderr.readline()
    assert "context_items: 0 of 1" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    code, _, err = ended(running)
    assert code == 130
    assert "--watch" in err
    assert "--cancel" in err
    assert "Traceback" not in err
    assert runs.recent(db, "context_items")[0].state == "running"
    code, _, err = ended(command(processes, "context_items"))
    assert (code, err.count("\n")) == (1, 1)
    assert "--watch" in err
    code, out, _ = ended(command(processes, "context_items", "--cancel", "--json"))
    assert (code, json.loads(out)["state"]) == (0, "cancelled")
    assert ended(command(processes, "context_items", "--cancel"))[0] == 1
    assert ended(command(processes, "nothing"))[0] == 2
    for wrong in (["--where", "true) OR (true"], ["--cancel", "--force"]):
        code, _, err = ended(command(processes, "context_items", *wrong))
        assert (code, err.count("\n")) == (2, 1), err
    code, out, _ = ended(command(processes, "context_items", "--detach", "--json"))
    assert (code, json.loads(out)["state"]) == (0, "running")


@pytest.mark.long
def test_on_a_terminal_a_bar_with_rate_and_time_left_is_drawn(db: Connection, processes: Processes) -> None:
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 300) n")
    processes.listener()
    processes.worker(REINDEXER_BATCH_SIZE="50")
    eventually(lambda: state_of_everything(db).pending == 0, within=30)
    terminal, its_end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "reindexer", "backfill", "context_items", "--force"],
        env=processes.env | {"TERM": "xterm", "COLUMNS": "120"}, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=its_end,
    )  # fmt: skip
    os.close(its_end)
    shown = b""
    with suppress(OSError):  # the terminal ends with its last user
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    code, out, _ = ended(process)
    assert code == 0
    assert b"\x1b[" in shown
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).strip().splitlines()[-1]
    assert re.search(r"context_items .* 300/300 \d+/s", last)
    assert re.fullmatch(r"backfill \d+ of context_items finished: 300 done, 0 failed\n", out)


@pytest.mark.timeout(300)
def test_a_listener_killed_half_way_is_followed_by_one_that_misses_nothing_and_queues_nothing_twice(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider
) -> None:
    rows = 6_000
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, %s) n", [rows])
    db.execute("TRUNCATE reindexer.outbox")
    # A backlog of others' work that leaves room for two pages: nobody gets to the end before it is gone.
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane, not_before)"
        " SELECT 'context_items', gen_random_uuid(), 1, 'bulk', 'infinity' FROM generate_series(1, 16000)"
    )
    first = processes.listener()
    _, url = processes.api()
    with httpx.Client(base_url=url, headers=KEY, timeout=10) as http:
        run_url = f"{PATH}/{http.post(PATH, json={'source': 'context_items', 'force': True}).json()['id']}"
        eventually(lambda: http.get(run_url).json()["queued"] == 4_000, within=30)
        processes.children.kill(first)
        assert http.get(run_url).json()["queued"] == 4_000
        db.execute("DELETE FROM reindexer.due WHERE not_before = 'infinity'")
        processes.listener()
        following = command(processes, "context_items", "--watch", "--json")
        assert following.stderr is not None
        assert f"of {rows}" in following.stderr.readline()
        processes.worker()
        code, out, err = ended(following)
        assert code == 0, err
        assert json.loads(out)["state"] == "finished"
        run = http.get(run_url).json()
    assert (run["state"], run["done"], run["failed"]) == ("finished", rows, 0)
    assert len(provider.inputs) == len(set(provider.inputs)) == rows
    assert index.count() == rows
