"""Survey: compares the sources file and the settings with the database and the index. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from reindexer import rebuilding, registry, wiring
from reindexer.core.change_plan import Plan, SourcePlan, state_hash
from reindexer.core.errors import (
    PermanentError,
    ReindexerError,
    SourceError,
    TransientError,
    UsageError,
)
from reindexer.core.profile import EXACT, hands_on
from reindexer.core.redefinition import changes, may_move, rebuild_reasons
from reindexer.core.source import Source
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.core.token_range import Measured
from reindexer.embedder_choice import advice
from reindexer.generations.lifecycle import UNDER_WAY
from reindexer.index.ownership import identity
from reindexer.index.search import collection_of
from reindexer.monitoring import metrics_store
from reindexer.monitoring.buffer import labels_text
from reindexer.monitoring.metrics import SOURCE_CHARACTERS, SOURCE_ESTIMATED, SOURCE_INPUTS, SOURCE_TOKENS
from reindexer.planning.cost import Change, Maker, cost_of, standby_of
from reindexer.planning.drift import find_drift
from reindexer.ports import Collection, Embedder, Index
from reindexer.postgres import catalog
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.namesake import trap
from reindexer.postgres.queries import load
from reindexer.postgres.schema import REVISION, require_revision, revision
from reindexer.settings import Settings
from reindexer.sources.built_in import built_in, is_built_in, require_place, table_exists
from reindexer.sources.redefinition import moved_by
from reindexer.sources.store import all_sources, attached_before, find_source
from reindexer.sources.trigger_check import inspect
from reindexer.sources_file.fit import definitions
from reindexer.sources_file.read import SourcesFile

OPENAI_HOST = "api.openai.com"


@dataclass(frozen=True, slots=True)
class Options:
    """What a plan is asked for."""

    detach_missing: bool = False
    """Detach sources that the file does not name."""
    with_context_items: bool = False
    """Make and attach the built-in table."""


@dataclass(slots=True)
class _Survey:
    settings: Settings
    connection: Connection
    index: Index | None
    """None: it can't be asked."""
    instance: str | None
    counted: Mapping[tuple[str, str], float]


def survey(
    settings: Settings,
    connection: Connection,
    file: SourcesFile | None,
    options: Options = Options(),
) -> Plan:
    """Return what would make the database and the index what file and settings say.

    Raises UsageError as `migrate` does, and if the schema is of an older or a newer version.
    """
    found = revision(connection)
    if found is None and (danger := trap(connection)) and danger.is_us:
        raise UsageError(str(danger))
    if found is not None and found < REVISION:
        raise UsageError(f"the schema is at revision {found}, and plans need {REVISION}; run `reindexer migrate` first")
    if found is not None:
        require_revision(connection)
    if options.detach_missing and file is None:
        raise UsageError("--detach-missing: there is no sources file here that could name the sources that stay")
    wanted = definitions(connection, file)
    if options.with_context_items:
        require_place(connection)
    attached_before(connection)  # raises where a newer version defined a source
    before = {each.name: each for each in all_sources(connection)} if found else {}
    notes: list[str] = []
    index = _index(settings, notes)
    counted = metrics_store.read(connection) if found else {}
    its = _Survey(settings, connection, index, identity(connection, settings.instance), counted)
    into = {each.name: each for each in wanted.sources} | {name: each.wanted for name, each in wanted.rebuilds.items()}
    others = [each for each in before.values() if each.name not in into and each.name not in wanted.unfit]
    first = built_in(connection, [*into.values(), *before.values()], wanted=options.with_context_items, again=True)
    plans = [SourcePlan(name, "nothing", problem=why) for name, why in wanted.unfit.items()]
    for source in sorted([*([first] if first else []), *into.values(), *others], key=lambda e: not is_built_in(e)):
        asked = bool(file and source.name in file.sources and file.sources[source.name].change == "rebuild")
        missing = file is not None and source in others and not is_built_in(source)
        plans.append(_surveyed(its, before.get(source.name), source, asked, missing, options, file))
        if told := advice(settings, source):
            notes.append(told)
    return Plan(its.instance, found, REVISION, tuple(plans), tuple(notes))


def rebuild_of(settings: Settings, connection: Connection, name: str) -> SourcePlan:
    """Return what a rebuild of one source does and costs, even if nothing asks for one.

    Raises UsageError if there is no such source, and SourceError if its table can't be read.
    """
    its = _Survey(
        settings, connection, _index(settings, []), identity(connection, settings.instance),
        metrics_store.read(connection),
    )  # fmt: skip
    before, after = find_source(connection, name), rebuilding.wanted(settings, connection, name)
    embedder, why_not = _wished(settings, after)
    plan = SourcePlan(name, "rebuild", embedder=embedder.fingerprint if embedder else before.made_by)
    return _costed(its, plan, embedder, why_not, before, after)


def state_of(connection: Connection, name: str) -> str:
    """Return a hash of what the database says of a source: its definition, embedder and generations."""
    source = next((each for each in all_sources(connection) if each.name == name), None)
    if source is None:
        return state_hash({"source": name, "attached": False})
    under_way = [[each.generation, _said(each), each.made_by] for each in generations_under_way(connection, name)]
    return state_hash(
        {
            "source": name,
            "alias": source.alias,
            "definition": _said(source),
            "embedder": source.made_by,
            "active": source.generation,
            "under_way": under_way,
        }
    )


def _said(source: Source) -> Mapping[str, Any]:
    """The definition, without what the catalog calls the objects of its condition: that may change by a rename."""
    document = source.as_document()
    return {key: value for key, value in document.items() if key not in ("resolved_condition", "condition_objects")}


def generations_under_way(connection: Connection, name: str) -> list[Source]:
    """Return the generations that are filled or ready, as they define the source."""
    states = connection.execute(load("generations.sql")["states"], {"source": name}).fetchall()
    return [find_source(connection, name, number) for number, state in states if state in UNDER_WAY]


def _index(settings: Settings, notes: list[str]) -> Index | None:
    try:
        index = wiring.index(settings)
        index.ping()
    except (UsageError, TransientError, PermanentError) as exc:
        notes.append(f"collections and aliases were not looked at: {one_line(exc)}")
        return None
    return index


def _surveyed(
    its: _Survey, before: Source | None, after: Source, asked: bool, missing: bool, options: Options,
    file: SourcesFile | None,
) -> SourcePlan:  # fmt: skip
    rests_on = state_hash({"source": after.name, "attached": False})
    if before is not None:
        rests_on = state_of(its.connection, before.name)
    plan = SourcePlan(after.name, "nothing", alias=after.alias, rests_on=rests_on)
    if missing and options.detach_missing:
        return replace(plan, action="detach", why=("the sources file does not name it",), locks=_tables(its, after))
    try:
        found = _compared(its, plan, before, after, asked)
    except (ReindexerError, OSError) as exc:
        found = replace(plan, problem=one_line(exc))
    if missing and file is not None:
        told = f"it is not in {file.document.name}: add it, or `reindexer detach {after.name}`"
        found = replace(found, why=(*found.why, told))
    return found


def _compared(its: _Survey, plan: SourcePlan, before: Source | None, after: Source, asked: bool) -> SourcePlan:
    embedder, why_not = _wished(its.settings, after)
    makes = embedder.fingerprint if embedder else None
    made_by = before.made_by if before else None
    plan = replace(plan, embedder=makes or made_by)
    if foreign := _foreign_owner(its, before, after, makes):
        return replace(plan, action="adopt" if before else "nothing", problem=foreign)
    differing = changes(before, after) if before else {}
    plan = replace(plan, changes={key: (change.before, change.after) for key, change in differing.items()})
    if before is None:
        plan = _defined(replace(plan, action="add"), after)
        if is_built_in(after) and not table_exists(its.connection):
            return plan  # it is made, and has no row
        return _costed(its, plan, embedder, why_not, None, after)
    checked = inspect(its.connection, before)
    if checked.problem:
        return replace(plan, problem=checked.problem)
    drift = tuple(find_drift(its.connection, its.index, before, checked))
    plan = replace(plan, drift=drift)
    why = rebuild_reasons(before, after, made_by, makes, asked=asked)
    under_way = generations_under_way(its.connection, before.name)
    if not why and differing:
        plan = _defined(replace(plan, action="change"), after)
        if may_move(differing):
            plan = replace(plan, moved=str(moved_by(its.connection, before, after)))
    elif why:
        plan = _rebuilt(its, plan, before, after, why, makes, under_way)
    elif under_way:
        plan = replace(plan, why=(_told_under_way(before.name, under_way[0], its.connection),))
    return _costed(its, plan, embedder, why_not, before, after)


def _rebuilt(
    its: _Survey, plan: SourcePlan, before: Source, after: Source, why: list[str], makes: str | None,
    under_way: list[Source],
) -> SourcePlan:  # fmt: skip
    if before.key_columns != after.key_columns:
        told = f"a rebuild keeps the key, and this change needs one ({why[0]}); detach the source and attach it anew"
        return replace(plan, problem=told)
    if not under_way:
        return _defined(replace(plan, action="rebuild", why=tuple(why)), after)
    each = under_way[0]
    if not changes(each, after) and makes in (None, each.made_by):
        return replace(plan, changes={}, why=(_told_under_way(before.name, each, its.connection),))
    return replace(
        plan,
        problem=f"it needs a rebuild ({'; '.join(why)}), and generation {each.generation} is being filled by another "
        f"definition: promote it first, or drop it: reindexer rebuild {before.name} --cancel",
    )


def _told_under_way(name: str, each: Source, connection: Connection) -> str:
    states: dict[int, str] = dict(connection.execute(load("generations.sql")["states"], {"source": name}).fetchall())
    if states.get(each.generation) == "ready":
        return f"generation {each.generation} is ready: reindexer promote {name}"
    return f"generation {each.generation} is being filled"


def _defined(plan: SourcePlan, after: Source) -> SourcePlan:
    return replace(plan, definition=after.as_document())


def _costed(
    its: _Survey, plan: SourcePlan, embedder: Embedder | None, why_not: str | None, before: Source | None,
    after: Source,
) -> SourcePlan:  # fmt: skip
    lost = any(each.kind == "collection" for each in plan.drift)
    if plan.problem or (plan.action == "nothing" and not lost):
        return replace(plan, locks=_drift_locks(its, plan, before))
    maker = _maker(its, replace(after, made_by=None if embedder or not before else before.made_by), embedder)
    rebuilds, spec, stores_alike = plan.action == "rebuild", None, False
    if before is not None and before.made_by is not None and before.made_by == maker.spec.embedder:
        cut = registry.chunker(before.chunker)
        spec = EmbeddingSpec.of(before, before.made_by, _most_tokens(its, embedder), cut)
        stores_alike = _stores_alike(its, before, after)
    change = Change(
        after, maker, before, spec, anew=rebuilds, lost=lost, takes=stores_alike,
        elsewhere=_is_elsewhere(its, before, maker.spec.embedder),
    )  # fmt: skip
    cost = cost_of(its.connection, change)
    if rebuilds and before is not None:
        if lost:  # the present generation is filled again as well
            again = Change(before, _maker(its, before, None), before, lost=True)
            cost = cost.and_also(cost_of(its.connection, again))
        hours = its.settings.standby_for_s / 3600
        takes = stores_alike and before.profile.asking("document") == after.profile.asking("document")
        cost = replace(cost, standby=standby_of(its.connection, before, _maker(its, before, None), hours, takes))
    why = plan.why if why_not is None else (*plan.why, why_not)
    return replace(plan, cost=cost, why=why, locks=_locks(its, plan, before, after))


def _locks(its: _Survey, plan: SourcePlan, before: Source | None, after: Source) -> tuple[str, ...]:
    if plan.action == "rebuild" and before and set(after.declared_columns) <= set(before.declared_columns):
        return _drift_locks(its, plan, before)  # the functions record all that the new generation reads
    return _tables(its, after) if plan.action in ("add", "change", "rebuild") else _drift_locks(its, plan, before)


def _drift_locks(its: _Survey, plan: SourcePlan, before: Source | None) -> tuple[str, ...]:
    return _tables(its, before) if before and any(each.kind == "triggers" for each in plan.drift) else ()


def _tables(its: _Survey, source: Source) -> tuple[str, ...]:
    with suppress(SourceError):
        return tuple(str(each) for each in catalog.relations(its.connection, source))
    return ()


def _foreign_owner(its: _Survey, before: Source | None, after: Source, makes: str | None) -> str | None:
    """Why the collection can't be used: it is another database's, or an earlier life of the source left it."""
    if its.index is None:
        return None
    collection = Collection(after.name, after.collection, after.alias, after.profile)
    if before is not None:
        collection = collection_of(its.connection, before)
    owner = its.index.owner(collection)
    if owner.instance and its.instance and owner.instance != its.instance:
        return (
            f"the collection {collection.name} belongs to another database ({owner.instance}); if this one has taken "
            f"that one's place: reindexer adopt {after.name}"
        )
    if before is None and makes and owner.embedder and owner.embedder != makes:
        return (
            f"the collection {collection.name} is there, with vectors of {owner.embedder}; delete it, or name an alias"
        )
    return None


def _wished(settings: Settings, source: Source) -> tuple[Embedder | None, str | None]:
    """What would make the source's vectors if none were there; None where it is not known here, and why."""
    try:
        return wiring.embedder_of(settings)(replace(source, made_by=None)), None
    except (SourceError, UsageError) as exc:
        return None, f"the embedder is not known here, and its cost neither: {one_line(exc)}"


def _most_tokens(its: _Survey, embedder: Embedder | None) -> int:
    return embedder.limits.max_input_tokens if embedder else its.settings.request_limits.max_input_tokens


def _stores_alike(its: _Survey, before: Source, after: Source) -> bool:
    """Whether the new generation takes the vectors of the present one."""
    theirs, ours = (str(each.profile.collection.get("datatype", EXACT)) for each in (before, after))
    if its.index is not None:
        theirs = its.index.datatype(collection_of(its.connection, before)) or theirs
    return hands_on(before.profile.distance, theirs, after.profile.distance, ours)


def _is_elsewhere(its: _Survey, before: Source | None, embedder: str) -> bool:
    """Whether a kept generation beside the active one may hold vectors that are needed."""
    if before is None:
        return False
    states = its.connection.execute(load("generations.sql")["states"], {"source": before.name}).fetchall()
    others = [number for number, state in states if state in (*UNDER_WAY, "standby") and number != before.generation]
    return any(find_source(its.connection, before.name, number).made_by == embedder for number in others)


def _maker(its: _Survey, source: Source, embedder: Embedder | None) -> Maker:
    """What makes a source's vectors: what is on record, if the source says that."""
    fingerprint = embedder.fingerprint if embedder else source.made_by or ""
    spec = EmbeddingSpec.of(source, fingerprint, _most_tokens(its, embedder), registry.chunker(source.chunker))
    dimensions = embedder.dimensions if embedder else int(fingerprint.rpartition(":")[2] or 0)
    measured = _measured(its, source.name, fingerprint)
    if embedder is None and fingerprint == "":
        return Maker(spec, None)
    count, price, limit, at_openai = None, None, None, False
    with suppress(SourceError, UsageError):
        price = wiring.token_price(its.settings, source)
        counter = wiring.token_counter_of(its.settings, source)
        count = counter.count if counter.is_exact else None
        state = wiring.rate_limits(its.settings, [source]).get(source.name)
        limit = state.tokens_limit if state else None
        server = source.profile.base_url or its.settings.openai_base_url
        at_openai = re.match(r"openai[-:]", fingerprint) is not None and (
            not server or urlsplit(server).hostname == OPENAI_HOST
        )
    return Maker(spec, dimensions, count, price, at_openai, measured, limit)


def _measured(its: _Survey, source: str, embedder: str) -> Measured:
    labels = labels_text(source=source, embedder=embedder)
    counted = [SOURCE_INPUTS, SOURCE_TOKENS, SOURCE_ESTIMATED, SOURCE_CHARACTERS]
    texts, tokens, estimated, characters = (its.counted.get((name, labels), 0.0) for name in counted)
    return Measured(texts, tokens, estimated, characters)
