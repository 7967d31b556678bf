"""Health checks for containers: whether this process really works."""

from __future__ import annotations

import socket
from enum import StrEnum
from urllib.error import URLError
from urllib.request import urlopen

import typer

from reindexer.cli.output import Failed
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
    ) -> None:
        """Exit 0 if the process of that role on this host is at work (a worker: takes messages and runs them)."""
        if role is Role.API:
            _ask_api(url)
            return
        host = socket.gethostname()
        with connect(Settings.load().require_database_url(), application_name="reindexer health") as connection:
            found = heartbeat.alive(connection, "listener" if role is Role.LISTENER else "worker")
        wanted = node.replace("%h", host)
        here = [each for each in found if each.name == wanted or (not wanted and each.host == host)]
        if not here:
            raise Failed(f"no {role} {wanted or 'on ' + host} has beaten within {heartbeat.STALE_S:.0f} s")
        typer.echo(f"{here[0].name}: beat {here[0].age_s:.0f} s ago")


def _ask_api(url: str) -> None:
    try:
        with urlopen(f"{url}/healthz", timeout=3) as answer:  # noqa: S310  an http URL of our own
            typer.echo(f"{url}: {answer.status}")
    except (URLError, TimeoutError) as exc:
        raise Failed(f"{url} does not answer: {exc}") from exc
