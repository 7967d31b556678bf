"""Every metric that `/metrics` exposes, in one table. Tests compare docs/metrics.md and the exposed metrics with it.

Units are in the names. No label holds a text or an item's id; `source` is the name that an administrator gave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reindexer.core.lanes import LANES

AT_RUN_TIME: tuple[str, ...] = ()
"""Label values that are not known beforehand, such as the sources."""

OUTCOMES = ("embedded", "payload", "skipped", "blank", "deleted", "failed")
CAUSES = ("error", "rate_limited", "provider", "fenced", "source", "late", "postgres", "too_long", "budget")
ANSWERS = ("ok", "rate_limited", "rejected", "refused", "error", "away")
PURPOSES = ("items", "queries")
PAID_FOR = ("edit", "backfill", "rebuild", "search", "probe")

QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
FRESHNESS_S = (*QUICK_S, 60.0, 120.0, 300.0, 900.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Every process adds to a counter or histogram; a gauge is read on request."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values of each label. All that are known are exposed from the start, so that no first increase is missed."""
    buckets: tuple[float, ...] = ()

    @property
    def bounds(self) -> tuple[str, ...]:
        """The bounds of the buckets, as values of the label `le`."""
        return (*map(str, self.buckets), "+Inf")


FRESHNESS = "reindexer_freshness_seconds"
SETTLED = "reindexer_items_settled_total"
RETRIES = "reindexer_retries_total"
CLAIMS = "reindexer_claims_total"
CLAIMS_EXPIRED = "reindexer_claims_expired_total"
LEASES_EXPIRED = "reindexer_leases_expired_total"
WRITES_REFUSED = "reindexer_writes_refused_total"
PROVIDER_REQUESTS = "reindexer_provider_requests_total"
PROVIDER_SECONDS = "reindexer_provider_request_seconds"
PROVIDER_INPUTS = "reindexer_provider_inputs_total"
PROVIDER_TOKENS = "reindexer_provider_tokens_total"
SOURCE_INPUTS = "reindexer_source_inputs_total"
SOURCE_TOKENS = "reindexer_source_tokens_total"
SOURCE_CHARACTERS = "reindexer_source_characters_total"
SOURCE_ESTIMATED = "reindexer_source_estimated_tokens_total"
PROVIDER_WAIT = "reindexer_provider_wait_seconds_total"
RATE_LIMIT_WAIT = "reindexer_rate_limit_wait_seconds_total"
DRAINED = "reindexer_changes_drained_total"
HEALING_TRIES = "reindexer_healing_tries_total"
RECONNECTS = "reindexer_listener_reconnects_total"
EVENTS_SENT = "reindexer_events_sent_total"
EVENTS_FAILED = "reindexer_events_failed_total"

_BUDGET = {"source": AT_RUN_TIME, "kind": AT_RUN_TIME, "period": AT_RUN_TIME}
_SPENT = {"source": AT_RUN_TIME, "embedder": AT_RUN_TIME}

_COUNTED = (
    Metric(FRESHNESS, "histogram", "From a change's commit until it is in Qdrant.", {"lane": LANES}, FRESHNESS_S),
    Metric(SETTLED, "counter", "Items whose work is over.", {"lane": LANES, "outcome": OUTCOMES}),
    Metric(RETRIES, "counter", "Items that were given back to be tried again.", {"cause": CAUSES}),
    Metric(CLAIMS, "counter", "Batches that workers claimed.", {"lane": LANES}),
    Metric(CLAIMS_EXPIRED, "counter", "Items whose earlier claim ended without an outcome: doubtful, done again."),
    Metric(LEASES_EXPIRED, "counter", "Claims that a worker gave up because their lease was over."),
    Metric(WRITES_REFUSED, "counter", "Items whose write Qdrant refused because a newer one stands there."),
    Metric(PROVIDER_REQUESTS, "counter", "Requests to the provider.", {"purpose": PURPOSES, "outcome": ANSWERS}),
    Metric(PROVIDER_SECONDS, "histogram", "Time that the provider took.", {"purpose": PURPOSES}, QUICK_S),
    Metric(PROVIDER_INPUTS, "counter", "Texts that the provider embedded.", {"purpose": PURPOSES}),
    Metric(PROVIDER_TOKENS, "counter", "Tokens as the provider counts them.", {"purpose": PURPOSES}),
    Metric(SOURCE_INPUTS, "counter", "Texts of a source's items that an embedder embedded.", _SPENT),
    Metric(SOURCE_CHARACTERS, "counter", "Their characters, where the provider counts tokens.", _SPENT),
    Metric(SOURCE_TOKENS, "counter", "Their tokens as the provider counts them.", _SPENT),
    Metric(
        SOURCE_ESTIMATED, "counter", "Their tokens as this program estimates them, where the provider counts.", _SPENT
    ),
    Metric(PROVIDER_WAIT, "counter", "Seconds that the provider asked to wait (Retry-After), added up."),
    Metric(
        RATE_LIMIT_WAIT,
        "counter",
        "Seconds that requests waited for their turn in the rate limit.",
        {"purpose": PURPOSES},
    ),
    Metric(DRAINED, "counter", "Changes that the listener moved from the outbox to due."),
    Metric(HEALING_TRIES, "counter", "FAILED items that were made due again."),
    Metric(RECONNECTS, "counter", "Connections that listeners lost and made again."),
    Metric(EVENTS_SENT, "counter", "Webhooks that a receiver took.", {"receiver": AT_RUN_TIME}),
    Metric(EVENTS_FAILED, "counter", "Webhooks that it did not take; they are sent again.", {"receiver": AT_RUN_TIME}),
)

_READ = (
    Metric("reindexer_up", "gauge", "1 if Postgres answers; without it nothing else but dependencies is told."),
    Metric("reindexer_build_info", "gauge", "Always 1; of the API that answers.", {"version": AT_RUN_TIME}),
    Metric("reindexer_dependency_up", "gauge", "1 if it answers the API.", {"dependency": ("broker", "qdrant")}),
    Metric("reindexer_broker_messages", "gauge", "Messages that wait in a lane's queue.", {"lane": LANES}),
    Metric("reindexer_outbox_changes", "gauge", "Changes that the listener has not moved yet."),
    Metric(
        "reindexer_due_items", "gauge", "Items that need work.",
        {"source": AT_RUN_TIME, "lane": LANES, "state": ("ready", "waiting", "claimed")},
    ),
    Metric(
        "reindexer_oldest_change_age_seconds", "gauge", "Since the commit of the oldest change that is not in Qdrant.",
        {"place": ("outbox", "live", "bulk", "runs", "healing")},
    ),
    Metric(
        "reindexer_revoked_age_seconds", "gauge",
        "Since the commit of the oldest change that may be a deletion or a new payload and is not in Qdrant.",
        {"place": ("outbox", "live", "bulk", "runs", "healing")},
    ),
    Metric("reindexer_completed_items", "gauge", "Items whose point equals their row.", {"source": AT_RUN_TIME}),
    Metric("reindexer_failed_items", "gauge", "Items that FAILED for good.", {"source": AT_RUN_TIME}),
    Metric("reindexer_healing_items", "gauge", "Items that FAILED and are tried again.", {"source": AT_RUN_TIME}),
    Metric(
        "reindexer_open_runs", "gauge", "Scans of whole sources that are not finished.",
        {"kind": ("first_fill", "whole_source", "backfill")},
    ),
    Metric(
        "reindexer_spent_tokens", "gauge", "Since 00:00 UTC: as the provider counted, or at most.",
        {"source": AT_RUN_TIME, "model": AT_RUN_TIME, "purpose": PAID_FOR, "count": ("confirmed", "unconfirmed")},
    ),
    Metric(
        "reindexer_spent_dollars", "gauge", "Since 00:00 UTC, of tokens whose price is known.",
        {"source": AT_RUN_TIME, "model": AT_RUN_TIME, "purpose": PAID_FOR},
    ),
    Metric("reindexer_budget_dollars", "gauge", "What may be spent; `source` empty: by all together.", _BUDGET),
    Metric("reindexer_budget_used_dollars", "gauge", "What counts against it: spent, or set aside.", _BUDGET),
    Metric("reindexer_budget_closed", "gauge", "1 while it is used up: what it stops waits.", _BUDGET),
    Metric(
        "reindexer_events_waiting", "gauge", "Events that a receiver has not acknowledged.", {"receiver": AT_RUN_TIME}
    ),
    Metric("reindexer_events_oldest_seconds", "gauge", "Age of the oldest one; 0: none.", {"receiver": AT_RUN_TIME}),
    Metric(
        "reindexer_event_receiver_problem", "gauge", "1 while nothing is delivered to it.", {"receiver": AT_RUN_TIME}
    ),
    Metric("reindexer_source_paused", "gauge", "1 while it is paused.", {"source": AT_RUN_TIME}),
    Metric("reindexer_source_problem", "gauge", "1 while it can't be worked on at all.", {"source": AT_RUN_TIME}),
    Metric(
        "reindexer_source_triggers", "gauge", "1 for the state that its triggers are in.",
        {"source": AT_RUN_TIME, "state": ("ok", "outdated", "disabled", "missing")},
    ),
    Metric(
        "reindexer_breaker_open", "gauge", "1 while its breaker is open: only probes are sent.",
        {"dependency": ("provider", "qdrant")},
    ),
    Metric(
        "reindexer_listener_state", "gauge", "1 for the state that the listener is in.",
        {"state": ("awake", "asleep", "absent")},
    ),
    Metric(
        "reindexer_processes", "gauge", "By their heartbeats; silent ones ended without a word within the last day.",
        {"role": ("listener", "worker"), "state": ("beating", "silent")},
    ),
    Metric(
        "reindexer_heartbeat_age_seconds", "gauge", "Since the last heartbeat of any process of the role.",
        {"role": ("listener", "worker")},
    ),
)  # fmt: skip

FORMER_NAMES: Mapping[str, str] = {
    CLAIMS_EXPIRED: "reindexer_claims_lost_total",
    LEASES_EXPIRED: "reindexer_leases_over_total",
    RATE_LIMIT_WAIT: "reindexer_provider_turn_seconds_total",
}
"""The former name of a metric that was renamed. It is exposed beside the metric for one release."""

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*_COUNTED, *_READ)}
