"""Answers of a server that speaks OpenAI's API: vectors, or one error of ours.

Pydantic's parser reads vectors straight into a matrix. Error texts hold the provider's status and code only: its
message may quote the input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import openai
from pydantic import BaseModel, ConfigDict, ValidationError

from reindexer.adapters.embedders.openai_length import is_for_length
from reindexer.core.errors import (
    DependencyUnavailable,
    InputRejected,
    InputTooLong,
    OutOfQuota,
    RateLimited,
    RefusesAll,
    ReindexerError,
    TimedOut,
    TransientError,
)
from reindexer.core.rate_limit import advertised_limits
from reindexer.core.wording import counted
from reindexer.ports import Embedding, Vectors

_AWAY = {502, 504, *range(520, 525), 530}
"""Statuses of a gateway that gets no answer from its server."""
_LATE = {504, 524}
"""Those of them that mean a timeout."""
_PASSING = {408, 409, 424, 425}
"""Statuses beside 5xx. Hugging Face's servers answer 424 if their model fails."""
_FORM = {400, 406, 415, 422, 501}
"""Statuses that may refuse the form of a request."""
_NUMBER = {*_FORM, 413}
"""Statuses that may refuse the number of inputs."""
_CODE = re.compile(r"[a-z_]{1,50}")
"""The form of a provider's error code. Any other text may quote the input."""


class Refused(Exception):
    """The server refused a request: for its form, for one of its inputs, or because it refuses everything."""

    def __init__(self, status: int, text: str, complaint: str, *, for_length: bool) -> None:
        """`complaint`: the server's own words, which may quote the input. `for_length`: whether they blame a length."""
        super().__init__(text)
        self.for_length = for_length
        self.text = text
        self.complaint = complaint
        self.may_be_form = status in _FORM
        self.names_input_type = self.may_be_form and "input_type" in complaint
        self.may_be_number = status in _NUMBER

    def of_input(self) -> InputRejected:
        """The error if the server takes other inputs."""
        if self.for_length:
            return InputTooLong(f"{self.text}: too long for it")
        return InputRejected(f"{self.text}: it refuses this input")

    def of_all(self) -> RefusesAll:
        """The error if the server takes no input."""
        return RefusesAll(f"{self.text}: check OPENAI_API_KEY, OPENAI_BASE_URL and REINDEXER_EMBEDDING_MODEL")

    def of_input_type(self, input_type: str | None) -> RefusesAll:
        """The error if the server takes no input that is asked for with this input type, or without one."""
        if input_type is None:
            what = "it wants an `input_type`; set query_input_type and document_input_type in the source's profile"
        else:
            what = f"it does not take the `input_type` {input_type!r} of the source's profile"
        return RefusesAll(f"{self.text}: {what}")


class OtherDimensions(Exception):
    """All vectors have the same number of dimensions, and it is not the expected one."""


def status_error(exc: openai.APIStatusError) -> ReindexerError | Refused:
    """Our error for the client's error."""
    return _error(exc.status_code, exc.code, exc.response.headers, f"{exc.code} {exc.message} {exc.body}")


def is_of_gateway(status: int) -> bool:
    """Whether a status tells only that no answer came from the server: it may have done its work."""
    return status in _AWAY or status == 408


def _error(status: int, code: object, headers: Mapping[str, str], complaint: str) -> ReindexerError | Refused:
    known = f" ({code})" if code and _CODE.fullmatch(str(code)) else ""
    text = f"the embedding provider answered {status}{known}"
    if status == 402 or (status == 429 and code == "insufficient_quota"):
        return OutOfQuota(f"{text}: check the account's credit and limits")  # guard breaker-quota-exhausted
    if status == 429:
        return RateLimited(text, retry_after_s=_retry_after_s(headers), advertised=advertised_limits(headers))
    if status in _AWAY:
        return TimedOut(text) if status in _LATE else DependencyUnavailable(text)
    for_length = is_for_length(status, complaint)
    if not for_length and (status in _PASSING or (status >= 500 and status != 501)):
        return TransientError(text, retry_after_s=_retry_after_s(headers))
    return Refused(status, text, complaint, for_length=for_length)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for header, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[header])) * unit_s
        except (KeyError, ValueError):
            continue
    try:  # a date: the difference to the server's own clock
        until, sent = (parsedate_to_datetime(headers[header]) for header in ("retry-after", "date"))
        return max(0.0, (until - sent).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, val_json_bytes="base64")


class _One(_Read):
    index: int | None = None
    embedding: bytes | list[float]


class _Answer(_Read):
    data: list[_One]
    usage: dict[str, Any] | None = None


def parse(body: bytes, headers: Mapping[str, str], inputs: int, dimensions: int) -> Embedding:
    """The answer's vectors in the order of the inputs.

    Raises OtherDimensions; Refused or an error of ours if a gateway wraps an error in a 200; TransientError for any
    other answer that does not match the request.
    """
    try:
        answer = _Answer.model_validate_json(body)
        rows = [_vector(each.embedding) for each in _in_order(answer.data, inputs)]
        tokens = int((answer.usage or {}).get("total_tokens") or 0)
    except (ValueError, TypeError) as exc:
        if isinstance(exc, ValidationError) and (wrapped := _wrapped_error(body, headers)):
            raise wrapped from exc
        raise TransientError(f"the embedding provider's answer can't be read: {type(exc).__name__}") from exc
    if (sizes := {row.size for row in rows}) != {dimensions}:
        if len(sizes) == 1 and 0 not in sizes:
            raise OtherDimensions(
                f"the provider answers {sizes.pop()} dimensions, REINDEXER_EMBEDDING_DIMENSIONS says {dimensions}"
            )
        which = "without numbers" if 0 in sizes else "of another length than the others"
        raise TransientError(f"the embedding provider answered a vector {which}")
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise TransientError("the embedding provider answered a vector of zeros or with a value that is not finite")
    return Embedding(vectors, tokens)


def _in_order(data: list[_One], inputs: int) -> list[_One]:
    """By `index`. Some servers leave out an index of 0, as protobuf does; a server that leaves out all keeps the
    order."""
    if len(data) > 1 and all(each.index is None for each in data):
        indexes = list(range(len(data)))
    else:
        data = sorted(data, key=lambda each: each.index or 0)
        indexes = [each.index or 0 for each in data]
    if indexes != list(range(inputs)):
        raise TransientError(
            f"the embedding provider answered {counted(len(data), 'vector')} to {counted(inputs, 'input')}"
        )
    return data


def _wrapped_error(body: bytes, headers: Mapping[str, str]) -> ReindexerError | Refused | None:
    """Some gateways answer 200 with an error in the body."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return None
    if not error:
        return None
    told = error if isinstance(error, dict) else {"message": error}
    codes = [told.get(name) for name in ("code", "status", "status_code")]
    status = next((int(code) for code in map(str, codes) if code.isdecimal() and 400 <= int(code) < 600), None)
    if status is None:
        return TransientError("the embedding provider answered 200 with an error in it")
    return _error(status, told.get("type"), headers, f"{told.get('type')} {told.get('message')}")


def _vector(value: bytes | list[float]) -> Vectors:
    return np.frombuffer(value, dtype="<f4") if isinstance(value, bytes) else np.asarray(value, dtype=np.float32)
