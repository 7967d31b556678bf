"""The limiter of a provider's rate limit, one for all processes: at a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from reindexer.adapters.redis_rate_limiter import RateLimiterServer, RedisRateLimiter
from reindexer.core.broker_url import BrokerUrl
from reindexer.core.errors import RateLimited
from reindexer.core.rate_limit import AdvertisedLimits, Bucket, Caps, Reservation
from reindexer.settings import Settings
from reindexer.testing.waiting import eventually

Make = Callable[..., RedisRateLimiter]


@pytest.fixture
def rate_limiter(redis_url: str) -> Make:
    """Makes the rate limiter of one account as another process has it: with connections of its own."""

    def make(account: str = "one", *, requests: float | None = None, tokens: float | None = None) -> RedisRateLimiter:
        return RedisRateLimiter(
            RateLimiterServer(BrokerUrl(redis_url), "reindexer:budget:"),
            account,
            Caps(requests, tokens),
            lambda: 0.0,
            0.05,
        )

    return make


def take(
    rate_limiter: RedisRateLimiter, tokens: int = 10, *, live: bool = False, most_s: float = 1000.0
) -> Reservation:
    return rate_limiter.reserve(tokens, live=live, most_s=most_s)


def wait_s(rate_limiter: RedisRateLimiter, tokens: int = 10, *, live: bool = False) -> float:
    """How long a request would wait now; takes nothing."""
    with pytest.raises(RateLimited) as refused:
        rate_limiter.reserve(tokens, live=live, most_s=-1)
    assert refused.value.retry_after_s is not None
    return refused.value.retry_after_s - 0.5


def rates(rate_limiter: RedisRateLimiter) -> tuple[float | None, float | None]:
    now = rate_limiter.state()
    assert now is not None
    return now.requests_per_minute, now.tokens_per_minute


def test_turns_are_given_out_once_to_all_processes_and_one_after_the_other(rate_limiter: Make) -> None:
    first, second = rate_limiter(requests=60, tokens=60_000), rate_limiter(requests=60, tokens=60_000)
    waits = [take(each).wait_s for each in (first, second, first, second)]
    assert waits == pytest.approx([1, 2, 3, 4], abs=0.2)
    tokens = [take(each, 2000).wait_s for each in (second, first, second, first)]
    assert tokens == pytest.approx([5, 6, 7, 9], abs=0.2), "the scarcer of both counts, after a burst of four seconds"
    assert take(rate_limiter("another", requests=60)).wait_s == pytest.approx(1, abs=0.2)


def test_without_a_limit_there_is_no_wait_and_nothing_to_settle(rate_limiter: Make, redis_url: str) -> None:
    ours = rate_limiter()
    turns = [take(ours, 100_000) for _ in range(50)]
    assert {(reservation.wait_s, reservation.limited) for reservation in turns} == {(0.0, False)}
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        ours.settle(turns[0], 90_000, None)
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before


def test_what_was_not_really_used_is_given_back_and_estimates_are_learned_from_it(rate_limiter: Make) -> None:
    ours = rate_limiter(tokens=60_000)
    ours.settle(take(ours, 4000), 2000, None)
    assert take(ours, 1000, live=True).wait_s == 0
    assert take(ours, 1000).wait_s == pytest.approx(2 + 1 + 1, abs=0.6), "what it is, with the estimate corrected"
    other = rate_limiter("other", tokens=60_000)
    for _ in range(40):
        other.settle(take(other, 4000), 2000, None)
    assert take(other, 4000).charged == pytest.approx(2000, rel=0.05)


def test_a_limit_is_learned_from_headers_and_a_cap_holds_below_it(rate_limiter: Make) -> None:
    told = AdvertisedLimits(Bucket(600, 599), Bucket(120_000, 119_000))
    ours, capped = rate_limiter(), rate_limiter(requests=60)
    ours.settle(take(ours), 10, told)
    assert rates(rate_limiter()) == pytest.approx((600, 120_000))
    assert rates(capped) == pytest.approx((60, 120_000))
    ours.settle(take(ours), 10, AdvertisedLimits(Bucket(600, 599), Bucket(60_000, 100)))
    assert rates(rate_limiter()) == pytest.approx((600, 60_000))
    ours.settle(take(ours), 10, AdvertisedLimits(Bucket(None, None), Bucket(60_000, 100)))
    requests, tokens = rates(rate_limiter())
    assert requests is None, "a limit that is told no more"
    assert tokens == pytest.approx(60_000)


def test_what_others_use_of_the_account_is_seen_in_the_headers(rate_limiter: Make, redis_url: str) -> None:
    ours = rate_limiter(tokens=60_000)
    take(ours)
    after_a_quiet_time(redis_url)
    assert take(ours, 3000, live=True).wait_s == 0
    assert take(ours, 1000, live=True).wait_s == 0, "a burst"
    after_a_quiet_time(redis_url)
    reservation = take(ours, 1000, live=True)
    ours.settle(reservation, 1000, AdvertisedLimits(None, Bucket(60_000, 0)))
    assert take(ours, 1000, live=True).wait_s == 0
    assert take(ours, 1000, live=True).wait_s == pytest.approx(1, abs=0.2), "no burst where nothing is left"
    state = ours.state()
    assert state is not None
    assert state.tokens_left == 0


def after_a_quiet_time(redis_url: str) -> None:
    """All buckets of the account are as full as they get."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        full = {f"{lane}_{kind}": 0 for lane in ("live", "bulk") for kind in ("requests", "tokens")}
        client.hset("reindexer:budget:one", mapping=full)


def test_edits_pass_waiting_backfills_and_a_backfill_takes_no_turn_that_is_far_away(rate_limiter: Make) -> None:
    ours = rate_limiter(requests=60)
    for _ in range(5):
        take(ours)
    with pytest.raises(RateLimited) as refused:
        take(ours, most_s=2)
    assert 2 < (refused.value.retry_after_s or 0) < 5, "again when half of the queue is gone"
    assert take(ours, live=True).wait_s == 0, "five seconds of backfill wait"
    assert take(ours, live=True).wait_s == pytest.approx(1, abs=0.2), "but edits too keep to the rate"
    assert take(ours).wait_s == pytest.approx(8, abs=0.3), "and the backfill pays for them"


def test_backfills_leave_the_last_part_of_the_bucket_to_edits(rate_limiter: Make, redis_url: str) -> None:
    ours = rate_limiter(requests=600)
    take(ours, live=True)
    after_a_quiet_time(redis_url)
    waits = {live: [take(ours, live=live).wait_s for _ in range(90)] for live in (False, True)}
    assert waits[False].count(0) == pytest.approx(40, abs=3), "four seconds of it"
    assert waits[True].count(0) == pytest.approx(61, abs=5), "six"


def test_a_429_halves_the_rate_once_and_not_for_each_who_hears_it(rate_limiter: Make, redis_url: str) -> None:
    first, second = rate_limiter(requests=600, tokens=600_000), rate_limiter(requests=600, tokens=600_000)
    after_a_quiet_time(redis_url)
    sent = [take(first, live=True), take(second, live=True), take(second, live=True)]
    first.limited(sent[0], 0.1, None)
    second.limited(sent[1], 0.1, None)
    second.limited(sent[2], 0.1, None)
    assert rates(first) == pytest.approx((300, 300_000), rel=0.02)
    eventually(lambda: (state := first.state()) and state.blocked_s == 0)
    second.limited(take(second), 0.1, None)
    assert rates(first) == pytest.approx((150, 150_000), rel=0.03), "the next incident does"


def test_after_a_429_the_rate_recovers_gradually_up_to_the_limit(rate_limiter: Make, redis_url: str) -> None:
    ours = rate_limiter(requests=600)
    ours.limited(take(ours), 0.05, None)
    before = rates(ours)[0] or 0
    eventually(lambda: before + 10 < (rates(ours)[0] or 0) < 330, within=15, every=0.05)
    with redis.Redis.from_url(redis_url) as client:
        client.hincrbyfloat("reindexer:budget:one", "blocked", -30)
    assert rates(ours)[0] == pytest.approx(600)


def test_where_no_limit_is_known_a_429_begins_one_at_half_of_the_rate_that_was_seen(rate_limiter: Make) -> None:
    ours = rate_limiter()
    turns = [take(ours, 500) for _ in range(100)]
    ours.limited(turns[-1], 0.1, None)
    requests, tokens = rates(ours)
    assert requests == pytest.approx(100 * 60 / 2, rel=0.3)
    assert tokens == pytest.approx(50_000 * 60 / 2, rel=0.3)
    slow = rate_limiter("slow")
    slow.limited(take(slow, 10), 0.1, None)
    least = (120, 60_000)
    assert rates(slow) == pytest.approx(least, rel=0.1), (
        "one small request says nothing of a rate: two large ones a second"
    )


def test_a_429_to_what_was_sent_before_the_limit_was_told_brings_the_limit_and_not_half_of_it(
    rate_limiter: Make,
) -> None:
    ours, told = rate_limiter(), AdvertisedLimits(None, Bucket(60_000, 0))
    ours.settle(take(ours), 10, told)
    reservation = take(ours)
    before = replace(reservation, limited=False, at=reservation.at - reservation.wait_s)
    ours.limited(before, 0.05, told)
    assert rates(ours)[1] == pytest.approx(60_000)
    eventually(lambda: (state := ours.state()) and state.blocked_s == 0)
    ours.limited(take(ours), 0.05, told)
    assert rates(ours)[1] == pytest.approx(30_000)


def test_retry_after_holds_for_all_and_voids_turns_that_were_given_before(rate_limiter: Make) -> None:
    first, second = rate_limiter(requests=60), rate_limiter(requests=60)
    sent, waiting = take(first), take(second)
    assert waiting.wait_s == pytest.approx(2, abs=0.7)
    first.limited(sent, 3, None)
    again = second.reserve(10, live=False, most_s=1000, held=waiting)
    assert again.wait_s >= 3, "not sent before"
    assert wait_s(second, live=True) > 1
    state = second.state()
    assert state is not None
    assert state.blocked_s == pytest.approx(3, abs=0.7)


@pytest.mark.alone
def test_who_was_refused_at_a_bucket_of_which_nothing_was_known_is_not_refused_for_ever(rate_limiter: Make) -> None:
    ours = rate_limiter(requests=20)
    with pytest.raises(RateLimited):
        take(ours, most_s=1)
    eventually(lambda: wait_s(ours) < 2.5, within=3)


def test_a_turn_that_came_stands_and_is_paid_for_once(rate_limiter: Make) -> None:
    ours = rate_limiter(requests=600)
    take(ours)
    reservation = take(ours)
    assert reservation.wait_s > 0
    time.sleep(reservation.wait_s)
    stands = ours.reserve(10, live=False, most_s=0, held=reservation)
    assert (stands.wait_s, stands.at) == (0, reservation.at)
    assert take(ours).wait_s < 0.15, "the next is one behind it, not two"


def test_a_flushed_redis_learns_anew(rate_limiter: Make, redis_url: str) -> None:
    ours = rate_limiter()
    ours.settle(take(ours), 10, AdvertisedLimits(Bucket(60, 59), None))
    reservation = take(ours)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        client.script_flush()
    assert rates(ours) == (None, None)
    ours.settle(reservation, 10, AdvertisedLimits(Bucket(60, 59), None))
    assert rates(ours)[0] == pytest.approx(60)


@pytest.mark.parametrize(
    ("redis_url", "broker", "results", "used"),
    [
        ("redis://a/1", "redis://b/0", None, "redis://a/1"),
        (None, "redis://b/0", "redis://c/0", "redis://b/0"),
        (None, "amqp://b", "rediss://c/0", "rediss://c/0"),
        (None, "amqp://b", None, None),
    ],
)
def test_the_rate_limit_is_kept_in_the_first_redis_that_the_settings_name(
    redis_url: str | None, broker: str, results: str | None, used: str | None
) -> None:
    given = {"redis_url": redis_url, "celery_broker_url": broker, "celery_result_backend": results}
    server = Settings.model_validate(given).rate_limiter_server
    assert (server.url if server else None) == used


def test_large_requests_that_are_refused_again_and_again_bring_the_rate_down_below_their_own_size(
    rate_limiter: Make,
) -> None:
    ours = rate_limiter()
    for _ in range(6):
        reservation = take(ours, 20_000)
        ours.limited(replace(reservation, at=reservation.at + reservation.wait_s), 0.01, None)
        eventually(lambda: (state := ours.state()) and state.blocked_s == 0)
    assert (rates(ours)[1] or 0) / 60 < 5000
