"""A provider behind a proxy that may cut it off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from reindexer.testing.provider import FakeProvider
from reindexer.testing.proxy import Proxy


@pytest.fixture
def proxy(provider: FakeProvider) -> Iterator[Proxy]:
    """Stands before the provider."""
    with Proxy.before(provider.url) as running:
        yield running


@pytest.fixture
def env(env: Mapping[str, str], proxy: Proxy, provider: FakeProvider) -> Mapping[str, str]:
    """A sixtieth of the usual waits: probes come after 0.05, 0.1, 0.2 … 0.5 s."""
    return {**env, "OPENAI_BASE_URL": proxy.instead(provider.url), "REINDEXER_RETRY_MAX_S": "1"}
