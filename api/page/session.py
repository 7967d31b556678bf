"""Logins of the page: a signed cookie that stands for a key, and what a request that is authorised by it must show.

The cookie holds no key. It names a key of the database by its hash, or the key of the setting, until it ends. Each
request looks the key up as if it had been given, so a revoked key ends here as soon as everywhere.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from functools import cached_property
from hashlib import scrypt, sha256
from hmac import digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from reindexer.core.api_key import same
from reindexer.settings import Settings

COOKIE = "reindexer_session"
LASTS_S = 12 * 3600
PAGE_HEADER = "X-Reindexer-Page"
"""The page sends it with each request. No form can, and a script of another origin would have to ask first."""

MAX_ENDED = 10_000
SAFE = ("GET", "HEAD")
_SALT = b"reindexer page session"


@dataclass(frozen=True, slots=True)
class Session:
    """One login."""

    key_hash: bytes | None
    """Of a key of the database. None: the key of the setting."""
    ends_at: int
    """Seconds since 1970."""
    id: str


class Sessions:
    """Makes cookies and reads them.

    They are signed by what the key of the setting yields, so that each process of the API takes them, and another key
    there ends them. Without that key each process signs by a random secret: a login then is one to that process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ended: dict[str, int] = {}
        """Ids of logins that were logged out of in this process, and when they would end."""

    @cached_property
    def _secret(self) -> bytes:
        key = self._settings.admin_api_key
        if key is None or not key.get_secret_value():
            return secrets.token_bytes(32)
        # Slow by intention: who has a cookie must not find a weak key of the setting by trying.
        return scrypt(key.get_secret_value().encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=32)

    def begin(self, key_hash: bytes | None) -> str:
        """A cookie for a new login."""
        ends_at = int(time.time()) + LASTS_S
        facts = f"{key_hash.hex() if key_hash else 'setting'}.{ends_at}.{secrets.token_hex(16)}"
        return f"{facts}.{self._signature(facts)}"

    def read(self, cookie: str) -> Session | None:
        """The login that a cookie stands for. None: it is none of ours, has ended, or was logged out of here."""
        facts, _, signature = cookie.rpartition(".")
        if not same(signature.encode(), self._signature(facts).encode()):  # guard session-signed
            return None
        whose, ends_at, session_id = facts.split(".")
        if time.time() >= int(ends_at) or session_id in self._ended:  # guard session-ends
            return None
        return Session(None if whose == "setting" else bytes.fromhex(whose), int(ends_at), session_id)

    def end(self, session: Session) -> None:
        """Log out: this process takes the cookie no more."""
        now = time.time()
        self._ended = {each: ends_at for each, ends_at in self._ended.items() if ends_at > now}
        while len(self._ended) >= MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[session.id] = session.ends_at

    def _signature(self, facts: str) -> str:
        return digest(self._secret, facts.encode(), sha256).hex()


def is_from_page(method: str, headers: Headers) -> bool:
    """Whether a request was made by the page itself, as far as a browser tells: by no page of another origin."""
    fetched_by = headers.get("Sec-Fetch-Site")
    if method in SAFE:
        return fetched_by in (None, "same-origin", "none")
    if PAGE_HEADER not in headers:  # guard session-page-header
        return False
    if fetched_by is not None:
        return fetched_by == "same-origin"  # guard session-same-origin
    # Browsers leave it out where the page came by plain HTTP from another host.
    return urlsplit(headers.get("Origin", "")).netloc == headers.get("Host")  # guard session-origin
