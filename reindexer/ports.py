"""The two places where products are really exchanged: who makes vectors, and who stores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reindexer.core.filters import Filter
from reindexer.core.items import StoredPoint
from reindexer.core.owner import Owner
from reindexer.core.payload import PayloadColumn
from reindexer.core.profile import Profile
from reindexer.core.queues import Names
from reindexer.core.rate_limit import RateLimitState, Told, Turn
from reindexer.core.source import Source
from reindexer.core.text.batching import RequestLimits
from reindexer.core.text.chunks import Span

Vectors = NDArray[np.float32]
"""Matrix of float32, shape (inputs, dimensions), rows in the order of the inputs."""


Vector = NDArray[np.float32]
"""Shape (dimensions,)."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors of a request and the tokens that the provider counted (0 where it does not count)."""

    vectors: Vectors
    tokens: int
    told: Told | None = None
    """What the answer tells of the provider's rate limit."""


class Embedder(Protocol):
    """Turns texts into vectors. Safe to share between threads; makes its connections lazily, per process."""

    @property
    def fingerprint(self) -> str:
        """Names all that its vectors depend on: provider, model, dimensions."""

    @property
    def dimensions(self) -> int:
        """Length of every vector."""

    @property
    def limits(self) -> RequestLimits:
        """What one call of `embed` may hold."""

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """Embed non-empty texts in one request, without retries of its own; an answer that drips is cut at the timeout.

        Returns exactly one finite vector of `dimensions` floats a text, in order. Raises RateLimited, DependencyAway
        or another PassingError; InputRejected if the request is refused for what an input holds, and TooManyInputs for
        how many there are; RefusesAll if a harmless text is refused as well, or has other dimensions.
        """


class Budget(Protocol):
    """The provider's rate limit, shared by all that use one account: workers and searches of all hosts.

    Nobody waits for it in vain: where what keeps it is away, there is no limit but the provider's own 429. Safe to
    share between threads.
    """

    @property
    def tokens_per_s(self) -> float | None:
        """The rate by the estimates of this program, as this process last heard; None: none that it knows of."""

    def reserve(self, tokens: int, *, live: bool, most_s: float, held: Turn | None = None) -> Turn:
        """Leave to send one request of so many (estimated) tokens, in `wait_s`: each turn is given to one asker.

        Who has waited asks again with the turn that he `held`: it stands, unless a 429 came since, and then he gets
        another. `live`: before all that is not. Raises RateLimited, which says when to ask again, if the turn would
        come later than `most_s`; nothing is then taken.
        """

    def settle(self, turn: Turn, tokens: int, told: Told | None) -> None:
        """The request was answered: what it really used (0: the provider does not count), and what it tells."""

    def limited(self, turn: Turn, retry_after_s: float | None, told: Told | None) -> None:
        """The request was answered by 429: nobody asks before that time, and then at half of the rate.

        Of several that were sent before the first of them was answered, one halves it.
        """

    def state(self) -> RateLimitState | None:
        """The budget at present; None where it can't be told."""


BudgetOf = Callable[[Source], Budget]
"""The budget that the requests for a source come out of."""

AccountOf = Callable[[Source], str]
"""Whose server, and whose money, embeds a source: what does not answer one does not answer the others. A hash."""

EmbedderOf = Callable[[Source], Embedder]
"""The embedder of a source; always the same one for the same profile."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point as it has to be: chunk `chunk` of one item."""

    item_id: str
    chunk: int
    vector: Vector | None
    """None where only the payload is written."""
    payload: Mapping[str, Any]
    """The source's payload columns; the index adds `_reindexer`."""
    fingerprint: str
    """Of the chunk."""
    span: Span | None


@dataclass(frozen=True, slots=True)
class ScrolledPage:
    """A stretch of a collection, in the order of the points' ids."""

    points: Sequence[StoredPoint]
    """Those of the source, without payload."""
    foreign: int
    """How many others there are: without our facts, with another source's, or under an id that is not ours."""
    next: str | int | None
    """Where the next page starts; None: this was the last one."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that was found, by the nearest of its chunks."""

    item_id: str
    score: float
    chunk: int
    span: tuple[int, int] | None
    """Where in the item's text the chunk lies: characters from, and up to; None where the point does not say."""
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Collection:
    """Where a source's points live: the physical collection of one generation, and the alias that names it."""

    source: str
    name: str
    alias: str
    profile: Profile = field(default_factory=Profile)
    """What it is made like."""
    embedder: str | None = field(default=None, compare=False)
    """Who makes its vectors, as the database says; None: it does not say yet."""


class Index(Protocol):
    """Stores points under fencing: of two writes to one point, the one with the higher token stays, in any order.

    All calls raise DependencyAway when the server does not answer, another PassingError when it answers with a fault
    of its own, LastingError when it refuses the request. Safe to share between threads.
    """

    def prepare(
        self, collection: Collection, dimensions: int, owner: Owner, columns: Sequence[PayloadColumn] = ()
    ) -> str | None:
        """Make collection, alias and the indexes of its payload columns where they are missing, and note the owner
        beside it. An index that is there is left as it is.

        Returns the id that the collection got when it was made (another one than before: all points are lost), None if
        it was not made by us. Raises SourceError if the collection has other dimensions or another distance, or
        belongs to another database, or if its alias is the name of something foreign; OtherEmbedder if its vectors are
        another model's."""

    def owner(self, collection: Collection) -> Owner:
        """Whose the collection is, as far as that is noted. Nothing is noted of a collection that is not there."""

    def adopt(self, collection: Collection, owner: Owner) -> None:
        """Note that the collection is this owner's from now on, whosever it was. One that is not there stays away."""

    def drop(self, collection: Collection) -> None:
        """Delete the collection and its alias; nothing if it is not there."""

    def upsert(self, collection: Collection, points: Sequence[Point], token: int, timeout_s: float) -> None:
        """Write points, except where the stored one has this token or a higher one."""

    def update_payload(self, collection: Collection, points: Sequence[Point], token: int, timeout_s: float) -> None:
        """Replace payload (not vector) of points whose stored token is lower and whose fingerprint is the same: facts
        never come to stand beside another text's vector."""

    def delete_items(self, collection: Collection, item_ids: Sequence[str], token: int, timeout_s: float) -> None:
        """Delete all points of these items whose stored token is lower."""

    def delete_surplus(self, collection: Collection, chunks: Mapping[str, int], token: int, timeout_s: float) -> None:
        """Delete the chunks ≥ n of each item (item_id → n) whose stored token is lower."""

    def touch(self, collection: Collection, dimensions: int, timeout_s: float) -> None:
        """Ask for a write that changes nothing: who refuses it refuses all. Raises as all calls, and SourceError if the
        collection has other dimensions."""

    def tokens(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float
    ) -> Mapping[tuple[str, int], int]:
        """The stored token of each of these (item_id, chunk) that exists: how a refused write is noticed."""

    def scroll(self, collection: Collection, start: str | int | None, limit: int, timeout_s: float) -> ScrolledPage:
        """The next `limit` points of the physical collection (None: from its start), each once; those that are
        written or deleted meanwhile may be missing. A collection that is not there has none."""

    def stored(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float, *, payload: bool = True
    ) -> Mapping[tuple[str, int], StoredPoint]:
        """Each of these (item_id, chunk) that exists, with its payload or without. A collection that is not there has
        none."""

    def points_of(self, collection: Collection, item_ids: Sequence[str], timeout_s: float) -> list[StoredPoint]:
        """All points of these items, without their payload, however many there are and whoever made them. A collection
        that is not there has none."""

    def vectors(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float
    ) -> Mapping[tuple[str, int], Vector]:
        """The stored vector of each of these (item_id, chunk) that exists."""

    def search(self, collection: Collection, vector: Vector, limit: int, where: Filter = ()) -> list[Hit]:
        """Nearest items of a source that the filter lets through, best first, each once. An unknown collection is an
        empty result."""

    def ping(self) -> None:
        """Return if the server answers; raise DependencyAway if not."""


class Broker(Protocol):
    """The queues between dispatch and workers. Calls raise DependencyAway when the broker does not answer, PrefixTaken
    where `hold` named an owner, and the queues are another's."""

    @property
    def names(self) -> Names:
        """What is called how in it."""

    def hold(self, owner: str, *, instead_of: str | None = None) -> str:
        """Note in the broker that this database uses the prefix, unless another one does; returns which one does.

        `instead_of`: the one whose place it takes. Whatever is sent from then on says whose it is.
        """

    def depth(self, lane: str) -> int:
        """Messages that wait in the lane's queue, those that a worker holds not counted."""

    def send_work(self, lane: str, messages: int) -> None:
        """Send that many "claim a batch from this lane"."""

    def send_requests(self, requests: Sequence[tuple[str, str, str]]) -> int:
        """Send one `regenerate_embedding_task` for each (task_id, source, item_id); returns how many left, in order."""

    def store_results(self, results: Sequence[tuple[str, str, str | None]]) -> None:
        """Make `AsyncResult(task_id)` SUCCESS, or FAILURE where an error is given: (task_id, item_id, error)."""

    def ping(self) -> None:
        """Return if the broker answers, and takes what is sent; raise DependencyAway if not."""


Chance = Callable[[], float]
"""Source of randomness: a float in [0, 1)."""
