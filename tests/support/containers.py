"""The servers as containers (REINDEXER_TEST_STACK=containers), with the images of docker-compose.yml. Needs Docker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer

from reindexer.testing.waiting import eventually
from tests.support.servers import Servers

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def image(name: str) -> str:
    """The image of that name, with the tag that docker-compose.yml pins."""
    found = re.search(rf"image:\s*({re.escape(name)}:\S+)", COMPOSE.read_text(encoding="utf-8"))
    assert found, f"docker-compose.yml has no image {name}"
    return found.group(1)


@contextmanager
def containers() -> Iterator[Servers]:
    """Start the three; end them afterwards."""
    with (
        PostgresContainer(image("postgres"), driver=None) as postgres,
        RedisContainer(image("redis")) as redis,
        DockerContainer(image("qdrant/qdrant")).with_exposed_ports(6333, 6334) as qdrant,
    ):
        qdrant_url = f"http://{qdrant.get_container_host_ip()}:{qdrant.get_exposed_port(6333)}"
        redis_url = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"
        import httpx

        def ready() -> bool:
            try:
                return httpx.get(f"{qdrant_url}/readyz").is_success
            except httpx.HTTPError:
                return False

        eventually(ready, within=60)
        yield Servers(postgres.get_connection_url(), redis_url, qdrant_url)
