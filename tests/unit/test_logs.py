"""What logs tell of errors: type and place, never their words; and who may talk below WARNING."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from reindexer import logs


@pytest.fixture(params=["console", "json"])
def configured(request: pytest.FixtureRequest) -> Iterator[str]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    logs.configure("DEBUG", request.param)
    yield request.param
    root.handlers[:], level = before
    root.setLevel(level)


def test_an_error_of_a_library_is_told_by_type_and_place(configured: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("DEBUG", configured)  # again: the captured standard error is this test's
    try:
        try:
            json.loads("{'secret': 1}")
        except ValueError as exc:
            raise KeyError("secret") from exc
    except KeyError:
        logging.getLogger("celery.worker").exception("it failed")
    told = capsys.readouterr().err
    assert "it failed" in told
    assert "KeyError" in told
    assert "JSONDecodeError" in told
    assert "test_logs.py" in told
    assert "secret" not in told
    assert "Logging error" not in told


def test_only_our_own_loggers_and_those_of_celery_and_uvicorn_talk_below_warning(
    configured: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("DEBUG", configured)
    for name in ("openai", "httpx", "httpcore2.http11", "sqlalchemy.engine", "somebody"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)  # as OPENAI_LOG=debug does
        logger.info("secret")
        logger.warning("%s warns", name)
    logging.getLogger("reindexer.worker.worker").debug("ours")
    told = capsys.readouterr().err
    assert "secret" not in told
    assert "ours" in told
    assert "httpcore2.http11 warns" in told


def test_a_line_of_an_event_that_was_renamed_has_its_former_name_too(
    configured: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", configured)
    structlog.get_logger("reindexer").info("leadership_acquired")
    structlog.get_logger("reindexer").info("settled")
    renamed, kept = capsys.readouterr().err.splitlines()
    assert "leadership_acquired" in renamed
    assert "formerly" in renamed
    assert "leading" in renamed
    assert "formerly" not in kept
