"""The units of deploy/systemd: systemd takes them, and they start what docker-compose.yml starts."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.compose import services
from tests.support.processes import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
PROGRAMS = "/opt/reindexer/.venv/bin"


def read(unit: Path) -> ConfigParser:
    found = ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(unit.read_text(encoding="utf-8"))
    return found


def command(unit: Path) -> list[str]:
    """As systemd starts the instance `live`."""
    words = shlex.split(read(unit)["Service"]["ExecStart"].replace("%i", "live").replace("%%", "%"))
    return [words[0].removeprefix(f"{PROGRAMS}/"), *words[1:]]


def test_there_is_a_unit_for_each_process_and_the_document_names_it() -> None:
    names = [unit.name for unit in UNITS]
    assert names == ["reindexer-api.service", "reindexer-listener.service", "reindexer-worker@.service"]
    document = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in document for name in names)


def test_units_start_what_compose_starts() -> None:
    api, listener, worker = map(command, UNITS)
    assert listener == services()["listener"]["command"]
    assert worker == [word for word in services()["celery-worker"]["command"] if word not in ("-c", "2")]
    assert api == [word.replace("0.0.0.0", "127.0.0.1") for word in services()["api"]["command"]]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_again_for_ever_and_may_do_little(unit: Path) -> None:
    found = read(unit)
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    service = found["Service"]
    assert (service["Restart"], service["User"], service["EnvironmentFile"]) == (
        "always",
        "reindexer",
        "/etc/reindexer.env",
    )
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == (
        "yes",
        "strict",
        "",
    )


def test_systemd_itself_takes_the_units(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not on this machine; it comes with systemd")
    copies, programs = [], tmp_path / "programs"  # a folder without spaces, which end a path in a unit
    programs.symlink_to(Path(sys.executable).parent)
    for unit in UNITS:  # it looks whether the programs are there
        text = unit.read_text(encoding="utf-8").replace(PROGRAMS, str(programs))
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text, encoding="utf-8")
    done = subprocess.run([verify, "verify", *copies], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
