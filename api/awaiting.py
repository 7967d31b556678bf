"""Waits of requests, in the event loop: a thousand of them take one thread and one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from reindexer.core.api_key import Access
from reindexer.core.errors import UsageError
from reindexer.core.wait_status import WaitStatus
from reindexer.postgres.connect import Postgres
from reindexer.queue.marks import AwaitedItem
from reindexer.queue.waiting import Wait, Waited, Waits, answer

MAX_S = 60.0
"""How long one request may wait."""


@dataclass(frozen=True, slots=True)
class Awaiting:
    """What one request waits with."""

    waits: Waits
    postgres: Postgres
    ending: asyncio.Event
    """Set when the server is told to end."""
    access: Access

    @classmethod
    def of(cls, request: Request) -> Awaiting:
        """That of this request."""
        parts = request.app.state.parts
        return cls(parts.waits, parts.postgres, request.app.state.ending, request.state.access)

    async def wait(self, token: str | None, items: Sequence[tuple[str, str]], timeout_s: float) -> Waited:
        """Wait for a mark, or for items, for at most so long. Tells what the key may know.

        Raises HTTPException 503 if the server is told to end, 422 for a token of another database, and
        DependencyUnavailable if too many wait.
        """
        wait = self.waits.begin(token, items)
        ended: asyncio.Future[WaitStatus] = asyncio.wrap_future(wait.ended)
        ends: asyncio.Future[Any] = asyncio.ensure_future(self.ending.wait())
        either: set[asyncio.Future[Any]] = {ended, ends}
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and self.ending.is_set():
                raise HTTPException(503, "the server ends; ask again")
            status: WaitStatus = ended.result() if ended.done() else "timeout"
        except UsageError as exc:
            raise HTTPException(422, str(exc)) from None
        finally:
            ends.cancel()
            ended.cancel()
            self.waits.end(wait)
        if status not in ("failed", "timeout"):
            return Waited(status)
        return self._told(await run_in_threadpool(self._answer, wait, status))

    def _answer(self, wait: Wait, status: WaitStatus) -> Waited:
        with self.postgres.connection() as connection:
            return answer(connection, wait, status)

    def _told(self, waited: Waited) -> Waited:
        """A key that only searches is told no address; one of a source, nothing of others; one with a filter, no id:
        a transaction may have written what the filter hides."""
        return replace(
            waited,
            failed=tuple(map(self._narrowed, waited.failed)),
            waits_for=tuple(map(self._narrowed, waited.waits_for)),
        )

    def _narrowed(self, left: AwaitedItem) -> AwaitedItem:
        if self.access.filter or self.access.source not in (None, left.source):  # guard wait-key-narrowed
            return AwaitedItem(
                self.access.source or "", None, left.failed, "an item failed" if left.failed else "not yet"
            )
        if self.access.role == "search" and not left.failed:  # guard wait-no-address
            return replace(left, reason="it is at work, or waits for a worker" if left.item_id else left.reason)
        return left
