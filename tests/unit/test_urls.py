"""URLs that hold a password: which are refused, and what is told of them."""

from __future__ import annotations

import pytest

from reindexer.core.urls import is_readable, without_secrets


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/db",
        "postgresql:///db?host=/tmp",
        "postgresql+psycopg://u:p%40%2Fss@h:5432/db?sslmode=require",
        "postgresql://u:p!$&'()*+,;=:~@h1:1,h2:2/db",
        "postgresql://u@[::1]:5432/db",
        "redis://:p@127.0.0.1:6379/0",
        "rediss://u:p@h/0?ssl_cert_reqs=required",
        "amqp://guest:guest@h:5672//",
        "http://qdrant",
        "https://u:p@h:6333/prefix",
    ],
)
def test_urls_that_everybody_reads_alike_are_accepted(url: str) -> None:
    assert is_readable(url)
    assert "p@" not in without_secrets(url)


@pytest.mark.parametrize(
    "password", ["se/cret", "12/cret", "se@cret", "se#cret", "12#cret", "se?cret", "se%cret", "s@/e", "@"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "redis", "http"])
def test_a_password_with_a_character_that_ends_it_is_refused_and_not_told(scheme: str, password: str) -> None:
    for user in ("", "u"):
        url = f"{scheme}://{user}:{password}@h:1/0"
        assert not is_readable(url), url
        assert "cret" not in without_secrets(url)


@pytest.mark.parametrize("url", ["", "localhost:6379", "redis://h:port/0", "http://[::1", "://h"])
def test_what_is_no_url_is_refused(url: str) -> None:
    assert not is_readable(url)
