"""How a wait for a mark, or for items, ended."""

from __future__ import annotations

from typing import Literal

WaitStatus = Literal["indexed", "failed", "timeout", "rolled_back", "expired"]
"""`indexed`: searches find it. `failed`: an item of it can't be indexed. `timeout`: not yet. `rolled_back`: there is
nothing to wait for. `expired`: its mark is forgotten, an hour after it was done."""
