"""Advisory locks of the program: one class, a number each. They are visible at once and freed by a crash."""

LOCK_CLASS = 1919249769
"""'rein' as an integer."""

LEADER_LOCK = 1
"""Held by the listener that leads."""

BELL_LOCK = 2
"""Held exclusively by the leader while it sleeps; the triggers try it shared to learn whether they must ring."""

MIGRATE_LOCK = 3
"""Held while triggers are made or removed."""

BELL_CHANNEL = "reindexer_bell"
