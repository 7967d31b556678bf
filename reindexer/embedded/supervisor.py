"""Keeps a set of children running: starts them in order, starts again what crashes, ends all in reverse order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reindexer.core.errors import ReindexerError
from reindexer.embedded.children import Child, Children

MAX_CRASHES = 5
CRASH_WINDOW_S = 60.0


class CrashesTooOften(ReindexerError):
    """A child that ends again and again: something is wrong that starting it anew does not mend."""


@dataclass(slots=True)
class Role:
    """One child, and how it is started; `start` returns when it is ready, or leaves that to the caller."""

    name: str
    start: Callable[[], Child]
    child: Child | None = None
    crashes_at: list[float] = field(default_factory=list)


class Supervisor:
    """Not for use by several threads."""

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
        """What is kept running, in the order of starting."""
        return tuple(self._roles)

    def look(self) -> None:
        """Start again what has ended. Raises CrashesTooOften; call it now and then."""
        for role in self._roles:
            if role.child is None or role.child.running():
                continue
            code, last = role.child.process.returncode, role.child.last_lines(1)
            self._children.kill(role.child)  # of its group, something may be left
            now = time.monotonic()
            role.crashes_at = [at for at in role.crashes_at if now - at < CRASH_WINDOW_S] + [now]
            if len(role.crashes_at) > MAX_CRASHES:
                raise CrashesTooOften(
                    f"{role.name} ended {MAX_CRASHES + 1} times within a minute; its log is {role.child.log}: {last}"
                )
            self._tell(f"{role.name} ended (code {code}); started again")
            role.child = role.start()
