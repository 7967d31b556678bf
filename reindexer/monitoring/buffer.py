"""The metrics buffer: what one process has counted and not written yet. In memory, bounded by the number of series."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from json import dumps

from reindexer.core.per_process import PerProcess
from reindexer.monitoring.metrics import METRICS, Metric

Series = tuple[str, str]
"""A metric's name (a histogram's with `_bucket` or `_sum`), and its labels as a JSON object with sorted keys."""


class _Sums:
    """What one process has added."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_series: dict[Series, float] = {}


class MetricsBuffer:
    """Adds up counts. Thread-safe. A forked child begins with an empty buffer."""

    def __init__(self) -> None:
        self._sums = PerProcess(_Sums)

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter. Raises KeyError for a metric or label that is not in the table of metrics."""
        _check(name, "counter", labels)
        if amount:
            self._add_all({(name, labels_text(**labels)): amount})

    def observe(self, name: str, values: Iterable[float], **labels: str) -> None:
        """Count values into the buckets of a histogram. Buckets are stored separately, not yet cumulatively."""
        metric = _check(name, "histogram", labels)
        values = list(values)
        if not values:
            return
        sums: dict[Series, float] = {(f"{name}_sum", labels_text(**labels)): sum(values)}
        for place, count in Counter(bisect_left(metric.buckets, value) for value in values).items():
            sums[f"{name}_bucket", labels_text(**labels, le=metric.bounds[place])] = float(count)
        self._add_all(sums)

    def __bool__(self) -> bool:
        """Whether there are sums to take."""
        return bool(self._sums.get().by_series)

    def take(self) -> Mapping[Series, float]:
        """Return all sums added since the last call, and clear them. They belong to the caller now."""
        own = self._sums.get()
        with own.lock:
            taken, own.by_series = own.by_series, {}
        return taken

    def give_back(self, sums: Mapping[Series, float]) -> None:
        """Add back sums that were taken and could not be stored."""
        if sums:
            self._add_all(sums)

    def _add_all(self, sums: Mapping[Series, float]) -> None:
        own = self._sums.get()
        with own.lock:
            is_first = not own.by_series
            for series, amount in sums.items():
                own.by_series[series] = own.by_series.get(series, 0.0) + amount
        if is_first:
            self._filled()

    def _filled(self) -> None:
        """Called when the first sum is added to an empty buffer."""


@cache
def labels_text(**labels: str) -> str:
    """Return labels in their stored form: a JSON object with sorted keys."""
    return dumps(labels, sort_keys=True)


def _check(name: str, kind: str, labels: Mapping[str, str]) -> Metric:
    metric = METRICS[name]
    if metric.kind != kind or metric.labels.keys() != labels.keys():
        raise KeyError(f"{name} is a {metric.kind} with the labels {sorted(metric.labels)}")
    for label, value in labels.items():
        if metric.labels[label] and value not in metric.labels[label]:
            raise KeyError(f"{name} has no {label} {value!r}")
    return metric
