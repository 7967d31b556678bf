"""A tally: what one process has counted and not written yet. In memory, bounded by the number of series."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from json import dumps

from reindexer.monitoring.metrics import METRICS, Metric

Series = tuple[str, str]
"""A metric's name (a histogram's with `_bucket` or `_sum`), and its labels as a JSON object with sorted keys."""


class Tally:
    """Adds up. Safe for threads; a forked child begins with an empty one."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._sums: dict[Series, float] = {}

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter. KeyError for a metric or label that is not in the table of metrics."""
        _check(name, "counter", labels)
        if amount:
            self._add_all({(name, labels_text(**labels)): amount})

    def observe(self, name: str, values: Iterable[float], **labels: str) -> None:
        """Count values into the buckets of a histogram. Buckets are kept apart, not yet added up to their bounds."""
        metric = _check(name, "histogram", labels)
        values = list(values)
        if not values:
            return
        sums: dict[Series, float] = {(f"{name}_sum", labels_text(**labels)): sum(values)}
        for place, count in Counter(bisect_left(metric.buckets, value) for value in values).items():
            sums[f"{name}_bucket", labels_text(**labels, le=metric.bounds[place])] = float(count)
        self._add_all(sums)

    def __bool__(self) -> bool:
        """Whether there is anything to take."""
        return self._pid == os.getpid() and bool(self._sums)

    def take(self) -> Mapping[Series, float]:
        """All that was added since the last time, which is now the caller's."""
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            taken, self._sums = self._sums, {}
        return taken

    def give_back(self, sums: Mapping[Series, float]) -> None:
        """What was taken and could not be kept elsewhere."""
        if sums:
            self._add_all(sums)

    def _add_all(self, sums: Mapping[Series, float]) -> None:
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            is_first = not self._sums
            for series, amount in sums.items():
                self._sums[series] = self._sums.get(series, 0.0) + amount
        if is_first:
            self._filled()

    def _filled(self) -> None:
        """Called when the first sum is added to an empty tally."""


@cache
def labels_text(**labels: str) -> str:
    """Labels as they are kept: a JSON object with sorted keys."""
    return dumps(labels, sort_keys=True)


def _check(name: str, kind: str, labels: Mapping[str, str]) -> Metric:
    metric = METRICS[name]
    if metric.kind != kind or metric.labels.keys() != labels.keys():
        raise KeyError(f"{name} is a {metric.kind} with the labels {sorted(metric.labels)}")
    for label, value in labels.items():
        if value not in metric.labels[label]:
            raise KeyError(f"{name} has no {label} {value!r}")
    return metric
