"""Health checks for containers: whether this process really works."""

from __future__ import annotations

import socket
from contextlib import closing
from enum import StrEnum
from urllib.error import URLError
from urllib.request import urlopen

import typer

from reindexer.cli.output import Failed
from reindexer.core.errors import DependencyUnavailable
from reindexer.monitoring import heartbeat
from reindexer.postgres.connect import connect
from reindexer.settings import Settings


class Role(StrEnum):
    """What a process does."""

    LISTENER = "listener"
    WORKER = "worker"
    API = "api"


def health(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("health")
    def _health(
        role: Role = typer.Argument(help="What the process does."),
        node: str = typer.Option("", help="A worker's node name, as given to `celery … -n`; %h is this host."),
        url: str = typer.Option("http://127.0.0.1:8000", help="Where the API listens."),
        liveness: bool = typer.Option(
            False, "--liveness", help="Exit 0 as well while a server is away that a restart would not bring back."
        ),
    ) -> None:
        """Exit 0 if the process of that role on this host is at work (a worker: takes messages and runs them)."""
        if role is Role.API:
            _ask_api(url)
            return
        settings = Settings.load()
        try:
            typer.echo(_last_beat(settings, role, node))
        except DependencyUnavailable as exc:
            if not liveness:
                raise
            typer.echo(f"not known: {exc}")
        except Failed as exc:
            away = _broker_away(settings) if liveness and role is Role.WORKER else None
            if away is None:
                raise
            typer.echo(f"{exc}: {away}")


def _last_beat(settings: Settings, role: Role, node: str) -> str:
    """Which process of ours beat last, and when. Raises DependencyUnavailable, or Failed if none beats."""
    host = socket.gethostname()
    with connect(settings.require_database_url(), application_name="reindexer health") as connection:
        found = heartbeat.alive(connection, "listener" if role is Role.LISTENER else "worker")
    wanted = node.replace("%h", host)
    here = [each for each in found if each.name == wanted or (not wanted and each.host == host)]
    if not here:
        raise Failed(f"no {role} {wanted or 'on ' + host} has beaten within {heartbeat.STALE_S:.0f} s")
    return f"{here[0].name}: beat {here[0].age_s:.0f} s ago"


def _broker_away(settings: Settings) -> str | None:
    """Why a worker can't beat: its beats are messages. None if the broker answers."""
    from reindexer.celery_app import sending_broker  # takes long to import, and is needed only here

    try:
        with closing(sending_broker(settings)) as broker:
            broker.ping()
    except DependencyUnavailable as exc:
        return str(exc)
    return None


def _ask_api(url: str) -> None:
    try:
        with urlopen(f"{url}/healthz", timeout=3) as answer:  # noqa: S310  an http URL of our own
            typer.echo(f"{url}: {answer.status}")
    except (URLError, TimeoutError) as exc:
        raise Failed(f"{url} does not answer: {exc}") from exc
