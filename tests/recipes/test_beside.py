"""docs/beside.md: an application of each framework, made and followed as it stands there; and a role without rights."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from reindexer.embedded.children import free_port
from reindexer.testing.waiting import eventually
from tests.support.commands import Done
from tests.support.docs import Reader, blocks
from tests.support.package_index import package_index
from tests.support.processes import ROOT, Processes
from tests.support.servers import Servers, database_url

DOCUMENT = ROOT / "docs" / "beside.md"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")


@pytest.fixture(scope="module")
def django(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Django alone."""
    folder = tmp_path_factory.mktemp("django")
    done = package_index().uv("install", "--target", folder, "--constraint", CONSTRAINTS, "django", timeout_s=200)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_documents_applications_work_beside_running_processes(
    env: Mapping[str, str], processes: Processes, django: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    processes.listener()
    processes.worker()
    _, url = processes.api()
    port = int(url.rpartition(":")[2])
    reader = Reader(processes.children, env, port, preset=True, folder=project, other_ports={8010: free_port()})
    reader.env |= {"PATH": f"{django / 'bin'}{os.pathsep}{reader.env['PATH']}", "PYTHONPATH": str(django)}
    reader.follow(DOCUMENT)


@pytest.fixture
def owned(servers: Servers) -> Iterator[str]:
    """The URL of a database for the role that the document makes, which may do no more than it says there."""
    (granted,) = [block.text for block in blocks(DOCUMENT) if block.language == "sql"]
    name = f"rx_{uuid.uuid4().hex[:12]}"
    statements = granted.replace("shop_owner", name).replace("DATABASE shop", f"DATABASE {name}").split(";")
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        url = database_url(servers, name)
        try:
            with psycopg.connect(url, autocommit=True) as database:
                for statement in statements:
                    database.execute(statement.encode())
            yield make_conninfo(url, user=name, password="change-me")
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            admin.execute(f"DROP ROLE IF EXISTS {name}")


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_role_that_owns_its_tables_and_nothing_else_is_enough(
    owned: str, processes: Processes, here: Callable[..., Done]
) -> None:
    with psycopg.connect(owned, autocommit=True) as application:
        rights = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
        query = f"SELECT {rights} FROM pg_roles WHERE rolname = current_user"
        assert application.execute(query.encode()).fetchone() == (False,)
        application.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        for words in (("migrate",), ("attach", "notes", "--table", "notes", "--text", "body")):
            done = here(*words, env={"DATABASE_URL": owned})
            assert done.returncode == 0, done.stderr
        processes.listener(DATABASE_URL=owned)
        processes.worker(DATABASE_URL=owned)
        application.execute("INSERT INTO notes VALUES (1, 'Tea takes three minutes')")
        settled = "SELECT FROM reindexer.item_status WHERE status = 'COMPLETED'"
        eventually(lambda: application.execute(settled.encode()).fetchall(), within=20)
        processes.children.stop_together()
        done = here("migrate", "--uninstall", "--yes", env={"DATABASE_URL": owned})
        assert done.returncode == 0, done.stderr
        assert application.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        left = "SELECT FROM pg_trigger WHERE NOT tgisinternal UNION ALL SELECT FROM pg_namespace WHERE nspname = 'reindexer'"
        assert application.execute(left.encode()).fetchall() == []
