"""The three processes, from a wheel or a checkout, from any directory: `listen`, `worker`, `api`."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

import reindexer
from reindexer.cli.output import Failed
from reindexer.core.errors import UsageError
from reindexer.core.lanes import LANES, Lane
from reindexer.core.posix import require_posix
from reindexer.settings import Settings

PROCESSES = ("listen", "worker", "api")
"""The commands that run until they are ended. They log; other commands write lines."""


def processes(app: typer.Typer) -> None:
    """Add the commands. Each imports what it needs when it runs: the libraries are slow to import."""

    @app.command("listen")
    def _listen() -> None:
        """The listener: moves changes to where workers take them. Two on different hosts are better than one."""
        from reindexer.listen import main

        raise typer.Exit(main())

    @app.command("worker", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def _worker(
        context: typer.Context,
        concurrency: int | None = typer.Option(None, "-c", "--concurrency", min=1, help="Processes; none: one a core."),
        lanes: str = typer.Option(",".join(LANES), help="Which to work on; all workers together must cover both."),
    ) -> None:
        """A worker; it names the queues itself. Other options are those of `celery worker`: -n NAME@%h, …"""
        require_posix()
        names = Settings.load().names
        wanted = [lane.strip() for lane in lanes.split(",")]
        if unknown := [lane for lane in wanted if lane not in LANES]:
            raise UsageError(f"--lanes: {unknown[0]!r} is none of {', '.join(LANES)}")
        queues = ",".join(names.queue(Lane(lane)) for lane in wanted)
        from reindexer.celery_app import app as celery

        given = [] if concurrency is None else ["-c", str(concurrency)]
        with _usage_of("celery worker"):
            celery.worker_main(["worker", "-Q", queues, *given, *context.args])

    @app.command("api", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def _api(
        context: typer.Context,
        host: str = typer.Option("127.0.0.1", help="Where it listens."),
        port: int = typer.Option(8000, min=1, max=65535, help="Where it listens."),
    ) -> None:
        """The HTTP API. Other options are those of `uvicorn`: --workers 4, --proxy-headers, --root-path /p, …"""
        import uvicorn

        if not {"--uds", "--fd"}.intersection(context.args):
            _require_place(host, port)
        module, folder = _api_module()
        where = ["--host", host, "--port", str(port), "--app-dir", folder]
        with _usage_of("uvicorn"):
            uvicorn.main([f"{module}:app", *where, *context.args], prog_name="reindexer api", standalone_mode=False)


@contextmanager
def _usage_of(program: str) -> Iterator[None]:
    """Reports options that `program`, to which they were passed on, refuses. Raises UsageError."""
    from click import ClickException  # those programs need it; ours does not

    try:
        yield
    except ClickException as exc:
        message = exc.format_message()
        end = "" if message.endswith((".", "?")) else "."
        raise UsageError(f"{message}{end} See `{program} --help`.") from exc


def _api_module() -> tuple[str, str]:
    """The API's module and the folder from which it is imported: a wheel carries `api` inside our package.

    The folder stands first, so that an application's own package `api` in the working directory is not imported.
    """
    package = Path(reindexer.__file__).parent
    carried = (package / "_api").is_dir()
    return "reindexer._api.main" if carried else "api.main", str(package.parent)  # guard api-own-module


def _require_place(host: str, port: int) -> None:
    """Raises Failed if the API can't listen there. Otherwise the server itself would report it, after the start, in its
    own words and with its own exit code."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise Failed(f"port {port} of {host} is taken; choose another with --port") from exc
        raise Failed(f"can't listen at port {port} of {host}: {exc.strerror}; choose another with --host") from exc
