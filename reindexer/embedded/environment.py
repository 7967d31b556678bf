"""What a developer's shell holds for other servers must not keep anybody from those that we start ourselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def libpq_variables(environment: Mapping[str, str]) -> list[str]:
    """Those by which libpq connects otherwise than a URL says (PGSERVICE, PGSSLMODE, PGHOSTADDR, PGOPTIONS, …)."""
    return sorted(name for name in environment if name.startswith("PG"))


def reach_own_servers(environment: MutableMapping[str, str] = os.environ, *, postgres: bool) -> None:
    """Let programs of this environment reach servers on loopback without a proxy, and where Postgres is one of ours,
    let nothing but its URL say how."""
    for name in ("NO_PROXY", "no_proxy"):
        spared = [host for host in environment.get(name, "").split(",") if host]
        environment[name] = ",".join([*spared, *(host for host in LOOPBACK if host not in spared)])
    if postgres:
        for name in libpq_variables(environment):
            del environment[name]
