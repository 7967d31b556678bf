"""An embedding provider for benchmarks: its own process on loopback, cheap enough to be no bottleneck.

`python -m bench.provider PORT`. It answers OpenAI's `POST /v1/embeddings` with precomputed vectors, as base64, after a
latency that `POST /latency {"ms": n}` sets. `GET /stats` returns requests and inputs. The text alone decides which
vector it gets. `POST /limit {"tokens_per_minute": n, "burst_s": s, "headers": true}` sets a token bucket that fills
continuously and is empty at first. A request beyond it is answered by 429 and Retry-After.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
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
    """All vectors that it ever answers: unit length, the same in every process."""
    made = np.random.default_rng(7).standard_normal((VECTORS, DIMENSIONS)).astype(np.float32)
    unit: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def number_of(text: str) -> int:
    """The index of a text's vector."""
    return crc32(text.encode("utf-8", "surrogatepass")) % VECTORS


@dataclass(frozen=True, slots=True)
class Provider:
    """The client of the provider's process."""

    port: int

    @property
    def url(self) -> str:
        """The value for OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def set_latency(self, ms: int) -> None:
        """Set the latency of every answer from now on."""
        httpx.post(f"http://127.0.0.1:{self.port}/latency", json={"ms": ms}).raise_for_status()

    def limit(self, tokens_per_minute: int | None, *, burst_s: float = 10.0, headers: bool = False) -> None:
        """Set the rate limit. `burst_s`: the bucket's size; `headers`: whether answers advertise the limit."""
        limit = {"tokens_per_minute": tokens_per_minute, "burst_s": burst_s, "headers": headers}
        httpx.post(f"http://127.0.0.1:{self.port}/limit", json=limit).raise_for_status()

    def stats(self) -> dict[str, float]:
        """`requests`, `inputs` and `tokens` that were served so far; `refused` requests; `granted`: all tokens that the
        limit has produced since it was set."""
        answer: dict[str, float] = httpx.get(f"http://127.0.0.1:{self.port}/stats").json()
        return answer


class _Limit:
    """A token bucket."""

    def __init__(self, per_minute: float, burst_s: float, headers: bool) -> None:
        self._per_minute = per_minute
        self._holds = per_minute / 60 * burst_s
        self._level = 0.0
        self._headers = headers
        self._began = self._at = time.monotonic()

    def wait_s(self, tokens: int) -> float:
        """0: the tokens are granted and taken; else how long the request would have to wait."""
        now = time.monotonic()
        self._level = min(self._holds, self._level + (now - self._at) * self._per_minute / 60)
        self._at = now
        if tokens <= self._level:
            self._level -= tokens
            return 0.0
        return (tokens - self._level) * 60 / self._per_minute

    def granted(self) -> float:
        """All tokens that entered the bucket or overflowed."""
        return (time.monotonic() - self._began) * self._per_minute / 60

    def headers(self) -> bytes:
        """OpenAI's headers of the rate limit."""
        reset_ms = (self._holds - self._level) * 60_000 / self._per_minute
        told = b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %dms\r\n"
        return told % (self._per_minute, self._level, reset_ms) if self._headers else b""


class _Server:
    def __init__(self) -> None:
        encoded = [base64.b64encode(vector.tobytes()) for vector in vectors()]
        self._pieces = [b'"embedding":"' + each + b'"}' for each in encoded]
        self._latency_s = 0.0
        self._requests = self._inputs = self._tokens = self._refused = 0
        self._limit: _Limit | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, headers = head.partition(b"\r\n")
                length = next((int(h[15:]) for h in headers.split(b"\r\n") if h[:15].lower() == b"content-length:"), 0)
                body = await reader.readexactly(length)
                status, more, answer = await self._answer(line, body)
                writer.write(
                    b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
                    % (status, more, len(answer))
                )
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
        """Status, additional headers, body."""
        if b"/stats" in line:
            return b"200 OK", b"", json.dumps(self._stats()).encode()
        asked: dict[str, Any] = json.loads(body)
        if b"/latency" in line:
            self._latency_s = asked["ms"] / 1000
            return b"200 OK", b"", b"{}"
        if b"/limit" in line:
            per_minute = asked.pop("tokens_per_minute")
            self._limit = _Limit(per_minute, **asked) if per_minute else None
            return b"200 OK", b"", b"{}"
        texts: Sequence[str] = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        tokens = sum(map(len, texts)) // 4
        if self._limit and (wait_s := self._limit.wait_s(tokens)):
            self._refused += 1
            more = b"retry-after-ms: %d\r\n%s" % (wait_s * 1000 + 1, self._limit.headers())
            return b"429 Too Many Requests", more, b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}'
        self._requests += 1
        self._tokens += tokens
        self._inputs += len(texts)
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        data = b",".join(
            b'{"object":"embedding","index":%d,' % n + self._pieces[number_of(text)] for n, text in enumerate(texts)
        )
        answer = b'{"object":"list","model":"bench","data":[%s],"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
            data, tokens, tokens,
        )  # fmt: skip
        return b"200 OK", self._limit.headers() if self._limit else b"", answer

    def _stats(self) -> dict[str, float]:
        return {
            "requests": self._requests, "inputs": self._inputs, "tokens": self._tokens, "refused": self._refused,
            "granted": self._limit.granted() if self._limit else 0,
        }  # fmt: skip


async def main(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.start_server(_Server().serve, "127.0.0.1", port, limit=1 << 26)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
