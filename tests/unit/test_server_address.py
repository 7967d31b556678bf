"""What tells one provider's server from another, without credentials."""

from __future__ import annotations

import pytest

from reindexer.core.urls import server_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://API.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com:443/v1", "https://api.openai.com/v1"),
        ("http://user:secret@host:8080/v1", "http://host:8080/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
    ],
)
def test_the_same_server_has_one_address(url: str, address: str) -> None:
    assert server_address(url) == address


def test_a_query_tells_two_apart_and_is_not_shown() -> None:
    one, other = (server_address(f"https://host/v1?api-version={version}&key=secret") for version in (1, 2))
    assert one != other
    assert "secret" not in one + other
