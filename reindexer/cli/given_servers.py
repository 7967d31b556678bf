"""Whether the servers that `up` is given answer: asked before anything else is started."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from reindexer import wiring
from reindexer.cli.output import Failed
from reindexer.core.errors import ReindexerError, UsageError
from reindexer.postgres.connect import connect
from reindexer.settings import QDRANT, Settings

PATIENCE_S = 3.0
"""A server that is only just being started is asked again for so long."""
ANSWER_S = 3
"""How long one question may take."""


def require_answers(settings: Settings, given: Mapping[str, str]) -> None:
    """Ask all of `given` (URLs, by setting) at once. Raises Failed with one line that names those that do not answer,
    and UsageError if a setting is wrong."""
    questions = {name: _QUESTIONS[name] for name in given if name != "QDRANT_URL" or settings.index == QDRANT}
    if not questions:
        return
    until = time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor(len(questions)) as pool:
        asked = {name: pool.submit(_asked, ask, settings, until) for name, ask in questions.items()}
    if wrong := [f"{name}: {words}" for name, answer in asked.items() if (words := answer.result())]:
        raise Failed("; ".join(wrong))


def _asked(ask: Callable[[Settings], None], settings: Settings, until: float) -> str:
    """Why the server does not answer as it should; nothing if it does."""
    while True:
        try:
            ask(settings)
        except UsageError:
            raise
        except ReindexerError as exc:
            if time.monotonic() > until:
                return str(exc)
            time.sleep(0.2)
        else:
            return ""


def _ask_postgres(settings: Settings) -> None:
    url = settings.require_database_url()
    connect(url, application_name="reindexer up", timeout_s=ANSWER_S, answer_s=ANSWER_S).close()


def _ask_broker(settings: Settings) -> None:
    from reindexer.adapters.broker.celery_broker import CeleryBroker, make_celery  # slow to import

    app = make_celery(settings.broker, None, result_expires_s=settings.result_expires_s, names=settings.names)
    with closing(app), closing(CeleryBroker(app, settings.names)) as broker:
        broker.ping()


def _ask_qdrant(settings: Settings) -> None:
    wiring.index(settings.model_copy(update={"qdrant_timeout_s": float(ANSWER_S)})).ping()


_QUESTIONS: Mapping[str, Callable[[Settings], None]] = {
    "DATABASE_URL": _ask_postgres,
    "CELERY_BROKER_URL": _ask_broker,
    "QDRANT_URL": _ask_qdrant,
}
