"""What `up` says where it does not become ready: which server does not answer, and the setting that names it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reindexer.cli.output import Failed
from reindexer.cli.up import Running, _wait_until_ready
from reindexer.embedded.children import Children, free_port
from reindexer.embedded.data_directory import DataDirectory
from reindexer.embedded.stack import Stack
from reindexer.embedded.supervisor import Supervisor

WELL = dict.fromkeys(
    ("listener", "workers", "work", "triggers", "sources", "generations", "breakers", "postgres"), "ok"
)


@contextmanager
def api(checks: Mapping[str, str]) -> Iterator[str]:
    """The URL of an API that is not ready, for the reasons in `checks`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(json.dumps({"checks": checks}).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def told(url: str, folder: Path) -> str:
    """What ends `up` where the API at `url` does not become ready."""
    with Children(folder / "logs") as children:
        stack = Stack(folder, children, Supervisor(children, print), {}, {})
        with pytest.raises(Failed) as failed:
            _wait_until_ready(Running(url, "", stack, DataDirectory(folder)), None, within_s=0.2)
    return str(failed.value)


def test_up_says_which_servers_do_not_answer_and_the_settings_that_name_them(tmp_path: Path) -> None:
    idle = {"workers": "none takes work: start `reindexer worker`"}
    with api({**WELL, **idle, "broker": "does not answer", "qdrant": "does not answer"}) as url:
        words = told(url, tmp_path)
    assert "broker: does not answer (CELERY_BROKER_URL); qdrant: does not answer (QDRANT_URL)" in words
    assert "none takes work" not in words  # it follows from the broker
    assert str(tmp_path / "logs") in words


def test_up_says_which_other_check_fails_where_all_servers_answer(tmp_path: Path) -> None:
    with api({**WELL, "listener": "absent", "sources": "shop: refused", "broker": "ok", "qdrant": "ok"}) as url:
        words = told(url, tmp_path)
    assert "listener: absent" in words
    assert "shop" not in words  # sources are reported, and mended while the stack runs


def test_up_says_that_the_api_does_not_answer(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert f"the API at {url} does not answer" in told(url, tmp_path)
