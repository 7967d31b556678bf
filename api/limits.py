"""Limits the size of every request's body, announced or chunked, before it is in memory; and the time it may take."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_BODY_S = 30.0

_TOO_LARGE = (
    f"the request's body is larger than {MAX_BODY_BYTES // 1024**2} MiB; "
    "to rebuild very many items use POST /admin/backfills"
)
_TOO_SLOW = "the request's body did not arrive within {:.0f} s"


class BodyLimit:
    """Answers 413 for a body that is too large, 408 for one that drips. Starlette's own limit answers in plain text."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES, max_s: float = MAX_BODY_S) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_s = max_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced) > self.max_bytes:
            await problem(413, _TOO_LARGE, headers={"Connection": "close"})(scope, receive, send)
            return
        received, complete = 0, False
        until = asyncio.get_running_loop().time() + self.max_s

        async def bounded() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # waits for the client's disconnect: that may take any time
            # The code that reads the body lets these exceptions pass to the handler that turns them into problems.
            try:
                async with asyncio.timeout_at(until):  # guard api-dripping-body-timeout
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, _TOO_SLOW.format(self.max_s), {"Connection": "close"}) from None
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, _TOO_LARGE, {"Connection": "close"})
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, bounded, send)
