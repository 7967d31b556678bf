"""The way back: what was edited after a promotion is in the former generation as well."""

from __future__ import annotations

import random

import pytest

from reindexer.generations import promotion
from reindexer.generations.promotion import Terms
from reindexer.postgres.connect import Connection
from reindexer.worker.worker import Worker
from tests.support.generations import NAME, settle, states, turn
from tests.support.reconciling import differences

ROWS = 400


def edit(db: Connection, rng: random.Random) -> None:
    """One statement, as applications make them."""
    number = rng.randrange(ROWS)
    match rng.choice(["update", "update", "payload", "delete", "insert", "back"]):
        case "update":
            statement = (
                "UPDATE context_items SET content = 'text ' || %(text)s::text WHERE id = md5(%(key)s::text)::uuid"
            )
        case "payload":
            statement = "UPDATE context_items SET metadata = jsonb_build_object('n', %(text)s::text) WHERE id = md5(%(key)s::text)::uuid"
        case "delete":
            statement = "DELETE FROM context_items WHERE id = md5(%(key)s::text)::uuid AND %(text)s::text IS NOT NULL"
        case "back":
            statement = "UPDATE context_items SET content = 'text' WHERE id = md5(%(key)s::text)::uuid AND %(text)s::text IS NOT NULL"
        case _:
            statement = (
                "INSERT INTO context_items (id, content) VALUES (md5(%(key)s::text)::uuid, 'new ' || %(text)s::text)"
                " ON CONFLICT (id) DO NOTHING"
            )
    db.execute(statement.encode(), {"key": str(number), "text": str(rng.randrange(10**9))})


@pytest.mark.parametrize("edits", [1_500, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_after_very_many_edits_a_rollback_succeeds_and_reconcile_finds_no_difference(
    promoted: Connection, worker: Worker, edits: int
) -> None:
    rng = random.Random(edits)
    for n in range(edits):
        edit(promoted, rng)
        if rng.random() < 0.01:
            turn(promoted, worker)
        if n == edits // 2:
            promoted.execute("UPDATE context_items SET metadata = '{}'")
    settle(promoted, worker)
    assert differences(promoted, worker) == {}
    promotion.rollback(promoted, NAME, who="test", terms=Terms(patience_s=30))
    assert states(promoted) == {1: "active", 2: "standby"}
    assert differences(promoted, worker) == {}
