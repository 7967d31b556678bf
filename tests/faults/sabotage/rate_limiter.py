"""Rows about the shared limiter of the provider's rate limit."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

TESTS = "tests/integration/test_rate_limiter.py::"
WORK = "tests/integration/test_rate_limited_work.py::"
SCRIPT = "reindexer/adapters/redis_rate_limiter.lua"

RATE_LIMITER = (
    Sabotage(
        "rate limiter: nobody asks before a Retry-After is over, whoever heard it",
        "rate-limit-shared-retry-after",
        "if is_new or blocked > blocked_until() + 0.01 then",
        "if false then",
        WORK + "test_the_other_worker_and_searches_honour_a_retry_after_that_they_did_not_hear",
    ),
    Sabotage(
        "rate limiter: a 429 voids turns that were given before",
        "rate-limit-reservation-epoch",
        "if given.epoch == (state.epoch or 0) and blocked_until() <= now then",
        "if given.epoch then",
        TESTS + "test_retry_after_holds_for_all_and_voids_turns_that_were_given_before",
    ),
    Sabotage(
        "rate limiter: one of those who hear a 429 halves the rate",
        "rate-limit-single-halving",
        "local is_new = given.at > (state.halved or 0)",
        "local is_new = true",
        TESTS + "test_a_429_halves_the_rate_once_and_not_for_each_who_hears_it",
    ),
    Sabotage(
        "rate limiter: edits wait for their own time alone",
        "rate-limit-lane-separate-wait",
        "local lane = given.live and 'live' or 'bulk'",
        "local lane = 'bulk'",
        TESTS + "test_edits_pass_waiting_backfills_and_a_backfill_takes_no_turn_that_is_far_away",
    ),
    Sabotage(
        "rate limiter: what no reservation is near for is not claimed again and again",
        "rate-limit-distant-reservation-pause",
        "self._turn_waits_until[claim.lane] = time.monotonic() + min(*waits, TURN_WAIT_S)",
        "self._turn_waits_until[claim.lane] = 0.0",
        WORK + "test_an_edit_is_embedded_while_backfills_wait_for_their_turn",
    ),
    Sabotage(
        "rate limiter: the rest of an item that is begun waits as long as its claim can",
        "rate-limit-begun-item-patience",
        "math.inf if any(each.group in self._begun for each in batch) else None",
        "PATIENCE_S / 4",
        WORK + "test_an_item_of_many_requests_waits_for_all_its_turns_in_one_claim",
    ),
    Sabotage(
        "rate limiter: a Redis that does not answer is left alone",
        "redis-rate-limit-timeout",
        "ANSWER_S = 0.25\n",
        "ANSWER_S = 20.0\n",
        WORK + "test_a_redis_that_is_away_stops_no_work[Mode.STALL]",
    ),
)
