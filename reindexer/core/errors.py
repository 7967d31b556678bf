"""The error tree.

    ReindexerError
    ├── UsageError                  wrong settings or arguments: exit code 2
    │   ├── DefinitionError         a source's definition is wrong: `key` is what has to be changed
    │   │   └── OtherVectors        it would make vectors that differ from the existing ones
    │   ├── RowsWouldMove           rows would enter the index or leave it, which was not allowed
    │   └── UnfitRequest            a search can't be asked so: its filter, its limit, ...
    ├── NoSuchItem                  the index holds nothing of the item that was named
    ├── ChangedMeanwhile            somebody else changed a source at the same time: nothing was done
    ├── SourceError                 a source can't be read or written at all: its items wait, none is blamed
    │   ├── SourceLocked            one of its tables stays locked: each process leaves the source alone for a while
    │   ├── MayNotSpend             its requests would cost what they may not: none is sent
    │   ├── NotThisProcess          another process may have what this one lacks: the source is left to it
    │   │   ├── OtherEmbedder       this process can't make the embedder of its points (also a UsageError)
    │   │   └── NewerDefinition     a newer version defined it, by words that this one does not know
    │   └── RefusesAll              the provider or Qdrant refuses every request for the source
    ├── TransientError              transient: tried again later, counts as an attempt
    │   ├── RateLimited             a wait, not an attempt
    │   │   └── NoReservation       the caller may not wait for the rate limiter
    │   ├── NotAsked                nothing could be set aside for a request, so that none was sent
    │   │   └── OverBudget          it would cost more than is left
    │   ├── KeywordsMissing         a collection holds no keywords yet: a worker has to add them
    │   └── DependencyUnavailable   Qdrant, the provider or the broker did not answer
    │       ├── TimedOut            no answer in time
    │       │   └── TooSlow         no answer to several texts in time: the next request holds fewer
    │       ├── OutOfQuota          the provider serves no request until the account is paid
    │       └── PrefixTaken         the broker's queues of this name belong to another database
    ├── ItemFailed                  one item failed: reported under the task ids that requested it
    └── PermanentError              permanent: FAILED at once
        ├── ChunkerFailed           a package's chunker fails on this text
        └── InputRejected           the provider refuses this input, or one of these: found by bisection
            ├── InputTooLong        the input is too long: its item is cut into smaller chunks, and tried again
            └── TooManyInputs       too many inputs in one request: they are sent in several

Each adapter maps foreign errors to these. Messages never hold the user's text.
"""

from __future__ import annotations

from reindexer.core.rate_limit import AdvertisedLimits


class ReindexerError(Exception):
    """Base of all errors that this program raises on purpose. Its message is one line, fit for users and logs."""

    tokens: int = 0
    """What the provider counted in the requests of a call that failed."""
    may_cost: bool | None = None
    """Whether it may have counted more. None: the embedder does not say."""


class UsageError(ReindexerError):
    """Settings or arguments are wrong. The message says what to change."""


class DefinitionError(UsageError):
    """A source's definition is wrong, or does not fit its table."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        """`key`: what has to be changed, as the sources file names it. None: no single key."""
        super().__init__(message)
        self.key = key


class OtherVectors(DefinitionError):
    """A source's definition would make vectors that differ from the existing ones: that takes another generation."""


class RowsWouldMove(UsageError):
    """A changed definition would take rows into the index, or out of it, and the caller has not allowed that."""


class UnfitRequest(UsageError):
    """A search can't be asked so: a filter that does not fit the source, a limit that is out of range."""


class NoSuchItem(ReindexerError):
    """The index holds nothing of this item: there is none, it is not indexed yet, or it has no text."""


class ChangedMeanwhile(ReindexerError):
    """Somebody else changed a source between the look at it and the change. Nothing was done; try again."""


class SourceError(ReindexerError):
    """A source as a whole can't be worked on: a missing table, column or privilege, a collection of another size."""


class SourceLocked(SourceError):
    """Another session holds a lock on one of the source's tables, and did not release it in time."""


class MayNotSpend(SourceError):
    """A source's requests would cost what they may not: this database is a copy, no budget can hold them, or its role
    may not account them. None is sent."""


class NotThisProcess(SourceError):
    """This process can't work on the source, but another one may."""


class OtherEmbedder(NotThisProcess, UsageError):
    """A different embedder made the source's points. This process neither writes nor searches them."""


class NewerDefinition(NotThisProcess):
    """A newer version defined the source. This process neither works on it nor changes it."""

    def __init__(self, source: str, unknown: str) -> None:
        super().__init__(
            f"source {source!r} is defined by a newer version of the program: this one does not know {unknown!r}; use "
            "the newer one"
        )


class RefusesAll(SourceError):
    """The provider or Qdrant refuses even a harmless request: a key, a model, a right, a setting. No item is to
    blame."""


class TransientError(ReindexerError):
    """A transient cause: the item is tried again after a wait."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(TransientError):
    """The provider asks to wait (429), or would if it were asked now. Uses no attempt."""

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, advertised: AdvertisedLimits | None = None
    ) -> None:
        """`advertised`: the limits that the answer's headers advertise."""
        super().__init__(message, retry_after_s=retry_after_s)
        self.advertised = advertised


class NoReservation(RateLimited):
    """The rate limiter denied a slot to a caller that may not wait. Claims of marked items wait instead."""


class NotAsked(TransientError):
    """Nothing could be set aside for a request, so the provider was not asked. Uses no attempt."""


class OverBudget(NotAsked):
    """A request may cost more than its budget has left."""


class KeywordsMissing(TransientError):
    """The collection holds no keywords yet. They come when a worker next works on the source."""


class DependencyUnavailable(TransientError):
    """No answer at all: connection refused, connection lost, or timeout."""


class TimedOut(DependencyUnavailable):
    """No answer in time."""


class TooSlow(TimedOut):
    """No answer to a request of several texts in time, possibly because of their number. Uses no attempt."""


class OutOfQuota(DependencyUnavailable):
    """The provider serves no request until the account is paid. No item is to blame, and no further request is
    worthwhile."""


class PrefixTaken(DependencyUnavailable):
    """The queues belong to another database: nothing is sent to them, and due items wait."""

    def __init__(self, prefix: str, *, holder: str, ours: str) -> None:
        super().__init__(
            f"in this broker REINDEXER_PREFIX={prefix} is used by another database ({holder}; this is {ours}): give "
            "this one another prefix; or, if it has taken the other's place, run `reindexer adopt`"
        )


class PermanentError(ReindexerError):
    """The cause stays until something is changed: the item is FAILED at once, until it is replayed."""


class ChunkerFailed(PermanentError):
    """The chunker of a package fails on this text, or gives spans that can't be chunks of it."""


class InputRejected(PermanentError):
    """The provider refuses the request because of an input in it."""


class InputTooLong(InputRejected):
    """The provider refuses an input for its length."""

    def __init__(self, message: str, *, chunk_tokens: int | None = None) -> None:
        """`chunk_tokens`: the maximum tokens that the item's chunks may hold."""
        super().__init__(message)
        self.chunk_tokens = chunk_tokens


class TooManyInputs(InputRejected):
    """No input is refused, but their number is. From now on the embedder's limits state the allowed number."""


class GenerationConflict(ReindexerError):
    """The states of the source's generations do not allow this."""


class ItemFailed(ReindexerError):
    """The item ended as FAILED. The message is the reason."""
