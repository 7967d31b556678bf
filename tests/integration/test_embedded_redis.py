"""The embedded Redis: a Valkey that starts empty, whatever lies in its directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from reindexer.embedded.children import Children
from reindexer.embedded.redis import SNAPSHOT, start_redis

REDIS_6_2 = (
    b"REDIS0009\xfa\tredis-ver\x066.2.14\xfa\nredis-bits\xc0@\xfa\x05ctime\xc28\xa6\nk\xfa\x08used-mem\xc2\xf8O\x0e\x00"
    b"\xfa\x0caof-preamble\xc0\x00\xfe\x00\xfb\x02\x00\x0e\x0ereindexer.live\x01\x0e\x0e\x00\x00\x00\n\x00\x00\x00\x01"
    b"\x00\x00\x01x\xff\x00\x04left\x06behind\xff\xcd\x80\xdb\xa4#\x19\xfc\x1e"
)
"""What the server of an older release wrote when it was told to SAVE."""


@pytest.mark.parametrize("name", ["dump.rdb", SNAPSHOT])
@pytest.mark.parametrize(
    "snapshot",
    [REDIS_6_2, REDIS_6_2.replace(b"REDIS0009", b"REDIS0099"), b"half"],
    ids=["older", "newer", "broken"],
)
def test_it_starts_empty_whatever_server_left_a_snapshot_in_its_directory(
    tmp_path: Path, name: str, snapshot: bytes
) -> None:
    (tmp_path / name).write_bytes(snapshot)
    (tmp_path / "appendonly.aof").write_bytes(b"*1\r\n$7\r\nNONSENS\r\n")
    with Children(tmp_path / "logs") as children:
        server = start_redis(children, tmp_path)
        with redis.Redis.from_url(server.url()) as client:
            assert client.info("server")["server_name"] == "valkey"
            assert client.dbsize() == 0
            assert client.set("key", "value")


def test_after_a_crash_it_starts_empty_though_a_user_had_saved_it(tmp_path: Path) -> None:
    with Children(tmp_path / "logs") as children:
        first = start_redis(children, tmp_path)
        with redis.Redis.from_url(first.url()) as client:
            client.set("key", "value")
            client.save()
        assert (tmp_path / SNAPSHOT).exists()
        children.kill(first.child)
        second = start_redis(children, tmp_path, port=first.port)
        with redis.Redis.from_url(second.url()) as client:
            assert client.dbsize() == 0
