"""Another address of a provider has to show that it makes the vectors that a generation holds.

The record of the embedder names provider, model and dimensions. Another server may call another model by that name. So
each generation lists the addresses that were shown to make its vectors (`generation.servers`). A process that asks
another one first embeds a few texts there whose vectors are stored, and compares. A known address is asked nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import psycopg
import structlog

from reindexer.core.errors import (
    ChunkerFailed,
    DependencyUnavailable,
    InputRejected,
    OtherEmbedder,
    PermanentError,
    RefusesAll,
    SourceError,
    TransientError,
)
from reindexer.core.source import Source
from reindexer.core.text.batching import pack
from reindexer.core.text.tokens import estimate_tokens
from reindexer.embedding.decorators import spending
from reindexer.index.search import collection_of
from reindexer.ports import Embedder, EmbedderDecorator, EmbedderOf, Embedding, Index, Vector
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.rows import find_rows
from reindexer.sources.store import find_source

log = structlog.get_logger(__name__)

COMPARED = 5
"""How many texts are embedded to compare."""
ALIKE = 0.999
"""The least cosine of two vectors of one text by one model. Servers round, and batch, differently."""
PAGE = 50
MOST_PAGES = 20
"""How many items are looked at in search of a text that is as it was when it was embedded."""
REMEMBERED_S = 10.0
"""How long a process remembers what it found out, where it can't write it down or it was refused."""
PATIENCE_S = 60.0
"""Nothing is stored yet to compare with, and others are at work: for so long they get the chance to store something."""

Connecting = Callable[[], AbstractContextManager[Connection]]
Stored = tuple[str, Vector]
"""A text, and the vector that is stored of it."""


@dataclass(slots=True)
class ServerProof:
    """What a process finds out about addresses. Any number of threads may use one."""

    connecting: Connecting
    index: Callable[[], Index]
    index_timeout_s: float
    who: str = ""
    """Precedes the error's words: "a worker on HOST: "."""
    writes: bool = False
    """Its vectors are stored: where nothing is left to compare with, it decides what is made from now on."""
    _asking: dict[tuple[str, int, str], threading.Lock] = field(default_factory=dict)
    """By source, generation and address: one thread finds out, the others wait for what it finds."""
    _found: dict[tuple[str, int, str], tuple[float, OtherEmbedder | None]] = field(default_factory=dict)
    """By source, generation and address: until when it counts (monotonic), and why the address is refused."""
    _alone_from: dict[tuple[str, int, str], float] = field(default_factory=dict)
    """Since when there was nothing to compare with (monotonic)."""

    def of(
        self, source: Source, embedder: Embedder, server: str | None, documents: EmbedderOf | None = None
    ) -> Embedder:
        """Return the embedder, which first proves its address unless that is known. None: it has no address.

        `documents`: what embeds chunks there, if the embedder itself is one of queries.
        """
        if server is None or source.made_by is None or server in source.servers:
            return embedder
        proving = documents(source) if documents else embedder  # guard server-proven-by-documents
        return ProvenEmbedder(embedder, self, source, server, proving)  # guard server-proven-first

    def require(self, source: Source, embedder: Embedder, server: str, timeout_s: float) -> None:
        """Raises OtherEmbedder if the address makes other vectors, TransientError if that can't be found out now, as
        the embedder does if it does not answer."""
        key = source.name, source.generation, server
        with self._asking.setdefault(key, threading.Lock()):
            until, refused = self._found.get(key, (0.0, None))
            if time.monotonic() > until:
                refused = self._refusal(source, embedder, server, timeout_s)
                self._found[key] = time.monotonic() + REMEMBERED_S, refused
        if refused is not None:
            raise OtherEmbedder(str(refused))

    def _refusal(self, source: Source, embedder: Embedder, server: str, timeout_s: float) -> OtherEmbedder | None:
        with _of_others(), self.connecting() as connection:
            if self._is_accepted(connection, source, server):
                return None
            try:
                stored = self._stored(connection, source, embedder)
            except SourceError as exc:
                return self._other(source, server, f"this process can't find out: {exc}")
            if not stored:
                return self._without_any(connection, source, server)
        with spending("probe"):
            why = _difference(stored, embedder, timeout_s)
        if why is not None:
            return self._other(source, server, why)
        with _of_others(), self.connecting() as connection:
            self._note(connection, source, server, "add_server")
        return None

    def _is_accepted(self, connection: Connection, source: Source, server: str) -> bool:
        named = {"name": source.name, "generation": source.generation}
        servers, embedder = connection.execute(load("sources.sql")["servers"], named).fetchone() or ([], None)
        if embedder != source.made_by:
            return True  # detached and attached meanwhile: the record of the embedder is asked again
        if servers:
            return server in servers
        return not self.writes or self._note(connection, source, server, "accept_first_server")

    def _stored(self, connection: Connection, source: Source, embedder: Embedder) -> list[Stored]:
        """Some texts with their stored vectors, of this generation or of another whose vectors it may take over."""
        named = {"source": source.name, "generation": source.generation, "embedder": source.made_by}
        input_type = source.profile.asking("document").input_type
        for (number,) in connection.execute(load("sources.sql")["generations_of_embedder"], named).fetchall():
            there = find_source(connection, source.name, number)
            if there.profile.asking("document").input_type != input_type:  # guard server-proof-input-type
                continue  # its vectors were asked for in another way
            if found := self._stored_of(connection, there, embedder):
                return found
        return []

    def _stored_of(self, connection: Connection, source: Source, embedder: Embedder) -> list[Stored]:
        after, index, collection = "", self.index(), collection_of(connection, source)
        for _ in range(MOST_PAGES):
            named = {"name": source.name, "generation": source.generation, "after": after, "limit": PAGE}
            page: dict[str, int | None] = dict(
                connection.execute(load("sources.sql")["settled_items"], named).fetchall()
            )
            if not page:
                return []
            texts = dict(_chunks_of(connection, source, embedder, page))
            places = [(item_id, number) for item_id, number, _ in texts]
            there = index.stored(collection, places, self.index_timeout_s, payload=False)
            same = [each for each in texts if (at := there.get(each[:2])) is not None and at.fingerprint == each[2]]
            chosen = list(islice(same, COMPARED))
            vectors = index.vectors(collection, [each[:2] for each in chosen], self.index_timeout_s) if chosen else {}
            held = [(each, vectors[each[:2]]) for each in chosen if each[:2] in vectors]
            if found := [
                (texts[each], np.asarray(at.vector, dtype=np.float32)) for each, at in held if at.fingerprint == each[2]
            ]:
                return found
            after = max(page)
        return []

    def _without_any(self, connection: Connection, source: Source, server: str) -> OtherEmbedder | None:
        """Nothing is left to compare with. Who writes may be the first again, unless others are at work on it."""
        if not self.writes:
            return None  # such a search finds nothing
        key, now = (source.name, source.generation, server), time.monotonic()
        named = {"name": source.name, "generation": source.generation}
        row = connection.execute(load("sources.sql")["claims_in_work"], named).fetchone()
        waited_s = now - self._alone_from.setdefault(key, now)
        if row and row[0] > 1 and waited_s < PATIENCE_S:  # guard server-others-at-work
            return self._other(source, server, "nothing is stored yet to compare with, and others are at work on it")
        self._alone_from.pop(key)
        self._note(connection, source, server, "replace_servers")
        return None

    def _note(self, connection: Connection, source: Source, server: str, query: str) -> bool:
        named = {"name": source.name, "generation": source.generation, "embedder": source.made_by, "server": server}
        try:
            with connection.transaction():
                noted = connection.execute(load("sources.sql")[query], named).rowcount == 1
        except psycopg.errors.InsufficientPrivilege:
            return False
        if noted:
            log.info("server_accepted", source=source.name, generation=source.generation, server=server)
        return noted

    def _other(self, source: Source, server: str, why: str) -> OtherEmbedder:
        return OtherEmbedder(
            f"{self.who}{server} has not shown that it makes the vectors of generation {source.generation} of "
            f"{source.name!r} ({source.made_by}, so far at {', '.join(source.servers) or 'no known address'}): {why}; "
            "see docs/operations.md, Another address"
        )


class ProvenEmbedder(EmbedderDecorator):
    """Proves its address before it embeds anything."""

    def __init__(self, embedder: Embedder, proof: ServerProof, source: Source, server: str, proving: Embedder) -> None:
        """`proving`: what embeds chunks at that address."""
        super().__init__(embedder)
        self._proving = proving
        self._proof = proof
        self._source = source
        self._server = server

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """See `reindexer.ports.Embedder`. Raises OtherEmbedder if the address makes other vectors."""
        until = time.monotonic() + timeout_s
        self._proof.require(self._source, self._proving, self._server, timeout_s)
        return self._embedder.embed(texts, timeout_s=max(until - time.monotonic(), timeout_s / 2))


def _chunks_of(
    connection: Connection, source: Source, embedder: Embedder, page: dict[str, int | None]
) -> Iterator[tuple[tuple[str, int, str], str]]:
    """The first chunk of each of these items as its row is now: item, number and fingerprint, with its input."""
    spec = embedding_spec_of(source, embedder)
    for item_id, row in find_rows(connection, source, list(page)).rows.items():
        with suppress(ChunkerFailed):
            for chunk in spec.within(page.get(item_id)).chunks(row.text, row.columns)[:1]:
                yield (item_id, 0, chunk.fingerprint), chunk.input(row.text)


def _difference(stored: Sequence[Stored], embedder: Embedder, timeout_s: float) -> str | None:
    """Say how the vectors of an address differ from the stored ones. None: they are the same."""
    texts, made = [text for text, _ in stored], list[Vector]()
    try:
        for part in pack([estimate_tokens(text) for text in texts], embedder.limits):
            made += list(embedder.embed(texts[part.start : part.stop], timeout_s=timeout_s).vectors)
    except (InputRejected, RefusesAll) as exc:
        return f"it refuses a text that is stored: {exc}"
    least = min(_cosine(one, other) for one, (_, other) in zip(made, stored, strict=True))
    if least >= ALIKE:  # guard server-vectors-compared
        return None
    return f"of a stored text its vector has a cosine of {least:.3f}; at least {ALIKE} is expected"


def _cosine(one: Vector, other: Vector) -> float:
    if one.shape != other.shape:
        return 0.0
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other) or 1.0))


@contextmanager
def _of_others() -> Iterator[None]:
    """What Postgres or the index says is no failure of the provider, nor of an item."""
    try:
        yield
    except (DependencyUnavailable, PermanentError) as exc:
        raise TransientError(str(exc)) from exc
