"""Keeps the text of Postgres tables searchable as vectors in Qdrant.

The public Python API is what `__all__` names, and `reindexer.indexing.generate_context_item_embedding`: `Client`, its
results, and the errors that it raises, all of them a `ReindexerError`. Everything else may change in any version.

The packages, in the order in which a change meets them:

    sources      what is indexed: definitions, triggers, rows and keys
    queue        drain    outbox -> due                         (listener)
                 dispatch due -> messages in the lanes' queues  (listener)
                 claim    due -> a batch under a lease          (worker)
                 settle   outcomes -> ledger, due row deleted   (worker)
    worker       one claim: read the rows, plan, embed, write; which batch is next, and how many at once
    embedding    texts to vectors, in as few requests as the limits allow
    index        points: written, reused, searched, compared with the table
    listener     the leading listener, and its election
    backfills    whole sources, page by page
    generations  another model without a gap: rebuild, promote, roll back, prune
    monitoring   metrics, status, heartbeats
    budgets      what may be spent, and what waits once it is used up
    events       who is told what became of items, and what still has to be told
    api_keys     who may do what by the HTTP API, and which rows a key sees

Below them: `core` (plain data and pure functions), `ports` (Protocols for products that can be exchanged), `registry`
(which embedders, chunkers and indexes there are, by name), `postgres` (part of the design, not a port), `audit`,
`tracing` (spans, where somebody collects them).

Above them: `adapters` (the products), `embedded` (servers that `up` starts), `running_stack` (how other commands find
them), `settings` and `variables` (the environment), `sources_file` (`reindexer.toml`), `logs`, `embedder_choice` (the
record decides), `wiring` (builds everything), `rebuilding`, `reconciling`, `planning` (what a change costs, and then
exactly that), `client` (the Python API), `migrate`, and the processes: `listen`, `celery_app` with `tasks`, `cli`, and
the package `api`. `testing` is for tests of plug-ins and applications.

For frameworks of applications: `alembic` (operations of migrations), `django` (command, check, marks),
`sqlalchemy` and `fastapi` (marks).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reindexer.api_keys import ApiKey, NewKey
    from reindexer.backfills.runs import NoSuchRun, Run, RunConflict
    from reindexer.client import Client, Detached, QueryVector
    from reindexer.core.errors import (
        ChangedMeanwhile,
        DefinitionError,
        DependencyUnavailable,
        GenerationConflict,
        ItemFailed,
        NoSuchItem,
        OtherEmbedder,
        PermanentError,
        RateLimited,
        ReindexerError,
        RowsWouldMove,
        SourceError,
        TransientError,
        UnfitRequest,
        UsageError,
    )
    from reindexer.core.keywords import Keywords
    from reindexer.core.profile import Profile
    from reindexer.core.source import Source
    from reindexer.generations.promotion import Promoted
    from reindexer.generations.rows import Generation
    from reindexer.index.forget import Forgotten, RowIsThere
    from reindexer.index.search import SearchResult
    from reindexer.monitoring.status import (
        BreakerStatus,
        GenerationStatus,
        ItemState,
        PastRequest,
        SourceStatus,
        Status,
    )
    from reindexer.ports import Hit
    from reindexer.queue.dead_letters import DeadLetter
    from reindexer.queue.marks import AwaitedItem
    from reindexer.queue.requests import TaskState
    from reindexer.queue.waiting import Waited
    from reindexer.settings import Settings
    from reindexer.sources.attach import Attached
    from reindexer.sources.relations import RelatedTable

__version__ = "0.1.0"

__all__ = [
    "ApiKey", "Attached", "AwaitedItem", "BreakerStatus", "ChangedMeanwhile", "Client", "DeadLetter", "DefinitionError",
    "DependencyUnavailable", "Detached", "Forgotten", "Generation", "GenerationConflict", "GenerationStatus", "Hit",
    "ItemFailed", "ItemState", "Keywords", "NewKey", "NoSuchItem", "NoSuchRun", "OtherEmbedder", "PastRequest",
    "PermanentError", "Profile", "Promoted", "QueryVector", "RateLimited", "ReindexerError", "RelatedTable",
    "RowIsThere", "RowsWouldMove", "Run", "RunConflict", "SearchResult", "Settings", "Source", "SourceError",
    "SourceStatus", "Status", "TaskState", "TransientError", "UnfitRequest", "UsageError", "Waited", "__version__",
]  # fmt: skip

_HOMES = {
    "api_keys": ("ApiKey", "NewKey"),
    "backfills.runs": ("NoSuchRun", "Run", "RunConflict"),
    "client": ("Client", "Detached", "QueryVector"),
    "core.errors": (
        "ChangedMeanwhile", "DefinitionError", "DependencyUnavailable", "GenerationConflict", "ItemFailed",
        "NoSuchItem", "PermanentError", "OtherEmbedder", "TransientError", "RateLimited", "ReindexerError",
        "RowsWouldMove", "SourceError", "UnfitRequest", "UsageError",
    ),
    "core.keywords": ("Keywords",),
    "core.profile": ("Profile",),
    "core.source": ("Source",),
    "generations.promotion": ("Promoted",),
    "generations.rows": ("Generation",),
    "index.forget": ("Forgotten", "RowIsThere"),
    "index.search": ("SearchResult",),
    "monitoring.status": ("BreakerStatus", "GenerationStatus", "ItemState", "PastRequest", "SourceStatus", "Status"),
    "ports": ("Hit",),
    "queue.dead_letters": ("DeadLetter",),
    "queue.marks": ("AwaitedItem",),
    "queue.requests": ("TaskState",),
    "queue.waiting": ("Waited",),
    "settings": ("Settings",),
    "sources.attach": ("Attached",),
    "sources.relations": ("RelatedTable",),
}  # fmt: skip
"""The modules of the public names. Each is imported at the first use of one of its names: many are slow to import."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
