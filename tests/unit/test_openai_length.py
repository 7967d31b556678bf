"""Whether an answer refuses a text for its length, in the words of those who answer so."""

from __future__ import annotations

import pytest

from reindexer.adapters.embedders.openai_length import is_for_length


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model's maximum context length is 8192 tokens, however you requested 9001 tokens (9001 in your"),
        (400, "Invalid 'input[0]': maximum input length is 8192 tokens."),
        (400, "This model's maximum context length is 512 tokens. However, you requested 600 tokens in the input."),
        (413, "Input validation error: `inputs` must have less than 512 tokens. Given: 600"),
        (422, "Input validation error: `inputs` must have less than 512 tokens. Given: 600"),
        (400, "the input length exceeds the context length"),
        (500, "input is too large to process. increase the physical batch size"),
        (
            400,
            "the request exceeds the available context size. try increasing the context size or enable context shift",
        ),
        (400, "Unable to submit request because the input token count is 3000 but the model supports up to 2048."),
        (
            400,
            "The example at index 0 in your batch has too many tokens and does not fit into the model's context window",
        ),
        (400, "Too many tokens in batch. Max is 16384 got 20000"),
        (400, "too many tokens: total number of tokens in the prompt exceeds the limit of 4081 tokens"),
        (400, "Range of input length should be [1, 2048]"),
        (400, "Input text exceeds maximum length of 8194 tokens"),
        (422, "String should have at most 512 characters"),
        (400, "context_length_exceeded"),
        (413, ""),
    ],
)
def test_it_is_for_length(status: int, words: str) -> None:
    assert is_for_length(status, words)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, ""),
        (400, "content policy violation"),
        (400, "The response was filtered due to the prompt triggering our content management policy."),
        (400, "encoding_format base64 is not supported"),
        (400, "Unsupported parameter: dimensions"),
        (400, "'$.input' is invalid. Please check the API reference"),
        (400, "Could not parse the JSON body of your request"),
        (401, "your key is too long"),
        (429, "Limit of 1000000 tokens per minute reached"),
        (500, "The server had an error while processing your request"),
        (503, "the maximum length of the queue is reached"),
    ],
)
def test_it_is_for_something_else(status: int, words: str) -> None:
    assert not is_for_length(status, words)
