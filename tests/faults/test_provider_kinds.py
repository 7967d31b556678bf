"""What servers refuse in the form of a request is no item's fault; what they refuse in an item is no neighbour's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reindexer.core.source import CONTEXT_ITEMS
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.queue.breaker import open_breakers
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.wiring import embedder_of
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.provider_kinds import KINDS, PROFILES, Kind, refusal

POISON = "poison"


def be(provider: FakeProvider, kind: Kind) -> None:
    """The fake refuses a text besides, as all servers do."""
    provider.behave = lambda call: (
        refusal(400, "content policy") if any(POISON in text for text in call.inputs) else kind(provider, call)
    )


@pytest.fixture
def as_azure(settings: Settings, worker: Worker, provider: FakeProvider) -> None:
    """The worker's base URL is that of a deployment."""
    url = f"{provider.url}/openai/deployments/small?api-version=2024-10-21"
    worker.embedder_of = embedder_of(settings.model_copy(update={"openai_base_url": url}))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.first(3)
def test_every_item_is_embedded_by_a_server_that_takes_requests_in_another_form_and_the_refused_one_fails_alone(
    db: Connection,
    worker: Worker,
    index: IndexReader,
    provider: FakeProvider,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    if name == "Azure":
        request.getfixturevalue("as_azure")
    if name in PROFILES:
        with changing_triggers(db):
            attach(db, replace(CONTEXT_ITEMS, profile=PROFILES[name]))
    be(provider, KINDS[name])
    texts = {insert(db, text): text for text in (f"text {n}" for n in range(150))}
    poison_id = insert(db, POISON)
    work(db, worker)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in texts.items())
    assert index.count() == len(texts)
    assert status(db, poison_id) == ("FAILED", "the embedding provider answered 400: it refuses this input")
    asked = len(provider.calls)
    more = {insert(db, text): text for text in (f"more {n}" for n in range(3))}
    work(db, worker)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in more.items())
    assert len(provider.calls) - asked <= len(more), "what was found out is remembered"
    assert open_breakers(db) == []
    assert state_of_everything(db).sources["context_items"].problem is None
