"""Keeps a developer's environment, made for other servers, from disturbing connections to the embedded ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def libpq_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that make libpq connect otherwise than a URL says (PGSERVICE, PGSSLMODE, PGHOSTADDR, PGOPTIONS, …)."""
    return sorted(name for name in environment if name.startswith("PG"))


def reach_own_servers(environment: MutableMapping[str, str] = os.environ, *, postgres: bool) -> None:
    """Exempt loopback from proxies. If `postgres` (the server is an embedded one), also remove libpq's variables, so
    that its URL alone decides."""
    for name in ("NO_PROXY", "no_proxy"):
        spared = [host for host in environment.get(name, "").split(",") if host]
        environment[name] = ",".join([*spared, *(host for host in LOOPBACK if host not in spared)])
    if postgres:
        for name in libpq_variables(environment):
            del environment[name]
