"""What names a place in a trace, when there are traces, and what is kept of a claim's steps."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from reindexer.core.trace import Place, place_of
from reindexer.tracing import current, process
from reindexer.worker.traced import MAX_PARTS, RecordedSteps

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "is_one"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01-of-a-later-version", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"00-{TRACE}-{SPAN}-01-x", False),
        (f"00-{TRACE}-{SPAN}-0", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-01".upper(), False),
        ("x" * 55, False),
        ("ä" * 40, False),
        ("٠" * 55, False),
        ("", False),
        (None, False),
    ],
)
def test_a_traceparent_names_a_place_only_if_it_is_one_and_is_recorded(traceparent: str | None, is_one: bool) -> None:
    assert place_of(traceparent) == (Place(TRACE, SPAN) if is_one else None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "the protocol is 'grpc'"),
        ({"OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
    ],
)
def test_the_standard_variables_decide_and_what_can_not_be_had_is_one_line(
    given: Mapping[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secretword@127.0.0.1:9"}
    monkeypatch.setattr(process, "_told", set())
    with capture_logs() as lines:
        assert process.is_asked_for(asking)
        assert [process.is_asked_for({**asking, **given}) for _ in range(2)] == [False, False]
    assert [each["event"] for each in lines] == ["traces_unexported"] * bool(words)
    assert words in json.dumps(lines)
    assert "secretword" not in json.dumps(lines)


def test_the_first_and_the_last_steps_of_a_long_claim_are_kept() -> None:
    steps = RecordedSteps()
    for number in range(100):
        with steps.step(f"step {number}", number):
            pass
    assert len(steps.parts) == MAX_PARTS
    assert steps.left_out == 100 - MAX_PARTS
    assert [steps.parts[0].name, steps.parts[-1].name] == ["step 0", "step 99"]


def test_a_step_that_fails_is_told_without_the_text_of_an_error_that_may_quote_a_row() -> None:
    steps = RecordedSteps()
    with pytest.raises(ValueError, match="secret"), steps.step("read"):
        raise ValueError("secret")
    assert [(each.name, each.error) for each in steps.parts] == [("read", "ValueError")]


def test_a_command_belongs_to_the_trace_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "_given", type(current._given)("given", default=None))
    current.give("hello")
    assert (current.traceparent(), current.trace_id()) == (None, None)
    current.give(f"00-{TRACE}-{SPAN}-01")
    assert (current.traceparent(), current.trace_id()) == (f"00-{TRACE}-{SPAN}-01", TRACE)
