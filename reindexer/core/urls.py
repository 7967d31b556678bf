"""URLs with a password in them: told without it, and refused where it would be taken for a host, a port or a path."""

from __future__ import annotations

import re

_PARTS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]*)(?P<rest>[/?#].*)?", re.I | re.S
)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]*)(:[0-9]*)?", re.I)

HOW_TO_WRITE = "in user and password write % as %25, / as %2F, ? as %3F, # as %23, @ as %40"


def is_readable(url: str) -> bool:
    """Whether every reader takes the same part for the password: it holds no character that ends it, nor does a path.

    Several hosts, parted by commas, are fine. Else a part of the password would be told as a host or a database.
    """
    parts = _PARTS.fullmatch(url)
    if parts is None or "@" in (parts["rest"] or ""):
        return False
    if re.search(r"%(?![0-9a-f]{2})", parts["user"] or "", re.I):
        return False
    return all(_HOST.fullmatch(host) for host in parts["hosts"].split(","))


def without_secrets(url: str) -> str:
    """Scheme and hosts: neither user, password nor query."""
    parts = _PARTS.fullmatch(url)
    return f"{parts['scheme']}://{parts['hosts']}" if parts else "a URL that can't be read"
