"""What each role may do, by route. A route that is not named here is closed to every key of the database."""

from __future__ import annotations

from collections.abc import Mapping

from reindexer.core.api_key import Role

_EVERYBODY: frozenset[Role] = frozenset({"search", "operate", "admin"})
_SEARCH: frozenset[Role] = frozenset({"search", "admin"})
_OPERATE: frozenset[Role] = frozenset({"operate", "admin"})
_ADMIN: frozenset[Role] = frozenset({"admin"})

RIGHTS: Mapping[str, frozenset[Role]] = {
    "POST /search": _SEARCH,
    "POST /similar": _SEARCH,
    "POST /wait": _EVERYBODY,
    "GET /admin/status": _OPERATE,
    "GET /admin/spend": _OPERATE,
    "GET /admin/history": _OPERATE,
    "GET /admin/budgets": _OPERATE,
    "PUT /admin/budgets": _ADMIN,
    "GET /admin/events": _OPERATE,
    "GET /admin/items/{source}/{item_id}": _OPERATE,
    "POST /admin/bulk/regenerate-embeddings": _OPERATE,
    "GET /admin/tasks/{task_id}": _OPERATE,
    "POST /admin/pause": _OPERATE,
    "POST /admin/resume": _OPERATE,
    "GET /admin/dead-letters": _OPERATE,
    "POST /admin/dead-letters/replay": _OPERATE,
    "POST /admin/backfills": _OPERATE,
    "GET /admin/backfills": _OPERATE,
    "GET /admin/backfills/{run_id}": _OPERATE,
    "POST /admin/backfills/{run_id}/pause": _OPERATE,
    "POST /admin/backfills/{run_id}/resume": _OPERATE,
    "POST /admin/backfills/{run_id}/cancel": _OPERATE,
    "POST /admin/reconcile": _OPERATE,
    "GET /admin/generations/{source}": _OPERATE,
    "GET /admin/sources/{source}": _OPERATE,
    "GET /admin/sources/{source}/cost": _OPERATE,
    "GET /metrics": _OPERATE,
    "POST /admin/items/{source}/{item_id}/forget": _ADMIN,
    "POST /admin/generations/{source}/rebuild": _ADMIN,
    "POST /admin/generations/{source}/cancel": _ADMIN,
    "POST /admin/generations/{source}/promote": _ADMIN,
    "POST /admin/generations/{source}/rollback": _ADMIN,
    "POST /admin/generations/{source}/prune": _ADMIN,
    "GET /admin/points/{source}/{item_id}": _ADMIN,
    "GET /context-items": _ADMIN,
    "POST /context-items": _ADMIN,
    "GET /context-items/{item_id}": _ADMIN,
    "PATCH /context-items/{item_id}": _ADMIN,
    "DELETE /context-items/{item_id}": _ADMIN,
}
"""Method and path, as the route is defined. The role `operate` reads no text or payload of rows: it neither searches
nor reads context items, and names no condition in a backfill."""


def allows(role: Role, operation: str) -> bool:
    """Whether a role may do that."""
    return role in RIGHTS.get(operation, frozenset())  # guard key-role


def operations_of(role: Role) -> list[str]:
    """What a role may do."""
    return [operation for operation, roles in RIGHTS.items() if role in roles]
