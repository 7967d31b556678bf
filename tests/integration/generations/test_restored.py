"""Backup and restore where a source has several generations: each is a collection of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from reindexer import Client, Settings
from reindexer.generations.upkeep import tidy_index
from reindexer.postgres.connect import Postgres, connect
from reindexer.worker.collections import Collections
from reindexer.worker.worker import Worker
from tests.integration.generations.settling import NAME, settle
from tests.support.commands import Done
from tests.support.flow import fill, insert
from tests.support.index_reader import IndexReader
from tests.support.restoring import backup
from tests.support.servers import Servers


def two_generations(settings: Settings, worker: Worker, url: str) -> None:
    """Four rows in two generations; searches use the first."""
    with connect(url, application_name="test") as db, Client(settings) as client:
        fill(db)
        settle(db, worker)
        client.rebuild(NAME)
        settle(db, worker)


def test_a_restored_database_adopts_all_generations_and_each_is_compared_by_itself(
    database: str, settings: Settings, worker: Worker, servers: Servers, index: IndexReader,
    here: Callable[..., Done], env: Mapping[str, str],
) -> None:  # fmt: skip
    two_generations(settings, worker, database)
    worker.postgres.close()
    with backup(servers, database) as copied:
        given = {**env, "DATABASE_URL": copied}
        assert here("adopt", NAME, env=given).returncode == 0
        there = replace(worker, postgres=Postgres(copied, application_name="test"), collections=Collections())
        with connect(copied, application_name="test") as db:
            insert(db, "written after the restore")
            settle(db, there)
        there.postgres.close()
        assert [index.client.count(f"{NAME}__g{number}", exact=True).count for number in (1, 2)] == [5, 5]
        index.client.delete_collection(f"{NAME}__g2")
        first = here("reconcile", NAME, "--json", env=given)
        assert (first.returncode, json.loads(first.stdout)["missing"]) == (0, 0)
        second = here("reconcile", NAME, "--generation", "2", "--repair", "--json", env=given)
        assert (second.returncode, json.loads(second.stdout)["queued"]) == (0, 5)
        there = replace(worker, postgres=Postgres(copied, application_name="test"), collections=Collections())
        with connect(copied, application_name="test") as db:
            settle(db, there)
        there.postgres.close()
        assert json.loads(here("reconcile", NAME, "--generation", "2", "--json", env=given).stdout)["equal"]
        none = here("reconcile", NAME, "--generation", "3", env=given)
        assert (none.returncode, none.stderr) == (1, f"reindexer: there is no generation 3 of {NAME!r}\n")


def test_a_database_of_before_a_promotion_searches_by_the_former_generation_again(
    database: str, settings: Settings, worker: Worker, servers: Servers, index: IndexReader
) -> None:
    two_generations(settings, worker, database)
    worker.postgres.close()
    with backup(servers, database) as copied:
        with Client(settings) as client:
            client.promote(NAME, wait_s=5)
        aliases = {each.alias_name: each.collection_name for each in index.client.get_aliases().aliases}
        assert aliases[NAME] == f"{NAME}__g2"
        restored = Postgres(copied, application_name="test")
        tidy_index(restored, worker.index)
        restored.close()
        aliases = {each.alias_name: each.collection_name for each in index.client.get_aliases().aliases}
        assert aliases[NAME] == f"{NAME}__g1"
