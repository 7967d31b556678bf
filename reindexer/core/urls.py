"""URLs that hold a password: shown without it, and refused if a part of it could be read as a host, a port or a
path."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

_PARTS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]*)(?P<rest>[/?#].*)?", re.I | re.S
)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]*)(:[0-9]*)?", re.I)

_REDIS = ("redis", "rediss")
_REDIS_REST = re.compile(r"(/[0-9]*)?([?#].*)?", re.S)

DEFAULT_PORTS = {"http": 80, "https": 443}

HOW_TO_WRITE = "in user and password write % as %25, / as %2F, ? as %3F, # as %23, @ as %40"


def is_readable(url: str) -> bool:
    """Whether every parser finds the same password in a URL: no character in it ends it, and the path holds no `@`.

    Several hosts, separated by commas, are allowed. For any other URL a part of the password could be shown as a host
    or a database.
    """
    parts = _PARTS.fullmatch(url)
    if parts is None or "@" in (parts["rest"] or ""):  # guard secret-unreadable-url
        return False
    if re.search(r"%(?![0-9a-f]{2})", parts["user"] or "", re.I):
        return False
    return all(_HOST.fullmatch(host) for host in parts["hosts"].split(","))


def without_secrets(url: str) -> str:
    """Return scheme and hosts, without user, password and query."""
    parts = _PARTS.fullmatch(url)
    return f"{parts['scheme']}://{parts['hosts']}" if parts else "a URL that can't be read"


def fault_of(url: str, schemes: Collection[str] | None) -> str | None:
    """Say why a URL can't be connected to, in words that follow its name. None: it looks right.

    `schemes`: the allowed schemes. None: any.
    """
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
    """Return the port of an HTTP URL, and whether the URL states it. If not, the port is the scheme's default."""
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise ValueError("not a URL")
    written = re.search(r":([0-9]+)$", parts["hosts"])
    return (int(written[1]), True) if written else (DEFAULT_PORTS[parts["scheme"].lower()], False)


def http_path(url: str) -> str:
    """Return the path that precedes every requested path, without a trailing slash. Empty if there is none."""
    parts = _PARTS.fullmatch(url)
    return (parts["rest"] or "").rstrip("/") if parts else ""


@lru_cache
def server_address(url: str) -> str:
    """Return what tells one HTTP server from another: scheme, host, port and path. A query, which may hold a key, is
    hashed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    query = f"?{hashlib.sha256(parts.query.encode()).hexdigest()[:12]}" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}{query}"
