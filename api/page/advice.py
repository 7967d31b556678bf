"""What to do about a problem, in the words of docs/runbook.md, with which a test compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """A section of the runbook."""

    means: str
    """What it means for users."""
    mend: str
    """What to do."""


ADVICE: Mapping[str, Advice] = {
    "ReindexerPostgresAway": Advice(
        "your application is most likely affected as well. No edit is indexed; search by the API fails.",
        "Postgres itself. Listener, workers and API reconnect by themselves.",
    ),
    "ReindexerDependencyAway": Advice(
        "qdrant: no search, and no edit is indexed. broker: no work reaches workers; bulk requests are "
        "accepted and wait.",
        "the server, or the network. A broker that comes back empty, flushed or new is fine: the listener "
        "fills its queues again within a second. A Qdrant that comes back empty or older is not: compare and "
        "repair.",
    ),
    "ReindexerListenerAbsent": Advice(
        "search finds no edit made since then.",
        "start one; better two, on different hosts: python -m reindexer.listen.",
    ),
    "ReindexerNoWorkers": Advice(
        "search finds no new edit.",
        "start workers, or restart those that hang.",
    ),
    "ReindexerBreakerOpen": Advice(
        "qdrant: no edit is indexed. provider: no new text is; deletions and payloads are. Search fails too, "
        "unless its queries still pass.",
        "the dependency. You close no breaker by hand: one item at a time probes the dependency, and the "
        "first that passes lets all others continue.",
    ),
    "ReindexerTriggersWrong": Advice(
        "edits pass unseen. Search finds them when the triggers are repaired and all rows have been looked at.",
        "as the table's owner. This command repairs the triggers and has every row looked at: reindexer "
        "migrate If you know of rows that were written unseen nevertheless, compare: reindexer reconcile "
        "context_items --repair.",
    ),
    "ReindexerSourceProblem": Advice(
        "no edit of this source is indexed; search still finds what is indexed. (If the problem is a key that "
        "is not unique any more, edits continue.)",
        "what it says: a column or table that was renamed or dropped, a right that the worker's role lacks, a "
        "policy that hides rows, a collection of other dimensions, a collection that follows another "
        "database, a provider or a Qdrant that refuses everything: key, model, URL. The source is tried again "
        "every 10 s.",
    ),
    "ReindexerEditsLate": Advice(
        "search does not find the newest edits. ReindexerRevokedLate says whether it still finds deleted rows.",
        "by cause. More workers help only if ready grows while all workers are busy.",
    ),
    "ReindexerBulkLate": Advice(
        "rows of a large statement, of a TRUNCATE or of a first fill are not up to date in search yet. Single "
        "edits are: they overtake.",
        "a paused run: POST /admin/backfills/{id}/resume. An error: the source can't be read, see "
        "ReindexerSourceProblem. Moving, but slow: more workers. No worker consumes bulk at all: start some "
        "with reindexer worker.",
    ),
    "ReindexerRateLimited": Advice(
        "edits are late; none fails, because a 429 is a wait.",
        "set the limit where the provider does not report it (how), and set less than it where others use the "
        "account too. Otherwise get a higher limit from the provider, or pause the backfill until the night.",
    ),
    "ReindexerItemsFailed": Advice(
        "search finds these items by their older text, or not at all, until you act.",
        "the text (an edit tries again by itself); then reindexer dead-letters replay, all or some. A "
        "requested id that has no row is harmless.",
    ),
    "ReindexerItemsHealing": Advice(
        "as above, but the items are tried again automatically, at least every 15 minutes.",
        "one item: edit or shorten its text. Many: the dependency.",
    ),
    "ReindexerBudgetUsedUp": Advice(
        "search does not find what waits: rows of backfills and rebuilds, edits too if the budget says so, or searches "
        "fail. Deletions and payloads pass.",
        "wait for 00:00 UTC, or raise it. What waits goes on within 5 s: reindexer budget --daily-usd 40",
    ),
    "ReindexerSourcePaused": Advice(
        "search does not find edits of this source.",
        "reindexer resume",
    ),
}
"""By the section's name. In the order in which the page shows problems."""
