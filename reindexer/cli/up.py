"""`up` and `down`: start and end the embedded stack."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import typer
from rich.console import Console
from rich.markup import escape

from reindexer.backfills.pager import rebuild_if_lost
from reindexer.cli.given_servers import require_answers
from reindexer.cli.output import Failed
from reindexer.cli.source_problems import source_problems
from reindexer.embedded.children import Children, accepts, free_port
from reindexer.embedded.data_directory import DataDirectory
from reindexer.embedded.older_index import is_filled_anew, told_of_older_index
from reindexer.embedded.stack import Stack
from reindexer.embedded.supervisor import Supervisor
from reindexer.monitoring import heartbeat
from reindexer.postgres.connect import connect
from reindexer.running_stack import default_directory, libpq_variables
from reindexer.settings import Settings
from reindexer.sources.embedder_record import recorded
from reindexer.sources.store import all_sources
from reindexer.sources_file.read import SourcesFile, read_sources

READY_S = 60.0
MIN_FREE_MB = 200
DEFAULT_EMBEDDER = "static"
"""For `up` and `demo` alone. Their processes get it in the environment; other commands read it from the state file."""
EARLIER_DEFAULT = "hashing"
"""For data that an older version filled: it stays that data's embedder, because no search compares two embedders."""
BUILT_IN: Mapping[str, str] = {
    "static": "static, built in: it knows meaning, in English",
    "hashing": "hashing, built in: it matches words, not meaning",
}
"""What each built-in embedder can do."""


class StopWanted(BaseException):
    """SIGTERM or Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that is up."""

    api: str
    key: str
    stack: Stack
    directory: DataDirectory
    foreign: Sequence[str] = ()
    """Variables that would make this shell's psql connect elsewhere."""


def server_port(server: str) -> Any:
    """The option for an embedded server's port."""
    shown = f"Where the embedded {server} listens; default: where it did the last time."
    return typer.Option(None, min=1, max=65535, help=shown)


def up(app: typer.Typer) -> None:
    """Add the commands."""
    data_dir_option = typer.Option(None, "--data-dir", help="Where the data is kept.", envvar="REINDEXER_DATA_DIR")

    @app.command("up")
    def _up(
        data_dir: Path | None = data_dir_option,
        host: str = typer.Option("127.0.0.1", help="Where the API listens."),
        port: int = typer.Option(8000, min=1, max=65535, help="Where the API listens."),
        postgres_port: int | None = server_port("Postgres"),
        redis_port: int | None = server_port("Redis"),
        qdrant_port: int | None = server_port("Qdrant"),
    ) -> None:
        """Run everything on this machine until Ctrl-C; the data is kept. A named real server replaces its part."""
        console = Console(highlight=False, soft_wrap=True)
        try:
            settings = Settings.from_environment()
            file = read_sources(settings.sources, index=settings.index)
            ports = {"postgres": postgres_port, "redis": redis_port, "qdrant": qdrant_port}
            with running_stack(
                data_dir or default_directory(), host, port, console.print, file=file, ports=ports
            ) as running:
                _introduce(console, running)
                while True:
                    running.stack.supervisor.look()
                    time.sleep(0.3)
        except StopWanted:
            console.print("ended; the data is kept")

    @app.command("down")
    def _down(data_dir: Path | None = data_dir_option) -> None:
        """End a running `up`."""
        directory = DataDirectory(data_dir or default_directory())
        running = directory.running()
        if running is None:
            raise Failed(f"nothing is up with the data in {directory.path}")
        if pid := running.get("pid"):
            os.kill(int(pid), signal.SIGTERM)
        until = time.monotonic() + 40
        while directory.running() is not None:
            if time.monotonic() > until:
                raise Failed(f"process {pid} has not ended within 40 s; its logs are in {directory.path / 'logs'}")
            time.sleep(0.1)
        typer.echo("ended; the data is kept")


@contextmanager
def running_stack(
    path: Path,
    host: str,
    port: int,
    tell: Callable[[str], None],
    *,
    file: SourcesFile | None = None,
    without: str | None = None,
    ports: Mapping[str, int | None] | None = None,
) -> Iterator[Running]:
    """A context in which everything is up and ready. Afterwards nothing is left running, not even after a SIGKILL.

    The sources of the file are attached. A source that can't be attached is only reported: its table may be created
    later. `ports`: of the servers that are started; the default is those of the last run, if they are free.
    Raises ReindexerError with one line that says what can't be started, StopWanted on SIGTERM or Ctrl-C.
    """
    settings = Settings.from_environment()
    directory = DataDirectory(path.absolute())
    directory.take()
    if accepts(port, host):
        directory.release()
        raise Failed(f"port {port} of {host} is taken; choose another with --port")
    try:
        _require_room(directory.path)
        directory.write_state({"pid": os.getpid()})
        with _stop_signals(), Children(directory.path / "logs") as children:
            given, foreign = _given(settings), libpq_variables(os.environ)
            require_answers(settings, given)
            chosen = _choose_ports(directory, ports or {}, given)
            stack = Stack(directory.path, children, Supervisor(children, tell), given, chosen)
            stack.start_servers()
            directory.keep_ports(chosen)
            key = settings.admin_api_key.get_secret_value() if settings.admin_api_key else directory.admin_key()
            stack.env["REINDEXER_ADMIN_API_KEY"] = key
            _migrate(stack.env["DATABASE_URL"], file, tell)
            if stack.index_was_older:
                tell(f"[yellow]{escape(told_of_older_index(directory.path / 'qdrant'))}[/]")
                _fill_anew(stack.env["DATABASE_URL"])
                is_filled_anew(directory.path / "qdrant")
            embedder = settings.embedder_name or _default_embedder(stack.env["DATABASE_URL"], tell)
            settings = settings.model_copy(update={"embedder": embedder})
            stack.env["REINDEXER_EMBEDDER"] = embedder
            stack.start_roles(host, port, without=without)
            running = Running(
                f"http://{host}:{port}", key, stack, directory, () if "DATABASE_URL" in given else foreign
            )
            _wait_until_ready(running, without)
            for words in source_problems(settings, stack.env["DATABASE_URL"]):
                tell(f"[yellow]{escape(words)}[/]")
            directory.write_state({
                "pid": os.getpid(), "api": running.api, "admin_api_key": key,
                "postgres": "given" if "DATABASE_URL" in given else "embedded",
                **{name.lower(): stack.env[name] for name in ("DATABASE_URL", "CELERY_BROKER_URL", "QDRANT_URL")},
                **_embedding(settings),
            })  # fmt: skip
            yield running
    finally:
        directory.release()


def _migrate(url: str, file: SourcesFile | None, tell: Callable[[str], None]) -> None:
    from reindexer.migrate import migrate  # Alembic takes a third of a second to import

    for each in migrate(url, file, with_context_items=True, strict=False):
        if each.problem:
            tell(f"[yellow]{escape(each.problem)}[/]\n  the other sources go on; when this is well: reindexer migrate")
        elif each.note:
            tell(f"[yellow]source {escape(repr(each.source))}: {escape(each.note)}[/]")


def _fill_anew(url: str) -> None:
    """Rebuild every index, as after a lost collection, without waiting for the next write to notice it."""
    with connect(url, application_name="reindexer up") as connection:
        for source in all_sources(connection):
            rebuild_if_lost(connection, source.name, source.generation, None)  # guard up-lost-index-rebuild


def _default_embedder(url: str, tell: Callable[[str], None]) -> str:
    """The embedder if none is set: the earlier default if existing points are made by it and none by today's."""
    with connect(url, application_name="reindexer up") as connection:
        made_by = recorded(connection)
        left_open = [each.name for each in all_sources(connection) if each.profile.implied_provider is None]
    by_name: dict[str, list[str]] = {}
    for source in left_open:
        by_name.setdefault((made_by.get(source) or "").partition("-")[0], []).append(source)
    if EARLIER_DEFAULT not in by_name or DEFAULT_EMBEDDER in by_name:
        return DEFAULT_EMBEDDER
    names = ", ".join(repr(name) for name in by_name[EARLIER_DEFAULT])
    tell(
        f"[yellow]the points of {escape(names)} are made by `{EARLIER_DEFAULT}`, which matches words, and stay so; for "
        f"`{DEFAULT_EMBEDDER}`, which knows meaning: REINDEXER_EMBEDDER={DEFAULT_EMBEDDER} reindexer rebuild SOURCE "
        "--promote-when-ready (docs/generations.md)[/]"
    )
    return EARLIER_DEFAULT


def _choose_ports(
    directory: DataDirectory, wanted: Mapping[str, int | None], given: Mapping[str, str]
) -> dict[str, int]:
    """The ports of the servers that are started here. Raises Failed if a requested port is taken."""
    last, chosen = directory.last_ports(), dict[str, int]()
    for server, setting in _SERVERS.items():
        if setting in given:
            continue
        if port := wanted.get(server):
            if accepts(port):
                raise Failed(f"port {port} of 127.0.0.1 is taken; choose another with --{server}-port")
            chosen[server] = port
        else:
            port = last.get(server, 0)
            chosen[server] = port if port and not accepts(port) else free_port()
    return chosen


def _require_room(path: Path) -> None:
    free_mb = shutil.disk_usage(path).free >> 20
    if free_mb < MIN_FREE_MB:
        raise Failed(f"the disk of {path} is full: {free_mb} MB are free, {MIN_FREE_MB} are needed; see --data-dir")


_SERVERS = {"postgres": "DATABASE_URL", "redis": "CELERY_BROKER_URL", "qdrant": "QDRANT_URL"}
"""The embedded servers, and the setting that names a real one instead."""


def _given(settings: Settings) -> dict[str, str]:
    given = {
        "DATABASE_URL": settings.database_url.get_secret_value() if settings.database_url else None,
        "CELERY_BROKER_URL": settings.celery_broker_url.get_secret_value() if settings.celery_broker_url else None,
        "QDRANT_URL": settings.qdrant_url,
    }
    return {name: value for name, value in given.items() if value}


def _embedding(settings: Settings) -> dict[str, object]:
    """The embedder's settings, for other commands; without the provider's key."""
    return settings.model_dump(include={"embedder", "embedding_model", "embedding_dimensions", "openai_base_url"})


@contextmanager
def _stop_signals() -> Iterator[None]:
    def stop(*_: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # ending takes a moment; a second Ctrl-C must not interrupt it
        raise StopWanted

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _wait_until_ready(running: Running, without: str | None, within_s: float = READY_S) -> None:
    """Wait until the API is ready and the worker has sent a heartbeat. Raises Failed if a process ends before."""
    until = time.monotonic() + within_s
    url = running.api + ("/healthz" if without else "/readyz")
    while (wrong := _not_ready(url)) or not _works(running.stack.env["DATABASE_URL"], without):
        for role in running.stack.supervisor.roles():
            if role.child is not None and not role.child.running():
                raise Failed(f"{role.name} ended with code {role.child.process.returncode}: {role.child.last_lines(1)}")
        if time.monotonic() > until:
            why = wrong or "the worker has sent no heartbeat"
            raise Failed(f"not ready after {within_s:.0f} s: {why}; the logs are in {running.directory.path / 'logs'}")
        time.sleep(0.1)


def _works(url: str, without: str | None) -> bool:
    with connect(url, application_name="reindexer up") as connection:
        ours = f"up-{os.getpid()}@"
        return without == "worker" or any(each.name.startswith(ours) for each in heartbeat.alive(connection, "worker"))


def _not_ready(url: str) -> str:
    """What is wrong, or nothing. `sources` does not count: sources are reported, and mended while the stack runs."""
    try:
        with urlopen(url, timeout=5):  # noqa: S310  an http URL of our own
            return ""
    except HTTPError as exc:
        with suppress(ValueError, OSError):
            if checks := json.loads(exc.read()).get("checks", {}):
                return _wrong({name: state for name, state in checks.items() if name != "sources"})
        return f"the API answers {exc.code}"
    except (URLError, TimeoutError, ConnectionError):
        return f"the API at {url.rpartition('/')[0]} does not answer"


def _wrong(checks: Mapping[str, str]) -> str:
    """The checks that fail. Where a server does not answer, only the servers: the other checks follow from them."""
    failed = {name: state for name, state in checks.items() if not state.startswith("ok")}
    servers = {"postgres": "DATABASE_URL", "broker": "CELERY_BROKER_URL", "qdrant": "QDRANT_URL"}
    away = [f"{name}: {failed[name]} ({setting})" for name, setting in servers.items() if name in failed]
    return "; ".join(away or [f"{name}: {state}" for name, state in failed.items()])


def _introduce(console: Console, running: Running) -> None:
    env, path = running.stack.env, running.directory.path
    console.print("[bold]reindexer is up[/] (Ctrl-C ends it, the data is kept)")
    for name, value in {
        "page": f"{running.api}/",
        "API": f"{running.api}/docs",
        "admin key": str(running.directory.key_file),
        "psql": "".join(["env ", *(f"-u {name} " for name in running.foreign)] if running.foreign else [])
        + f'psql "{env["DATABASE_URL"]}"',
        "Qdrant": env["QDRANT_URL"],
        "embedder": BUILT_IN.get(env["REINDEXER_EMBEDDER"], env["REINDEXER_EMBEDDER"]),
        "data, logs": f"{path}, {path / 'logs'}",
    }.items():
        console.print(f"  {name:<11} {value}")
