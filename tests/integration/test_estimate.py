"""What embedding would cost, before it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from reindexer.core.price import dollars
from reindexer.core.profile import Profile
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.core.text.tokens import estimate_tokens
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.estimate import Estimate, estimate
from reindexer.testing.provider import FakeProvider
from reindexer.wiring import token_price
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert
from tests.support.reconciling import ready


def test_a_small_table_is_counted_exactly_and_what_is_indexed_costs_nothing_again(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    ready(db, worker, 3)
    changed, new = insert(db, "x"), "a text of some length"
    ready(db, worker, 0)
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", [new, changed])
    insert(db, " ")
    calls = len(provider.calls)
    found = estimate(db, CONTEXT_ITEMS, embedding_spec_of(CONTEXT_ITEMS, worker.embedder_of(CONTEXT_ITEMS)))
    tokens = estimate_tokens(new)
    assert found == Estimate(
        rows=5, is_estimate=False, sampled=5, with_text=4, tokens=3 * estimate_tokens("text 0") + tokens, changed=1,
        changed_tokens=tokens,
    )  # fmt: skip
    other_model = estimate(db, CONTEXT_ITEMS, EmbeddingSpec("another embedder", 8192))
    assert (other_model.changed, other_model.changed_tokens) == (4, found.tokens)
    assert len(provider.calls) == calls


def test_what_chunks_share_is_counted_with_each_of_them(db: Connection, worker: Worker, provider: FakeProvider) -> None:
    chunked = replace(CONTEXT_ITEMS, chunk_tokens=32, chunk_overlap=16)
    with changing_triggers(db):
        attach(db, chunked)
    insert(db, " ".join(f"Sentence number {n} is short." for n in range(60)))
    spec = embedding_spec_of(chunked, worker.embedder_of(chunked))
    found = estimate(db, chunked, spec, len)
    ready(db, worker, 0)
    assert found.tokens == found.changed_tokens == sum(map(len, provider.inputs))


@pytest.mark.long
def test_of_a_large_table_a_sample_is_read(db: Connection, worker: Worker) -> None:
    db.execute(
        "INSERT INTO context_items (content) SELECT repeat('x', 100 + n % 200) FROM generate_series(1, 20000) AS n"
    )
    db.execute("ANALYZE context_items")
    whole = estimate(db, CONTEXT_ITEMS, EmbeddingSpec("e", 8192), sample=50_000)
    sampled = estimate(db, CONTEXT_ITEMS, EmbeddingSpec("e", 8192), sample=2_000)
    assert (whole.is_estimate, sampled.is_estimate) == (False, True)
    assert 200 < sampled.sampled <= 4_000
    assert sampled.rows == whole.rows == 20_000
    assert sampled.tokens == pytest.approx(whole.tokens, rel=0.15)
    assert sampled.changed == 20_000


def test_an_empty_table_costs_nothing(db: Connection) -> None:
    assert estimate(db, CONTEXT_ITEMS, EmbeddingSpec("e", 8192)) == Estimate(0, False, 0, 0, 0, 0, 0)


def test_the_price_is_openais_at_openai_or_what_is_set_and_else_not_known(settings: Settings) -> None:
    def price(profile: Profile = Profile(), **changed: object) -> float | None:  # noqa: B008
        return token_price(settings.model_copy(update=changed), replace(CONTEXT_ITEMS, profile=profile))

    assert price(openai_base_url=None) == 0.02
    assert price(openai_base_url="https://api.openai.com/v1") == 0.02
    assert price(openai_base_url=None, embedding_model="text-embedding-3-large") == 0.13
    assert price(openai_base_url=None, embedding_model="unheard of") is None
    assert price(openai_base_url="http://localhost:11434/v1") is None
    assert price(price_per_million_tokens=5.0) == 5.0
    assert price(embedder="hashing") == 0.0
    assert price(embedder="static", price_per_million_tokens=5.0) == 0.0
    of_profile = Profile(provider="openai", model="text-embedding-3-large")
    assert price(of_profile, openai_base_url=None) == 0.13
    assert price(of_profile, openai_base_url=None, embedder="hashing") == 0.13
    assert price(of_profile, openai_base_url=None, price_per_million_tokens=5.0) == 0.13
    assert price(Profile(base_url="http://localhost:11434/v1"), price_per_million_tokens=5.0) is None
    assert price(Profile(dimensions=256), price_per_million_tokens=5.0) == 5.0
    assert price(Profile(provider="hashing"), price_per_million_tokens=5.0) == 0.0
    assert dollars(2_500_000, 0.02) == 0.05
    assert dollars(1, None) is None


def test_the_command_tells_tokens_and_price(db: Connection, env: Mapping[str, str], here: Callable[..., Done]) -> None:
    insert(db, "e" * 3330)
    env = {**env, "REINDEXER_PRICE_PER_MILLION_TOKENS": "1000"}
    facts = json.loads(here("estimate", "context_items", "--json", env=env).stdout)
    assert (facts["rows"], facts["tokens"], facts["dollars"], facts["changed_dollars"]) == (1, 1000, 1.0, 1.0)
    unknown = here("estimate", "context_items", env={**env, "REINDEXER_PRICE_PER_MILLION_TOKENS": ""}).stdout
    assert "set REINDEXER_PRICE_PER_MILLION_TOKENS" in unknown


def test_the_command_prices_the_model_of_the_sources_profile(
    db: Connection, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    """Not that of the settings: a sixth of what it costs, or $0.00 where they say `hashing`."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO notes SELECT n, repeat('e', 3330) FROM generate_series(1, 100) AS n")
    profile = Profile(provider="openai", model="text-embedding-3-large", base_url="https://api.openai.com/v1")
    with changing_triggers(db):
        attach(db, Source("notes", "public", "notes", ("id",), ("body",), profile=profile))
    env = {**env, "REINDEXER_EMBEDDER": "hashing", "REINDEXER_PRICE_PER_MILLION_TOKENS": "0.02"}
    facts = json.loads(here("estimate", "notes", "--json", env=env).stdout)
    assert (facts["dollars_per_million_tokens"], facts["tokens"], facts["dollars"]) == (0.13, 100_000, 0.013)
    local = replace(profile, base_url="http://localhost:11434/v1")
    with changing_triggers(db):
        attach(db, Source("notes", "public", "notes", ("id",), ("body",), profile=local))
    unknown = here("estimate", "notes", env=env).stdout
    assert "not known: no price of text-embedding-3-large at http://localhost:11434/v1 is listed" in unknown
