"""`demo`: from an empty table to edits, deletes and a bulk request, on the embedded stack, with real text; measured."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reindexer.cli.output import Failed, require_yes
from reindexer.cli.stdlib_texts import StdlibText, stdlib_texts
from reindexer.cli.up import BUILT_IN, DEFAULT_EMBEDDER, Running, running_stack
from reindexer.core.posix import require_posix
from reindexer.core.price import dollars
from reindexer.core.profile import DEFAULT_MODEL
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.text.tokens import estimate_tokens
from reindexer.core.wording import counted
from reindexer.embedded.children import free_port
from reindexer.settings import Settings
from reindexer.wiring import token_price

WITHIN_S = 15.0
INDEX_WITHIN_S = 600.0
BULK = 100
QUERY = "yesterday or tomorrow"
NEW_TEXT = "Purple zebras quietly gallop beneath frozen waterfalls."


@dataclass(slots=True)
class Figures:
    """What the demo measured; `--json` prints it."""

    indexed: int = 0
    index_seconds: float = 0.0
    edit_searchable_ms: float = 0.0
    delete_gone_ms: float = 0.0
    bulk_queued: int = 0
    bulk_succeeded: int = 0


def demo(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("demo")
    def _demo(
        as_json: bool = typer.Option(False, "--json", help="Print one JSON object with the figures instead."),
        yes: bool = typer.Option(False, "--yes", help="Do not ask before an embedding provider is paid."),
        limit: int = typer.Option(0, min=0, help="Index only that many texts (0: all)."),
        without: str | None = typer.Option(None, hidden=True, help="Leave a process out, to show that it is needed."),
    ) -> None:
        """Index Python's standard library, edit it by SQL, and watch the search follow. Ends by itself."""
        require_posix()
        console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        _introduce(console)
        texts = list(islice(stdlib_texts(), limit or None))
        _agree_on_costs(console, texts, yes=yes)
        directory = Path(tempfile.mkdtemp(prefix="rx-demo-"))
        try:
            console.print("[bold]1. Starting[/] Postgres, Redis, Qdrant, listener, worker and API on this machine …")
            started = time.monotonic()
            with running_stack(directory, "127.0.0.1", free_port(), console.print, without=without) as running:
                console.print(f"   up after {time.monotonic() - started:.1f} s")
                console.print(f"   its page: {running.api}/, with the key in {running.directory.key_file}")
                figures = _Story(console, running, texts).tell()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if as_json:
            sys.stdout.write(json.dumps({k: round(v, 1) for k, v in asdict(figures).items()}) + "\n")


def _introduce(console: Console) -> None:
    settings = Settings.from_environment()
    embedder = settings.embedder_name or DEFAULT_EMBEDDER
    model = f" ({settings.embedding_model or DEFAULT_MODEL})" if embedder == "openai" else ""
    system = platform.system().replace("Darwin", "macOS")
    console.print(f"Python {platform.python_version()} on {system} {platform.machine()}; embedder: {embedder}{model}")


def _agree_on_costs(console: Console, texts: list[StdlibText], *, yes: bool) -> None:
    settings = Settings.from_environment()
    if built_in := BUILT_IN.get(settings.embedder_name or DEFAULT_EMBEDDER):
        console.print(f"{built_in}; no key, nothing to pay\n")
        return
    tokens = sum(estimate_tokens(text.text) for text in texts)
    price = dollars(tokens, token_price(settings, CONTEXT_ITEMS))
    cost = "at your provider's price" if price is None else f"about ${price:.2f}"
    console.print(f"This embeds about {tokens:,} tokens with {settings.embedding_model or DEFAULT_MODEL}, {cost}.")
    require_yes("Go on?", yes=yes, otherwise="nothing was embedded", err=console.stderr)


def words_of(text: str) -> set[str]:
    """The words of a text, casefolded."""
    return set(re.findall(r"[^\W_]+", text.casefold()))


class _Story:
    """The steps, in order. A step that does not succeed in time raises Failed."""

    def __init__(self, console: Console, running: Running, texts: list[StdlibText]) -> None:
        self._console = console
        self._texts = texts
        self._database_url = running.stack.env["DATABASE_URL"]
        self._api = httpx.Client(base_url=running.api, headers={"X-API-Key": running.key}, timeout=30)
        self._figures = Figures()

    def tell(self) -> Figures:
        """Run all steps."""
        with self._api:
            self._index()
            found = self._search_for(QUERY)
            self._edit(found)
            self._delete(found)
            self._bulk()
            self._sum_up()
        return self._figures

    def _index(self) -> None:
        docstrings = counted(len(self._texts), "docstring")
        self._say(2, "Writing", f"{docstrings} of the standard library to a table, by plain SQL COPY")
        statement = "COPY context_items (title, content, metadata) FROM STDIN"
        with psycopg.connect(self._database_url) as connection, connection.cursor().copy(statement) as copy:
            for text in self._texts:
                copy.write_row((text.name, text.text, json.dumps({"kind": text.kind})))
        started = time.monotonic()
        with psycopg.connect(self._database_url, autocommit=True) as connection, self._progress() as progress:
            task = progress.add_task("   indexing", total=len(self._texts), rate="")
            while (done := self._completed(connection)) < len(self._texts):
                rate = done / (time.monotonic() - started)
                progress.update(task, completed=done, rate=f"{rate:,.0f}/s")
                if time.monotonic() - started > (INDEX_WITHIN_S if done else WITHIN_S):
                    raise Failed(f"only {done} of {counted(len(self._texts), 'item')} indexed; does a listener run?")
                time.sleep(0.1)
            progress.update(task, completed=done)
        self._figures.indexed, self._figures.index_seconds = done, time.monotonic() - started
        rate = done / self._figures.index_seconds
        self._console.print(f"   {counted(done, 'item')} in {self._figures.index_seconds:.1f} s: {rate:,.0f} a second")

    def _search_for(self, query: str) -> dict[str, Any]:
        self._say(3, "Searching", f"POST /search for “{query}”")
        hits = self._hits(query)
        for hit in hits[:3]:
            title = hit["payload"]["title"]
            self._console.print(f"   {hit['score']:.3f}  {title}: {self._text_of(title).splitlines()[0]}", markup=False)
        if not hits:
            raise Failed("the search found nothing")
        title = hits[0]["payload"]["title"]
        if not words_of(query) & words_of(f"{title}\n{self._text_of(title)}"):
            self._console.print("   found by its meaning: the first has no word of the query")
        return hits[0]

    def _text_of(self, title: str) -> str:
        return next(text.text for text in self._texts if text.name == title)

    def _edit(self, hit: dict[str, Any]) -> None:
        self._say(4, "Editing", "that row by SQL, on another connection, to a text that shares no word with it")
        statement = "UPDATE context_items SET title = 'Zebras', content = %s WHERE id = %s"
        self._console.print(f"   the new text: “{NEW_TEXT}”")
        spent = self._sql(statement, [NEW_TEXT, hit["item_id"]], lambda: self._ids(NEW_TEXT, 1) == [hit["item_id"]])
        self._figures.edit_searchable_ms = spent
        if any(each["item_id"] == hit["item_id"] and each["score"] >= hit["score"] for each in self._hits(QUERY, 20)):
            raise Failed("the old text is still found")
        self._console.print(f"   found by its new text [bold]{spent:.0f} ms[/] after the commit; not by the old one")

    def _delete(self, hit: dict[str, Any]) -> None:
        self._say(5, "Deleting", "the row")
        spent = self._sql(
            "DELETE FROM context_items WHERE id = %s",
            [hit["item_id"]],
            lambda: hit["item_id"] not in self._ids(NEW_TEXT, 20),
        )
        self._figures.delete_gone_ms = spent
        self._console.print(f"   gone from the search {spent:.0f} ms after the commit")

    def _bulk(self) -> None:
        with psycopg.connect(self._database_url) as connection:
            rows = connection.execute("SELECT id::text FROM context_items LIMIT %s", [BULK]).fetchall()
        self._say(6, "Rebuilding", f"{counted(len(rows), 'item')} by POST /admin/bulk/regenerate-embeddings")
        answer = self._api.post(
            "/admin/bulk/regenerate-embeddings", json={"context_ids": [item_id for (item_id,) in rows]}
        )
        answer.raise_for_status()
        tasks = answer.json()["task_ids"]
        self._figures.bulk_queued = answer.json()["queued_count"]
        states: dict[str, int] = {}

        def all_ended() -> bool:
            states.clear()
            for task in tasks:
                state = self._api.get(f"/admin/tasks/{task}").json()["state"]
                states[state] = states.get(state, 0) + 1
            return set(states) <= {"SUCCESS", "FAILURE"}

        self._until(all_ended, "the tasks did not end")
        self._figures.bulk_succeeded = states.get("SUCCESS", 0)
        self._console.print(f"   queued {self._figures.bulk_queued}; states {states}")
        if self._figures.bulk_succeeded != self._figures.bulk_queued:
            raise Failed(f"tasks failed: {states}")

    def _sum_up(self) -> None:
        status = self._api.get("/admin/status").json()
        self._console.print(
            f"\n[bold]Done.[/] {counted(status['completed'], 'item')} indexed, {status['pending']} pending, "
            f"{status['failed']} failed.\n"
            "Try next:  reindexer up   keeps the same stack running, for your own psql and your own queries."
        )

    def _sql(self, statement: str, parameters: list[Any], seen: Callable[[], bool]) -> float:
        """Run a statement on its own connection. Returns the milliseconds from its commit until `seen()`."""
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters)
        committed = time.perf_counter()
        self._until(seen, "the search did not follow the edit")
        return (time.perf_counter() - committed) * 1000

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + WITHIN_S
        while not condition():
            if time.monotonic() > until:
                raise Failed(f"{otherwise} within {WITHIN_S:.0f} s")
            time.sleep(0.002)

    def _hits(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        answer = self._api.post("/search", json={"source": "context_items", "query": query, "limit": limit})
        answer.raise_for_status()
        hits: list[dict[str, Any]] = answer.json()["hits"]
        return hits

    def _ids(self, query: str, limit: int) -> list[str]:
        return [hit["item_id"] for hit in self._hits(query, limit)]

    def _completed(self, connection: psycopg.Connection[Any]) -> int:
        row = connection.execute("SELECT count(*) FROM reindexer.item_status WHERE status = 'COMPLETED'").fetchone()
        return int(row[0]) if row else 0

    def _progress(self) -> Progress:
        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        return Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)

    def _say(self, step: int, what: str, rest: str) -> None:
        self._console.print(f"[bold]{step}. {what}[/] {rest}")
