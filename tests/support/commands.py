"""Commands that run in this process: what they are given, and what they leave."""

from __future__ import annotations

from dataclasses import dataclass

SERVER_SETTINGS = (
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "QDRANT_URL",
    "OPENAI_API_KEY",
    "REINDEXER_DATA_DIR",
    "REINDEXER_SOURCES",
)
"""Those that name servers: a test gives its own, or none."""


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str
