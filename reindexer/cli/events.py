"""`events`: tell receivers of events, list them, test one, give one another secret, end one."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import typer

from reindexer import audit
from reindexer.adapters.webhook import HttpWebhooks
from reindexer.cli.output import JSON, Failed, report, rows
from reindexer.cli.status import database
from reindexer.core.api_key import duration_s
from reindexer.core.errors import DependencyUnavailable, UsageError
from reindexer.core.event import TEST, Event, headers
from reindexer.core.urls import without_secrets
from reindexer.events import outbox, receivers
from reindexer.events.receivers import KEEP_OLD_S, Receiver
from reindexer.index.ownership import identity
from reindexer.settings import Settings


class Act(StrEnum):
    """What to do with receivers."""

    ADD = "add"
    LIST = "list"
    REMOVE = "remove"
    ROTATE = "rotate"
    TEST = "test"


def events(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("events")
    def _events(
        act: Act = typer.Argument(help="Add one, tell all, end one, give one another secret, or send one a test."),
        name: str | None = typer.Argument(None, help="Of the receiver; only `list` takes none."),
        url: str | None = typer.Option(None, "--url", help="Where its webhooks go."),
        notify: bool = typer.Option(False, "--notify", help="It is told by NOTIFY, and reads its events by SQL."),
        source: list[str] = typer.Option([], "--source", help="What it is told of; may be given several times."),
        kind: list[str] = typer.Option(
            [], "--type", help="Which events, as item.deleted; may be given several times. None: all."
        ),
        keep: str | None = typer.Option(
            None, "--keep", metavar="24h", help="How long the secret before signs as well, for `rotate`."
        ),
        as_json: bool = JSON,
    ) -> None:
        """Receivers of events: who is told that an item is searchable, deleted or failed, that a run has ended, that a
        generation is ready."""
        if act is not Act.ADD and (url or notify or source or kind):
            raise UsageError(f"`reindexer events {act.value}` takes none of --url, --notify, --source, --type")
        if act is not Act.ROTATE and keep is not None:
            raise UsageError(f"`reindexer events {act.value}` takes no --keep")
        settings = Settings.load()
        if act is Act.LIST:
            if name is not None:
                raise UsageError("`reindexer events list` lists all receivers, and takes no name")
            _list(settings, as_json=as_json)
        elif name is None:
            raise UsageError(f"write `reindexer events {act.value} NAME`")
        elif act is Act.ADD:
            if (url is None) is not notify:
                raise UsageError("write --url URL for webhooks, or --notify")
            _add(settings, name, url, source, kind, as_json=as_json)
        elif act is Act.REMOVE:
            with database(settings) as connection:
                receivers.remove(connection, name, who=audit.of_command())
            report({name: "removed; what is in flight may still arrive"}, as_json=as_json)
        elif act is Act.ROTATE:
            keep_s = KEEP_OLD_S if keep is None else duration_s(keep)
            with database(settings) as connection:
                secret = receivers.rotate(connection, name, who=audit.of_command(), keep_s=keep_s).secret
            _show_secret(name, secret, as_json=as_json)
        else:
            _test(settings, name, as_json=as_json)


def _add(
    settings: Settings, name: str, url: str | None, sources: Sequence[str], types: Sequence[str], *, as_json: bool
) -> None:
    with database(settings) as connection:
        made = receivers.add(
            connection, name, who=audit.of_command(), identity=identity(connection, settings.instance), url=url,
            sources=sources, types=types,
        )  # fmt: skip
    if made.secret is None:
        report({name: f"is told by NOTIFY {outbox.CHANNEL}"}, as_json=as_json)
    else:
        _show_secret(name, made.secret, as_json=as_json)


def _show_secret(name: str, secret: str | None, *, as_json: bool) -> None:
    if as_json:
        report({"name": name, "secret": secret}, as_json=True)
        return
    sys.stdout.write(f"{secret}\n")
    sys.stderr.write("keep it now: it is not shown again\n")


def _test(settings: Settings, name: str, *, as_json: bool) -> None:
    with database(settings) as connection:
        target = receivers.target(connection, name)
        if target is None:
            outbox.look(connection, name)
            report({name: f"NOTIFY {outbox.CHANNEL} was sent; nothing waits for it because of that"}, as_json=as_json)
            return
    now = time.time()
    event = Event(0, TEST, datetime.fromtimestamp(now, UTC), {"receiver": name, "version": int(now * 1_000_000)})
    body, webhooks = event.body, HttpWebhooks()
    try:
        answer = webhooks.post(
            target.url, body, headers(event, body, target.secrets, int(now)), timeout_s=settings.events_timeout_s
        )
    except DependencyUnavailable as exc:
        raise Failed(f"{name}: {exc}") from exc
    finally:
        webhooks.close()
    if not 200 <= answer.status < 300:
        raise Failed(f"{name} answers {answer.status}; it is told again whatever it does not answer by 2xx")
    report({name: f"answers {answer.status}"}, as_json=as_json)


def _list(settings: Settings, *, as_json: bool) -> None:
    with database(settings) as connection:
        found = receivers.all_receivers(connection)
    if as_json:
        report({"receivers": [_facts(each) for each in found]}, as_json=True)
        return
    lines = [
        (
            each.name, without_secrets(each.url) if each.url else each.kind, ", ".join(each.sources),
            ", ".join(each.types), each.state, str(each.waiting), f"{each.oldest_s:.0f} s" if each.waiting else "",
            each.problem or "",
        )
        for each in found
    ]  # fmt: skip
    rows(("name", "where", "sources", "events", "state", "waiting", "oldest", "problem"), lines, whole=["name"])


def _facts(each: Receiver) -> dict[str, Any]:
    """What is told of a receiver. The path of a URL may hold a key."""
    return asdict(each) | {"url": without_secrets(each.url) if each.url else None}
