"""What the headers of a provider tell of its rate limit, and the name of an account."""

from __future__ import annotations

import pytest

from reindexer.core.rate_limit import AdvertisedLimits, Bucket, account, advertised_limits, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360), ("20ms", 0.02), ("1s", 1), ("8.64s", 8.64), ("1h2m3s", 3723), ("1m30.5s", 90.5), ("7", 7),
        ("1s500ms", 1.5), ("2m", 120),
        ("", None), ("soon", None), ("-1s", None), ("1 s", None), ("s", None),
    ],
)  # fmt: skip
def test_a_duration_is_read_in_the_form_that_openai_writes(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == (pytest.approx(seconds) if seconds is not None else None)


def test_headers_tell_limit_and_rest_of_requests_and_tokens() -> None:
    headers = {
        "x-ratelimit-limit-requests": "3000", "x-ratelimit-remaining-requests": "2999",
        "x-ratelimit-reset-requests": "20ms", "x-ratelimit-limit-tokens": "1000000",
        "x-ratelimit-remaining-tokens": "990000", "x-ratelimit-reset-tokens": "600ms",
    }  # fmt: skip
    assert advertised_limits(headers) == AdvertisedLimits(Bucket(3000, 2999), Bucket(1_000_000, 990_000))


def test_answers_without_such_headers_tell_nothing_and_odd_ones_do_no_harm() -> None:
    assert advertised_limits({"content-type": "application/json"}) is None
    assert advertised_limits({"x-ratelimit-limit-tokens": "unlimited"}) is None
    assert advertised_limits(
        {"x-ratelimit-limit-tokens": "500", "x-ratelimit-remaining-tokens": "?"}
    ) == AdvertisedLimits(None, Bucket(500, None))
    assert advertised_limits({"x-ratelimit-limit-tokens": "0"}) == AdvertisedLimits(None, Bucket(None, None))


def test_a_limit_a_day_is_not_taken_for_one_a_minute() -> None:
    headers = {"x-ratelimit-limit-requests": "200", "x-ratelimit-reset-requests": "7m12s"}
    assert advertised_limits(headers) == AdvertisedLimits(Bucket(None, None), None)


def test_an_account_is_url_key_and_model_and_its_name_holds_none_of_them() -> None:
    name = account("https://example.com/v1", "sk-secret", "small")
    assert name == account("https://example.com/v1", "sk-secret", "small")
    others = {account(None, "sk-secret", "small"), account("https://example.com/v1", "sk-other", "small"),
              account("https://example.com/v1", "sk-secret", "large")}  # fmt: skip
    assert name not in others
    assert len(others) == 3
    assert not any(part in name for part in ("secret", "example", "small"))
