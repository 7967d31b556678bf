"""Keeps children running: starts them in order, restarts crashed ones, ends all in reverse order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reindexer.core.errors import ReindexerError
from reindexer.embedded.children import Child, Children

MAX_CRASHES = 5
CRASH_WINDOW_S = 60.0


class CrashesTooOften(ReindexerError):
    """A child crashes again and again: a restart does not mend it."""


@dataclass(slots=True)
class Role:
    """One child, and the function that starts it. That function waits until the child is ready, or its caller does."""

    name: str
    start: Callable[[], Child]
    child: Child | None = None
    crashes_at: list[float] = field(default_factory=list)


class Supervisor:
    """Keeps a set of children running. Not thread-safe."""

    def __init__(self, children: Children, tell: Callable[[str], None]) -> None:
        self._children = children
        self._tell = tell
        self._roles: list[Role] = []

    def run(self, name: str, start: Callable[[], Child]) -> None:
        """Start a child, and keep it running from now on."""
        role = Role(name, start)
        role.child = start()
        self._roles.append(role)

    def roles(self) -> tuple[Role, ...]:
        """The supervised roles, in the order of their start."""
        return tuple(self._roles)

    def look(self) -> None:
        """Restart the children that have ended; to be called at intervals. Raises CrashesTooOften."""
        for role in self._roles:
            if role.child is None or role.child.running():
                continue
            code, last = role.child.process.returncode, role.child.last_lines(1)
            self._children.kill(role.child)  # others of its process group may be left
            now = time.monotonic()
            role.crashes_at = [at for at in role.crashes_at if now - at < CRASH_WINDOW_S] + [now]
            if len(role.crashes_at) > MAX_CRASHES:
                raise CrashesTooOften(
                    f"{role.name} ended {MAX_CRASHES + 1} times within a minute; its log is {role.child.log}: {last}"
                )
            self._tell(f"{role.name} ended (code {code}); started again")
            role.child = role.start()
