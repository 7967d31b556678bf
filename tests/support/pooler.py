"""Makes a proxy before Postgres look like a pooler in transaction mode: who answers is not who was connected to."""

from __future__ import annotations

from reindexer.testing.proxy import Edit


def pooler() -> Edit:
    """For one new connection: the server's process id (BackendKeyData) is another one's.

    Needs a connection without SSL or GSS: after their refusal (one byte) every reply is a type and a length.
    """
    held, told = b"", False

    def edit(chunk: bytes) -> bytes:
        nonlocal held, told
        if told:
            return chunk
        held += chunk
        passed = b""
        while len(held) >= 5 and len(held) >= (size := 1 + int.from_bytes(held[1:5], "big")):
            message, held = held[:size], held[size:]
            if message[:1] == b"K":
                pid = int.from_bytes(message[5:9], "big")
                message, told = message[:5] + (pid + 100_000).to_bytes(4, "big") + message[9:], True
            passed += message
        if told:
            passed, held = passed + held, b""
        return passed

    return edit
