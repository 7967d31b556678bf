"""Finds faults of an environment before it is used: URLs of the wrong kind, and variables that nobody reads.

Messages name the variable and never show its value: the value may be a secret in the wrong place.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

from reindexer.core.broker_url import REDIS_SCHEMES
from reindexer.core.errors import UsageError
from reindexer.core.urls import HOW_TO_WRITE, fault_of
from reindexer.postgres.connect import libpq_url

PREFIX = "REINDEXER_"
OF_TESTS = "REINDEXER_TEST_"
"""Variables of the test suite, and any that a user's own tests need."""

_HTTP = ("http", "https")
_URLS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "CELERY_BROKER_URL": ((*REDIS_SCHEMES, "amqp", "amqps", "pyamqp"), "redis://host:6379/0"),
    "CELERY_RESULT_BACKEND": ((*REDIS_SCHEMES, "rpc"), "redis://host:6379/0"),
    "REDIS_URL": (REDIS_SCHEMES, "redis://host:6379/0"),
    "QDRANT_URL": (_HTTP, "http://host:6333"),
    "OPENAI_BASE_URL": (_HTTP, "https://host/v1"),
}
"""The schemes that this program can speak, and an example."""
_DATABASES = ("DATABASE_URL", "REINDEXER_LISTEN_DATABASE_URL")


def require_usable_urls(urls: Mapping[str, str]) -> None:
    """Raises UsageError at the first unusable URL. `urls`: by variable name; only variables that are set."""
    for name, value in urls.items():
        if name in _DATABASES:
            _require_database(name, value)
            continue
        schemes, example = _URLS[name]
        for url in value.split(";"):  # several, as Celery takes them
            if fault := fault_of(url, schemes):
                raise UsageError(f"{name} {fault}; for example {name}={example}")


def _require_database(name: str, url: str) -> None:
    try:
        libpq_url(url)
    except UsageError as exc:
        raise UsageError(str(exc).replace("DATABASE_URL", name, 1)) from None
    if "://" in url and (fault := fault_of(url, None)):
        raise UsageError(f"{name} {fault}; {HOW_TO_WRITE}")


def renamed(names: Mapping[str, str]) -> list[str]:
    """A line for each variable that is given by a former name. `names`: the name of today by the former one."""
    given = {name.upper() for name in _given()}
    return [
        f"{old} is {new} now; the old name works in this release and not in the next"
        for old, new in names.items()
        if old in given
    ]


def unknown(known: Collection[str], given: Iterable[str] | None = None, *, ignored: Collection[str] = ()) -> list[str]:
    """A line for each variable that looks like one of ours and is none. `given`: names; None: those of the environment
    and of `.env`. `ignored`: names that are read, and are offered to nobody."""
    names = sorted({name.upper() for name in (_given() if given is None else given)})
    return [_told(name, known) for name in names if _is_like_ours(name) and name not in {*known, *ignored}]


def _is_like_ours(name: str) -> bool:
    return name.startswith(PREFIX) and not name.startswith(OF_TESTS)


def _given() -> list[str]:
    try:
        return [*os.environ, *(dotenv_values(".env") if Path(".env").is_file() else ())]
    except (OSError, UnicodeError):  # the code that reads the values reports it
        return [*os.environ]


def _told(name: str, known: Collection[str]) -> str:
    by_word = {each.removeprefix(PREFIX): each for each in sorted(known, reverse=True)}
    close = get_close_matches(name.removeprefix(PREFIX), by_word, n=1)
    hint = f"did you mean {by_word[close[0]]}?" if close else "docs/configuration.md has them all"
    return f"{name} is no setting, and nobody reads it; {hint}"
