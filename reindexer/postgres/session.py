"""The settings of a session: they decide how a value reads, and what a statement means.

Databases, roles and processes may have other defaults (`ALTER DATABASE … SET`, `ALTER ROLE … SET`, `PGTZ`). Two
processes would then read one row differently, and each would find the other's work stale. So each session sets all that
we read with, and overrides those defaults. Behind a pooler no setting may outlive a transaction. There the code that
reads rows sets them in its transaction, and the start fails if a setting that every statement needs is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

Settings = Mapping[LiteralString, LiteralString]

READING: Settings = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "timezone_abbreviations": "Default",
    # A policy must raise, not hide: a row that is not found is taken for deleted.
    "row_security": "off",
}
"""For reading a user's row: how values print, how literals of a condition are read, and which rows are visible."""

MEANING: Settings = {
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "default_transaction_isolation": "read committed",  # guard session-read-committed
    "default_transaction_read_only": "off",
}
"""For every statement of ours: its meaning, and that it may write."""

_DURABLE: LiteralString = (
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "
    "ELSE current_setting('synchronous_commit') END, false)"
)
"""What a command says is done stays done after a crash of the server. What may be lost asks for less itself."""

_LIMITS_SINCE: Mapping[LiteralString, int] = {"transaction_timeout": 170_000}
"""Time limits that older servers don't know. They are set only once the server's version is known."""


def _set(settings: Settings, *, local: bool) -> LiteralString:
    return ", ".join(f"set_config('{name}', '{value}', {local})" for name, value in settings.items())


def opening(pid: int, server_version: int) -> LiteralString:
    """The first statement on a connection. It returns the server's process id and, if that is `pid`, sets everything.

    Another process id means a pooler, whose sessions are shared with others.
    """
    limits: Settings = {name: "0" for name, since in _LIMITS_SINCE.items() if server_version >= since}
    ours = _set({**READING, **MEANING, **limits}, local=False)
    # guard wal-session-durable
    return f"SELECT pg_backend_pid(), CASE WHEN pg_backend_pid() = {pid} THEN ROW({ours}, {_DURABLE}) IS NOT NULL END"


IN_TRANSACTION: LiteralString = f"SELECT {_set(READING, local=True)}"
"""Sets, for its transaction, what rows are read with."""

FOR_ALL_OF_TRANSACTION: LiteralString = f"SELECT {_set({**READING, **MEANING}, local=True)}"
"""The same, and what statements mean."""

READS_AS_OURS: LiteralString = " AND ".join(f"current_setting('{name}') = '{value}'" for name, value in READING.items())
"""An expression: whether rows read as they should in the present session."""

_WANTED: LiteralString = ", ".join(f"('{name}', '{value}')" for name, value in MEANING.items())
DIFFERING: LiteralString = f"""
    SELECT name, wanted, current_setting(name) FROM (VALUES {_WANTED}) AS setting (name, wanted)
    WHERE current_setting(name) <> wanted
"""  # noqa: S608  names and values of ours
"""The settings of `MEANING` that differ in the present session: name, wanted value, found value."""
