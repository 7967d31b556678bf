"""What every `Embedder` guarantees."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from reindexer.adapters.hashing_embedder import HashingEmbedder
from reindexer.adapters.openai_embedder import OpenAIEmbedder
from reindexer.core.batching import RequestLimits
from reindexer.core.errors import (
    DependencyAway,
    InputRejected,
    LastingError,
    OutOfQuota,
    PassingError,
    RateLimited,
    ReindexerError,
)
from reindexer.ports import Embedder
from tests.support.provider import DIMENSIONS, Provider, Reply, error, vector_of
from tests.support.waiting import eventually


def openai_embedder(provider: Provider, dimensions: int = DIMENSIONS) -> OpenAIEmbedder:
    return OpenAIEmbedder(api_key="sk", base_url=provider.url, model="m", dimensions=dimensions, limits=RequestLimits())


@pytest.fixture(params=["hashing", "openai"])
def embedder(request: pytest.FixtureRequest, provider: Provider) -> Embedder:
    return HashingEmbedder(DIMENSIONS) if request.param == "hashing" else openai_embedder(provider)


def test_one_finite_float32_vector_a_text_in_order(embedder: Embedder) -> None:
    texts = ["one", "two", "日本語 text", "😀", "a" * 10_000, "one"]
    vectors = embedder.embed(texts, timeout_s=5).vectors
    assert vectors.shape == (len(texts), embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert vectors.any(axis=1).all()
    assert np.array_equal(vectors[0], vectors[5])
    assert np.array_equal(vectors[2], embedder.embed([texts[2]], timeout_s=5).vectors[0])


def test_the_fingerprint_names_the_dimensions(embedder: Embedder) -> None:
    assert str(embedder.dimensions) in embedder.fingerprint


def test_hashing_finds_shared_words_and_not_others() -> None:
    near, query, far = (
        HashingEmbedder(512)
        .embed(["parse a date from a string", "parsing date strings", "open network socket"], timeout_s=1)
        .vectors
    )
    assert query @ near > 0.3
    assert abs(query @ far) < 0.2


def test_floats_are_accepted_from_servers_that_ignore_base64(provider: Provider) -> None:
    provider.send_floats = True
    assert np.allclose(openai_embedder(provider).embed(["x"], timeout_s=5).vectors[0], vector_of("x"))


def test_servers_that_refuse_dimensions_are_asked_without(provider: Provider) -> None:
    refuse = Reply(400, {"error": {"message": "Unknown parameter: dimensions", "code": "unknown_parameter"}})
    provider.behave = lambda call: refuse if "dimensions" in call.body else None
    embedder = openai_embedder(provider)
    embedder.embed(["x"], timeout_s=5)
    embedder.embed(["y"], timeout_s=5)
    assert ["dimensions" in call.body for call in provider.calls] == [True, False, False]


def test_vectors_in_another_order_are_put_in_order(provider: Provider) -> None:
    data = [{"index": i, "embedding": vector_of(text).tolist()} for i, text in enumerate(["a", "b"])]
    provider.behave = lambda call: Reply(200, {"data": data[::-1]})
    assert np.allclose(openai_embedder(provider).embed(["a", "b"], timeout_s=5).vectors[1], vector_of("b"))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(429), RateLimited),
        (error(429, "insufficient_quota"), OutOfQuota),
        (error(402), OutOfQuota),
        (error(500), PassingError),
        (error(502), DependencyAway),
        (error(503), PassingError),
        (error(504), DependencyAway),
        (error(400), InputRejected),
        (error(413), InputRejected),
        (error(401), LastingError),
        (error(404), LastingError),
        (Reply(200, b"{"), PassingError),
        (Reply(200, {}), PassingError),
        (Reply(200, {"data": None}), PassingError),
        (Reply(200, {"data": [{"index": 1, "embedding": [1.0] * DIMENSIONS}]}), PassingError),
        (Reply(200, {"data": [{"index": 0, "embedding": [1.0] * (DIMENSIONS + 1)}]}), LastingError),
        (Reply(200, {"data": [{"index": 0, "embedding": [float("inf")] * DIMENSIONS}]}), PassingError),
        (Reply(200, {"data": [{"index": 0, "embedding": "!!!"}]}), PassingError),
    ],
)
def test_each_fault_becomes_one_error_of_ours(provider: Provider, reply: Reply, kind: type[ReindexerError]) -> None:
    provider.behave = lambda call: reply
    with pytest.raises(ReindexerError) as raised:
        openai_embedder(provider).embed(["secret text"], timeout_s=5)
    assert type(raised.value) is kind
    assert "secret" not in str(raised.value)
    assert len(provider.calls) == 1, "retries are ours, not the client's"


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "7"},
        {"retry-after-ms": "7000", "retry-after": "8"},
        {"retry-after": "Fri, 31 Dec 2100 23:59:57 GMT", "Date": "Fri, 31 Dec 2100 23:59:50 GMT"},
    ],
    ids=["seconds", "milliseconds", "date"],
)
def test_retry_after_is_read_from_the_answer(provider: Provider, headers: dict[str, str]) -> None:
    provider.behave = lambda call: error(429, headers=headers)
    with pytest.raises(RateLimited) as raised:
        openai_embedder(provider).embed(["x"], timeout_s=5)
    assert raised.value.retry_after_s == 7


def test_a_text_with_half_a_surrogate_pair_is_rejected_before_it_is_sent(provider: Provider) -> None:
    with pytest.raises(InputRejected, match="surrogate"):
        openai_embedder(provider).embed(["fine", "broken \ud83d"], timeout_s=5)
    assert not provider.calls


@pytest.mark.alone
@pytest.mark.parametrize("size", [300, 100_000], ids=["short", "long"])
def test_an_answer_that_drips_is_cut_at_the_timeout(provider: Provider, size: int) -> None:
    provider.behave = lambda call: Reply(200, b" " * size, drip_s=0.05)
    started = time.monotonic()
    with pytest.raises(DependencyAway, match="in time"):
        openai_embedder(provider).embed(["x"], timeout_s=0.5)
    assert time.monotonic() - started < 2


def seconds_to_give_up(embedder: OpenAIEmbedder, timeout_s: float) -> float:
    started = time.monotonic()
    with pytest.raises(DependencyAway, match="in time"):
        embedder.embed(["x"], timeout_s=timeout_s)
    return time.monotonic() - started


def is_answered(embedder: OpenAIEmbedder, timeout_s: float) -> bool:
    with suppress(DependencyAway):
        return len(embedder.embed(["x"], timeout_s=timeout_s).vectors) == 1
    return False


@pytest.mark.alone
def test_of_answers_that_drip_together_each_is_cut_at_its_own_timeout(provider: Provider) -> None:
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
def test_an_answer_that_is_through_in_time_is_left_alone_and_the_next_is_cut_all_the_same(provider: Provider) -> None:
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
def test_a_process_that_was_forked_cuts_answers_as_well(provider: Provider) -> None:
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
def test_a_provider_that_hangs_or_is_not_there_is_away(provider: Provider) -> None:
    provider.latency_s = 1.0
    started = time.monotonic()
    with pytest.raises(DependencyAway):
        openai_embedder(provider).embed(["x"], timeout_s=0.2)
    assert time.monotonic() - started < 0.9
    nowhere = OpenAIEmbedder(
        api_key="sk", base_url="http://127.0.0.1:9/v1", model="m", dimensions=8, limits=RequestLimits()
    )
    with pytest.raises(DependencyAway):
        nowhere.embed(["x"], timeout_s=1)
