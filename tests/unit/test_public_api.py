"""The public Python API: what is named here may be relied on. A change of this file belongs into CHANGELOG.md."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import reindexer

NAMES = [
    "ApiKey", "Attached", "AwaitedItem", "BreakerStatus", "ChangedMeanwhile", "Client", "DeadLetter", "DefinitionError",
    "DependencyUnavailable", "Detached", "Forgotten", "Generation", "GenerationConflict", "GenerationStatus", "Hit",
    "ItemFailed", "ItemState", "Keywords", "NewKey", "NoSuchItem", "NoSuchRun", "OtherEmbedder", "PastRequest",
    "PermanentError", "Profile", "Promoted", "QueryVector", "RateLimited", "ReindexerError", "RelatedTable",
    "RowIsThere", "RowsWouldMove", "Run", "RunConflict", "SearchResult", "Settings", "Source", "SourceError",
    "SourceStatus", "Status", "TaskState", "TransientError", "UnfitRequest", "UsageError", "Waited", "__version__",
]  # fmt: skip

METHODS = {
    "__init__": "(self, settings: 'Settings | None' = None) -> 'None'",
    "attach": (
        "(self, name: 'str', *, table: 'str | None' = None, text: 'Columns | None' = None,"
        " key: 'Columns | None' = None, payload: 'Columns | None' = None,"
        " related: 'Sequence[RelatedTable] | None' = None, template: 'str | None' = None,"
        " where: 'str | None' = None, alias: 'str | None' = None, chunk_tokens: 'int | None' = None,"
        " chunk_overlap: 'int | None' = None, chunker: 'str | None' = None,"
        " chunk_header: 'str | None' = None, store_text: 'str | None' = None, tenant: 'str | None' = None,"
        " keywords: 'bool | None' = None, language: 'str | None' = None, stop_words: 'Columns | None' = None,"
        " stemmer: 'bool | None' = None,"
        " profile: 'Profile | None' = None,"
        " unset: 'Sequence[str]' = (), rows_may_move: 'bool' = False) -> 'Attached'"
    ),
    "backfill": "(self, source: 'str', *, where: 'str | None' = None, force: 'bool' = False, max_usd: 'float | None' = None) -> 'Run'",
    "cancel_rebuild": "(self, source: 'str') -> 'int'",
    "cancel_run": "(self, run_id: 'int') -> 'Run'",
    "close": "(self) -> 'None'",
    "create_key": (
        "(self, name: 'str', *, role: 'Role', source: 'str | None' = None, filter: 'Mapping[str, Any] | None' = None,"
        " expires_s: 'float | None' = None) -> 'NewKey'"
    ),
    "dead_letters": (
        "(self, source: 'str | None' = None, *, item_id: 'str | None' = None, error: 'str | None' = None,"
        " limit: 'int' = 50, after: 'DeadLetter | None' = None) -> 'list[DeadLetter]'"
    ),
    "detach": "(self, name: 'str', *, drop_collection: 'bool') -> 'Detached'",
    "embed_query": "(self, source: 'str', query: 'str', *, keywords: 'bool' = False) -> 'QueryVector'",
    "forget": "(self, source: 'str', item_id: 'str') -> 'Forgotten'",
    "generations": "(self, source: 'str') -> 'list[Generation]'",
    "list_keys": "(self) -> 'list[ApiKey]'",
    "pause_run": "(self, run_id: 'int') -> 'Run'",
    "promote": (
        "(self, source: 'str', *, wait_s: 'float' = 60.0, accept_lag: 'bool' = False, accept_failed: 'bool' = False)"
        " -> 'Promoted'"
    ),
    "prune": "(self, source: 'str', *, generation: 'int | None' = None) -> 'list[int]'",
    "rebuild": "(self, source: 'str', *, profile: 'str | None' = None, max_usd: 'float | None' = None) -> 'Run'",
    "regenerate": "(self, source: 'str', ids: 'Sequence[Key]') -> 'list[str]'",
    "regenerate_now": "(self, source: 'str', item_id: 'str', *, timeout_s: 'float' = 300.0) -> 'None'",
    "replay_dead_letters": (
        "(self, source: 'str | None' = None, *, item_id: 'str | None' = None, error: 'str | None' = None,"
        " limit: 'int | None' = None) -> 'int'"
    ),
    "resume_run": "(self, run_id: 'int') -> 'Run'",
    "revoke_key": "(self, name: 'str') -> 'None'",
    "rollback": (
        "(self, source: 'str', *, wait_s: 'float' = 60.0, accept_lag: 'bool' = False, accept_failed: 'bool' = False)"
        " -> 'Promoted'"
    ),
    "run": "(self, run_id: 'int') -> 'Run'",
    "search": (
        "(self, source: 'str | Sequence[str]', query: 'str', *, limit: 'int' = 10, offset: 'int' = 0,"
        " filter: 'Mapping[str, Any] | None' = None, min_score: 'float | None' = None, group: 'Group' = 'item',"
        " mode: 'Mode | None' = None, text: 'bool' = False, after: 'str | None' = None, after_timeout_s: 'float' = 10.0)"
        " -> 'SearchResult'"
    ),
    "similar": (
        "(self, source: 'str', item_id: 'str', *, limit: 'int' = 10, offset: 'int' = 0,"
        " filter: 'Mapping[str, Any] | None' = None, min_score: 'float | None' = None, group: 'Group' = 'item',"
        " text: 'bool' = False) -> 'SearchResult'"
    ),
    "sources": "(self) -> 'list[Source]'",
    "status": "(self) -> 'Status'",
    "task": "(self, task_id: 'str') -> 'TaskState | None'",
    "wait": "(self, what: 'str', ids: 'Sequence[Key] | None' = None, *, timeout_s: 'float' = 10.0) -> 'Waited'",
    "why": "(self, source: 'str', item_id: 'str') -> 'ItemState | None'",
}

RESULTS = {
    "RelatedTable": (
        "name", "table", "of", "through", "on", "to", "many", "order", "separator", "where", "limit", "columns",
    ),
    "ApiKey": (
        "id", "name", "role", "source", "filter", "created_at", "created_by", "expires_at", "revoked_at", "state",
    ),
    "NewKey": ("key", "about"),
    "Attached": ("source", "changed", "redefined", "problem", "note"),
    "BreakerStatus": ("state", "reason", "failures", "since", "next_probe_at"),
    "DeadLetter": ("source", "item_id", "error", "attempts", "failed_at", "heals_at"),
    "Detached": ("source", "items", "collection", "dropped"),
    "Forgotten": ("source", "points", "records", "verified_for_s"),
    "Hit": ("item_id", "score", "chunk", "span", "payload", "fingerprint", "source", "text", "changed"),
    "ItemState": (
        "source", "item_id", "status", "wanted", "indexed", "lane", "attempts", "error", "waits_for", "next_try_at",
        "changed_at", "indexed_at", "chunks", "history",
    ),
    "AwaitedItem": ("source", "item_id", "failed", "reason"),
    "Waited": ("status", "failed", "waits_for"),
    "PastRequest": ("task_id", "succeeded", "error", "created_at", "finished_at"),
    "Run": (
        "id", "source", "kind", "state", "where", "force", "total", "total_is_estimate", "queued", "done", "failed",
        "rate", "eta_s", "started_at", "finished_at", "error",
    ),
    "SearchResult": ("hits", "behind", "degraded", "after", "as_of"),
    "SourceStatus": ("due", "completed", "failed", "paused", "problem", "triggers", "triggers_wrong", "generation", "beside"),
    "GenerationStatus": ("number", "state", "due", "oldest_change_age_s", "problem"),
    "Generation": (
        "number", "state", "collection", "embedder", "problem", "created_at", "activated_at", "retired_at",
        "standby_until", "emptied_at", "removed_at", "pending", "failed", "oldest_change_age_s", "run_id",
    ),
    "Promoted": ("source", "former", "lacking"),
    "QueryVector": ("collection", "embedder", "vector", "keywords"),
    "Status": (
        "outbox", "pending", "processing", "failed", "healing", "completed", "open_runs", "oldest_change_age_s",
        "listener", "workers", "triggers", "breakers", "budgets", "events", "sources",
    ),
    "TaskState": ("task_id", "source", "item_id", "error", "state", "waits_for"),
}  # fmt: skip


def test_what_is_public_is_what_all_names() -> None:
    assert reindexer.__all__ == NAMES
    assert [name for name in NAMES if getattr(reindexer, name, None) is None] == []


def test_a_type_checker_sees_the_names_that_are_there_at_runtime() -> None:
    tree = ast.parse(Path(reindexer.__file__).read_text(encoding="utf-8"))
    (guarded,) = [each for each in tree.body if isinstance(each, ast.If)]
    seen = {name.name: each.module for each in guarded.body if isinstance(each, ast.ImportFrom) for name in each.names}
    homes = {name: f"reindexer.{module}" for module, names in reindexer._HOMES.items() for name in names}
    assert seen == homes
    assert {*homes, "__version__"} == set(NAMES)


def test_the_methods_of_a_client_have_these_signatures() -> None:
    methods = {
        name: str(inspect.signature(method))
        for name, method in vars(reindexer.Client).items()
        if inspect.isfunction(method) and (not name.startswith("_") or name == "__init__")
    }
    assert methods == METHODS


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_frozen_and_has_these_fields(name: str) -> None:
    result = getattr(reindexer, name)
    assert tuple(each.name for each in fields(result)) == RESULTS[name]
    assert result.__dataclass_params__.frozen


def test_everything_public_says_what_it_is() -> None:
    described = [*(getattr(reindexer, name) for name in NAMES if name != "__version__"),
                 *(getattr(reindexer.Client, name) for name in METHODS)]  # fmt: skip
    assert [each for each in described if not inspect.getdoc(each)] == []
