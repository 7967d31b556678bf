"""The ports: `Embedder` (makes vectors), `Chunker` (cuts texts), `RateLimiter` (says when a request may be sent),
`Index` (stores vectors), `Broker` (queues) and `Webhooks` (tells others of events)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reindexer.core.filters import Filter
from reindexer.core.items import StoredPoint
from reindexer.core.keywords import Keywords
from reindexer.core.lanes import Lane
from reindexer.core.owner import Owner
from reindexer.core.payload import PayloadColumn
from reindexer.core.profile import Profile, Side
from reindexer.core.queues import Names
from reindexer.core.rate_limit import AdvertisedLimits, RateLimitState, Reservation
from reindexer.core.search_terms import SearchTerms
from reindexer.core.source import Source
from reindexer.core.text.batching import RequestLimits
from reindexer.core.text.chunks import Span

Vectors = NDArray[np.float32]
"""Matrix of float32, shape (inputs, dimensions), rows in the order of the inputs."""


Vector = NDArray[np.float32]
"""Shape (dimensions,)."""

Numbers = Vector | list[float]
"""A vector to write. A list is one that an index gave: it goes back as it came, with its digits and unconverted."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors of one call, and the tokens that the provider counted for it (0 where it does not count)."""

    vectors: Vectors
    tokens: int
    advertised: AdvertisedLimits | None = None
    """The rate limits that the answer's headers advertise; None: it advertises none."""
    is_unsure: bool = False
    """An earlier request of the same call was not answered, and may have been counted, too."""


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """What an embedder is made from."""

    model: str | None = None
    """As the profile says, else as REINDEXER_EMBEDDING_MODEL says. None: neither; the embedder has its own."""
    dimensions: int | None = None
    """As the profile says, else as REINDEXER_EMBEDDING_DIMENSIONS says. None: neither; the model has its own."""
    base_url: str | None = None
    """As the profile says. For `openai` alone: else as OPENAI_BASE_URL says."""
    api_key: str | None = field(default=None, repr=False)
    """The value of the variable that the profile's `api_key_env` names. For `openai` alone: else OPENAI_API_KEY, where
    the profile names no server."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    """The limits of one request, as the settings say."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The profile's table `options`, for whatever the embedder itself wants to know."""
    profile: Profile = field(default_factory=Profile)
    """The profile as it stands in the sources file, without what the settings add."""
    side: Side = "document"
    """What it is to embed. Both sides have one fingerprint: their vectors are compared."""
    input_type: str | None = None
    """As the profile says for that side, for models that take a word for it. None: nothing is said."""


class Embedder(Protocol):
    """Turns texts into vectors. Safe to share between threads; connects lazily, once per process.

    Beside these, an embedder may have `count_tokens(text) -> int`, by which `estimate` counts, and its class the
    attribute `in_process = True`: it then computes here, costs nothing, and has no rate limit and no breaker.
    """

    @property
    def fingerprint(self) -> str:
        """Identifies all that the vectors depend on, as `NAME:MODEL:DIMENSIONS`. NAME: as it is registered."""

    @property
    def dimensions(self) -> int:
        """Length of every vector."""

    @property
    def limits(self) -> RequestLimits:
        """The limits of one call of `embed`."""

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """Embed non-empty texts in one request, without retries of its own. The timeout also cuts an answer that drips.

        Returns exactly one finite vector of `dimensions` floats per text, in order. Raises RateLimited,
        DependencyUnavailable or another TransientError; InputRejected if the provider refuses the request for what an
        input holds, and TooManyInputs for how many there are; RefusesAll if it refuses a harmless text as well, or if
        the vectors have other dimensions.
        """


class EmbedderDecorator:
    """Forwards what it is asked about the embedder. A subclass adds to `embed`."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def fingerprint(self) -> str:
        """See `Embedder`."""
        return self._embedder.fingerprint

    @property
    def dimensions(self) -> int:
        """See `Embedder`."""
        return self._embedder.dimensions

    @property
    def limits(self) -> RequestLimits:
        """See `Embedder`."""
        return self._embedder.limits


class Chunker(Protocol):
    """Cuts texts into chunks. Safe to share between threads, and always the same for the same arguments."""

    def __call__(self, text: str, max_tokens: int, overlap_tokens: int, /) -> Sequence[Span]:
        """Return the chunks of a text that is not blank: at least one, none of them blank, by their first character.
        (The built-in `html` gives none for markup without words: such an item has no point.)

        `max_tokens` (estimated) is the most that the source and its model take; a longer chunk of a package's chunker
        is cut again. With `overlap_tokens` each chunk should begin with so many of the one before. What no chunk holds
        is not embedded.
        """


class RateLimiter(Protocol):
    """The rate limiter: one provider limit, shared by all that use one account (workers and searches of all hosts).

    It fails open: while its server is away, the only limit is the provider's own 429. Safe to share between threads.
    """

    @property
    def tokens_per_s(self) -> float | None:
        """The rate in this program's estimated tokens, as this process last learned it; None: it knows of no limit."""

    def reserve(self, tokens: int, *, live: bool, most_s: float, held: Reservation | None = None) -> Reservation:
        """Reserve a slot for one request of `tokens` estimated tokens, to be sent in `wait_s`. Callers never share one.

        A caller that waited calls again with the reservation that it `held`. That one stands, unless a 429 came in
        between; then the caller gets another. A `live` request goes before all that are not. Raises RateLimited, with
        the time at which to ask again, if the slot would be later than `most_s`; nothing is then reserved.
        """

    def settle(self, reservation: Reservation, tokens: int, advertised: AdvertisedLimits | None) -> None:
        """Report an answer: the tokens really used (0: the provider does not count), and the limits it advertised."""

    def limited(
        self, reservation: Reservation, retry_after_s: float | None, advertised: AdvertisedLimits | None
    ) -> None:
        """Report a 429: nobody sends for `retry_after_s`, and afterwards the rate is half of what it was.

        Of several requests that were sent before the first of them was answered, only one halves the rate.
        """

    def state(self) -> RateLimitState | None:
        """The limiter's present state; None while it can't be read."""


RateLimiterOf = Callable[[Source], RateLimiter]
"""The rate limiter for a source's requests."""

AccountOf = Callable[[Source], str]
"""The breaker's account of a source: a hash of the server and the API key; empty for a built-in embedder."""

EmbedderOf = Callable[[Source], Embedder]
"""The embedder of a source; always the same one for the same profile."""


class KeywordEncoder(Protocol):
    """Turns texts into keywords. Safe to share between threads."""

    def document(self, text: str) -> Keywords:
        """Return the keywords of a text that is indexed. Empty if it holds no word."""

    def query(self, text: str) -> Keywords:
        """Return the keywords of a query. Each word weighs 1."""


KeywordEncoderOf = Callable[[Source], KeywordEncoder | None]
"""The keyword encoder of a source. None: it has no keywords. Raises SourceError where there can be none."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point in its wanted state: chunk `chunk` of one item."""

    item_id: str
    chunk: int
    vector: Numbers | None
    """None where only the payload is written."""
    payload: Mapping[str, Any]
    """The source's payload columns; the index adds `_reindexer`."""
    fingerprint: str
    """The chunk's fingerprint."""
    span: Span | None
    keywords: Keywords | None = None
    """The chunk's keywords. None: the source has none, or those in the index are right."""


class StoredVector(NamedTuple):
    """A point's vector, and the fingerprint that was written with it: both of one moment."""

    fingerprint: str
    """Empty if the point holds none."""
    vector: Numbers


@dataclass(frozen=True, slots=True)
class ScrolledPage:
    """One page of a collection, ordered by point id."""

    points: Sequence[StoredPoint]
    """The points of the source, without payload."""
    foreign: int
    """How many other points there are: without our facts, with another source's, or under an id that is not ours."""
    next: str | int | None
    """Where the next page starts; None: this was the last page."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that was found, represented by the nearest of its chunks; or one chunk, where each is a hit."""

    item_id: str
    score: float
    chunk: int
    span: tuple[int, int] | None
    """The chunk's half-open range of characters in the item's text; None if the point does not hold it."""
    payload: Mapping[str, Any]
    fingerprint: str
    """The chunk's fingerprint, as the point holds it. Empty if it holds none."""
    source: str = ""
    """The source's name. Empty until a search has told it: an index leaves it so, as what follows."""
    text: str | None = None
    """The chunk's text, if it was asked for and is still what was indexed."""
    changed: bool | None = None
    """Whether the row holds another text by now, or is gone. None: the text was not asked for."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Where a source's points are stored: the physical collection of one generation, and the alias that names it."""

    source: str
    name: str
    alias: str
    profile: Profile = field(default_factory=Profile)
    """The profile that the collection is made with."""
    embedder: str | None = field(default=None, compare=False)
    """The embedder that makes its vectors, as the database records it; None: not recorded yet."""
    generation: int = 1
    is_active: bool = True
    """Searches use it: the alias names it, or is to."""
    keywords: bool = False
    """Its points hold keywords beside their vectors."""


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """What an index is made from."""

    url: str | None = None
    """REINDEXER_INDEX_URL. For `qdrant`: QDRANT_URL."""
    api_key: str | None = field(default=None, repr=False)
    """REINDEXER_INDEX_API_KEY. For `qdrant`: QDRANT_API_KEY."""
    timeout_s: float = 10.0
    """How long a call may take that is given no timeout of its own."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """REINDEXER_INDEX_OPTIONS, for whatever the index itself wants to know."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """A collection as it is in the index."""

    exists: bool
    alias_names: str | None
    """The collection that its alias names. None: there is no such alias."""
    missing: tuple[str, ...] = ()
    """Indexes over payloads that `prepare` would make."""


class Index(Protocol):
    """Stores points under fencing: of two writes to one point, the one with the higher token stays, in any order.

    Beside these, an index may have `inspect(collection, columns) -> Inspected`, by which `plan` finds what was changed
    by hand: it takes the columns that `prepare` takes, and changes nothing. If its class has the attribute
    `takes_keywords = True`, it writes the keywords of points, and finds points by them.

    All calls raise DependencyUnavailable when the server does not answer, another TransientError when it answers with
    an error of its own, PermanentError when it refuses the request. Safe to share between threads.
    """

    def prepare(
        self, collection: Collection, dimensions: int, owner: Owner, columns: Sequence[PayloadColumn] = ()
    ) -> str | None:
        """Create the collection, its alias and the indexes of its payload columns where they are missing, and record
        the owner with the collection. An index that exists is left as it is.

        Returns the id that the collection got at its creation (if it is another one than before, all points are lost);
        None if this program did not create it. Raises SourceError if the collection has other dimensions or another
        distance, if it belongs to another database, or if its alias is the name of something foreign; OtherEmbedder if
        its vectors are another model's."""

    def owner(self, collection: Collection) -> Owner:
        """The recorded owner of the collection. A collection that does not exist has no recorded owner."""

    def adopt(self, collection: Collection, owner: Owner) -> None:
        """Make `owner` the collection's owner, whoever owned it before. A missing collection is not created."""

    def drop(self, collection: Collection) -> None:
        """Delete the collection, and its alias if that names it. No error if it does not exist."""

    def follow_alias(self, collection: Collection) -> bool:
        """Make the alias name this collection, in one step, so that it never names none. Returns whether it named
        another one of the source before.

        A collection that does not exist is left alone. Raises SourceError if the alias names something foreign. An
        index without aliases returns False.
        """

    def upsert(self, collection: Collection, points: Sequence[Point], token: int, timeout_s: float) -> None:
        """Write points, except where the stored point's token is equal or higher."""

    def update_payload(self, collection: Collection, points: Sequence[Point], token: int, timeout_s: float) -> None:
        """Replace the payload (not the vector) of points whose stored token is lower and whose fingerprint is equal, so
        that the facts of one text never end up beside the vector of another. Keywords that a point brings are written
        first; a point that has none in the index then keeps its token."""

    def delete_items(self, collection: Collection, item_ids: Sequence[str], token: int, timeout_s: float) -> None:
        """Delete all points of these items whose stored token is lower."""

    def delete_surplus(self, collection: Collection, chunks: Mapping[str, int], token: int, timeout_s: float) -> None:
        """Delete the chunks ≥ n of each item (item_id → n) whose stored token is lower."""

    def touch(self, collection: Collection, dimensions: int, timeout_s: float) -> None:
        """Send a write that changes nothing: a server that refuses it refuses all writes. Raises as all calls do, and
        SourceError if the collection has other dimensions."""

    def tokens(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float
    ) -> Mapping[tuple[str, int], int]:
        """The stored tokens of those (item_id, chunk) that exist. This is how a caller notices a refused write."""

    def scroll(self, collection: Collection, start: str | int | None, limit: int, timeout_s: float) -> ScrolledPage:
        """The next `limit` points of the physical collection (`start` None: from its beginning), each once. Points that
        are written or deleted during the scroll may be missing. A collection that does not exist has no points."""

    def stored(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float, *, payload: bool = True
    ) -> Mapping[tuple[str, int], StoredPoint]:
        """Those (item_id, chunk) that exist, with or without payload. A collection that does not exist has none."""

    def points_of(self, collection: Collection, item_ids: Sequence[str], timeout_s: float) -> list[StoredPoint]:
        """All points of these items, without payload, however many there are and whoever wrote them. A collection that
        does not exist has none."""

    def vectors(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float
    ) -> Mapping[tuple[str, int], StoredVector]:
        """The stored vectors of those (item_id, chunk) that exist, each with its fingerprint, read together: another
        claim may write the point meanwhile."""

    def datatype(self, collection: Collection) -> str | None:
        """How the physical collection keeps the numbers of its vectors. `float32`: `vectors` returns what was written,
        but for the distance `cosine`, which may normalise it. None: the collection does not exist."""

    def vectors_of(self, collection: Collection, item_id: str, where: Filter, most: int) -> list[Vector]:
        """The stored vectors of an item's points that match the filter, of at most `most` of them, in any order. A
        collection that does not exist has none. An index without filters raises PermanentError for any filter."""

    def search(
        self,
        collection: Collection,
        vector: Vector | None,
        terms: SearchTerms,
        *,
        keywords: Sequence[Keywords] = (),
        exact: bool = False,
    ) -> list[Hit]:
        """The source's nearest points by these terms, best first, from this very collection: the alias is for other
        programs. `keywords` are for an index that takes them. Each of them makes a ranking, as the vector does, and
        several rankings are fused. Beyond the last hit there are none. `exact`: compared with every point, by the
        vectors as they are stored, however long that takes. A collection that does not exist has none. An index that
        can't keep one of the terms raises PermanentError where it is asked for: one without filters, for any filter."""

    def ping(self) -> None:
        """Return if the server answers; raise DependencyUnavailable if not."""


class Broker(Protocol):
    """The queues between dispatch and workers. All calls raise DependencyUnavailable when the broker does not answer,
    and PrefixTaken if `hold` was called and another database holds the prefix."""

    @property
    def names(self) -> Names:
        """The names of its queues and keys."""

    def hold(self, owner: str, *, instead_of: str | None = None) -> str:
        """Record in the broker that this database uses the prefix, unless another one does. Returns the holder.

        `instead_of`: the holder to replace. Every message that is sent from then on names this database.
        """

    def depth(self, lane: Lane) -> int:
        """Messages that wait in the lane's queue, without those that a worker has taken."""

    def send_work(self, lane: Lane, messages: int) -> None:
        """Send `messages` messages "claim a batch from this lane"."""

    def send_requests(self, requests: Sequence[tuple[str, str, str]]) -> int:
        """Send one `regenerate_embedding_task` per (task_id, source, item_id). Returns how many were sent, in order."""

    def store_results(self, results: Sequence[tuple[str, str, str | None]]) -> None:
        """Make each `AsyncResult(task_id)` SUCCESS, or FAILURE where there is an error: (task_id, item_id, error)."""

    def ping(self) -> None:
        """Return if the broker answers and accepts messages; raise DependencyUnavailable if not."""


class WebhookAnswer(NamedTuple):
    """How a receiver answered."""

    status: int
    retry_after_s: float | None
    """For how long it wants to be left alone. None: it does not say."""


class Webhooks(Protocol):
    """Sends webhooks. Threads share one."""

    def post(self, url: str, body: bytes, headers: dict[str, str], *, timeout_s: float) -> WebhookAnswer:
        """POST once, and return the answer whatever its status; no redirect is followed.

        Raises DependencyUnavailable if there is no answer, TimedOut if it is not through in time. The receiver may
        have got the message all the same.
        """

    def cut_late(self) -> None:
        """End the requests whose time is up. Called often, because an answer may come byte by byte."""

    def close(self) -> None:
        """End the connection of the calling thread, which sends no more."""


Jitter = Callable[[], float]
"""Source of randomness: a float in [0, 1)."""
