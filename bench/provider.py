"""An embedding provider for benchmarks: a process of its own on loopback, so cheap that it is no bottleneck.

`python -m bench.provider PORT`. Answers OpenAI's `POST /v1/embeddings` with vectors that were made before, as base64,
after a latency that `POST /latency {"ms": n}` sets; `GET /stats` tells requests and inputs. Which of the vectors a text
gets depends on the text alone.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import httpx
import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 1536
VECTORS = 64


def vectors() -> NDArray[np.float32]:
    """All that it ever answers: unit length, the same in every process."""
    made = np.random.default_rng(7).standard_normal((VECTORS, DIMENSIONS)).astype(np.float32)
    unit: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def number_of(text: str) -> int:
    """Which of the vectors a text gets."""
    return crc32(text.encode("utf-8", "surrogatepass")) % VECTORS


@dataclass(frozen=True, slots=True)
class Provider:
    """Our end of it."""

    port: int

    @property
    def url(self) -> str:
        """As OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def set_latency(self, ms: int) -> None:
        """Of every answer from now on."""
        httpx.post(f"http://127.0.0.1:{self.port}/latency", json={"ms": ms}).raise_for_status()

    def stats(self) -> dict[str, int]:
        """`requests` and `inputs` so far."""
        answer: dict[str, int] = httpx.get(f"http://127.0.0.1:{self.port}/stats").json()
        return answer


class _Server:
    def __init__(self) -> None:
        encoded = [base64.b64encode(vector.tobytes()) for vector in vectors()]
        self._pieces = [b'"embedding":"' + each + b'"}' for each in encoded]
        self._latency_s = 0.0
        self._requests = self._inputs = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, headers = head.partition(b"\r\n")
                length = next((int(h[15:]) for h in headers.split(b"\r\n") if h[:15].lower() == b"content-length:"), 0)
                body = await reader.readexactly(length)
                answer = await self._answer(line, body)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
                )
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes, body: bytes) -> bytes:
        if b"/stats" in line:
            return json.dumps({"requests": self._requests, "inputs": self._inputs}).encode()
        asked: dict[str, Any] = json.loads(body)
        if b"/latency" in line:
            self._latency_s = asked["ms"] / 1000
            return b"{}"
        texts: Sequence[str] = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        self._requests += 1
        self._inputs += len(texts)
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        data = b",".join(
            b'{"object":"embedding","index":%d,' % n + self._pieces[number_of(text)] for n, text in enumerate(texts)
        )
        tokens = sum(map(len, texts)) // 4
        return b'{"object":"list","model":"bench","data":[%s],"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
            data, tokens, tokens,
        )  # fmt: skip


async def main(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(_Server().serve, "127.0.0.1", port, limit=1 << 26)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
