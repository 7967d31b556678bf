"""Marks for SQLAlchemy: what a session commits can be waited for.

    with marked(session) as mark:
        session.add(Note(title="Tea"))
        session.commit()
    client.wait(mark.token)

The mark is taken in the session's own transaction, right before it commits. The token is handed out once it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from reindexer.core.transaction_mark import TAKE, WROTE, Mark
from reindexer.tracing import current

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["Mark", "marked"]

_WROTE, _TAKE = text(WROTE), text(TAKE.replace("%s", "CAST(:traceparent AS text)"))

_MARKS = "reindexer.marks"
"""The key in a session's `info` of the marks that its transactions belong to."""


@dataclass(slots=True, eq=False)
class _Wanted:
    """A mark that somebody waits for."""

    mark: Mark
    traceparent: str | None
    bind_arguments: Mapping[str, Any]
    taken: str | None = None
    """The token of the transaction that is about to commit."""
    last: SessionTransaction | None = None
    """The block is left, and this transaction was open at its end."""


@contextmanager
def marked(
    session: Session | AsyncSession | scoped_session[Any],
    *,
    traceparent: str | None = None,
    bind_arguments: Mapping[str, Any] | None = None,
) -> Iterator[Mark]:
    """Mark what the session commits in this block; without a commit, the transaction that is open at its end.

    Savepoints (`begin_nested`) belong to the transaction around them. Of several commits the mark is that of the last
    one that wrote. `traceparent`, of W3C's Trace Context, names the trace that the transaction belongs to; None: that
    of the span that is current here, if this process has loaded OpenTelemetry. `bind_arguments`, as of
    `Session.execute`, name the engine of a session that has several. A session on another database than PostgreSQL is
    not marked.

    Raises what `reindexer.mark()` raises, before the commit: a missing right, or a schema that is older than marks.
    """
    if isinstance(session, scoped_session):
        one: Session = session()
    else:
        one = session if isinstance(session, Session) else session.sync_session
    wanted = _Wanted(Mark(), traceparent or current.traceparent(), bind_arguments or {})
    marks = _marks_of(one)
    marks.append(wanted)
    try:
        yield wanted.mark
    except BaseException:
        marks.remove(wanted)
        raise
    if wanted.mark.token is None:
        wanted.last = one.get_transaction()
    if wanted.last is None:
        marks.remove(wanted)


def _marks_of(session: Session) -> list[_Wanted]:
    if _MARKS not in session.info:
        session.info[_MARKS] = list[_Wanted]()
        event.listen(session, "before_commit", _before_commit)
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_transaction_end", _after_end)
    found: list[_Wanted] = session.info[_MARKS]
    return found


def _before_commit(session: Session) -> None:
    if session.in_nested_transaction():  # guard mark-outer-commit
        return
    wanted = [each for each in _marks_of(session) if each.last in (None, session.get_transaction())]
    if not wanted:
        return
    session.flush()  # guard mark-after-flush
    for each in wanted:
        each.taken = _take(session, each)  # guard mark-not-before-commit


def _take(session: Session, wanted: _Wanted) -> str | None:
    arguments = dict(wanted.bind_arguments)
    if session.get_bind(**arguments).dialect.name != "postgresql":
        return None
    if not session.execute(_WROTE, bind_arguments=arguments).scalar_one():
        return None
    parameters = {"traceparent": wanted.traceparent}
    return str(session.execute(_TAKE, parameters, bind_arguments=arguments).scalar_one())  # guard mark-own-transaction


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():  # guard mark-outer-commit
        return
    for each in _marks_of(session):
        if each.taken is not None and not _goes_on(session, each):  # guard mark-joined-transaction
            each.mark.hand_out(each.taken)


def _goes_on(session: Session, wanted: _Wanted) -> bool:
    """Whether the session only joined a transaction of somebody else's connection, which is not yet committed."""
    bind = session.get_bind(**wanted.bind_arguments)
    return isinstance(bind, Connection) and bind.in_transaction()


def _after_end(session: Session, transaction: SessionTransaction) -> None:
    """Committed, rolled back or closed."""
    if transaction.parent is not None:
        return
    marks = _marks_of(session)
    for each in list(marks):
        each.taken = None
        if each.last is not None:
            marks.remove(each)
