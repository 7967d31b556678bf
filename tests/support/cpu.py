"""How much CPU processes of ours and Postgres take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from reindexer.postgres.connect import Connection


def percent(cpu: Callable[[], float], window_s: float) -> float:
    """CPU in percent of a core, over a while."""
    before, began = cpu(), time.monotonic()
    time.sleep(window_s)
    return 100 * (cpu() - before) / (time.monotonic() - began)


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def family_s(root: psutil.Process) -> float:
    """Of all that Postgres is, with the sessions that have ended."""
    times = root.cpu_times()
    living = 0.0
    for each in root.children():
        try:
            living += cpu_s(each)
        except psutil.NoSuchProcess:
            continue
    return float(times.user + times.system + times.children_user + times.children_system) + living


def postmaster_of(db: Connection) -> int:
    (directory,) = db.execute("SELECT current_setting('data_directory')").fetchone() or ("",)
    return int((Path(directory) / "postmaster.pid").read_text().split()[0])
