"""What stands in the environment: each setting with a wrong value, for each process; and variables that nobody reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from reindexer.cli.processes import PROCESSES
from reindexer.core.errors import UsageError
from reindexer.postgres.connect import Connection
from reindexer.settings import FOR_TESTS, FORMER_NAMES, Settings
from reindexer.testing.processes import log_of
from reindexer.testing.waiting import eventually
from tests.support.commands import CLEAN, ROLES, Done, reindexer, start
from tests.support.docs import settings_and_defaults
from tests.support.processes import ROOT, Processes

URLS: Mapping[str, tuple[str, ...]] = {
    "DATABASE_URL": ("mysql://x", "http://h/db", "h:5432", "postgresql://h:99999/db"),
    "REINDEXER_LISTEN_DATABASE_URL": ("mysql://x", "h:5432", "postgresql://h:0/db"),
    "CELERY_BROKER_URL": (
        "http://x",
        "foo://h",
        "h:6379",
        "redis://h:99999/0",
        "redis://h/zero",
        "redis://",
        "kafka://h",
    ),
    "CELERY_RESULT_BACKEND": ("http://x", "h:6379", "redis://h:0/0", "redis://h/zero", "amqp://h"),
    "REDIS_URL": ("http://x", "h:6379", "amqp://h", "redis://h:70000", "redis://h/zero"),
    "QDRANT_URL": ("ftp://x", "127.0.0.1:6333", "localhost", "http://h:70000", "http://", "http://h/?a=b", "grpc://h"),
    "OPENAI_BASE_URL": ("ftp://x", "localhost:11434/v1", "http://h:0/v1", "https://h/v1?key=x"),
}
"""A wrong scheme, port, path."""

NUMBERS = ("many", "-1", "nan", "inf", "1e300", "9" * 30)


def wrong_values() -> Iterator[tuple[str, str]]:
    """Of every setting."""
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        name = alias if isinstance(alias, str) else f"REINDEXER_{field.upper()}"
        kinds = {info.annotation, *get_args(info.annotation)}
        if name in URLS:
            yield from ((name, value) for value in URLS[name])
        elif bool in kinds:
            yield from ((name, value) for value in ("perhaps", "2"))
        elif kinds & {int, float}:
            yield from ((name, value) for value in NUMBERS)
        elif any(get_origin(kind) is Literal for kind in kinds):
            yield name, "magic"
        yield name, os.fsdecode(b"\xff\xfe")


WRONG = list(wrong_values())


def test_every_setting_is_tried() -> None:
    assert {name for name, _ in WRONG} == settings_and_defaults().keys() | FOR_TESTS


@pytest.mark.parametrize("name", sorted({name for name, _ in WRONG}))
@pytest.mark.first(10)
def test_a_command_tells_each_wrong_value_of_each_setting_in_one_line_that_names_it(
    here: Callable[..., Done], name: str
) -> None:
    for value in [value for each, value in WRONG if each == name]:
        done = here("status", env={"DATABASE_URL": "postgresql://postgres@127.0.0.1:9/x", name: value})
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (value, done.stderr)
        assert done.stderr.startswith(f"reindexer: {name}"), (value, done.stderr)


SOME = [
    ("CELERY_BROKER_URL", "http://x"), ("CELERY_BROKER_URL", "redis://127.0.0.1:99999/0"), ("REDIS_URL", "redis://h/zero"),
    ("QDRANT_URL", "ftp://x"), ("QDRANT_URL", "127.0.0.1:6333"), ("REINDEXER_LISTEN_DATABASE_URL", "mysql://x"),
    ("REINDEXER_POLL_INTERVAL_S", "inf"),
]  # fmt: skip
"""Of each kind."""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "wrong", [pytest.param(SOME, id="some"), pytest.param(WRONG, id="all", marks=pytest.mark.long)]
)
@pytest.mark.timeout(1800)
@pytest.mark.first(1)
def test_a_process_tells_a_wrong_value_in_one_line_that_names_the_setting(
    role: str, env: Mapping[str, str], wrong: list[tuple[str, str]]
) -> None:
    for name, value in wrong:
        code, line = start(role, {**env, name: value})
        assert (code, line.startswith(f"reindexer {role}: {name}")) == (2, True), (value, line)


def test_a_file_of_settings_that_is_no_text_is_told(
    here: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"DATABASE_URL=\xff\xfe\n")
    done = here("status")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the file .env can't be read" in done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("REINDEXER_BATCHSIZE", "did you mean REINDEXER_BATCH_SIZE?"),
        ("REINDEXER_EMBEDING_MODEL", "did you mean REINDEXER_EMBEDDING_MODEL?"),
        ("reindexer_admin_key", "did you mean REINDEXER_ADMIN_API_KEY?"),
        ("REINDEXER_ZZZ", "docs/configuration.md has them all"),
    ],
)
def test_a_command_tells_a_variable_that_nobody_reads_once_with_the_nearest_name(
    here: Callable[..., Done], env: Mapping[str, str], db: Connection, name: str, told: str
) -> None:
    done = here("status", "--json", env={**env, name: "1"})
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert f"{name.upper()} is no setting, and nobody reads it; {told}" in done.stderr
    assert done.stdout.startswith("{")


def test_variables_that_are_read_and_those_of_tests_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REINDEXER_TEST_ANYTHING", "_REINDEXER_COMPLETE", *Settings.variables()):
        monkeypatch.setenv(name, "1")
    assert Settings.unknown_variables() == []


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_a_former_name_of_a_setting_works_and_is_told(monkeypatch: pytest.MonkeyPatch, former: str) -> None:
    today = FORMER_NAMES[former]
    value = "off" if today == "REINDEXER_NOTIFY" else "7"
    monkeypatch.setenv(former, value)
    set_by_it = getattr(Settings.from_environment(), today.removeprefix("REINDEXER_").lower())
    assert str(set_by_it).removesuffix(".0") == value
    assert Settings.unknown_variables() == [
        f"{former} is {today} now; the old name works in this release and not in the next"
    ]
    monkeypatch.setenv(today, "on" if value == "off" else "8")
    assert getattr(Settings.from_environment(), today.removeprefix("REINDEXER_").lower()) in ("on", 8.0)


def test_a_process_tells_a_variable_that_nobody_reads_in_its_log_once(db: Connection, processes: Processes) -> None:
    processes.env["REINDEXER_LEASE"] = "60"
    children = [processes.listener(), processes.worker(), processes.api()[0]]
    for child in children:
        eventually(lambda child=child: "setting_ignored" in log_of(child))  # type: ignore[misc]
        assert log_of(child).count("did you mean REINDEXER_LEASE_S?") == 1


@pytest.mark.parametrize("command", PROCESSES)
def test_a_process_that_does_not_start_has_told_a_variable_that_nobody_reads_once(command: str) -> None:
    env = {
        "REINDEXER_EMBEDER": "static",
        "REINDEXER_LOG_FORMAT": "json",
        "REINDEXER_DATA_DIR": "/tmp/nothing-is-up-here",
    }
    told, *rest = reindexer(command, env=env).stderr.splitlines()
    assert "did you mean REINDEXER_EMBEDDER?" in json.loads(told)["error"]
    assert "is not set" in rest[-1]
    assert not any("did you mean" in line for line in rest)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no telling what a process has imported")
@pytest.mark.parametrize("command", [["reindexer", "status"], *([module, *rest] for module, *rest in ROLES.values())], ids=lambda c: c[0])  # fmt: skip
@pytest.mark.first(2)
def test_ctrl_c_while_it_imports_ends_a_process_without_a_traceback(command: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=CLEAN, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    maps = Path(f"/proc/{process.pid}/maps")
    eventually(lambda: "pydantic_core" in maps.read_text(encoding="utf-8"), every=0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert (out, "Traceback" in err) == ("", False), err


def test_numbers_that_are_too_large_are_refused_before_they_overflow_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINDEXER_POSTGRES_TIMEOUT_S", "1e12")
    with pytest.raises(UsageError, match=r"REINDEXER_POSTGRES_TIMEOUT_S: must be at most 86400"):
        Settings.from_environment()
