"""The events that wait for receivers: take some, acknowledge them, postpone them, and keep what waits bounded.

There is one row for each receiver and item: its last event. An edit while it is being sent raises its number, so that
acknowledging what was sent leaves it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reindexer.core.event import Bounds, Event, Target
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

CHANNEL = "reindexer_events"
"""What a receiver by NOTIFY listens to. The payload is its name."""
PAGE = 20_000
SILENT = "nothing is sent: "
"""How the problem of a receiver begins to which this database may not send."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Events to send, in their order, and where to."""

    target: Target
    events: Sequence[Event]


def tell_promoted(connection: Connection, source: str, generation: int, former: int) -> None:
    """Searches use another generation from this transaction on: tell of the items whose outcome is another in it."""
    named = {"source": source, "generation": generation, "former": former}
    connection.execute(load("events.sql")["promoted"], named)


def receivers(connection: Connection) -> frozenset[str]:
    """Return who is told of events."""
    return frozenset(row[0] for row in connection.execute(load("events.sql")["receivers"]).fetchall())


def ready(connection: Connection, busy: Sequence[str]) -> list[str]:
    """Return the receivers of webhooks that can be sent something now, but for those that are `busy`."""
    return [row[0] for row in connection.execute(load("events.sql")["ready"], {"busy": list(busy)}).fetchall()]


def take(
    connection: Connection, receiver: str, *, sender: str, identity: str, lease_s: float, most: int
) -> Taken | None:
    """Take the receiver for `lease_s`, and return its next events, of which none is of the same item as another. While
    a resync waits, it is the only one.

    None: nothing is ready, another sender has it, or this database is a copy. Each event's commit is on disk.
    """
    named = {"receiver": receiver, "sender": sender, "identity": identity, "lease_s": lease_s, "most": most}
    rows = connection.execute(load("events.sql")["take"], named).fetchall()
    if not rows:
        return None
    return Taken(Target(rows[0][0], tuple(rows[0][1])), [Event(*row[2:]) for row in rows])


def acknowledge(connection: Connection, receiver: str, numbers: Sequence[int]) -> None:
    """The receiver has taken these. What changed since stays."""
    connection.execute(load("events.sql")["acknowledge"], {"receiver": receiver, "numbers": list(numbers)})


def postpone(connection: Connection, receiver: str, waits_s: Mapping[int, float]) -> None:
    """Send these again after so many seconds."""
    named = {"receiver": receiver, "numbers": list(waits_s), "waits_s": list(waits_s.values())}
    connection.execute(load("events.sql")["postpone"], named)


def answered(connection: Connection, receiver: str) -> None:
    """The receiver takes events. If it did not before, what waited for it is sent at once."""
    connection.execute(load("events.sql")["answered"], {"receiver": receiver})


def failed(connection: Connection, receiver: str, problem: str, wait_s: float) -> None:
    """The receiver takes nothing: it is left alone for a while."""
    connection.execute(load("events.sql")["failed"], {"receiver": receiver, "problem": problem, "wait_s": wait_s})


def gone(connection: Connection, receiver: str, problem: str) -> None:
    """The receiver wants no events any more."""
    connection.execute(load("events.sql")["gone"], {"receiver": receiver, "problem": problem})
    connection.execute(load("event_receivers.sql")["remove_events"], {"name": receiver})


def release(connection: Connection, sender: str) -> None:
    """The sender ends: the next one need not wait."""
    connection.execute(load("events.sql")["release"], {"sender": sender})


def tell_silent(connection: Connection, why: str | None) -> None:
    """Note with the receivers why this database sends nothing. None: it sends."""
    if why is None:
        connection.execute(load("events.sql")["not_silent"], {"beginning": SILENT})
    else:
        connection.execute(load("events.sql")["silent"], {"problem": SILENT + why})


def latest(connection: Connection) -> dict[str, int]:
    """Return the receivers by NOTIFY for which something waits, with the number of the last event."""
    return dict(connection.execute(load("events.sql")["latest"]).fetchall())


def look(connection: Connection, receiver: str) -> None:
    """Tell a receiver by NOTIFY to look."""
    connection.execute(load("events.sql")["look"], {"channel": CHANNEL, "receiver": receiver})


def keep_bounded(connection: Connection, bounds: Bounds) -> dict[str, str]:
    """Put `resync` in the place of what waits beyond the bounds. Returns those receivers, each with the reason."""
    queries, told = load("events.sql"), dict[str, str]()
    beyond = {"most": bounds.most, "keep_s": bounds.keep_s}
    for receiver, sources, reason in connection.execute(queries["over"], beyond).fetchall():
        named = {"receiver": receiver, "sources": sources, "reason": reason}
        row = connection.execute(queries["resync"], named).fetchone()  # guard event-resync
        before = {"receiver": receiver, "number": row[0] if row else 0, "page": PAGE}
        while connection.execute(queries["drop_before"], before).rowcount == PAGE:
            pass
        told[receiver] = reason
    return told


def drop_unheard(connection: Connection) -> None:
    """Drop what waits for receivers that are no more: whoever settled may have looked for them before."""
    while connection.execute(load("events.sql")["drop_unheard"], {"page": PAGE}).rowcount == PAGE:
        pass
