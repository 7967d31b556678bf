"""A metrics buffer adds up, loses nothing, and knows only what the table of metrics knows."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import CLAIMS, FRESHNESS, METRICS, PROVIDER_TOKENS, SETTLED
from tests.support.in_fork import in_fork


def test_counts_of_one_series_are_added_up_and_taken_once() -> None:
    metrics = MetricsBuffer()
    for _ in range(3):
        metrics.add(SETTLED, 2, outcome="embedded", lane="live")
    metrics.add(SETTLED, lane="bulk", outcome="embedded")
    assert metrics.take() == {
        (SETTLED, '{"lane": "live", "outcome": "embedded"}'): 6,
        (SETTLED, '{"lane": "bulk", "outcome": "embedded"}'): 1,
    }
    assert metrics.take() == {}


def test_values_fall_into_the_bucket_whose_bound_they_do_not_exceed() -> None:
    metrics = MetricsBuffer()
    metrics.observe(FRESHNESS, [0.001, 0.005, 0.006, 899, 901], lane="live")
    assert metrics.take() == {
        (f"{FRESHNESS}_bucket", '{"lane": "live", "le": "0.005"}'): 2,
        (f"{FRESHNESS}_bucket", '{"lane": "live", "le": "0.01"}'): 1,
        (f"{FRESHNESS}_bucket", '{"lane": "live", "le": "900.0"}'): 1,
        (f"{FRESHNESS}_bucket", '{"lane": "live", "le": "+Inf"}'): 1,
        (f"{FRESHNESS}_sum", '{"lane": "live"}'): pytest.approx(1800.012),
    }


def test_what_is_given_back_is_added_to_what_came_meanwhile() -> None:
    metrics = MetricsBuffer()
    metrics.add(CLAIMS, lane="live")
    taken = metrics.take()
    metrics.add(CLAIMS, lane="live")
    metrics.give_back(taken)
    assert list(metrics.take().values()) == [2]


def test_a_metric_a_label_or_a_value_that_is_in_no_table_is_an_error() -> None:
    metrics = MetricsBuffer()
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("reindexer_unknown_total", {}),
        (CLAIMS, {}),
        (CLAIMS, {"lane": "slow"}),
        (CLAIMS, {"lane": "live", "item": "1"}),
        (FRESHNESS, {"lane": "live"}),
    ]
    for name, labels in wrong:
        with pytest.raises(KeyError):
            metrics.add(name, **labels)
    with pytest.raises(KeyError):
        metrics.observe(CLAIMS, [1], lane="live")
    assert metrics.take() == {}


def test_threads_lose_no_count() -> None:
    metrics = MetricsBuffer()

    def count() -> None:
        for _ in range(2_000):
            metrics.add(CLAIMS, lane="live")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(metrics.take().values()) == [16_000]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_count_its_parents_counts_again() -> None:
    metrics = MetricsBuffer()
    metrics.add(CLAIMS, 5, lane="live")

    def count() -> list[float]:
        metrics.add(CLAIMS, 2, lane="live")
        return list(metrics.take().values())

    assert in_fork(count) == "[2.0]"
    assert list(metrics.take().values()) == [5]


def test_every_metric_follows_the_rules_of_prometheus_names() -> None:
    for name, metric in METRICS.items():
        assert name.startswith("reindexer_")
        assert (metric.kind == "counter") == name.endswith("_total")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert list(metric.buckets) == sorted(metric.buckets)
        assert not {"le", "quantile", "job", "instance"} & metric.labels.keys()
        assert metric.help.endswith(".")
    assert METRICS[FRESHNESS].buckets[0] == 0.005
    assert METRICS[FRESHNESS].buckets[-1] == 900
    assert PROVIDER_TOKENS in METRICS
