"""Broker URLs: who is verified, and how it is spelt for each library."""

from __future__ import annotations

import ssl

import pytest

from reindexer.core.broker_url import read_broker_url
from reindexer.core.errors import UsageError

NAME = "CELERY_BROKER_URL"


def test_a_server_by_tls_is_verified_by_default_whoever_connects() -> None:
    for url in ("rediss://host:6390/0", "amqps://user:pw@host:5671/vhost"):
        read = read_broker_url(NAME, url)
        assert read.url == url
        assert read.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        assert read.amqp_tls == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "host"}


def test_the_query_says_otherwise_in_the_words_of_redis_py_or_of_celery_and_is_taken_off() -> None:
    for word in ("none", "CERT_NONE"):
        read = read_broker_url(NAME, f"rediss://host/0?ssl_cert_reqs={word}&health_check_interval=3")
        assert read.url == "rediss://host/0?health_check_interval=3"
        assert read.tls == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    read = read_broker_url(NAME, "rediss://host/0?ssl_ca_certs=/etc/a%20b.crt&ssl_check_hostname=False", ca_file="/c")
    assert read.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": False, "ssl_ca_certs": "/etc/a b.crt"}
    assert read.amqp_tls == {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/etc/a b.crt"}


def test_the_setting_names_the_authority_where_the_url_does_not_and_only_for_tls() -> None:
    assert read_broker_url(NAME, "rediss://host/0", ca_file="/ca").tls["ssl_ca_certs"] == "/ca"
    assert read_broker_url(NAME, "redis://host/0", ca_file="/ca").tls == {}


def test_several_servers_are_read_each() -> None:
    read = read_broker_url(NAME, "sentinel://a:26379/2?master_name=m;sentinel://b:26380")
    assert (read.url, read.master_name) == ("sentinel://a:26379/2;sentinel://b:26380", "m")
    assert read.hosts == [("a", 26379), ("b", 26380)]
    assert read_broker_url(NAME, "amqps://a;amqps://b").amqp_tls["server_hostname"] is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://host/0?ssl_ca_certs=/x", "ssl_ca_certs is for a connection by TLS"),
        ("rediss://host/0?ssl_cert_reqs=maybe", "ssl_cert_reqs is one of none, optional, required"),
        ("rediss://host/0?ssl_check_hostname=maybe", "ssl_check_hostname is true or false"),
        ("rediss://host/0?ssl_ca_cert=/x", "ssl_ca_cert is not known"),
        ("rediss://host/0?ssl_ca_certs=", "ssl_ca_certs is empty"),
        ("amqps://host/?ssl_ca_path=/x", "ssl_ca_path is not known"),
        ("sentinel://host:26379/0", "master_name"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line_with_the_setting(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as told:
        read_broker_url(NAME, url)
    assert str(told.value).startswith(f"{NAME}: ")
