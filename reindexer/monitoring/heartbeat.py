"""Heartbeats of listeners and workers: who is alive, and really at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg.rows import class_row

from reindexer import __version__
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

Role = Literal["listener", "worker"]

BEAT_S = 10.0
STALE_S = 40.0
"""A process whose last beat is older is taken for dead or stuck."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process that beats. `name` ends in `@` and its host."""

    name: str
    host: str
    version: str
    age_s: float


def beat(connection: Connection, role: Role, name: str, *, leads: bool = False) -> None:
    """Record that this process is at work now. `leads`: a listener that drains without the lock, behind a pooler."""
    parameters = {"name": name, "role": role, "host": name.rpartition("@")[2], "version": __version__, "leads": leads}
    connection.execute(load("heartbeat.sql")["beat"], parameters)


def rest(connection: Connection, name: str) -> None:
    """The process ends as it was told: nobody needs to miss it."""
    connection.execute(load("heartbeat.sql")["rest"], {"name": name})


def alive(connection: Connection, role: Role) -> list[Process]:
    """Processes of a role whose beat is fresh, by name."""
    with connection.cursor(row_factory=class_row(Process)) as cursor:
        return cursor.execute(load("heartbeat.sql")["alive"], {"role": role, "within_s": STALE_S}).fetchall()
