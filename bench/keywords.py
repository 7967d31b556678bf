"""Keywords: what an edit costs more with them, and how well both find together what each finds alone.

The labelled set is made without looking at any ranker. Of a docstring of the standard library, the first sentence asks
for the rest. The queries of bench/meanings.toml share no word with the text that they ask for. All texts are in one
collection. `python -m bench.keywords FILE` measures another set: Debian's translated descriptions (a file
`Translation-ja`, say), whose summary asks for the long description.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import models

from bench.backfill import backfill
from bench.figures import Figures
from bench.freshness import ROWS, edits, percentile
from bench.meanings import meaning
from bench.stage import Bench, Stage, Unsound, stage, until
from reindexer.adapters.bm25 import encoder
from reindexer.adapters.embedders.static import MAX_INPUTS, StaticEmbedder
from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.cli.stdlib_texts import stdlib_texts
from reindexer.core.keywords import LANGUAGES, KeywordRules, numbers_of_query
from reindexer.core.owner import Owner
from reindexer.core.search_terms import SearchTerms
from reindexer.core.text.batching import slices
from reindexer.index.search import find
from reindexer.ports import Collection, Point
from reindexer.postgres.connect import connect
from reindexer.sources import change

TEXTS, QUERIES, FIRST = 2_000, 300, 10
NOW = 1_800_000_000_000_000
RATE = 10
MODES = ("meaning", "keywords", "hybrid")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts, and queries with the number of the text that each asks for."""

    texts: Sequence[str]
    queries: Sequence[tuple[str, int]]


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Keywords for a filled table; edits with and without them in turns; then nDCG@10 of each mode."""
    _measure_adding(stage, figures, 2_000 if quick else 10_000)
    _measure_edits(stage, figures, seconds=5 if quick else 20, times=1 if quick else 3)
    asked = both(known_items(_docstrings(), 500 if quick else TEXTS), _meanings())
    found = ndcg(stage.qdrant_url, asked, KeywordRules())
    of = f"{len(asked.queries)} queries, {len(asked.texts):,} texts"
    for mode in MODES:
        figures.add(f"retrieval_{mode}_ndcg", found[mode], of)
    with_headers = both(known_items(_docstrings(headers=True), 500 if quick else TEXTS), _meanings())
    headed = ndcg(stage.qdrant_url, with_headers, KeywordRules())
    for mode in ("meaning", "hybrid"):
        note = f"{mode}, each docstring behind its qualified name; without {found[mode]:.3f}"
        figures.add(f"retrieval_header_{mode}_ndcg", headed[mode], note)
    better = max(found["meaning"], found["keywords"])
    figures.add("retrieval_hybrid_ratio", found["hybrid"] / better, "hybrid ÷ the better of meaning and keywords")


def _measure_adding(stage: Stage, figures: Figures, rows: int) -> None:
    with stage.fresh() as bench:
        bench.fill(rows)
        backfill(bench, within_s=300)
        asked, began = stage.provider.stats()["inputs"], time.perf_counter()
        _turn_keywords(bench, True)
        until(lambda: not bench.waits(), 300, "keywords are not added")
        took = time.perf_counter() - began
        lacking = models.Filter(must_not=[models.HasVectorCondition(has_vector="bm25")])
        if stage.provider.stats()["inputs"] != asked or stage.qdrant().count("context_items", lacking).count:
            raise Unsound("keywords ask the provider, or a point lacks them")
    figures.add("keywords_added_rps", rows / took, f"{rows:,} rows that were filled before; the provider is not asked")


def _measure_edits(stage: Stage, figures: Figures, *, seconds: int, times: int) -> None:
    p50s: dict[bool, list[float]] = {False: [], True: []}
    with stage.fresh() as bench:
        bench.fill(ROWS)
        bench.processes.listener()
        bench.processes.worker(pool="prefork", concurrency=2)
        for _ in range(times):
            for keywords, seen in p50s.items():
                _turn_keywords(bench, keywords)
                until(lambda: not bench.waits(), 120, "the change of keywords does not end")
                seen.append(1000 * percentile(edits(bench, RATE, seconds), 0.5))
    more = statistics.median(one - other for one, other in zip(p50s[True], p50s[False], strict=True))
    note = f"{RATE} edits/s; without keywords {statistics.median(p50s[False]):.1f} ms, in turns; prefork 2"
    figures.add("keywords_edit_p50_ms", statistics.median(p50s[True]), note)
    figures.add("keywords_edit_more_ms", more, "the median difference of turns with and without")


def _turn_keywords(bench: Bench, on: bool) -> None:
    with connect(bench.url, application_name="bench") as connection:
        change.apply(connection, change.propose(connection, "context_items", {"keywords": on}), who="bench")


def ndcg(url: str, asked: Labelled, rules: KeywordRules) -> Mapping[str, float]:
    """nDCG@10 of each mode: 1 ÷ log2(1 + place), 0 beyond the tenth; by `static` vectors in a real collection."""
    index, words, embedder = QdrantIndex(url, api_key=None, grpc_port=None), encoder(rules), StaticEmbedder()
    collection = Collection("bench_retrieval", "bench_retrieval__g1", "bench_retrieval", keywords=True)
    index.prepare(collection, embedder.dimensions, Owner(None, embedder.fingerprint))
    try:
        for some in slices(list(enumerate(asked.texts)), MAX_INPUTS):
            vectors = embedder.embed([text for _, text in some], timeout_s=60).vectors
            points = [
                Point(str(number), 0, vector, {}, "", None, words.document(text))
                for (number, text), vector in zip(some, vectors, strict=True)
            ]
            index.upsert(collection, points, NOW, 60)
        gained = dict.fromkeys(MODES, 0.0)
        for query, wanted in asked.queries:
            vector, said = embedder.embed([query], timeout_s=60).vectors[0], [words.query(query)]
            all_said = [*said, words.query(numbers_of_query(query))]
            for mode, given in zip(MODES, ((vector, []), (None, said), (vector, all_said)), strict=True):
                hits = find(index, collection, given[0], given[1], SearchTerms(FIRST))
                place = next((n for n, hit in enumerate(hits, 1) if hit.item_id == str(wanted)), None)
                gained[mode] += 1 / math.log2(1 + place) if place else 0.0
    finally:
        index.drop(collection)
    return {mode: gain / len(asked.queries) for mode, gain in gained.items()}


def known_items(pairs: Sequence[tuple[str, str]], texts: int) -> Labelled:
    """Some of the pairs of a short and a long text. Each short one that is drawn asks for its long one."""
    drawn = random.Random(2).sample(list(pairs), min(texts, len(pairs)))
    asking = random.Random(1).sample(range(len(drawn)), min(QUERIES, len(drawn)))
    return Labelled([long for _, long in drawn], [(drawn[n][0], n) for n in asking])


def both(one: Labelled, other: Labelled) -> Labelled:
    """The texts and the queries of both."""
    moved = [(query, len(one.texts) + number) for query, number in other.queries]
    return Labelled([*one.texts, *other.texts], [*one.queries, *moved])


def _meanings() -> Labelled:
    asked = meaning()
    return Labelled(asked.texts, [(query, number) for number, query in enumerate(asked.queries)])


def _docstrings(*, headers: bool = False) -> list[tuple[str, str]]:
    """The first sentence and the rest of each; `headers`: with its name in front of the rest, as `chunk_header`."""
    parts = ((each.name, *each.text.partition("\n\n")) for each in stdlib_texts())
    found = _distinct((first, rest[:2000], name) for name, first, _, rest in parts)
    return [(first, f"{name}\n{rest}" if headers else rest) for first, rest, name in found]


def _descriptions(path: Path) -> list[tuple[str, str]]:
    found = re.findall(r"^Description-(?!md5)\w+: (.*)\n((?: .*(?:\n|\Z))+)", path.read_text("utf-8"), re.M)
    texts = ((short, " ".join(long.replace("\n .\n", "\n").split()), "") for short, long in found)
    return [(short, long) for short, long, _ in _distinct(texts)]


def _distinct(texts: Iterator[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """Those that are long enough, and neither of whose first two parts came before."""
    seen = set[str]()
    for short, long, name in texts:
        if len(short) > 10 and len(long) > 80 and seen.isdisjoint((short, long[:120])):
            seen |= {short, long[:120]}
            yield short, long, name


def main() -> int:
    """Measure a file of Debian's descriptions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--language", choices=LANGUAGES, default="none")
    options = parser.parse_args()
    asked = known_items(_descriptions(options.file), TEXTS)
    with stage() as running:
        found = ndcg(running.qdrant_url, asked, KeywordRules(options.language))
    told = ", ".join(f"{mode} {found[mode]:.3f}" for mode in MODES)
    sys.stdout.write(f"{options.file.name}: {len(asked.queries)} queries, {len(asked.texts)} texts: {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
