"""What the listener does, told in the traces of marked transactions."""

from __future__ import annotations

import time

from reindexer.core.lanes import Lane
from reindexer.core.trace import Work, place_of
from reindexer.queue.drain import Drained
from reindexer.tracing.process import traces


def tell_drain(drained: Drained, began_ns: int, drained_ns: int) -> None:
    """Tell a drain, and the messages that were sent after it and until now, in the traces of what it took."""
    if (to := traces()) is None:
        return
    told_ns, due = time.time_ns(), drained.due
    drain = Work("drain", began_ns, drained_ns, {"reindexer.changes": drained.changes})
    items = {"reindexer.live": due[Lane.LIVE], "reindexer.bulk": due[Lane.BULK]}
    for place in map(place_of, drained.traceparents):
        if place is not None:
            to.tell(place, drain)
            to.tell(place, Work("dispatch", drained_ns, told_ns, items))
