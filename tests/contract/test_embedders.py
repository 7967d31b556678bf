"""Every built-in `Embedder` keeps the contract; and what `openai` does beyond it."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from reindexer.adapters.embedders.hashing import HashingEmbedder
from reindexer.adapters.embedders.openai import OpenAIEmbedder
from reindexer.adapters.embedders.static import StaticEmbedder
from reindexer.core.errors import (
    DependencyUnavailable,
    InputRejected,
    OutOfQuota,
    RateLimited,
    RefusesAll,
    ReindexerError,
    TimedOut,
    TooManyInputs,
    TransientError,
)
from reindexer.core.text.batching import RequestLimits
from reindexer.ports import Embedder
from reindexer.testing.embedders import EmbedderContract
from reindexer.testing.provider import DIMENSIONS, Call, FakeProvider, Reply, error, vector_of
from reindexer.testing.waiting import eventually


def openai_embedder(provider: FakeProvider, dimensions: int = DIMENSIONS) -> OpenAIEmbedder:
    return OpenAIEmbedder(api_key="sk", base_url=provider.url, model="m", dimensions=dimensions, limits=RequestLimits())


class TestBuiltInEmbedders(EmbedderContract):
    @pytest.fixture(params=["hashing", "static", "openai"])
    def embedder(self, request: pytest.FixtureRequest, provider: FakeProvider) -> Embedder:
        if request.param == "openai":
            return openai_embedder(provider)
        return StaticEmbedder() if request.param == "static" else HashingEmbedder(DIMENSIONS)


def test_hashing_finds_shared_words_and_not_others() -> None:
    near, query, far = (
        HashingEmbedder(512)
        .embed(["parse a date from a string", "parsing date strings", "open network socket"], timeout_s=1)
        .vectors
    )
    assert query @ near > 0.3
    assert abs(query @ far) < 0.2


def test_floats_are_accepted_from_servers_that_ignore_base64(provider: FakeProvider) -> None:
    provider.send_floats = True
    assert np.allclose(openai_embedder(provider).embed(["x"], timeout_s=5).vectors[0], vector_of("x"))


def test_servers_that_refuse_dimensions_are_asked_without(provider: FakeProvider) -> None:
    refuse = Reply(400, {"error": {"message": "Unknown parameter: dimensions", "code": "unknown_parameter"}})
    provider.behave = lambda call: refuse if "dimensions" in call.body else None
    embedder = openai_embedder(provider)
    embedder.embed(["x"], timeout_s=5)
    embedder.embed(["y"], timeout_s=5)
    asked = [(call.inputs[0], "dimensions" in call.body) for call in provider.calls]
    assert asked == [("x", True), ("a", True), ("a", False), ("x", False), ("y", False)]


def test_a_refused_text_that_names_a_parameter_changes_no_form(provider: FakeProvider) -> None:
    """An error that quotes what it refuses: who dropped `dimensions` for it would get vectors of another length."""
    refuse = Reply(400, {"error": {"message": "can't embed 'encoding_format, dimensions, input'"}})
    provider.behave = lambda call: refuse if "dimensions" in call.inputs[0] else None
    embedder = openai_embedder(provider)
    with pytest.raises(InputRejected):
        embedder.embed(["encoding_format, dimensions, input"], timeout_s=5)
    embedder.embed(["y"], timeout_s=5)
    assert all("dimensions" in call.body and call.body["encoding_format"] == "base64" for call in provider.calls)


def test_a_server_that_takes_fewer_inputs_is_never_sent_more_again(provider: FakeProvider) -> None:
    provider.behave = lambda call: error(413) if len(call.inputs) > 10 else None
    embedder = openai_embedder(provider)
    assert embedder.limits.max_inputs == 2048
    with pytest.raises(TooManyInputs, match="takes 6 inputs a request"):
        embedder.embed([f"text {n}" for n in range(100)], timeout_s=5)
    assert embedder.limits.max_inputs == 6
    asked = len(provider.calls)
    with pytest.raises(TooManyInputs):
        embedder.embed([f"text {n}" for n in range(7)], timeout_s=5)
    assert len(provider.calls) == asked
    assert len(embedder.embed([f"text {n}" for n in range(6)], timeout_s=5).vectors) == 6


def test_who_refuses_every_form_is_asked_for_another_one_only_now_and_then(provider: FakeProvider) -> None:
    provider.behave = lambda call: error(400)
    embedder = openai_embedder(provider)
    for most in (20, 2):
        asked = len(provider.calls)
        with pytest.raises(RefusesAll):
            embedder.embed(["x"], timeout_s=5)
        assert len(provider.calls) - asked <= most


def test_a_request_that_is_refused_late_leaves_no_time_to_find_out_why_and_is_tried_again(
    provider: FakeProvider,
) -> None:
    """The provider answers, so it is not away; which form it takes is found out at the next try."""
    provider.behave = lambda call: refuse_slowly(0.15)
    with pytest.raises(TransientError, match="no time to find out why") as raised:
        openai_embedder(provider).embed(["x"], timeout_s=0.5)
    assert not isinstance(raised.value, DependencyUnavailable)


def refuse_slowly(after_s: float) -> Reply:
    time.sleep(after_s)
    return error(400)


def test_vectors_in_another_order_are_put_in_order(provider: FakeProvider) -> None:
    data = [{"index": i, "embedding": vector_of(text).tolist()} for i, text in enumerate(["a", "b"])]
    provider.behave = lambda call: Reply(200, {"data": data[::-1]})
    assert np.allclose(openai_embedder(provider).embed(["a", "b"], timeout_s=5).vectors[1], vector_of("b"))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(429), RateLimited),
        (error(429, "insufficient_quota"), OutOfQuota),
        (error(402), OutOfQuota),
        (error(500), TransientError),
        (error(502), DependencyUnavailable),
        (error(503), TransientError),
        (error(504), TimedOut),
        (error(522), DependencyUnavailable),
        (error(424), TransientError),
        (Reply(200, b"{"), TransientError),
        (Reply(200, {}), TransientError),
        (Reply(200, {"data": None}), TransientError),
        (Reply(200, {"data": [{"index": 1, "embedding": [1.0] * DIMENSIONS}]}), TransientError),
        (Reply(200, {"data": [{"index": 0, "embedding": [float("inf")] * DIMENSIONS}]}), TransientError),
        (Reply(200, {"data": [{"index": 0, "embedding": "!!!"}]}), TransientError),
        (Reply(200, {"data": [{"index": 0, "embedding": []}]}), TransientError),
        (Reply(200, b"<html>secret</html>"), TransientError),
        (Reply(200, {"error": "secret"}), TransientError),
        (Reply(200, {"error": {"message": "secret", "code": 429}}), RateLimited),
        (Reply(200, {"error": {"message": "secret", "code": "502"}}), DependencyUnavailable),
        (Reply(200, {"error": {"message": "secret", "status": 503, "code": None}}), TransientError),
    ],
)
def test_each_fault_becomes_one_error_of_ours(provider: FakeProvider, reply: Reply, kind: type[ReindexerError]) -> None:
    provider.behave = lambda call: reply
    with pytest.raises(ReindexerError) as raised:
        openai_embedder(provider).embed(["secret text"], timeout_s=5)
    assert type(raised.value) is kind
    assert "secret" not in str(raised.value)
    assert len(provider.calls) == 1, "retries are ours, not the client's"


REFUSALS = {
    "400": error(400), "401": error(401), "403": error(403), "404": error(404), "413": error(413), "422": error(422),
    "431": error(431), "a page": Reply(403, b"<html>secret</html>"),
    "200 with 400": Reply(200, {"error": {"message": "secret", "code": 400}}),
}  # fmt: skip


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_an_inputs_fault_only_where_a_harmless_one_is_taken(provider: FakeProvider, reply: Reply) -> None:
    provider.behave = lambda call: reply if any("secret" in text for text in call.inputs) else None
    for texts in (["secret text"], ["secret text", "other"]):
        with pytest.raises(InputRejected, match=r"it refuses this input|too long for it") as raised:
            openai_embedder(provider).embed(texts, timeout_s=5)
        assert not isinstance(raised.value, TooManyInputs)
        assert "secret" not in str(raised.value)
    provider.behave = lambda call: reply
    for texts in (["secret text"], ["secret text", "other"]):
        with pytest.raises(RefusesAll, match="check OPENAI_API_KEY") as refused:
            openai_embedder(provider).embed(texts, timeout_s=5)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_everything_costs_two_requests(provider: FakeProvider, status: int) -> None:
    provider.behave = lambda call: error(status)
    with pytest.raises(RefusesAll):
        openai_embedder(provider).embed([f"text {n}" for n in range(256)], timeout_s=5)
    assert [len(call.inputs) for call in provider.calls] == [256, 1]


def test_no_input_alone_is_blamed_because_something_was_taken_just_before(provider: FakeProvider) -> None:
    embedder = openai_embedder(provider)
    provider.behave = lambda call: error(403) if "bad" in call.inputs else None
    with pytest.raises(InputRejected):
        embedder.embed(["fine", "bad"], timeout_s=5)
    provider.behave = lambda call: error(403)
    with pytest.raises(ReindexerError) as raised:
        embedder.embed(["alone"], timeout_s=5)
    assert type(raised.value) is RefusesAll


@pytest.mark.parametrize("texts", [["one"], ["one", "two"]])
def test_other_dimensions_for_all_are_no_inputs_fault_and_for_one_alone_not_the_settings(
    provider: FakeProvider, texts: list[str]
) -> None:
    def longer(call: Call) -> Reply | None:
        wrong = "one" in call.inputs or everything
        vector = [1.0] * (DIMENSIONS + wrong)
        return Reply(200, {"data": [{"index": i, "embedding": vector} for i in range(len(call.inputs))]})

    provider.behave, everything = longer, True
    with pytest.raises(RefusesAll, match=r"answers 33 dimensions, REINDEXER_EMBEDDING_DIMENSIONS says 32"):
        openai_embedder(provider).embed(texts, timeout_s=5)
    everything = False
    with pytest.raises(TransientError if len(texts) == 1 else RefusesAll):
        openai_embedder(provider).embed(texts, timeout_s=5)


def test_azure_is_asked_with_its_version_behind_the_path_and_its_own_header_for_the_key(provider: FakeProvider) -> None:
    url = f"{provider.url}/openai/deployments/small?api-version=2024-10-21"
    embedder = OpenAIEmbedder(api_key="sk", base_url=url, model="m", dimensions=DIMENSIONS, limits=RequestLimits())
    embedder.embed(["x"], timeout_s=5)
    (call,) = provider.calls
    assert call.path == "/v1/openai/deployments/small/embeddings?api-version=2024-10-21"
    headers = {name.lower(): value for name, value in call.headers.items()}
    assert (headers["api-key"], headers.get("authorization")) == ("sk", None)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "7"},
        {"retry-after-ms": "7000", "retry-after": "8"},
        {"retry-after": "Fri, 31 Dec 2100 23:59:57 GMT", "Date": "Fri, 31 Dec 2100 23:59:50 GMT"},
    ],
    ids=["seconds", "milliseconds", "date"],
)
def test_retry_after_is_read_from_the_answer(provider: FakeProvider, headers: dict[str, str]) -> None:
    provider.behave = lambda call: error(429, headers=headers)
    with pytest.raises(RateLimited) as raised:
        openai_embedder(provider).embed(["x"], timeout_s=5)
    assert raised.value.retry_after_s == 7


def test_a_text_with_half_a_surrogate_pair_is_rejected_before_it_is_sent(provider: FakeProvider) -> None:
    with pytest.raises(InputRejected, match="surrogate"):
        openai_embedder(provider).embed(["fine", "broken \ud83d"], timeout_s=5)
    assert not provider.calls


@pytest.mark.alone
@pytest.mark.parametrize("size", [300, 100_000], ids=["short", "long"])
def test_an_answer_that_drips_is_cut_at_the_timeout(provider: FakeProvider, size: int) -> None:
    provider.behave = lambda call: Reply(200, b" " * size, drip_s=0.05)
    started = time.monotonic()
    with pytest.raises(DependencyUnavailable, match="in time"):
        openai_embedder(provider).embed(["x"], timeout_s=0.5)
    assert time.monotonic() - started < 2


def seconds_to_give_up(embedder: OpenAIEmbedder, timeout_s: float) -> float:
    started = time.monotonic()
    with pytest.raises(DependencyUnavailable, match="in time"):
        embedder.embed(["x"], timeout_s=timeout_s)
    return time.monotonic() - started


def is_answered(embedder: OpenAIEmbedder, timeout_s: float) -> bool:
    with suppress(DependencyUnavailable):
        return len(embedder.embed(["x"], timeout_s=timeout_s).vectors) == 1
    return False


@pytest.mark.alone
def test_of_answers_that_drip_together_each_is_cut_at_its_own_timeout(provider: FakeProvider) -> None:
    embedder, timeouts_s = openai_embedder(provider), (3.0, 0.5, 1.5)
    provider.behave = lambda call: Reply(200, b" " * 300, drip_s=0.05)
    with ThreadPoolExecutor(3) as pool:
        asked = []
        for timeout_s in timeouts_s:
            asked.append(pool.submit(seconds_to_give_up, embedder, timeout_s))
            eventually(lambda: len(provider.calls) == len(asked))
        took_s = [each.result() for each in asked]
    late_s = [took - timeout for took, timeout in zip(took_s, timeouts_s, strict=True)]
    assert all(0 <= each < 0.5 for each in late_s), late_s


@pytest.mark.alone
def test_an_answer_that_is_through_in_time_is_left_alone_and_the_next_is_cut_all_the_same(
    provider: FakeProvider,
) -> None:
    embedder = openai_embedder(provider)
    embedder.embed(["x"], timeout_s=0.3)
    provider.behave = lambda call: Reply(200, json.dumps(provider.vectors(call).body).encode(), drip_s=0.003)
    assert is_answered(embedder, 10), "beyond the end of the first one, whose connection it has"
    provider.behave = lambda call: None
    eventually(lambda: is_answered(embedder, 5))  # the server has closed that connection, which may be met once
    provider.behave = lambda call: Reply(200, b" " * 300, drip_s=0.05)
    assert seconds_to_give_up(embedder, 0.5) < 1


@pytest.mark.alone
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_was_forked_cuts_answers_as_well(provider: FakeProvider) -> None:
    embedder = openai_embedder(provider)
    embedder.embed(["x"], timeout_s=20)  # somebody watches over it here, and not there
    provider.behave = lambda call: Reply(200, b" " * 300, drip_s=0.05)
    if not (pid := os.fork()):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's handler would wait for locks that the fork left behind
        signal.alarm(10)
        with suppress(BaseException):
            os._exit(0 if seconds_to_give_up(embedder, 0.5) < 1 else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.alone
def test_a_provider_that_hangs_or_is_not_there_is_away(provider: FakeProvider) -> None:
    provider.latency_s = 1.0
    started = time.monotonic()
    with pytest.raises(DependencyUnavailable):
        openai_embedder(provider).embed(["x"], timeout_s=0.2)
    assert time.monotonic() - started < 0.9
    nowhere = OpenAIEmbedder(
        api_key="sk", base_url="http://127.0.0.1:9/v1", model="m", dimensions=8, limits=RequestLimits()
    )
    with pytest.raises(DependencyUnavailable):
        nowhere.embed(["x"], timeout_s=1)
