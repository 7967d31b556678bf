"""Heartbeats of listeners and workers: which processes are alive and at work."""

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
"""A process whose last heartbeat is older is considered dead or stuck."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process that sends heartbeats. `name` ends with `@` and its host."""

    name: str
    host: str
    version: str
    age_s: float


def beat(connection: Connection, role: Role, name: str, *, leads: bool = False) -> None:
    """Record that this process is at work now. `leads`: a listener that drains without the lock, behind a pooler."""
    parameters = {"name": name, "role": role, "host": name.rpartition("@")[2], "version": __version__, "leads": leads}
    connection.execute(load("heartbeat.sql")["beat"], parameters)


def rest(connection: Connection, name: str) -> None:
    """Deregister a process that ends in an orderly way, so that it is not reported as missing."""
    connection.execute(load("heartbeat.sql")["rest"], {"name": name})


def alive(connection: Connection, role: Role) -> list[Process]:
    """Return the processes of a role whose heartbeat is recent, by name."""
    with connection.cursor(row_factory=class_row(Process)) as cursor:
        return cursor.execute(load("heartbeat.sql")["alive"], {"role": role, "within_s": STALE_S}).fetchall()
