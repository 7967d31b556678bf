"""`manage.py reindexer …`: the console program, on a database of Django's settings."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS

from reindexer.django.databases import database_url


class Command(BaseCommand):
    """Passes its arguments on. From a shell this process becomes the program, so that signals and exit codes are its
    own; `call_command` waits for it, and raises CommandError with its exit code."""

    help = "Run a command of reindexer on a database of Django's settings, such as `manage.py reindexer status`."
    requires_system_checks = ()
    _is_in_shell = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Whatever follows the first word is the program's."""
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="The alias in DATABASES; say it first.")
        parser.add_argument(
            "arguments", nargs=argparse.REMAINDER, metavar="...", help="As of `reindexer`: status --json, --help, ..."
        )

    def run_from_argv(self, argv: list[str]) -> None:
        """Django calls this for a command line alone."""
        self._is_in_shell = True
        super().run_from_argv(argv)

    def handle(self, *_: object, database: str, arguments: list[str], **__: object) -> None:
        """Run the program. Its other settings are read from the environment and `.env`, as always."""
        program = [sys.executable, "-P", "-m", "reindexer", *arguments]
        environment = {**os.environ, "DATABASE_URL": database_url(database)}
        if self._is_in_shell and os.name == "posix":
            sys.stdout.flush()
            os.execve(sys.executable, program, environment)  # noqa: S606
        if self._is_in_shell:
            sys.exit(subprocess.run(program, env=environment, check=False).returncode)
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
        self.stdout.write(done.stdout, ending="")
        if done.returncode:
            raise CommandError(done.stderr.strip(), returncode=done.returncode)
        self.stderr.write(done.stderr, ending="")
