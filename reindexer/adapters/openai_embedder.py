"""Embeddings over HTTP from OpenAI, or from any server that speaks its API.

Vectors are asked for as base64 and read straight into a matrix, by pydantic's parser: the client's own way, through
lists of Python floats, costs many times more CPU. Servers that ignore `encoding_format` or refuse `dimensions` are
accepted. Error texts hold the provider's status and code only: its message may quote the input.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import numpy as np
import openai
from pydantic import BaseModel, ConfigDict

from reindexer.adapters.http_deadline import HttpDeadline
from reindexer.adapters.openai_length import is_for_length
from reindexer.core.batching import RequestLimits
from reindexer.core.errors import (
    DependencyAway,
    InputRejected,
    InputTooLong,
    LastingError,
    OutOfQuota,
    PassingError,
    RateLimited,
)
from reindexer.core.rate_limit import Told, told_by
from reindexer.ports import Embedding, Vectors

CONNECT_S = 5.0


class OpenAIEmbedder:
    """`Embedder` over HTTP. One client, with its own connections, for each process."""

    def __init__(
        self, *, api_key: str | None, base_url: str | None, model: str, dimensions: int, limits: RequestLimits
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._model = model
        self._dimensions = dimensions
        self._limits = limits
        self._send_dimensions = True
        self._deadline = HttpDeadline()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._client = self._new_client()

    @property
    def fingerprint(self) -> str:
        """Model and dimensions; not the URL, since a gateway in between changes no vector."""
        return f"openai:{self._model}:{self._dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    @property
    def limits(self) -> RequestLimits:
        """What one request may hold."""
        return self._limits

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedding:
        """One request. See `reindexer.ports.Embedder.embed`."""
        try:
            with _mapped_errors():
                body, told = self._request(texts, timeout_s)
        except _DimensionsRefused:
            self._send_dimensions = False
            with _mapped_errors():
                body, told = self._request(texts, timeout_s)
        return replace(_parse(body, len(texts), self._dimensions), told=told)

    def _request(self, texts: Sequence[str], timeout_s: float) -> tuple[bytes, Told | None]:
        asked: dict[str, Any] = {"input": list(texts), "model": self._model, "encoding_format": "base64"}
        if self._send_dimensions:
            asked["dimensions"] = self._dimensions
        timeout = openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        try:
            with self._deadline.within(timeout_s):
                # Not `embeddings.create`, which takes half as long again to make the same request.
                response = self._current_client().post(
                    "/embeddings",
                    cast_to=httpx2.Response,
                    body=asked,
                    options={"timeout": timeout, "security": {"bearer_auth": True}},
                )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as exc:
            if "dimensions" in asked and "dimensions" in str(exc).lower():
                raise _DimensionsRefused from exc
            raise
        return response.content, told_by(response.headers)

    def _current_client(self) -> openai.OpenAI:
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._client = os.getpid(), self._new_client()
            return self._client

    def _new_client(self) -> openai.OpenAI:
        http = openai.DefaultHttpxClient(event_hooks={"response": [self._deadline.on_response]})
        client = openai.OpenAI(
            api_key=self._api_key or "none", base_url=self._base_url, max_retries=0, http_client=http
        )
        weakref.finalize(client, http.close)  # a client that is handed in is not closed by its new owner
        return client


class _DimensionsRefused(Exception):
    """The server does not know the parameter `dimensions`, or not for this model."""


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except (openai.APITimeoutError, TimeoutError) as exc:
        raise DependencyAway("the embedding provider did not answer in time") from exc
    except openai.APIConnectionError as exc:
        raise DependencyAway(f"the embedding provider can't be reached: {type(exc.__cause__ or exc).__name__}") from exc
    except openai.APIStatusError as exc:
        raise _status_error(exc) from exc
    except openai.OpenAIError as exc:
        raise PassingError(f"the embedding provider's answer can't be read: {type(exc).__name__}") from exc
    except UnicodeEncodeError as exc:
        raise InputRejected("the text is not valid Unicode: it holds half of a surrogate pair") from exc


_CODE = re.compile(r"[a-z_]{1,50}")
"""What a provider's code looks like. Anything else may be the input."""


def _status_error(exc: openai.APIStatusError) -> Exception:
    status, code = exc.status_code, f" ({exc.code})" if _CODE.fullmatch(str(exc.code)) and exc.code else ""
    text = f"the embedding provider answered {status}{code}"
    if status == 402 or (status == 429 and exc.code == "insufficient_quota"):
        return OutOfQuota(f"{text}: check the account's credit and limits")
    if status == 429:
        return RateLimited(text, retry_after_s=_retry_after_s(exc), told=told_by(exc.response.headers))
    if status in (502, 504):  # by a gateway: nobody behind it answers
        return DependencyAway(text)
    is_too_long = is_for_length(status, f"{exc.code} {exc.message}")
    if is_too_long or status in (400, 422):
        return (
            InputTooLong(f"{text}: too long for it") if is_too_long else InputRejected(f"{text}: it refuses this input")
        )
    if status in (408, 409, 425) or status >= 500:
        return PassingError(text, retry_after_s=_retry_after_s(exc))
    return LastingError(f"{text}: check OPENAI_API_KEY, OPENAI_BASE_URL and REINDEXER_EMBEDDING_MODEL")


def _retry_after_s(exc: openai.APIStatusError) -> float | None:
    headers = exc.response.headers
    for header, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[header])) * unit_s
        except (KeyError, ValueError):
            continue
    try:  # a date: seconds by the clock that wrote it
        until, sent = (parsedate_to_datetime(headers[header]) for header in ("retry-after", "date"))
        return max(0.0, (until - sent).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, val_json_bytes="base64")


class _One(_Read):
    index: int
    embedding: bytes | list[float]


class _Answer(_Read):
    data: list[_One]
    usage: dict[str, Any] | None = None


def _parse(body: bytes, inputs: int, dimensions: int) -> Embedding:
    """The answer's vectors in the order of the inputs. Raises PassingError for an answer that is not what was asked."""
    try:
        answer = _Answer.model_validate_json(body)
        data = sorted(answer.data, key=lambda each: each.index)
        if [each.index for each in data] != list(range(inputs)):
            raise PassingError(f"the embedding provider answered {len(data)} vectors to {inputs} inputs")
        rows = [_vector(each.embedding) for each in data]
        tokens = int((answer.usage or {}).get("total_tokens") or 0)
    except (ValueError, TypeError) as exc:
        raise PassingError(f"the embedding provider's answer can't be read: {type(exc).__name__}") from exc
    for row in rows:
        if row.shape != (dimensions,):
            raise LastingError(
                f"the provider answers {row.size} dimensions, REINDEXER_EMBEDDING_DIMENSIONS says {dimensions}"
            )
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise PassingError("the embedding provider answered a vector of zeros or with a value that is not finite")
    return Embedding(vectors, tokens)


def _vector(value: bytes | list[float]) -> Vectors:
    return np.frombuffer(value, dtype="<f4") if isinstance(value, bytes) else np.asarray(value, dtype=np.float32)
