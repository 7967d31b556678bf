"""`keys`: make API keys, list them, revoke one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum

import typer

from reindexer import api_keys, audit
from reindexer.api_keys import ApiKey
from reindexer.cli.output import JSON, report, rows
from reindexer.cli.status import database
from reindexer.core.api_key import duration_s
from reindexer.core.errors import UsageError
from reindexer.settings import Settings


class Act(StrEnum):
    """What to do with keys."""

    CREATE = "create"
    LIST = "list"
    REVOKE = "revoke"


class RoleChoice(StrEnum):
    """What a key allows."""

    SEARCH = "search"
    OPERATE = "operate"
    ADMIN = "admin"


def keys(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("keys")
    def _keys(
        act: Act = typer.Argument(help="Make one, tell all, or end one."),
        name: str | None = typer.Argument(None, help="Of the key, for `create` and `revoke`."),
        role: RoleChoice | None = typer.Option(None, "--role", help="What it allows; `create` needs it."),
        source: str | None = typer.Option(None, "--source", help="The only source that it may search."),
        where: list[str] = typer.Option(
            [],
            "--filter",
            metavar="COLUMN=VALUE",
            help="Only rows with this value of a payload column; may be given several times.",
        ),
        expires: str | None = typer.Option(None, "--expires", metavar="30d", help="When it ends: 90m, 12h, 30d."),
        as_json: bool = JSON,
    ) -> None:
        """Keys of the HTTP API that allow less than the setting's: by role, source and rows."""
        given = [role, source, expires, *where]
        if act is not Act.CREATE and any(given):
            raise UsageError(f"`reindexer keys {act.value}` takes none of --role, --source, --filter, --expires")
        settings = Settings.load()
        if act is Act.LIST:
            if name is not None:
                raise UsageError("`reindexer keys list` lists all keys, and takes no name")
            _list(settings, as_json=as_json)
        elif name is None:
            raise UsageError(f"write `reindexer keys {act.value} NAME`")
        elif act is Act.REVOKE:
            with database(settings) as connection:
                api_keys.revoke(connection, name, who=audit.of_command())
            report({name: "revoked; no process takes it any more in 5 s"}, as_json=as_json)
        elif role is None:
            raise UsageError("write --role search, --role operate or --role admin")
        else:
            _create(settings, name, role, source, where, expires, as_json=as_json)


def _create(
    settings: Settings, name: str, role: RoleChoice, source: str | None, where: Sequence[str], expires: str | None,
    *, as_json: bool,
) -> None:  # fmt: skip
    expires_s = None if expires is None else duration_s(expires)
    with database(settings) as connection:
        made = api_keys.create(
            connection, name, who=audit.of_command(), role=role.value, source=source, where=where, expires_s=expires_s
        )
    if as_json:
        report({"key": made.key, **asdict(made.about)}, as_json=True)
        return
    sys.stdout.write(f"{made.key}\n")
    sys.stderr.write("keep it now: it is not shown again\n")


def _list(settings: Settings, *, as_json: bool) -> None:
    with database(settings) as connection:
        found = api_keys.all_keys(connection)
    if as_json:
        report({"keys": [asdict(each) for each in found]}, as_json=True)
        return
    lines = [
        (
            each.name, each.role, each.source or "", _filter(each), each.state, f"{each.created_at:%Y-%m-%d %H:%M:%S}",
            f"{each.expires_at:%Y-%m-%d %H:%M:%S}" if each.expires_at else "", each.created_by,
        )
        for each in found
    ]  # fmt: skip
    rows(("name", "role", "source", "filter", "state", "made", "expires", "by"), lines, whole=["name", "source"])


def _filter(key: ApiKey) -> str:
    return ", ".join(f"{column}={json.dumps(value, ensure_ascii=False)}" for column, value in key.filter.items())
