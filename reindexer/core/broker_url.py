"""Parse the URLs of broker, result backend and shared rate limiter once, for every client library.

Celery, kombu, redis-py and py-amqp each spell TLS differently, and two of them verify nothing unless told to. The query
uses redis-py's names: `ssl_ca_certs=/path`, `ssl_cert_reqs=none`, …, and `master_name=` for sentinels.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from reindexer.core.errors import UsageError

TLS_SCHEMES = ("rediss", "amqps")
REDIS_SCHEMES = ("redis", "rediss", "sentinel")

_REQUIRED = {"none": "none", "optional": "optional", "required": "required"} | {
    f"CERT_{word.upper()}": word for word in ("none", "optional", "required")
}
_REQUIREMENTS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_REDIS_ONLY = ("ssl_ca_path", "ssl_password")
_KNOWN = (*_FILES, *_REDIS_ONLY, "ssl_cert_reqs", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A parsed URL. It may hold several servers, separated by `;`."""

    url: str
    """The URL without the parameters that are parsed here."""
    tls: Mapping[str, Any] = field(default_factory=dict)
    """TLS parameters as redis-py takes them. Empty: the connection is not encrypted."""
    master_name: str | None = None
    """For sentinels: their name for the server."""

    @property
    def scheme(self) -> str:
        """The scheme of the first server."""
        return self.url.partition("://")[0].lower()

    @property
    def hosts(self) -> list[tuple[str, int | None]]:
        """Names and ports of the servers."""
        parts = [urlsplit(each) for each in self.url.split(";")]
        return [(part.hostname or "", part.port) for part in parts]

    @property
    def amqp_tls(self) -> dict[str, Any]:
        """TLS parameters as py-amqp takes them. It checks the host's name only against one that it is given."""
        hosts = {host for host, _ in self.hosts}
        named = {"ca_certs": "ssl_ca_certs", "certfile": "ssl_certfile", "keyfile": "ssl_keyfile"}
        given = {ours: self.tls[theirs] for ours, theirs in named.items() if theirs in self.tls}
        wanted: dict[str, Any] = {**given, "cert_reqs": _REQUIREMENTS[self.tls["ssl_cert_reqs"]]}
        if self.tls["ssl_check_hostname"]:
            wanted["server_hostname"] = hosts.pop() if len(hosts) == 1 else None  # None: kombu's, of the first it meets
        return wanted


def read_broker_url(name: str, text: str, *, ca_file: str | None = None) -> BrokerUrl:
    """Parse the URL that the setting `name` holds. `ca_file`: the trusted authorities if the URL names none.

    Raises UsageError in one line that names the setting.
    """
    urls, ours = list[str](), dict[str, str]()
    for each in text.split(";"):
        bare, mark, query = each.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        ours |= {key: value for key, value in pairs if _is_ours(key)}
        left = urlencode([(key, value) for key, value in pairs if not _is_ours(key)])
        urls.append(f"{bare}?{left}" if mark and left else bare)
    read = BrokerUrl(";".join(urls), master_name=ours.pop("master_name", None))
    if read.scheme == "sentinel" and not read.master_name:
        raise UsageError(
            f"{name}: sentinels have to be told which server: sentinel://host:26379/0?master_name=mymaster"
        )
    if read.scheme not in TLS_SCHEMES:
        if ours:
            raise UsageError(f"{name}: {min(ours)} is for a connection by TLS, which is {' or '.join(TLS_SCHEMES)}://")
        return read
    return BrokerUrl(read.url, _tls(name, read.scheme, ours, ca_file), read.master_name)


def _is_ours(key: str) -> bool:
    return key.startswith("ssl_") or key == "master_name"


def _tls(name: str, scheme: str, given: Mapping[str, str], ca_file: str | None) -> dict[str, Any]:
    for key, value in given.items():
        if key not in _KNOWN or (scheme == "amqps" and key in _REDIS_ONLY):
            raise UsageError(f"{name}: {key} is not known here; there are {', '.join(_KNOWN)}")
        if not value:
            raise UsageError(f"{name}: {key} is empty")
    wanted = given.get("ssl_cert_reqs", "required")  # guard broker-tls-verification
    if wanted not in _REQUIRED:
        raise UsageError(f"{name}: ssl_cert_reqs is one of none, optional, required")
    checked = given.get("ssl_check_hostname", "true").lower()
    if checked not in ("true", "false"):
        raise UsageError(f"{name}: ssl_check_hostname is true or false")
    tls: dict[str, Any] = {key: given[key] for key in (*_FILES, *_REDIS_ONLY) if key in given}
    if ca_file and "ssl_ca_certs" not in tls and "ssl_ca_path" not in tls:
        tls["ssl_ca_certs"] = ca_file
    requirement = _REQUIRED[wanted]
    return tls | {"ssl_cert_reqs": requirement, "ssl_check_hostname": checked == "true" and requirement != "none"}
