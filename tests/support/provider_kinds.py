"""Servers that speak OpenAI's API in their own way: each is a fake that refuses what that server refuses.

Each function takes a request and returns what the server answers to it, or None where it answers as OpenAI does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reindexer.testing.provider import DIMENSIONS, Call, FakeProvider, Reply, error, vector_of

Kind = Callable[[FakeProvider, Call], Reply | None]


def refusal(status: int, message: str) -> Reply:
    """An error as most servers word it."""
    return Reply(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})


def floats(provider: FakeProvider, call: Call) -> Reply:
    """The right answer, as lists of floats whatever was asked for."""
    answer: dict[str, Any] = dict(provider.vectors(call).body)
    answer["data"] = [
        {**each, "embedding": vector_of(text, int(call.body.get("dimensions", DIMENSIONS))).tolist()}
        for each, text in zip(answer["data"], call.inputs, strict=True)
    ]
    return Reply(200, answer)


def without_index(provider: FakeProvider, call: Call, *, only_zero: bool) -> Reply:
    """The right answer, without `index`: where it is 0, or everywhere."""
    answer: dict[str, Any] = dict(provider.vectors(call).body)
    kept = [{k: v for k, v in each.items() if k != "index" or (only_zero and v != 0)} for each in answer["data"]]
    return Reply(200, {**answer, "data": kept})


def gemini(provider: FakeProvider, call: Call) -> Reply | None:
    """Google: leaves out `index` where it is 0, takes 100 texts a request."""
    if len(call.inputs) > 100:
        return refusal(400, "BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch")
    return without_index(provider, call, only_zero=True)


def no_index(provider: FakeProvider, call: Call) -> Reply | None:
    """Wrappers that answer a bare list: no `index` at all."""
    return without_index(provider, call, only_zero=False)


def ollama(provider: FakeProvider, call: Call) -> Reply | None:
    """Ollama: floats, whatever was asked for."""
    return floats(provider, call)


def lm_studio(provider: FakeProvider, call: Call) -> Reply | None:
    """LM Studio: floats, and no usage worth the name."""
    return Reply(200, {**floats(provider, call).body, "usage": {"prompt_tokens": 0, "total_tokens": 0}})


def float_only(provider: FakeProvider, call: Call) -> Reply | None:
    """Refuses base64, and knows float."""
    if call.body.get("encoding_format") == "base64":
        return refusal(400, "encoding_format base64 is not supported")
    return floats(provider, call)


def vllm(provider: FakeProvider, call: Call) -> Reply | None:
    """vLLM with a model that can't shorten its vectors."""
    if "dimensions" in call.body:
        return refusal(400, 'Model "m" does not support matryoshka representation')
    return None


def strict(provider: FakeProvider, call: Call) -> Reply | None:
    """Mistral, and whatever checks its input by pydantic: knows `model` and `input` and no other field."""
    extra = [name for name in call.body if name not in ("model", "input")]
    if extra:
        detail = [
            {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
            for name in extra
        ]
        return Reply(422, {"detail": detail})
    return floats(provider, call)


def tei(provider: FakeProvider, call: Call) -> Reply | None:
    """Hugging Face's Text Embeddings Inference: 32 texts a request."""
    if len(call.inputs) > 32:
        message = f"batch size {len(call.inputs)} > maximum allowed batch size 32"
        return Reply(422, {"message": message, "code": 422, "type": "Validation"})
    return floats(provider, call)


def tei_413(provider: FakeProvider, call: Call) -> Reply | None:
    """The same by an older version."""
    return Reply(413, {"error": "batch too large"}) if len(call.inputs) > 32 else floats(provider, call)


def one_string(provider: FakeProvider, call: Call) -> Reply | None:
    """Wants one text, as a string."""
    if isinstance(call.body["input"], list):
        return refusal(400, "json: cannot unmarshal array into Go struct field EmbeddingRequest.input of type string")
    return floats(provider, call)


def azure(provider: FakeProvider, call: Call) -> Reply | None:
    """Azure OpenAI by deployment: the version in the query, the key in a header of its own, and no other."""
    headers = {name.lower(): value for name, value in call.headers.items()}
    if not call.path.endswith("/embeddings?api-version=2024-10-21"):
        return error(404, "not_found")
    if "authorization" in headers or headers.get("api-key") != "sk-test-key":
        return error(401, "unauthorized")
    return None


def gateway_200(provider: FakeProvider, call: Call) -> Reply | None:
    """A gateway (OpenRouter, LiteLLM) that answers 200 with the error of the server behind it in the body."""
    if "dimensions" in call.body:
        return Reply(200, {"error": {"message": "Unsupported parameter: dimensions", "code": 400}})
    return None


def gateway_html(provider: FakeProvider, call: Call) -> Reply | None:
    """A gateway whose errors are pages, without a word that helps, for what it does not know."""
    if call.body.get("encoding_format"):
        return Reply(400, b"<html><h1>400 Bad Request</h1></html>")
    return floats(provider, call)


KINDS: dict[str, Kind] = {
    "Gemini": gemini,
    "no `index` at all": no_index,
    "Ollama": ollama,
    "LM Studio": lm_studio,
    "float only": float_only,
    "vLLM, a model that can't shorten": vllm,
    "Mistral": strict,
    "TEI": tei,
    "TEI, an older version": tei_413,
    "one string a request": one_string,
    "Azure": azure,
    "a gateway that answers 200 with an error": gateway_200,
    "a gateway that answers with HTML pages": gateway_html,
}
