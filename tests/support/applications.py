"""A Celery application of somebody else's, on the same broker."""

from __future__ import annotations

from celery import Celery


def application(url: str, *, prefix: str = "reindexer") -> Celery:
    """One that calls our task and reads its results, set up as docs/api.md says."""
    app = Celery("application", broker=url, backend=url)
    app.conf.result_backend_transport_options = {"global_keyprefix": f"{prefix}."}
    return app
