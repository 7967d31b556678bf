"""Our own processes, started as a user starts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reindexer.embedded.children import Child, Children
from reindexer.testing.processes import Processes as Unforked
from tests.support.forks import fork_server

ROOT = Path(__file__).parents[2]


class Processes(Unforked):
    """The same, by default from a process that has imported the libraries, which saves two seconds of CPU each."""

    def __init__(
        self, children: Children, env: Mapping[str, str], root: Path = ROOT, *, forked: bool | None = None
    ) -> None:
        """`root`: the checkout whose program is started. `forked`: False where the start itself matters, and by default
        where it is another checkout's."""
        super().__init__(children, env, root)
        self.forked = root == ROOT if forked is None else forked

    def begin(self, name: str, command: list[str], env: Mapping[str, str]) -> Child:
        """Fork, if that is wanted."""
        if not self.forked:
            return super().begin(name, command, env)
        log, (_, _, module, *arguments) = self.children.log_of(name), command
        return self.children.adopt(name, fork_server().start(module, arguments, env, self.root, log), log)


TASK = "reindexer.tasks.regenerate_embedding_task"
