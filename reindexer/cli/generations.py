"""Commands that exchange what searches use: `rebuild`, `generations`, `promote`, `rollback`, `prune`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict

import typer

from reindexer import audit, rebuilding, wiring
from reindexer.backfills import runs
from reindexer.backfills.runs import Run
from reindexer.cli.backfill import follow
from reindexer.cli.output import JSON, Failed, report, rows
from reindexer.cli.status import database
from reindexer.core.errors import UsageError
from reindexer.generations import lifecycle
from reindexer.generations.promotion import Promoted, Terms
from reindexer.generations.rows import Generation, generations
from reindexer.monitoring.status import listener_state
from reindexer.postgres.connect import Connection
from reindexer.postgres.schema import require_schema
from reindexer.settings import Settings

_SOURCE = typer.Argument(help="A source; `reindexer status` names them.")
_WAIT = typer.Option(60.0, "--wait", min=0.0, help="Seconds to wait until it is up to date.")
_LAG = typer.Option(False, "--accept-lag", help="Do not wait: searches miss what is not in it yet.")
_FAILED = typer.Option(False, "--accept-failed", help="Even if items failed in it that searches find now.")


def generation_commands(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("rebuild")
    def _rebuild(
        source: str = _SOURCE,
        profile: str | None = typer.Option(None, "--profile", help="A profile of the sources file, reindexer.toml."),
        max_usd: float | None = typer.Option(None, "--max-usd", min=0, help="What it may cost; then its items wait."),
        promote: bool = typer.Option(False, "--promote-when-ready", help="Wait for it, and promote it then."),
        detach: bool = typer.Option(False, "--detach", help="Start it and return at once."),
        watch: bool = typer.Option(False, "--watch", help="Follow the one that is open."),
        pause: bool = typer.Option(False, "--pause", help="Queue no more items; those that are queued go on."),
        resume: bool = typer.Option(False, "--resume", help="Go on after a pause."),
        cancel: bool = typer.Option(False, "--cancel", help="Drop the generation that is being filled."),
        as_json: bool = JSON,
    ) -> None:
        """Fill the next generation of a source beside the one that searches use. Ctrl-C leaves it running."""
        acts = {"watch": watch, "pause": pause, "resume": resume, "cancel": cancel}
        chosen = [name for name, given in acts.items() if given]
        if len(chosen) > 1 or (
            chosen and (profile is not None or detach or max_usd is not None or (promote and not watch))
        ):
            raise UsageError(f"--{chosen[0]} goes alone: it is about the rebuild that is open")
        if promote and detach:
            raise UsageError("--promote-when-ready waits for the rebuild; leave --detach out")
        settings = Settings.load()
        if cancel:
            with database(settings) as connection:
                number = lifecycle.cancel(connection, source, who=audit.of_command())
            report({source: f"the rebuild of generation {number} is cancelled"}, as_json=as_json)
            return
        with closing(wiring.postgres(settings, "rebuild")) as postgres:
            with postgres.connection() as connection:
                require_schema(connection)
                run = _open(connection, source, chosen[0]) if chosen else None
            if run is None:
                with database(settings) as connection:  # locks on the user's table take as long as they take
                    run = _start(settings, connection, source, profile, max_usd)
            with postgres.connection() as connection:
                if run.is_open and listener_state(connection) == "absent":
                    sys.stderr.write("no listener runs: this goes on when one does (reindexer listen)\n")
            if run.is_open and not detach and chosen in ([], ["watch"]):
                run = follow(postgres, run)
        if promote and run.state == "finished":
            with database(settings) as connection:
                _tell_promoted(_switch(settings, connection, source, Terms(), rebuilding.promote), as_json)
            return
        _tell_run(run, as_json)

    @app.command("generations")
    def _generations(source: str = _SOURCE, as_json: bool = JSON) -> None:
        """List the generations of a source: the one that searches use, one that is being filled, former ones."""
        with database(Settings.load()) as connection:
            found = generations(connection, source)
        if as_json:
            report({"source": source, "generations": [asdict(each) for each in found]}, as_json=True)
            return
        kept = [each for each in found if each.state != "dropped"]
        titles = "generation", "state", "embedder", "pending", "failed", "note"
        rows(titles, map(_line, kept), whole=("state", "note"))

    _switching(app)


def _switching(app: typer.Typer) -> None:
    @app.command("promote")
    def _promote(
        source: str = _SOURCE, wait: float = _WAIT, accept_lag: bool = _LAG, accept_failed: bool = _FAILED,
        as_json: bool = JSON,
    ) -> None:  # fmt: skip
        """Make searches use the generation that is ready. The former one is kept, and gets every edit."""
        _act(source, Terms(wait, accept_lag, accept_failed), rebuilding.promote, as_json)

    @app.command("rollback")
    def _rollback(
        source: str = _SOURCE, wait: float = _WAIT, accept_lag: bool = _LAG, accept_failed: bool = _FAILED,
        as_json: bool = JSON,
    ) -> None:  # fmt: skip
        """Make searches use the former generation again."""
        _act(source, Terms(wait, accept_lag, accept_failed), rebuilding.rollback, as_json)

    @app.command("prune")
    def _prune(
        source: str = _SOURCE,
        generation: int | None = typer.Option(None, "--generation", help="Only this one, which may be ready, too."),
        as_json: bool = JSON,
    ) -> None:
        """Drop former generations: there is no way back to them, and edits cost once again."""
        with database(Settings.load()) as connection:
            gone = lifecycle.prune(connection, source, who=audit.of_command(), number=generation)
        told = ", ".join(map(str, gone))
        report({source: f"dropped: {told}; workers delete what is left of it"}, as_json=as_json)


def _start(settings: Settings, connection: Connection, source: str, profile: str | None, max_usd: float | None) -> Run:
    made = rebuilding.rebuild(
        settings, connection, wiring.index(settings), source, who=audit.of_command(), profile=profile, max_usd=max_usd
    )
    return runs.get(connection, made.run_id)


def _open(connection: Connection, source: str, act: str) -> Run:
    run = next((each for each in runs.recent(connection, source) if each.is_open and each.kind == "rebuild"), None)
    if run is None:
        raise Failed(f"no rebuild of {source!r} is open")
    if act == "watch":
        return run
    return {"pause": runs.pause, "resume": runs.resume}[act](connection, run.id, who=audit.of_command())


def _act(source: str, terms: Terms, act: Callable[..., Promoted], as_json: bool) -> None:
    settings = Settings.load()
    with database(settings) as connection:
        _tell_promoted(_switch(settings, connection, source, terms, act), as_json)


def _switch(
    settings: Settings, connection: Connection, source: str, terms: Terms, act: Callable[..., Promoted]
) -> Promoted:
    return act(settings, connection, wiring.index(settings), source, who=audit.of_command(), terms=terms)


def _tell_promoted(done: Promoted, as_json: bool) -> None:
    if as_json:
        report(
            {
                "source": done.source.name, "generation": done.source.generation, "former": done.former,
                "collection": done.source.collection, "late": done.lacking.late, "failed": done.lacking.failed,
            },
            as_json=True,
        )  # fmt: skip
        return
    sys.stdout.write(
        f"searches of {done.source.name} use generation {done.source.generation} now; {done.former} is kept as a way "
        f"back: reindexer rollback {done.source.name}\n"
    )
    if done.lacking.late:
        sys.stdout.write(f"{done.lacking.late} changes are not in it yet\n")
    for item_id, error in done.lacking.examples:
        sys.stdout.write(f"missing: {item_id}: {error}\n")


def _tell_run(run: Run, as_json: bool) -> None:
    if as_json:
        report(asdict(run), as_json=True)
    elif run.state == "finished":
        sys.stdout.write(
            f"the next generation of {run.source} is ready: {run.done} done, {run.failed} failed; compare it: "
            f"reindexer compare {run.source}, then: reindexer promote {run.source}\n"
        )
    else:
        sys.stdout.write(f"the rebuild of {run.source} is {run.state}\n")


def _line(each: Generation) -> tuple[str, ...]:
    notes = {
        "filling": "is being filled",
        "ready": "to be promoted",
        "active": "searches use it",
        "standby": f"a way back, until {each.standby_until:%Y-%m-%d %H:%M} UTC" if each.standby_until else "a way back",
        "broken": "gets no more edits; prune it",
    }
    note = "; ".join(filter(None, (notes.get(each.state, ""), each.problem)))
    return (str(each.number), each.state, each.embedder or "", str(each.pending), str(each.failed), note)
