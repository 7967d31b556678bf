"""Where a Qdrant server is: what QDRANT_URL means, and how it is told where nobody answers, or somebody else does.

Qdrant's client takes a URL without a port for port 6333, unlike every other program; an ingress listens on 80 or 443.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from reindexer.core.urls import http_path, http_port, without_secrets

OWN_PORT = 6333


@dataclass(frozen=True, slots=True)
class QdrantAddress:
    """`url`: with or without a port and a path before Qdrant's own. `grpc_port`: None for REST alone."""

    url: str
    grpc_port: int | None

    @property
    def client_options(self) -> dict[str, Any]:
        """For the client."""
        options = {"url": self.url.rstrip("/"), "port": http_port(self.url)[0]}  # guard address-scheme-default-port
        return options | ({"prefer_grpc": True, "grpc_port": self.grpc_port} if self.grpc_port else {})

    @property
    def rest(self) -> str:
        """In words."""
        port, is_written = http_port(self.url)
        place = without_secrets(self.url)
        if is_written:
            return f"Qdrant at {place}{http_path(self.url)}"
        own = f"QDRANT_URL names no port; Qdrant's own is {OWN_PORT}, write it if it is meant"
        return f"Qdrant at {place}:{port}{http_path(self.url)} ({own})"

    @property
    def grpc(self) -> str:
        """In words."""
        return f"Qdrant at {without_secrets(self.url)}, gRPC on port {self.grpc_port},"

    def somebody_else(self, what: str) -> str:
        """An answer that is not Qdrant's: by a web server, an ingress, or Qdrant beneath another path."""
        return f"{self.rest} does not answer; something else does ({what}): are port and path of QDRANT_URL right?"


def is_of_qdrant(content: bytes) -> bool:
    """Whether the body of an error is Qdrant's own: an object with its status."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and "status" in answer
