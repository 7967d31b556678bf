"""A certificate authority of our own, a server's certificate by it, and a Redis that speaks TLS, where one is at hand."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from reindexer.embedded.children import Child, ChildFailed, Children, accepts, free_port, wait_until_ready


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files. The server's is for the name `localhost` alone."""

    authority: Path
    server: Path
    key: Path


def certificates(directory: Path) -> Certificates:
    """New ones. The test is skipped where there is no `openssl`."""
    if not (program := shutil.which("openssl")):
        pytest.skip("there is no openssl here")
    authority, authority_key = directory / "ca.crt", directory / "ca.key"
    server, key, wanted, names = (directory / f"server.{each}" for each in ("crt", "key", "csr", "ext"))
    names.write_text("subjectAltName = DNS:localhost\n")
    new = [program, "req", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
    for command in (
        [*new, "/CN=tests", "-x509", "-keyout", authority_key, "-out", authority],
        [*new, "/CN=server", "-keyout", key, "-out", wanted],
        [program, "x509", "-req", "-in", wanted, "-CA", authority, "-CAkey", authority_key, "-CAcreateserial",
         "-days", "2", "-extfile", names, "-out", server],
    ):  # fmt: skip
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return Certificates(authority, server, key)


def start_tls_redis(children: Children, directory: Path, files: Certificates) -> tuple[Child, int]:
    """The machine's own server: that of the wheel speaks no TLS. The test is skipped where there is none that does."""
    if not (program := shutil.which("redis-server")):
        pytest.skip("there is no redis-server here")
    port = free_port()
    child = children.start(
        "redis-tls",
        [program, "--port", "0", "--tls-port", str(port), "--tls-cert-file", str(files.server), "--tls-key-file",
         str(files.key), "--tls-ca-cert-file", str(files.authority), "--tls-auth-clients", "no", "--save", "",
         "--dir", str(directory)],
    )  # fmt: skip
    try:
        wait_until_ready(child, lambda: accepts(port), within_s=10)
    except ChildFailed as exc:
        pytest.skip(f"the redis-server here speaks no TLS: {exc}")
    return child, port
