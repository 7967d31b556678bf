"""What the embedding provider answers instead of vectors. Whatever passes: it never refuses a text for good."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable

from reindexer.testing.provider import Call, FakeProvider, Reply, error
from tests.torture.models import vector

MAX_HANG_S = 30.0

Lie = Callable[[Call], Reply | None]


class Lies:
    """Stands in the provider's `behave`; counts the inputs that got their vectors."""

    def __init__(self, provider: FakeProvider) -> None:
        self.answered: list[tuple[str, str]] = []
        """Models and texts."""
        self.tokens: list[int] = []
        """What each answer that names tokens says of them: what is billed, whether or not it arrives."""
        self._lie: Lie | None = None
        self._changed = threading.Condition()
        provider.behave = self._behave

    def tell(self, name: str | None) -> None:
        """Begin with one of `TOLD`, or "hang"; None: the truth."""
        with self._changed:
            self._lie = self._hang if name == "hang" else TOLD[name] if name else None
            self._changed.notify_all()

    def _behave(self, call: Call) -> Reply | None:
        lie = self._lie
        if lie is not None and (reply := lie(call)) is not None:
            if isinstance(reply.body, dict) and "usage" in reply.body:
                self.tokens.append(reply.body["usage"]["total_tokens"])
            return reply
        self.answered += [(str(call.body["model"]), text) for text in call.inputs]
        reply = _vectors(call, len(call.inputs))
        self.tokens.append(reply.body["usage"]["total_tokens"])
        return reply

    def _hang(self, call: Call) -> Reply | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lie != self._hang, MAX_HANG_S)
        return None


def _fewer(call: Call) -> Reply:
    return _vectors(call, len(call.inputs) - 1)


def _vectors(call: Call, count: int) -> Reply:
    """Those of the model that was asked for."""
    model = str(call.body["model"])
    data = [
        {"object": "embedding", "index": i, "embedding": base64.b64encode(vector(model, text).tobytes()).decode()}
        for i, text in enumerate(call.inputs[:count])
    ]
    tokens = sum(len(text) // 4 + 1 for text in call.inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply(200, {"object": "list", "data": data, "model": model, "usage": usage})


def _half_json(call: Call) -> Reply:
    return Reply(200, b'{"object": "list", "data": [{"index": 0, "embedding": "AAAA')


def _slow(call: Call) -> None:
    time.sleep(0.7)


def _slow_by_text(call: Call) -> None:
    """As a model on a small machine: a request of many texts takes longer than its timeout, a long item than a lease."""
    time.sleep(0.08 * len(call.inputs))


SLOW_MODEL = "slow by text"

TOLD: dict[str, Lie] = {
    "429": lambda call: error(429, "rate_limit_exceeded"),
    "429 with Retry-After": lambda call: error(429, "rate_limit_exceeded", {"Retry-After": "1"}),
    "500": lambda call: error(500),
    "503": lambda call: error(503),
    "half JSON": _half_json,
    "fewer vectors": _fewer,
    "slow": _slow,
    SLOW_MODEL: _slow_by_text,
}
