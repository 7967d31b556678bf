"""Servers that speak OpenAI's API in their own way: each is a fake that refuses what that server refuses.

Each function takes a request and returns what the server answers to it, or None where it answers as OpenAI does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reindexer.core.profile import Profile
from reindexer.testing.provider import DIMENSIONS, Call, FakeProvider, Reply, error, vector_of

Kind = Callable[[FakeProvider, Call], Reply | None]
WIDTH = 16
"""The length that a Voyage model gives its vectors unless it is asked for another."""


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


def voyage(provider: FakeProvider, call: Call) -> Reply | None:
    """Voyage: `output_dimension` in place of `dimensions`, no encoding but base64, 1,000 texts a request, and an error
    shape of its own."""
    wrong = "The request body is not valid JSON, or some arguments were not specified properly. In particular, "
    if "dimensions" in call.body:
        return Reply(400, {"detail": f"{wrong}Argument 'dimensions' is not supported by our API"})
    if call.body.get("encoding_format") not in (None, "base64"):
        return Reply(400, {"detail": f"{wrong}Argument 'encoding_format' is not valid"})
    if len(call.inputs) > 1000:
        return Reply(400, {"detail": f"{wrong}The batch size limit is 1000."})
    width = call.body.get("output_dimension", WIDTH)
    return provider.vectors(replace(call, body={**call.body, "dimensions": width}))


def nim(provider: FakeProvider, call: Call) -> Reply | None:
    """NVIDIA NIM: a model that embeds queries and passages differently, and has to be told which it gets."""
    if call.body.get("input_type") not in ("query", "passage"):
        return Reply(400, {"error": "'input_type' parameter is required for asymmetric models"})
    return floats(provider, call)


def cohere(provider: FakeProvider, call: Call) -> Reply | None:
    """Cohere's models from v3 on, behind a gateway that passes `input_type` on: 96 texts a request."""
    if call.body.get("input_type") not in ("search_document", "search_query"):
        return Reply(400, {"message": "invalid request: valid input_type must be provided with the provided model"})
    if len(call.inputs) > 96:
        return Reply(400, {"message": "invalid request: total number of texts must be at most 96"})
    return floats(provider, call)


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
    "Voyage": voyage,
    "NVIDIA NIM": nim,
    "Cohere": cohere,
    "a gateway that answers 200 with an error": gateway_200,
    "a gateway that answers with HTML pages": gateway_html,
}

PROFILES: dict[str, Profile] = {
    "Voyage": Profile(document_input_type="document", query_input_type="query"),
    "NVIDIA NIM": Profile(document_input_type="passage", query_input_type="query"),
    "Cohere": Profile(document_input_type="search_document", query_input_type="search_query"),
}
"""Of the kinds that want one."""
