"""URLs with a password in them: told without it, and refused where it would be taken for a host, a port or a path."""

from __future__ import annotations

import re
from collections.abc import Collection

_PARTS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]*)(?P<rest>[/?#].*)?", re.I | re.S
)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]*)(:[0-9]*)?", re.I)

_REDIS = ("redis", "rediss")
_REDIS_REST = re.compile(r"(/[0-9]*)?([?#].*)?", re.S)

DEFAULT_PORTS = {"http": 80, "https": 443}

HOW_TO_WRITE = "in user and password write % as %25, / as %2F, ? as %3F, # as %23, @ as %40"


def is_readable(url: str) -> bool:
    """Whether every reader takes the same part for the password: it holds no character that ends it, nor does a path.

    Several hosts, parted by commas, are fine. Else a part of the password would be told as a host or a database.
    """
    parts = _PARTS.fullmatch(url)
    if parts is None or "@" in (parts["rest"] or ""):  # guard secret-unreadable-url
        return False
    if re.search(r"%(?![0-9a-f]{2})", parts["user"] or "", re.I):
        return False
    return all(_HOST.fullmatch(host) for host in parts["hosts"].split(","))


def without_secrets(url: str) -> str:
    """Scheme and hosts: neither user, password nor query."""
    parts = _PARTS.fullmatch(url)
    return f"{parts['scheme']}://{parts['hosts']}" if parts else "a URL that can't be read"


def fault_of(url: str, schemes: Collection[str] | None) -> str | None:
    """Why nobody can connect by a URL, in words that go on after its name; None: it looks well. `schemes`: those that
    will do; None: any."""
    parts = _PARTS.fullmatch(url)
    if "://" not in url and "@" not in url:
        return "has no scheme before its host"
    if parts is None or not is_readable(url):
        return f"is not a URL that can be read; {HOW_TO_WRITE}"
    scheme, rest = parts["scheme"].lower(), parts["rest"] or ""
    ports = [int(port) for port in re.findall(r":([0-9]+)(?:,|$)", parts["hosts"])]
    faults = {
        f"begins with {scheme}://; spoken here is {', '.join(schemes or ())}": schemes and scheme not in schemes,
        "names no host": schemes and not parts["hosts"] and scheme != "rpc",
        "names a port that does not exist; ports are 1 to 65535": any(not 0 < port < 65_536 for port in ports),
        "ends with a path that is no number of a Redis database": scheme in _REDIS and not _REDIS_REST.fullmatch(rest),
        "holds a ? or a #": scheme in DEFAULT_PORTS and re.search(r"[?#]", rest),
    }
    return next((words for words, is_so in faults.items() if is_so), None)


def http_port(url: str) -> tuple[int, bool]:
    """The port of an HTTP URL, and whether it is written there; if not, it is what every URL means by its scheme."""
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise ValueError("not a URL")
    written = re.search(r":([0-9]+)$", parts["hosts"])
    return (int(written[1]), True) if written else (DEFAULT_PORTS[parts["scheme"].lower()], False)


def http_path(url: str) -> str:
    """What stands before each path that is asked for, without a slash at its end; empty if nothing does."""
    parts = _PARTS.fullmatch(url)
    return (parts["rest"] or "").rstrip("/") if parts else ""
