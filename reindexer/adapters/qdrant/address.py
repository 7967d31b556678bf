"""The address of a Qdrant server: how QDRANT_URL is read, and how messages describe it.

Qdrant's client takes port 6333 for a URL without a port, unlike every other program; an ingress listens on 80 or 443.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from reindexer.core.urls import http_path, http_port, without_secrets

OWN_PORT = 6333


@dataclass(frozen=True, slots=True)
class QdrantAddress:
    """`url`: the port and a path before Qdrant's own are optional. `grpc_port`: None for REST alone."""

    url: str
    grpc_port: int | None

    @property
    def client_options(self) -> dict[str, Any]:
        """The client's arguments for this address."""
        options = {"url": self.url.rstrip("/"), "port": http_port(self.url)[0]}  # guard address-scheme-default-port
        return options | ({"prefer_grpc": True, "grpc_port": self.grpc_port} if self.grpc_port else {})

    @property
    def rest(self) -> str:
        """The REST address in words."""
        port, is_written = http_port(self.url)
        place = without_secrets(self.url)
        if is_written:
            return f"Qdrant at {place}{http_path(self.url)}"
        own = f"QDRANT_URL names no port; Qdrant's own is {OWN_PORT}, write it if it is meant"
        return f"Qdrant at {place}:{port}{http_path(self.url)} ({own})"

    @property
    def grpc(self) -> str:
        """The gRPC address in words."""
        return f"Qdrant at {without_secrets(self.url)}, gRPC on port {self.grpc_port},"

    def somebody_else(self, what: str) -> str:
        """The message if the answer is not Qdrant's: a web server's, an ingress's, or Qdrant's under another path."""
        return f"{self.rest} does not answer; something else does ({what}): are port and path of QDRANT_URL right?"


def is_of_qdrant(content: bytes) -> bool:
    """Whether an error's body is Qdrant's own: an object with a status."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and "status" in answer
