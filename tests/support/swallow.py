"""Swallows notifications out of what a Postgres server says, as a pooler in transaction mode does."""

from __future__ import annotations

from reindexer.testing.proxy import Edit


class Swallow:
    """Makes a proxy's edits. While `active`, no NotificationResponse gets through that comes while nothing is asked
    (one's own comes with the answer, and passes); `swallowed` counts them.

    Needs a connection without SSL or GSS: after their refusal (one byte) every reply is a type and a length.
    """

    def __init__(self, *, active: bool) -> None:
        self.active = active
        self.swallowed = 0

    def __call__(self) -> Edit:
        """For one new connection."""
        held, idle = b"", False

        def edit(chunk: bytes) -> bytes:
            nonlocal held, idle
            held += chunk
            passed = b""
            while len(held) >= 5:
                size = 1 + int.from_bytes(held[1:5], "big")
                if len(held) < size:
                    break
                message, held = held[:size], held[size:]
                kind = message[:1]
                if self.active and idle and kind == b"A":
                    self.swallowed += 1
                    continue
                passed += message
                idle = kind == b"Z" or (idle and kind == b"A")
            return passed

        return edit
