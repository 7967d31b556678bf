"""The embedded Qdrant server as users start it, or the real one that is given in its place."""

import os
import signal
import subprocess
import sys

import pytest
from qdrant_client import QdrantClient

REAL_URL = os.environ.get("REINDEXER_TEST_QDRANT_URL")

embedded_only = pytest.mark.skipif(REAL_URL is not None, reason="about the embedded server's own process")


class Process:
    """The server as users start it. Ends it by its own process id."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "reindexer.embedded.qdrant_server", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line or self.end()
        self.url = line.split()[-1]

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


def connect(url: str) -> QdrantClient:
    """Without the check of versions: that runs in a thread of its own, which may outlive a server that a test ends."""
    return QdrantClient(url=url, timeout=30, check_compatibility=False)
