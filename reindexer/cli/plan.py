"""`plan` and `apply`: what a change would do and cost, and then exactly that."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from reindexer import audit
from reindexer.cli.output import JSON, Failed, on_one_line
from reindexer.core.change_plan import Cost, Plan, SourcePlan, read_plan
from reindexer.core.errors import UsageError
from reindexer.core.redefinition import Change
from reindexer.core.token_range import Range
from reindexer.core.wording import counted
from reindexer.planning.apply import apply, require_price, require_same_database
from reindexer.planning.survey import Options, survey
from reindexer.postgres.connect import connect
from reindexer.settings import Settings
from reindexer.sources.built_in import is_built_in
from reindexer.sources_file.read import read_sources

SHOWN = 3
"""Of a list of names."""
MAX_BYTES = 64 << 20
"""A larger file is no plan."""

COUNTED_BY = {
    "tokenizer": "counted with the model's tokenizer",
    "measured": "as measured of what was embedded so far, ± 5 %",
    "openai": "estimated, because the model's tokenizer is not here",
    "estimate": "estimated, because nothing is known of the server's tokenizer",
}


def plan_commands(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("plan")
    def _plan(
        detach_missing: bool = typer.Option(
            False, "--detach-missing", help="Detach sources that the sources file does not name."
        ),
        out: Path | None = typer.Option(None, "--out", help="Write the plan into this file, for `reindexer apply`."),
        as_json: bool = JSON,
    ) -> None:
        """What would make all as the sources file and the settings say, and what that costs. Changes nothing."""
        plan = made(Settings.load(), Options(detach_missing=detach_missing))
        document = plan.as_document()
        if out is not None:
            try:
                out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            except OSError as exc:
                raise Failed(f"{out} can't be written: {exc.strerror}") from None
        tell(plan, document, as_json=as_json)
        if out is not None and not as_json and not plan.is_empty:
            sys.stdout.write(f"to do exactly this: reindexer apply {out}\n")

    @app.command("apply")
    def _apply(
        file: Path = typer.Argument(help="What `reindexer plan --out FILE` has written."),
        max_usd: float | None = typer.Option(
            None, "--max-usd", min=0.0, help="Do nothing if the plan may cost more than this: its upper end counts."
        ),
        as_json: bool = JSON,
    ) -> None:
        """Do what a plan says, and nothing else. Refused if the database has changed since. Repeatable."""
        settings = Settings.load()
        plan = read_plan(str(file), _read(file))
        if max_usd is not None:
            require_price(plan, max_usd)
        _bring_schema(settings, plan)
        failed, done = [], dict[str, str]()
        with connect(settings.require_database_url(), application_name="reindexer command") as connection:
            require_same_database(connection, settings, plan)
            for step in apply(settings, connection, plan, who=audit.of_command()):
                failed += [step.source] if step.failed else []
                done[step.source] = step.told
                if not as_json:  # each as soon as it is done
                    sys.stdout.write(f"{step.source}  {on_one_line(step.told)}\n")
                    sys.stdout.flush()
        if as_json:
            sys.stdout.write(json.dumps({"done": done, "failed": failed}) + "\n")
        elif not done:
            sys.stdout.write("there was nothing to do\n")
        if failed:
            raise Failed(f"not everything could be done: {', '.join(failed)}; what is done is not done twice")


def made(settings: Settings, options: Options) -> Plan:
    """Make a plan."""
    file = read_sources(settings.sources, index=settings.index)
    with connect(settings.require_database_url(), application_name="reindexer command") as connection:
        return survey(settings, connection, file, options)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as exc:
        raise UsageError(f"{file} can't be read: {exc.strerror}; make it: reindexer plan --out {file}") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{file} is larger than {MAX_BYTES >> 20} MB; is it a plan?")
    return content.decode("utf-8", "replace")


def _bring_schema(settings: Settings, plan: Plan) -> None:
    """Make the schema, if the plan found none and there is none."""
    if plan.found_revision is not None:
        return
    from reindexer.migrate import upgrade  # Alembic takes a third of a second to import
    from reindexer.postgres.schema import revision

    url = settings.require_database_url()
    with connect(url, application_name="reindexer command") as connection:
        require_same_database(connection, settings, plan)
        if revision(connection) is not None:
            return
    upgrade(url)


def tell(plan: Plan, document: dict[str, Any], *, as_json: bool) -> None:
    """Print a plan."""
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
        return
    width = max((len(each.name) for each in plan.sources), default=0)
    if plan.found_revision is None:
        width = max(width, len("(schema)"))
        sys.stdout.write(f"{'(schema)':<{width}}  would be made, at revision {plan.needs_revision}\n")
    for each in plan.sources:
        sys.stdout.write(f"{each.name:<{width}}  {on_one_line(headline(each, plan))}\n")
        for title, told in details(each):
            sys.stdout.write(f"  {title:<9} {on_one_line(told)}\n")
    for note in plan.notes:
        sys.stdout.write(f"note: {on_one_line(note)}\n")
    if plan.is_empty:
        sys.stdout.write("nothing to do\n")
    elif sum(each.cost is not None for each in plan.sources) > 1:
        sys.stdout.write(f"together: {between(plan.tokens)} tokens, {money(plan.dollars)}\n")


def headline(each: SourcePlan, plan: Plan) -> str:
    """Return in one line what would be done to a source."""
    if each.problem:
        return each.problem
    is_ours = each.source is not None and is_built_in(each.source)
    words = {
        "add": "would be attached" if plan.found_revision or is_ours else "fits its table; would be attached",
        "change": f"would be changed: {', '.join(each.changes)}",
        "rebuild": f"would be rebuilt: {'; '.join(each.why)}",
        "detach": f"would be detached: {'; '.join(each.why)}; its collection stays in Qdrant",
        "adopt": "would be adopted",
        "nothing": "; ".join(["would be mended" if each.drift else "up to date", *each.why]),
    }
    return words[each.action]


def details(each: SourcePlan) -> Iterator[tuple[str, str]]:
    """Yield what is known of the action, by a word."""
    if each.action in ("change", "rebuild"):
        for key, (before, after) in each.changes.items():
            yield "change", f"{key}  {Change(before, after)}"
    if each.moved:
        yield "moves", each.moved
    for drift in each.drift:
        yield "mend", drift.told
    if each.cost:
        yield from _cost(each.cost)
    if each.locks:
        more = f" and {len(each.locks) - SHOWN} more" if len(each.locks) > SHOWN else ""
        yield "locks", f"{', '.join(each.locks[:SHOWN])}{more}: writers wait for a moment, at most 0.8 s at a time"


def _cost(cost: Cost) -> Iterator[tuple[str, str]]:
    about = "about " if cost.is_estimate else ""
    unreadable = f", {cost.unreadable} can't be read" if cost.unreadable else ""
    points = f"{between(cost.points)} texts"
    yield "items", f"{about}{cost.rows} looked at, {between(cost.items)} embedded ({points}){unreadable}"
    yield "tokens", f"{between(cost.tokens)}, {COUNTED_BY[cost.counted_by]}"
    yield "price", money(cost.dollars)
    told = "not known before something was embedded" if cost.minutes is None else f"about {cost.minutes:g} min"
    yield "time", told
    due = f"due at most {counted(cost.due_rows, 'row')}, {size(cost.due_size)}"
    ledger = f"ledger {counted(cost.ledger_rows, 'row')}, {size(cost.ledger_size)}"
    yield "space", f"Qdrant {sizes(cost.disk)}; Postgres: {ledger}; {due}"
    if standby := cost.standby:
        yield (
            "standby",
            f"for {standby.hours:g} h after the promotion the former generation ({standby.embedder}) gets each edit, "
            f"too: {between(standby.tokens_per_1000_edits)} tokens for 1000 edits, "
            f"{money(standby.dollars_per_1000_edits)}; {sizes(standby.disk)} in Qdrant",
        )


def between(values: Range) -> str:
    """A range in words: one number where both ends are the same."""
    low, high = f"{values.low:.0f}", f"{values.high:.0f}"
    return low if low == high else f"{low} to {high}"


def money(values: Range | None) -> str:
    """A price in words."""
    if values is None:
        return "not known: set REINDEXER_PRICE_PER_MILLION_TOKENS"
    low, high = f"${values.low:.4f}", f"${values.high:.4f}"
    return low if low == high else f"{low} to {high}"


def size(number: float) -> str:
    """A number of bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def sizes(values: Range) -> str:
    """A range of bytes in words."""
    low, high = size(values.low), size(values.high)
    return low if low == high else f"{low} to {high}"
