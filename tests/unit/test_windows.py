"""Where the modules and functions are missing that Windows lacks: all imports, and what can't run there says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

AS_ON_WINDOWS = """
import builtins, os, runpy, signal, sys
# These have twins on Windows, as has billiard; to all others, whatever Windows lacks is refused.
import asyncio, concurrent.futures, getpass, logging.handlers, multiprocessing.util, pty, random, shutil, socketserver
import subprocess, tempfile, threading, uuid

LACKS = {"_curses", "_posixsubprocess", "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource",
         "syslog", "termios", "tty"}
HAVE_TWINS = {*sys.stdlib_module_names, "billiard"}
imported = builtins.__import__

def without(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if level == 0 and name.partition(".")[0] in LACKS and importer not in HAVE_TWINS:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return imported(name, globals, locals, fromlist, level)

builtins.__import__ = without
for lacking in ("fork", "getegid", "geteuid", "getgid", "getpgid", "getuid", "killpg", "register_at_fork", "setsid"):
    delattr(os, lacking)
for lacking in ("SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "setitimer"):
    delattr(signal, lacking)
sys.argv = sys.argv[1:]
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS + code, *arguments], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("runpy.run_module('reindexer', run_name='__main__', alter_sys=True)", "reindexer", *arguments)


@pytest.mark.parametrize("module", ["reindexer", "reindexer.indexing", "api.main"])
@pytest.mark.first(1)
def test_it_is_imported(module: str) -> None:
    done = python(f"import {module}; print({module}.__name__)", "")
    assert (done.stdout, done.stderr) == (f"{module}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["--version"]])
@pytest.mark.first(1)
def test_the_command_line_tells_about_itself(arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "reindexer" in done.stdout


@pytest.mark.long
def test_settings_are_read_and_nothing_is_up() -> None:
    done = command("down")
    assert done.returncode == 1
    assert done.stderr.startswith("reindexer: nothing is up with the data in ")
    done = command("status")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "DATABASE_URL is not set" in done.stderr


@pytest.mark.parametrize("arguments", [["up"], ["demo"], ["listen"], ["worker", "-c", "1"]], ids=" ".join)
@pytest.mark.first(1)
def test_what_needs_more_says_in_one_line_to_use_wsl(arguments: list[str]) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "on Windows, install and run it inside WSL" in done.stderr
