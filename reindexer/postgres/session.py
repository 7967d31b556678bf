"""What a session is set to: by these settings a value reads as it does, and a statement means what it says.

Anybody may set others, for a database, a role or a process (`ALTER DATABASE … SET`, `ALTER ROLE … SET`, `PGTZ`): two
processes would then read one row differently, and each would find the other's work stale. So all that we read with is
set by us, above all of those. Behind a pooler nothing may be set for longer than a transaction: whoever reads rows sets
it in one, and what every statement needs is told at the start.
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
"""How values are printed, how literals of a condition are read, and which rows are seen: whoever reads a user's row."""

MEANING: Settings = {
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "default_transaction_isolation": "read committed",  # guard session-read-committed
    "default_transaction_read_only": "off",
}
"""What any statement of ours means, and that it may write."""

_LIMITS_SINCE: Mapping[LiteralString, int] = {"transaction_timeout": 170_000}
"""Time limits that older servers don't know, so that they can't be asked for before the version is known."""


def _set(settings: Settings, *, local: bool) -> LiteralString:
    return ", ".join(f"set_config('{name}', '{value}', {local})" for name, value in settings.items())


def opening(pid: int, server_version: int) -> LiteralString:
    """The first statement on a connection: it tells which process answers and, if that is `pid`, sets everything.

    Another one is a pooler's, whose sessions are others' as well.
    """
    limits: Settings = {name: "0" for name, since in _LIMITS_SINCE.items() if server_version >= since}
    ours = _set({**READING, **MEANING, **limits}, local=False)
    return f"SELECT pg_backend_pid(), CASE WHEN pg_backend_pid() = {pid} THEN ROW({ours}) IS NOT NULL END"


IN_TRANSACTION: LiteralString = f"SELECT {_set(READING, local=True)}"
"""For the transaction in which it is executed: what rows are read with."""

FOR_ALL_OF_TRANSACTION: LiteralString = f"SELECT {_set({**READING, **MEANING}, local=True)}"
"""The same, with what statements mean."""

READS_AS_OURS: LiteralString = " AND ".join(f"current_setting('{name}') = '{value}'" for name, value in READING.items())
"""An expression: whether rows read as they should in this session."""

_WANTED: LiteralString = ", ".join(f"('{name}', '{value}')" for name, value in MEANING.items())
DIFFERING: LiteralString = f"""
    SELECT name, wanted, current_setting(name) FROM (VALUES {_WANTED}) AS setting (name, wanted)
    WHERE current_setting(name) <> wanted
"""  # noqa: S608  names and values of ours
"""Those of `MEANING` that this session is not set to: name, what it should be, what it is."""
