"""The errors of a broker and of its network path: kombu lets its libraries' own errors through."""

from __future__ import annotations

import ssl

from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

NOT_TRUSTED = (
    "its certificate is not trusted: name who signed it by REINDEXER_BROKER_CA_FILE, or ssl_ca_certs in the URL; the "
    "URL's host has to be in it"
)

BROKER_ERRORS: tuple[type[Exception], ...] = (OperationalError, KombuError, AMQPError, RedisError, OSError)


def reason(exc: BaseException) -> str:
    """The reason, without any of the broker's text: that may hold what was sent."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NOT_TRUSTED
        cause = cause.__cause__ or cause.__context__
    return type(exc.__cause__ if isinstance(exc, OperationalError) and exc.__cause__ else exc).__name__
