"""The Python API: `Client`, whose methods do what the commands of their names do.

Everything that a method raises is a ReindexerError (`reindexer.core.errors`). A client needs no broker and imports no
Celery: what is due stands in Postgres, where listener and workers find it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import psycopg

from reindexer import api_keys, audit, rebuilding, wiring
from reindexer.api_keys import ApiKey, NewKey
from reindexer.backfills import runs
from reindexer.backfills.runs import Run
from reindexer.core.api_key import Role
from reindexer.core.errors import ReindexerError, SourceError, TransientError, UnfitRequest, UsageError
from reindexer.core.filters import parse_filter
from reindexer.core.keywords import Keywords
from reindexer.core.profile import Profile
from reindexer.core.search_terms import Group, Mode, SearchTerms
from reindexer.core.source import Source
from reindexer.core.wording import counted
from reindexer.generations import lifecycle
from reindexer.generations.promotion import Promoted, Terms
from reindexer.generations.rows import Generation, generations
from reindexer.index.forget import Forgotten, forget
from reindexer.index.search import Searchable, Searcher, SearchResult, collections_of, search_sources, searchable
from reindexer.index.similar import similar
from reindexer.monitoring.status import ItemState, Status, status, why
from reindexer.postgres.connect import Connection, connect, one_line, server_errors
from reindexer.postgres.schema import require_schema
from reindexer.queue import dead_letters, requests
from reindexer.queue.dead_letters import DeadLetter
from reindexer.queue.requests import TaskState
from reindexer.queue.waiting import Waited, answer
from reindexer.settings import Settings
from reindexer.sources import change
from reindexer.sources.attach import Attached
from reindexer.sources.detach import detach
from reindexer.sources.embedder_record import recorded_embedding_spec
from reindexer.sources.item_ids import distinct_ids
from reindexer.sources.keys import key_types
from reindexer.sources.relations import RelatedTable
from reindexer.sources.store import all_sources, find_source, problems
from reindexer.worker import one_request
from reindexer.worker.worker import Worker

LOOK_S = 0.05
"""The interval at which `regenerate_now` tries an item that is held or waits."""

Key = str | int | uuid.UUID | Sequence[str | int | uuid.UUID]
"""A row's key: text, integer or uuid as its column is; of a composite key a sequence of its parts."""

Columns = str | Sequence[str]
"""The name of one column, or several names."""


@dataclass(frozen=True, slots=True)
class Detached:
    """What `detach` did."""

    source: str
    items: int
    """How many items were known."""
    collection: str
    """The collection in Qdrant that held its points."""
    dropped: bool
    """Whether that collection was dropped."""


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A query's vector, and the points that it may be compared with."""

    collection: str
    """The collection in Qdrant, by its own name."""
    embedder: str
    """The embedder of vector and points, as `NAME:MODEL:DIMENSIONS`."""
    vector: list[float]
    keywords: Keywords | None = None
    """The query's words, for the sparse vector `bm25`: their numbers, and the weight 1 of each. None: they were not
    asked for, or the source has no keywords."""


class Client:
    """The same database, Qdrant and embedder as the settings' processes use. Any number of threads may share one.

    It connects at its first use. `close`, or the end of a `with` block, closes its connections.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Without `settings` it reads the environment and `.env`, as the commands do.

        Raises UsageError that names a setting, if one is wrong or if DATABASE_URL is missing.
        """
        self._settings = settings or Settings.load()
        self._postgres = wiring.postgres(self._settings, "client")
        self._purse = wiring.purse(self._settings, self._postgres)
        self._embedder_of = wiring.embedder_of(self._settings)
        self._waits = wiring.waits(self._settings, "client waits")
        self._lock = threading.Lock()
        self._schema_is_ours = False
        self._worker: Worker | None = None
        self._for_search: Searcher | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A call after that opens new ones."""
        with self._lock:
            worker, self._worker = self._worker, None
            waits, self._waits = self._waits, wiring.waits(self._settings, "client waits")
        if worker is not None:
            worker.close()
        waits.close()
        self._purse.close()
        self._postgres.close()

    def attach(
        self,
        name: str,
        *,
        table: str | None = None,
        text: Columns | None = None,
        key: Columns | None = None,
        payload: Columns | None = None,
        related: Sequence[RelatedTable] | None = None,
        template: str | None = None,
        where: str | None = None,
        alias: str | None = None,
        chunk_tokens: int | None = None,
        chunk_overlap: int | None = None,
        chunker: str | None = None,
        chunk_header: str | None = None,
        store_text: str | None = None,
        tenant: str | None = None,
        keywords: bool | None = None,
        language: str | None = None,
        stop_words: Columns | None = None,
        stemmer: bool | None = None,
        profile: Profile | None = None,
        unset: Sequence[str] = (),
        rows_may_move: bool = False,
    ) -> Attached:
        """Keep a table indexed under a name. For an attached source: change what is given, and nothing else.

        A new source needs `table` (as in SQL: `shop.products`) and `text`. `chunk_tokens` and `chunk_overlap` are in
        tokens of the source's model. `chunk_header`, a template over the text columns and `{headings}`, is embedded in
        front of each chunk. `store_text` is the key under which a payload holds its chunk's text. `related` replaces
        all relations that the source has. `chunker` names what cuts the texts: `text`, `markdown`, `html`, `code`,
        `code-LANGUAGE`, or the chunker of an installed package. With `keywords` rows are found by their words as well;
        `language`, `stop_words` and `stemmer` say what a word is, and are fixed for a generation. `unset` names what is
        taken away again, such as `where` or `profile.model`. The call returns when the triggers are in place; the
        listener and the workers then fill the index.

        Raises DefinitionError if the definition does not fit the table, or RowsWouldMove if rows of an attached source
        would enter the index or leave it and `rows_may_move` is false; nothing is changed then. Raises SourceError if
        the triggers can't be created, and ChangedMeanwhile if somebody else changed the source just now.
        """
        given = {
            "table": table, "text": _names(text), "key": _names(key), "payload": _names(payload),
            "related": None if related is None else tuple(related), "template": template, "where": where,
            "alias": alias, "chunk_tokens": chunk_tokens, "chunk_overlap": chunk_overlap,
            "chunker": chunker, "chunk_header": chunk_header, "store_text": store_text, "tenant": tenant,
            "keywords": keywords, "language": language, "stop_words": _names(stop_words), "stemmer": stemmer,
            "profile": profile,
        }  # fmt: skip
        with self._long() as connection:
            wanted = change.propose(connection, name, {k: v for k, v in given.items() if v is not None}, unset)
            if not rows_may_move:
                change.require_no_moves(wanted)  # guard client-row-moves
            return change.apply(connection, wanted, who=audit.of_python())

    def detach(self, name: str, *, drop_collection: bool) -> Detached:
        """Stop indexing a table, and forget its items. The table stays as it was.

        Waits for claims in work, at most for a lease (60 s by default). `drop_collection`: delete its points from
        Qdrant as well. Raises UsageError if there is no such source, SourceError if the triggers can't be removed, and
        DependencyUnavailable if Qdrant does not answer; the source is then detached, and its collection is left.
        """
        with self._long() as connection:
            source = find_source(connection, name)
            collections = collections_of(connection, source)
            items = detach(connection, source, who=audit.of_python(), lease_s=self._settings.lease_s)
        if drop_collection:
            for each in collections:
                wiring.index(self._settings).drop(each)
        return Detached(name, items, source.collection, drop_collection)

    def sources(self) -> list[Source]:
        """The tables that are kept indexed, by name."""
        with self._connection() as connection:
            return all_sources(connection)

    def regenerate(self, source: str, ids: Sequence[Key]) -> list[str]:
        """Ask for a new embedding of each item, whether its text changed or not, as the HTTP bulk endpoint does.

        Returns a task id for each distinct key, in order, as soon as Postgres has committed the requests. `task` tells
        what became of one; a key without a row ends as FAILURE. Raises UsageError, and queues nothing, if there is no
        such source, if a key can't be one of it, or if there are more than REINDEXER_BULK_MAX_IDS (1,000): then use
        `backfill`.
        """
        most = self._settings.bulk_max_ids
        if len(ids) > most:
            raise UsageError(
                f"more than {counted(most, 'id')}; nothing was queued; to rebuild very many items use backfill"
            )
        with self._connection() as connection:
            there = find_source(connection, source)
            types = key_types(connection, there) if ids else ()
            return requests.submit(
                connection, source, distinct_ids([_plain(each) for each in ids], types), who=audit.of_python()
            )

    def regenerate_now(self, source: str, item_id: str, *, timeout_s: float = 300.0) -> None:
        """Embed one item anew and write it to Qdrant, in the caller's thread; returns when a search can find it.

        Does the work of a worker, with the same claims and retries. Raises ItemFailed with the reason when no retry is
        left, TransientError if that takes longer than `timeout_s`, OtherEmbedder if the settings here can't make the
        embedder that the database records, another SourceError if the source can't be worked on (a key is refused or
        missing, a column is missing): the item is embedded once that is mended.
        """
        with self._errors():
            self._regenerate_now(source, item_id, timeout_s)

    def _regenerate_now(self, source: str, item_id: str, timeout_s: float) -> None:
        with self._connection() as connection:
            there = find_source(connection, source)
            recorded_embedding_spec(connection, there, self._embedder_of(there))  # fail now, not by timeout
        worker, until = self._own_worker(), time.monotonic() + timeout_s
        state = one_request.begin(worker, str(uuid.uuid4()), source, item_id)
        while True:
            state = one_request.attempt(worker, state, alone=True)
            if state.is_final:
                one_request.item_of(state)
                return
            with worker.postgres.connection() as connection:
                problem = problems(connection).get(source)
            if problem is not None and state.waits_for == problem:
                raise SourceError(f"{problem}; it is done when that is mended")
            if time.monotonic() > until:
                waits_for = state.waits_for or "another claim holds it"
                raise TransientError(f"still {state.state} after {timeout_s:.0f} s: {waits_for}")
            time.sleep(LOOK_S)

    def task(self, task_id: str) -> TaskState | None:
        """What became of a request. None: its id was never handed out, or it ended more than a week ago."""
        with self._connection() as connection:
            return requests.task_state(connection, task_id)

    def status(self) -> Status:
        """The state of everything. Idle: `outbox`, `pending`, `processing` and `healing` are all 0. Ages in seconds."""
        with self._connection() as connection:
            return status(connection)

    def why(self, source: str, item_id: str) -> ItemState | None:
        """Everything that is known of one item: wanted, indexed, attempts, last error, what it waits for.

        None: there is no such row, and nothing is known of one. Raises UsageError if there is no such source,
        OtherEmbedder if the settings here can't make the embedder that the database records.
        """
        with self._connection() as connection:
            return why(connection, find_source(connection, source), item_id, self._embedder_of)

    def search(
        self,
        source: str | Sequence[str],
        query: str,
        *,
        limit: int = 10,
        offset: int = 0,
        filter: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        group: Group = "item",
        mode: Mode | None = None,
        text: bool = False,
        after: str | None = None,
        after_timeout_s: float = 10.0,
    ) -> SearchResult:
        """What is nearest to a text in a source, or in several, best first: `limit` hits (1 to 100) after `offset`.

        `filter` is on payload columns, all of which must hold, as in `POST /search`:
        `{"lang": ["nl", "de"], "price": {"gte": 10, "lt": 50}, "color": {"not": "red"}}`. Scores are cosine
        similarities, unless the source's profile names another distance; `min_score` is the least (of `euclid` and
        `manhattan`: the largest). Hits of several sources are fused by rank, and their scores are 1 / (60 + rank).
        `group`: `item` finds each item once, `chunk` each part of its text. `mode`: `meaning` compares vectors,
        `keywords` words, and `hybrid` both, fused by rank; not given: `hybrid` where a source has keywords. `text`: a
        hit gets its part of the text, as the row is now. The result is `degraded` if one of both alone counted.
        `after`: a token of `reindexer.mark()`, which is waited for at first, for `after_timeout_s` at most; the result
        says in `after` how that ended, and in `as_of` until when each change that was committed counts in it.

        Raises UsageError if there is no such source, UnfitRequest if the filter or a number does not fit,
        OtherEmbedder if the settings here can't make the embedder that the database records, DependencyUnavailable or
        RateLimited if the provider or Qdrant does not serve the query, SourceError if texts can't be read.
        """
        if not query.strip():
            raise UnfitRequest("the query is empty")
        names = [source] if isinstance(source, str) else list(dict.fromkeys(source))
        terms = SearchTerms(limit, offset, min_score=min_score, group=group, mode=mode)
        waited = self.wait(after, timeout_s=after_timeout_s).status if after is not None else None
        since = time.monotonic() if after is not None else None
        resolves = [partial(self._resolved, name, since) for name in names]
        found = search_sources(
            self._searching(), resolves, query, terms, partial(parse_filter, filter or {}),
            texts=self._connection if text else None,
        )  # fmt: skip
        return replace(found, after=waited)

    def wait(self, what: str, ids: Sequence[Key] | None = None, *, timeout_s: float = 10.0) -> Waited:
        """Wait until searches find what a transaction wrote, or the items of a source as they are now.

        `what`: a token of `SELECT reindexer.mark()`, or with `ids` the name of a source. Waits for at most so many
        seconds; any number of threads may wait, with one connection together. An item that is edited all the time may
        not be found at rest by its id; a mark of its edit is done all the same.

        Raises UsageError if this is no token of this database, if there is no such source, or if a key can't be one of
        it; DependencyUnavailable if Postgres does not answer.
        """
        items: Sequence[tuple[str, str]] = ()
        if ids is not None or not self._schema_is_ours:
            with self._connection() as connection:
                items = self._items(connection, what, ids) if ids is not None else ()
        waits = self._waits
        wait = waits.begin(None if ids is not None else what, items)
        try:
            status = wait.ended.result(timeout=timeout_s)
        except FutureTimeout:
            status = "timeout"
        finally:
            waits.end(wait)
        if status not in ("failed", "timeout"):
            return Waited(status)
        with self._connection() as connection:
            return answer(connection, wait, status)

    @staticmethod
    def _items(connection: Connection, name: str, ids: Sequence[Key]) -> list[tuple[str, str]]:
        source = find_source(connection, name)
        types = key_types(connection, source) if ids else ()
        return [(source.name, each) for each in distinct_ids([_plain(each) for each in ids], types)]

    def similar(
        self,
        source: str,
        item_id: str,
        *,
        limit: int = 10,
        offset: int = 0,
        filter: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        group: Group = "item",
        text: bool = False,
    ) -> SearchResult:
        """More like this item: what is nearest to it by the vectors that Qdrant holds of it. Asks no provider.

        The item itself is no hit. All else is as in `search`. Raises NoSuchItem if nothing of the item is indexed,
        UsageError if there is no such source, UnfitRequest, DependencyUnavailable, SourceError.
        """
        terms = SearchTerms(limit, offset, min_score=min_score, group=group)
        return similar(
            partial(self._resolved, source), self._connection, self._searching(), item_id, terms,
            partial(parse_filter, filter or {}), text=text,
        )  # fmt: skip

    def _searchable(self, source: str) -> Searchable:
        with self._connection() as connection:
            return searchable(connection, source)

    def _resolved(self, source: str, since: float | None = None) -> Searchable:
        there = self._searchable(source)
        return replace(there, as_of=self._searching().as_of.of(self._connection, there.source, since))

    def embed_query(self, source: str, query: str, *, keywords: bool = False) -> QueryVector:
        """Embed a query for a search of your own, with the collection whose points it may be compared with.

        Ask for both at once, and for each query anew: after a promotion another model makes the vectors of another
        collection. With `keywords` the result holds the query's words as well, by the rules of that collection. Raises
        as `search` does, and SourceError if keywords can't be computed here.
        """
        there, by = self._searchable(source), self._searching()
        encoder = by.encoder_of(there.source) if keywords else None
        words = encoder.query(query) if encoder else None
        embedder = by.embedder_of(there.source)
        embedding = embedder.embed([query], timeout_s=self._settings.embedding_timeout_s)
        return QueryVector(there.collection.name, embedder.fingerprint, embedding.vectors[0].tolist(), words)

    def backfill(
        self, source: str, *, where: str | None = None, force: bool = False, max_usd: float | None = None
    ) -> Run:
        """Start to rebuild all items of a source, or those that `where` (SQL over its columns) selects.

        Returns at once; the listener goes on with it, and `run` tells how far it is. Without `force`, items whose text
        is unchanged are not embedded again. Once it has cost `max_usd` dollars, its items wait. Raises UsageError if
        there is no such source or if the condition can't be used, RunConflict while a backfill of the source is open.
        """
        with self._connection() as connection:
            return runs.start(
                connection,
                find_source(connection, source),
                where=where,
                force=force,
                who=audit.of_python(),
                max_usd=max_usd,
            )

    def run(self, run_id: int) -> Run:
        """How far a backfill is; `rate` is in items per second, `eta_s` in seconds. Raises NoSuchRun."""
        with self._connection() as connection:
            return runs.get(connection, run_id)

    def pause_run(self, run_id: int) -> Run:
        """Queue no more items of a backfill. Raises NoSuchRun, or RunConflict if it has ended."""
        with self._connection() as connection:
            return runs.pause(connection, run_id, who=audit.of_python())

    def resume_run(self, run_id: int) -> Run:
        """Go on with a paused backfill. Raises NoSuchRun, or RunConflict if it has ended."""
        with self._connection() as connection:
            return runs.resume(connection, run_id, who=audit.of_python())

    def cancel_run(self, run_id: int) -> Run:
        """End a backfill, and take back what no worker has begun. Raises NoSuchRun, or RunConflict if it has ended."""
        with self._connection() as connection:
            return runs.cancel(connection, run_id, who=audit.of_python())

    def rebuild(self, source: str, *, profile: str | None = None, max_usd: float | None = None) -> Run:
        """Fill the next generation of a source beside the one that searches use.

        Its definition is the sources file's or, of a source that is not in it, the present one; `profile` names another
        profile of the file. The embedder is what the profile says and, where it says nothing, the settings. Returns at
        once; `run` tells how far it is. Once it has cost `max_usd` dollars, its items wait. Raises UsageError, and
        changes nothing, if definition or embedder can't be used, GenerationConflict if a generation is under way,
        DependencyUnavailable if provider or index do not answer.
        """
        index = self._searching().index
        with self._long() as connection:
            made = rebuilding.rebuild(
                self._settings, connection, index, source, who=audit.of_python(), profile=profile, max_usd=max_usd
            )
            return runs.get(connection, made.run_id)

    def cancel_rebuild(self, source: str) -> int:
        """Drop the generation that is being filled. Returns its number. Raises GenerationConflict if there is none."""
        with self._long() as connection:
            return lifecycle.cancel(connection, source, who=audit.of_python())

    def generations(self, source: str) -> list[Generation]:
        """The generations of a source by number, those too that are dropped."""
        with self._connection() as connection:
            return generations(connection, source)

    def promote(
        self, source: str, *, wait_s: float = 60.0, accept_lag: bool = False, accept_failed: bool = False
    ) -> Promoted:
        """Make searches use the generation that is ready; the former one is kept, and gets every edit.

        Waits at most `wait_s` until no change is later than a second. Raises GenerationConflict, and changes nothing,
        if the generation lags behind or lacks items that searches find now, unless that is accepted.
        """
        return self._switch(rebuilding.promote, source, Terms(wait_s, accept_lag, accept_failed))

    def rollback(
        self, source: str, *, wait_s: float = 60.0, accept_lag: bool = False, accept_failed: bool = False
    ) -> Promoted:
        """Make searches use the former generation again. Waits and raises as `promote` does."""
        return self._switch(rebuilding.rollback, source, Terms(wait_s, accept_lag, accept_failed))

    def _switch(self, act: Callable[..., Promoted], source: str, terms: Terms) -> Promoted:
        index = self._searching().index
        with self._long() as connection:
            return act(self._settings, connection, index, source, who=audit.of_python(), terms=terms)

    def prune(self, source: str, *, generation: int | None = None) -> list[int]:
        """Drop the former generations, or only this one. Returns their numbers. There is no way back to them.

        Raises GenerationConflict if there is none, or if it is the one that searches use.
        """
        with self._long() as connection:
            return lifecycle.prune(connection, source, who=audit.of_python(), number=generation)

    def dead_letters(
        self,
        source: str | None = None,
        *,
        item_id: str | None = None,
        error: str | None = None,
        limit: int = 50,
        after: DeadLetter | None = None,
    ) -> list[DeadLetter]:
        """Items that failed, in the order of source and item id; those that heal by themselves, too.

        `error`: only those whose reason holds this text, whatever its case. `after`: the last one of the page before.
        Raises UsageError if there is no such source.
        """
        with self._connection() as connection:
            which = dead_letters.which(connection, source, item_id, error)
            return dead_letters.page(connection, which, limit, (after.source, after.item_id) if after else None)

    def replay_dead_letters(
        self,
        source: str | None = None,
        *,
        item_id: str | None = None,
        error: str | None = None,
        limit: int | None = None,
    ) -> int:
        """Make failed items due again, with all their tries. Returns how many. Raises UsageError if there is no such
        source."""
        with self._long() as connection:
            which = dead_letters.which(connection, source, item_id, error)
            return dead_letters.replay(connection, which, who=audit.of_python(), limit=limit)

    def forget(self, source: str, item_id: str) -> Forgotten:
        """Remove an item whose row is gone from everything: points of all generations, records, reasons of failure.

        Waits for a claim that works on it, at most for a lease. Raises UsageError if there is no such source or if the
        database role may not do it, RowIsThere if the item has a row that would be indexed again, SourceError if that
        can't be decided, DependencyUnavailable if Qdrant does not answer: then do it again.
        """
        index = self._searching().index
        with self._long() as connection:
            return forget(
                connection, index, source, item_id, who=audit.of_python(), policy=self._settings.retry_policy,
                lease_s=self._settings.lease_s,
            )  # fmt: skip

    def create_key(
        self,
        name: str,
        *,
        role: Role,
        source: str | None = None,
        filter: Mapping[str, Any] | None = None,
        expires_s: float | None = None,
    ) -> NewKey:
        """Make a key of the HTTP API. `NewKey.key` is the key: keep it, because nothing shows it again.

        `role` is `search`, `operate` or `admin`. A key of the role `search` may be narrowed to a source, and to rows by
        `filter`: values of its payload columns, as in `{"tenant": "acme"}`. `expires_s`: seconds after which it ends;
        None: never. Raises UsageError, and makes none, if a live key has the name, if there is no such source, if the
        filter does not fit it, or if the database role may not write keys.
        """
        with self._connection() as connection:
            return api_keys.create(
                connection, name, who=audit.of_python(), role=role, source=source, where=filter or {},
                expires_s=expires_s,
            )  # fmt: skip

    def list_keys(self) -> list[ApiKey]:
        """The keys of the HTTP API by name, those too that have ended. None holds the key itself."""
        with self._connection() as connection:
            return api_keys.all_keys(connection)

    def revoke_key(self, name: str) -> None:
        """End a key: no process takes it any more 5 s from now on. Raises UsageError if no live key has the name."""
        with self._connection() as connection:
            api_keys.revoke(connection, name, who=audit.of_python())

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Borrow a connection, on which a statement may take as long as REINDEXER_POSTGRES_TIMEOUT_S."""
        with self._errors(), self._postgres.connection() as connection:
            self._require_schema(connection)
            yield connection

    @contextmanager
    def _long(self) -> Iterator[Connection]:
        """A connection of its own, for what takes as long as there are rows or other transactions."""
        url = self._postgres.url
        with self._errors(), server_errors(url), connect(url, application_name="reindexer client") as connection:
            self._require_schema(connection)
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Maps what is left of Postgres's errors (a missing right, say) to ours. Never quotes a row."""
        try:
            yield
        except psycopg.Error as exc:  # guard client-error-tree
            raise ReindexerError(f"Postgres: {one_line(exc)}") from exc

    def _require_schema(self, connection: Connection) -> None:
        if not self._schema_is_ours:
            require_schema(connection)
            self._schema_is_ours = True

    def _searching(self) -> Searcher:
        with self._lock:
            if self._for_search is None:  # here, because Qdrant's client is slow to import
                self._for_search = wiring.searcher(self._settings, paying=self._purse)
            return self._for_search

    def _own_worker(self) -> Worker:
        with self._lock:
            self._worker = self._worker or wiring.worker(self._settings, None)
            return self._worker


def _names(given: Columns | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    return (given,) if isinstance(given, str) else tuple(given)


def _plain(key: Key) -> Any:
    """The key as JSON would hold it."""
    if isinstance(key, str | int):
        return key
    return str(key) if isinstance(key, uuid.UUID) else [_plain(part) for part in key]
