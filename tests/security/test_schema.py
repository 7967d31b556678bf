"""Requests made from the OpenAPI description, fitting and unfitting ones: no answer is a 5xx, and each is as described."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as effort
from hypothesis.errors import Unsatisfiable
from schemathesis import checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from api.main import create_app
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from tests.support.index_reader import IndexReader

KEY = {"X-API-Key": "test-admin-key"}
EXAMPLES = 6
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
RECONCILE = "/admin/reconcile"
"""It waits for what is being worked on, and nobody works here."""
NOT_READY = "/readyz"
"""Nothing listens and works here, and that is what it says."""


@pytest.fixture
def schema(settings: Settings, db: Connection, index: IndexReader) -> Iterator[schemathesis.BaseSchema]:
    """Of an API on real servers."""
    db.execute("INSERT INTO context_items (content) VALUES ('some text')")
    app = create_app(settings)
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    app.state.parts.close()


# Threads of the API use `random` meanwhile, which Hypothesis takes for a strategy's doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_no_request_that_can_be_made_from_the_description_is_a_server_error(
    schema: schemathesis.BaseSchema, mode: GenerationMode
) -> None:
    failures: list[Exception] = []
    codes: Counter[int] = Counter()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @seed(1)
        @effort(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers(case: Any) -> None:
            if case.path == RECONCILE and mode is GenerationMode.POSITIVE:
                case.body = {**case.body, "wait_s": 0}
            response = case.call(headers=KEY)
            codes[response.status_code] += 1
            if (case.path, response.status_code) != (NOT_READY, 503):
                case.validate_response(response, checks=CHECKS)

        try:
            with suppress(Unsatisfiable):  # what takes no input takes no wrong one
                answers()
        except FailureGroup as exc:
            failures += exc.exceptions
    assert not failures, "\n\n".join(map(str, failures))
    assert codes.total() > 100, codes
    assert codes[200] > 25 if mode is GenerationMode.POSITIVE else codes[422] > 50, codes
