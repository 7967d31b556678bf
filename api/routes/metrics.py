"""Metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ..auth import keyed_route
from ..dependencies import ScrapePart

router = APIRouter(tags=["health"], route_class=keyed_route(unless=lambda settings: settings.metrics_open))


@router.get(
    "/metrics",
    summary="Everything as numbers, for a Prometheus",
    response_class=PlainTextResponse,
)
async def metrics(scrape: ScrapePart) -> Response:
    """Always 200, in Prometheus' text format; `reindexer_up` is 0 where Postgres does not answer.

    Open to everybody, unless REINDEXER_METRICS_OPEN=0 asks for the key.
    """
    return Response(await scrape.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
