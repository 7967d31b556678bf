"""Whether a server that speaks OpenAI's API refuses a text for its length: each server words that differently.

Unknown words, or another cause that sounds like this one, do little harm: see `reindexer.embedding.too_long`.
"""

from __future__ import annotations

import re

_SIZE = r"(?:tokens?|length|context|sequence|characters|inputs?)"
_WORDS = re.compile(
    rf"{_SIZE}\b.{{0,80}}?(?:exceed|too (?:long|large|many)|at most|less than|should be \[|supports (?:only )?up to)"
    rf"|(?:exceed|maxim|max[ _.]|limit of|at most|larger than|longer than|less than|too many)\w*\b.{{0,60}}?{_SIZE}"
    r"|context[_ ](?:length|size|window)|too[_ ](?:long|large)|string_above_max_length",
    re.IGNORECASE | re.DOTALL,
)
"""OpenAI, vLLM: "maximum context length is 8192 tokens". Text Embeddings Inference: "`inputs` must have less than 512
tokens". Ollama: "the input length exceeds the context length". llama.cpp: "input is too large to process". Voyage and
Mistral: "has too many tokens". Gemini: "the input token count is 3000 but the model supports up to 2048". DashScope:
"Range of input length should be [1, 2048]"."""
_STATUSES = (400, 413, 422, 500)
"""llama.cpp answers 500."""


def is_for_length(status: int, words: str) -> bool:
    """Whether a refusal is for length, as far as the answer tells. `words`: its code and its message."""
    return status == 413 or (status in _STATUSES and _WORDS.search(words[:2000]) is not None)
