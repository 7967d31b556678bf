"""`estimate`: rows, tokens and price, before anything is embedded."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace

import typer

from reindexer import wiring
from reindexer.cli.output import JSON, report
from reindexer.cli.status import database
from reindexer.core.price import dollars
from reindexer.core.source import Source
from reindexer.settings import Settings
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.estimate import estimate as estimate_source
from reindexer.sources.store import find_source


def estimate(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("estimate")
    def _estimate(source: str = typer.Argument(help="Name of the source."), as_json: bool = JSON) -> None:
        """Rows, tokens and price of embedding all of a source, and of what has changed. Nothing is embedded."""
        settings = Settings.load()
        with database(settings) as connection:
            attached = find_source(connection, source)
            there = replace(attached, made_by=None)  # as a rebuild would make it
            embedder = wiring.embedder_of(settings)(there)
            counter = wiring.token_counter_of(settings, there)
            found = estimate_source(connection, there, embedding_spec_of(there, embedder), counter.count)
        price = wiring.token_price(settings, there)
        facts = {
            "source": source,
            **asdict(found),
            "embedder": embedder.fingerprint,
            "tokens_by": counter.name,
            "dollars_per_million_tokens": price,
            "dollars": dollars(found.tokens, price),
            "changed_dollars": dollars(found.changed_tokens, price),
        }
        if not as_json and price is None:
            unknown = f"not known: {_price_hint(there)}"
            facts = {name: unknown if value is None else value for name, value in facts.items()}
        report(facts, as_json=as_json)
        if attached.made_by not in (None, embedder.fingerprint):
            sys.stderr.write(
                f"the points of {source} are made by {attached.made_by}: this is what it takes to make all of them by "
                f"{embedder.fingerprint}, which `reindexer rebuild {source}` does\n"
            )


def _price_hint(source: Source) -> str:
    profile = source.profile
    if profile.model or profile.base_url:
        return f"no price of {profile.model or 'the model'} at {profile.base_url or 'the provider'} is listed"
    return "set REINDEXER_PRICE_PER_MILLION_TOKENS"
