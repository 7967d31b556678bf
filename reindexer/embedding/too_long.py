"""Too long: a text that the provider refuses for its length is cut smaller, not given up.

How small is a fact of the item (`chunk_tokens` in the ledger), because all must cut its text in the same way: workers,
which would embed each other's chunks anew, and whoever compares.
"""

from __future__ import annotations

import structlog

from reindexer.core.errors import InputRejected, InputTooLong
from reindexer.core.source import MIN_CHUNK_TOKENS
from reindexer.core.text.batching import RequestLimits
from reindexer.core.text.tokens import estimate_tokens

log = structlog.get_logger(__name__)


def cut_smaller(source: str, text: str, error: InputRejected, limits: RequestLimits) -> InputRejected:
    """The error of a text that was refused alone: one that says how many tokens the chunks of its item are to hold.

    Not every provider's words for it are known. So a text that is more than half of what the model takes, by an
    estimate that may be too low, is cut smaller whatever the reason. It is given up where its half would be no text.
    """
    tokens = estimate_tokens(text)
    # guard chunk-likely-too-long
    may_be_length = isinstance(error, InputTooLong) or tokens > limits.max_input_tokens // 2
    if not may_be_length or tokens // 2 < MIN_CHUNK_TOKENS:
        return error
    log.info("text_too_long", source=source, estimated_tokens=tokens, chunk_tokens=tokens // 2, error=str(error))
    return InputTooLong(str(error), chunk_tokens=tokens // 2)
