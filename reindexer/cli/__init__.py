"""The command line. Exit code 0 done, 1 failed, 2 wrong usage or settings; errors are one line, no traceback."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import psycopg
import typer
from pydantic import ValidationError

from reindexer import __version__, logs
from reindexer.cli.adopt import adopt
from reindexer.cli.attach import attachments
from reindexer.cli.backfill import backfill
from reindexer.cli.budget import budget
from reindexer.cli.compare import compare
from reindexer.cli.dead_letters import letters
from reindexer.cli.demo import demo
from reindexer.cli.estimate import estimate
from reindexer.cli.events import events
from reindexer.cli.forget import forget
from reindexer.cli.generations import generation_commands
from reindexer.cli.health import health
from reindexer.cli.keys import keys
from reindexer.cli.migrate import setup
from reindexer.cli.output import Failed, debug_wanted, on_one_line
from reindexer.cli.pause import control
from reindexer.cli.plan import plan_commands
from reindexer.cli.processes import PROCESSES, processes
from reindexer.cli.reconcile import reconcile
from reindexer.cli.search import search
from reindexer.cli.spend import spend
from reindexer.cli.status import look
from reindexer.cli.up import StopWanted, up
from reindexer.core.errors import ReindexerError, UsageError
from reindexer.core.wording import refusal
from reindexer.postgres.connect import one_line
from reindexer.settings import Settings
from reindexer.tracing import current

app = typer.Typer(
    name="reindexer", no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None
)
adopt(app)
attachments(app)
backfill(app)
compare(app)
estimate(app)
forget(app)
generation_commands(app)
health(app)
keys(app)
control(app)
demo(app)
letters(app)
look(app)
plan_commands(app)
processes(app)
reconcile(app)
search(app)
setup(app)
spend(app)
budget(app)
events(app)
up(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reindexer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks and debug logs."),
    _: bool = typer.Option(False, "--version", help="Tell the version.", is_eager=True, callback=_tell_version),
) -> None:
    debug_wanted.append(debug)
    current.give(os.environ.get("TRACEPARENT"))
    logs.configure("DEBUG" if debug else "WARNING", "console")
    if context.invoked_subcommand in PROCESSES:
        with suppress(UsageError):  # of which the process itself tells
            settings = Settings.from_environment()
            logs.configure(settings.log_level, settings.log_format)
        logs.tell_unknown(Settings.unknown_variables())
        return
    for line in Settings.unknown_variables():
        sys.stderr.write(f"reindexer: {line}\n")


def main() -> None:
    """Run a command; turn every expected error into one line."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as exc:
        sys.exit(_refuse(exc))
    except (typer.Abort, KeyboardInterrupt, StopWanted):
        sys.exit(1)
    except (ReindexerError, Failed, OSError, psycopg.Error) as exc:
        if any(debug_wanted):
            raise
        sys.stderr.write(f"reindexer: {one_line(exc)}\n")
        sys.exit(2 if isinstance(exc, UsageError) else 1)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(exc: typer.TyperException) -> int:
    """Report a wrong command line: in one line, or by the help if no command was given."""
    if isinstance(exc.__cause__, ValidationError):
        exc.message = on_one_line(refusal(exc.__cause__.errors()[0]))
    message = exc.format_message().replace("unexpected extra argument(s)", "more arguments than it takes")
    if "\n" in message:
        sys.stderr.write(message + "\n")
        return 2
    end = "" if message.endswith((".", "?")) else "."
    sys.stderr.write(f"reindexer: {message}{end} See `{_command()} --help`.\n")
    return 2


def _command() -> str:
    """The command that was called: `reindexer status`; if there is no such command, `reindexer`."""
    word = next((each for each in sys.argv[1:] if not each.startswith("-")), None)
    return f"reindexer {word}" if word in {each.name for each in app.registered_commands} else "reindexer"
