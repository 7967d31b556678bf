"""Places in the program at which a process is killed or stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from reindexer.testing.provider import Call, FakeProvider
from reindexer.testing.proxy import Mode, Proxy

UPSERT = b"PUT /collections/context_items__g1/points?"


@dataclass
class Place:
    """A provider and a way to Qdrant of one worker's own, where it comes to stand still at one step."""

    provider: FakeProvider
    qdrant: Proxy
    env: Mapping[str, str]
    stands_still: Callable[[], bool]
    goes_on: threading.Event
    """Set, the provider answers after all."""


@contextmanager
def place(step: str, qdrant_url: str) -> Iterator[Place]:
    """`step`: the last thing that the worker does."""
    goes_on = threading.Event()

    def hang(call: Call) -> None:
        if len(provider.calls) == still_at:
            goes_on.wait(60)

    with closing(FakeProvider()) as provider, Proxy.before(qdrant_url) as proxy:
        proxy.matching = UPSERT
        still_at = {"claim": 1, "half of the embedding": 2}.get(step)
        provider.behave = hang
        proxy.mode = {"embedding": Mode.HOLD_REQUEST, "write": Mode.HOLD_REPLY}.get(step, Mode.PASS)
        env = {"OPENAI_BASE_URL": provider.url, "QDRANT_URL": proxy.instead(qdrant_url)}
        if step == "half of the embedding":
            env["REINDEXER_EMBEDDING_MAX_INPUTS"] = "1"
        yield Place(provider, proxy, env, lambda: len(provider.calls) == still_at or proxy.held == 1, goes_on)
        goes_on.set()
