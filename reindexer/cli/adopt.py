"""`adopt`: makes this database the owner of Qdrant's collections and the queues, in the place of an earlier one."""

from __future__ import annotations

import typer

from reindexer import audit, budgets, wiring
from reindexer.cli.output import JSON, Failed, report
from reindexer.cli.status import database
from reindexer.core.errors import DependencyUnavailable
from reindexer.core.owner import Owner
from reindexer.index.ownership import identity
from reindexer.index.search import collections_of
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.sources.store import all_sources, find_source


def adopt(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("adopt")
    def _adopt(
        source: str | None = typer.Argument(None, help="Name of a source; none: all of them."), as_json: bool = JSON
    ) -> None:
        """Make Qdrant's collections, and the broker's queues, those of this database, and let it spend: after a restore
        from a dump, or pg_upgrade.

        The database that was refused before is then let in, and the other one refused.
        """
        settings, told, left = Settings.load(), dict[str, str](), ""
        with database(settings) as connection:
            index = wiring.index(settings)
            here = Owner(identity(connection, settings.instance))
            if here.instance is None:
                raise Failed("this role may not ask the server who it is: set REINDEXER_INSTANCE")
            if (before := budgets.spender(connection)) not in (None, here.instance):
                with audit.audited(connection, audit.of_command(), "adopt") as draft:
                    draft.details |= {"from": before, "to": here.instance, "spends": True}
                    budgets.adopt_spender(connection, here.instance)
                told["spending"] = f"is that of {here.instance} now, no longer of {before}"
            sources = all_sources(connection) if source is None else [find_source(connection, source)]
            for each in sources:
                collections = collections_of(connection, each)  # guard adopt-every-generation
                owners = {one: index.owner(one).instance for one in collections}
                others = [one for one, owner in owners.items() if owner != here.instance]
                before = next((owner for owner in owners.values() if owner not in (None, here.instance)), None)
                if not others:
                    told[each.name] = f"follows {here.instance} already"
                    continue
                details = {"from": before, "to": here.instance}
                audit.note(connection, audit.of_command(), "adopt", each.name, details)
                for one in others:
                    index.adopt(one, here)
                no_longer = f", no longer {before}" if before else ""
                told[each.name] = f"now follows {here.instance}{no_longer}; compare: reindexer reconcile {each.name}"
            if source is None and settings.broker:
                try:
                    told["broker"] = _adopt_prefix(connection, settings, here.instance)
                except DependencyUnavailable as exc:
                    left = f"the queues are not adopted: {exc}; run `reindexer adopt` again when it does"
        report(told, as_json=as_json)
        if left:
            raise Failed(left)


def _adopt_prefix(connection: Connection, settings: Settings, ours: str) -> str:
    """Make the queues ours. Raises DependencyUnavailable if the broker does not answer."""
    from reindexer.celery_app import sending_broker  # slow to import

    broker = sending_broker(settings)
    try:
        holder = broker.hold(ours)
        if holder == ours:
            return f"{settings.prefix} is used by {ours} already"
        details = {"from": holder, "to": ours, "prefix": settings.prefix}
        audit.note(connection, audit.of_command(), "adopt", None, details)
        broker.hold(ours, instead_of=holder)
    finally:
        broker.close()
    return f"{settings.prefix} is now used by {ours}, no longer by {holder}"
