"""Who takes the traces of marked transactions, from behind a proxy that breaks as all others do: what it gets at all must
be true. A trace names only rows that its transaction wrote, spans hang where they belong, and no text is in any."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.collector import Span
from tests.torture.afterwards import TOLD, Tell
from tests.torture.environment import Stage
from tests.torture.journal import Entry, line

OF_TEXTS = b"marked m"
"""All texts of marked transactions begin so."""
BEFORE_INDEX = ("drain", "dispatch", "index")
HEALED_WITHIN_S = 60.0
ENOUGH = 10
"""So many marked transactions do not all fall into the time of a fault, nor are all rolled back."""


def parent_of(trace_id: str) -> str:
    """The span of a client's in which it writes: known from the trace alone."""
    return hashlib.sha256(trace_id.encode()).hexdigest()[:16]


def traceparent(trace_id: str) -> str:
    """What a client hands to `reindexer.mark()`."""
    return f"00-{trace_id}-{parent_of(trace_id)}-01"


def last_edit(stage: Stage) -> list[str]:
    """Whether an edit is told now that all is calm. Returns what is wrong."""
    trace_id, item_id, text = uuid.uuid4().hex, str(uuid.uuid4()), "the last edit"
    with stage.connect() as connection, connection.transaction():
        connection.execute("SELECT reindexer.mark(%s)", [traceparent(trace_id)])
        connection.execute("INSERT INTO context_items (id, content) VALUES (%s, %s)", [item_id, text])
    entry = Entry(rows=1, texts=[(item_id, text)])
    (stage.directory / "writer-of-the-last-edit.journal").write_text(line(entry), encoding="utf-8")
    try:
        stage.collector.awaited(trace_id, *BEFORE_INDEX, "claim", "embed", "settle", within=HEALED_WITHIN_S)
    except AssertionError as exc:
        return [f"the last edit is not told, but for {[each.name for each in stage.collector.spans(trace_id)]}: {exc}"]
    return []


def complaints(stage: Stage, written: Path, tell: Tell) -> list[str]:
    """What no trace may say. `written`: the waiter's account of the items that each trace is about."""
    items: Mapping[str, Sequence[str]] = json.loads(written.read_text(encoding="utf-8"))
    spans = stage.collector.spans()
    tell(f"traces: {len({each.trace_id for each in spans} & items.keys())} of {len(items)}, {len(spans)} spans")
    wrong = [*untrue(spans, items)]
    if any(OF_TEXTS in body for body in stage.collector.bodies):
        wrong.append("the text of a row is in a span")
    if len(items) >= ENOUGH and not any(each.name == "index" and each.trace_id in items for each in spans):
        wrong.append(f"none of {len(items)} marked transactions is told in its trace")
    return wrong[:TOLD]


def untrue(spans: Sequence[Span], items: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Whatever spans say that is not so. `items`: those that each trace's transaction wrote."""
    known = {each.span_id: each for each in spans}
    for span in spans:
        if span.trace_id not in items:
            continue
        told = f"{span.name} in trace {span.trace_id}"
        above = known.get(span.parent_id)
        if span.name in BEFORE_INDEX:
            if span.parent_id != parent_of(span.trace_id):
                yield f"{told} has the parent {span.parent_id}"
        elif above is not None and (above.name, above.trace_id) != ("index", span.trace_id):
            yield f"{told} has the parent {above.name} of trace {above.trace_id}"
        foreign = set(span.attributes.get("reindexer.item_ids", ())) - set(items[span.trace_id])
        if foreign:
            yield f"{told} names {sorted(foreign)[:TOLD]}, which its transaction did not write"
        for trace_id, _ in span.links:
            if trace_id not in items:
                yield f"{told} leads to {trace_id}, which is nobody's"
