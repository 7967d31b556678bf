"""The error tree.

    ReindexerError
    ├── UsageError              wrong settings or arguments: exit code 2
    │   └── DefinitionError     of a source: `key` is what has to be changed
    ├── SourceError             a source can't be read or written at all: its items wait, none is blamed
    │   ├── OtherEmbedder       its points are made by another model than this process has (a UsageError, too)
    │   └── RefusesAll          the provider, or Qdrant, refuses whatever it is asked for the source
    ├── PassingError            try again later: it counts as an attempt
    │   ├── RateLimited         a wait, not an attempt
    │   │   └── NoTurn          who asked was not to wait for its turn
    │   └── DependencyAway      Qdrant, the provider or the broker did not answer
    │       ├── TimedOut        in time
    │       │   └── TooSlow     so many texts at once: the next request holds fewer, and no item is to blame
    │       ├── OutOfQuota      the provider serves nobody until somebody pays
    │       └── PrefixTaken     the broker's queues of this name are another database's
    ├── ItemFailed              what became of one item, told to those who asked for it by a task id
    └── LastingError            trying again changes nothing: FAILED at once
        └── InputRejected       the provider refuses this input (or one of these): found by bisecting
            ├── InputTooLong    for its length: its item is cut smaller, and tried again
            └── TooManyInputs   it takes so many in several requests

Foreign errors are mapped to these once, in the adapter that meets them. Messages never hold the user's text.
"""

from __future__ import annotations

from reindexer.core.rate_limit import Told


class ReindexerError(Exception):
    """Any error that this program raises on purpose. Its text is one line, fit for users and logs."""


class UsageError(ReindexerError):
    """Settings or arguments are wrong; the text says what to change."""


class DefinitionError(UsageError):
    """A source's definition is wrong, or does not fit its table."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        """`key`: what has to be changed, as the sources file names it; None: no single one."""
        super().__init__(message)
        self.key = key


class SourceError(ReindexerError):
    """A source as a whole can't be worked on: a missing table or column, a right, a collection of other size."""


class OtherEmbedder(SourceError, UsageError):
    """A source's points are made by another embedder than this process has: it neither writes nor searches them."""


class RefusesAll(SourceError):
    """It refuses even what is harmless: a key, a model, a right, a setting. No item is to blame."""


class PassingError(ReindexerError):
    """The cause is expected to pass: the item is tried again after a wait."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(PassingError):
    """The provider asks to wait (429), or would if it were asked now. Burns no attempt."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, told: Told | None = None) -> None:
        """`told`: what the answer's headers tell of the limit."""
        super().__init__(message, retry_after_s=retry_after_s)
        self.told = told


class NoTurn(RateLimited):
    """Its turn has not come, and who asked could not wait: others do, with what they have waited for."""


class DependencyAway(PassingError):
    """No answer at all: refused, cut, timed out."""


class TimedOut(DependencyAway):
    """No answer in time."""


class TooSlow(TimedOut):
    """No answer to a request of several texts in time: it may be for their number. Burns no attempt."""


class OutOfQuota(DependencyAway):
    """It answers that it serves nobody until somebody pays: no item is to blame, and none is worth another request."""


class PrefixTaken(DependencyAway):
    """The queues are another database's: nothing is sent to them, and what is due waits."""

    def __init__(self, prefix: str, *, holder: str, ours: str) -> None:
        super().__init__(
            f"in this broker REINDEXER_PREFIX={prefix} is used by another database ({holder}; this is {ours}): give "
            "this one another prefix; or, if it has taken the other's place, run `reindexer adopt`"
        )


class LastingError(ReindexerError):
    """The cause stays until somebody changes something: FAILED at once, until replay."""


class InputRejected(LastingError):
    """The provider refuses the request because of an input in it."""


class InputTooLong(InputRejected):
    """The provider refuses an input for its length."""

    def __init__(self, message: str, *, chunk_tokens: int | None = None) -> None:
        """`chunk_tokens`: how many the chunks of its item are to hold at most."""
        super().__init__(message)
        self.chunk_tokens = chunk_tokens


class TooManyInputs(InputRejected):
    """No input is refused, but so many in one request: the embedder's limits say from now on how many may be."""


class ItemFailed(ReindexerError):
    """The item ended FAILED; the text is the reason."""
