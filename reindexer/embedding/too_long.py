"""A text that the provider refuses for its length is cut into smaller chunks instead of failing.

The chunk size is recorded per item (`chunk_tokens` in the ledger), because all processes must cut its text in the same
way. Otherwise workers would embed each other's chunks anew, and a comparison would find differences.
"""

from __future__ import annotations

import structlog

from reindexer.core.errors import InputRejected, InputTooLong
from reindexer.core.source import MIN_CHUNK_TOKENS
from reindexer.core.text.batching import RequestLimits
from reindexer.core.text.tokens import estimate_tokens

log = structlog.get_logger(__name__)


def cut_smaller(source: str, lead: str, text: str, error: InputRejected, limits: RequestLimits) -> InputRejected:
    """Return the error for a text that was refused alone, with the number of tokens that its item's chunks may hold.

    The lead is sent in front of each chunk, however small that is. So the text alone is halved.

    The wording of length errors is not known for every provider. A text that is estimated at more than half of the
    model's limit (the estimate may be too low) is therefore cut smaller, whatever the reason given. The error is
    returned unchanged if half of the text would be shorter than the smallest chunk.
    """
    tokens = estimate_tokens(text)
    # guard chunk-likely-too-long
    may_be_length = isinstance(error, InputTooLong) or estimate_tokens(lead + text) > limits.max_input_tokens // 2
    if not may_be_length or tokens // 2 < MIN_CHUNK_TOKENS:
        return error
    log.info("text_split", source=source, estimated_tokens=tokens, chunk_tokens=tokens // 2, error=str(error))
    return InputTooLong(str(error), chunk_tokens=tokens // 2)
