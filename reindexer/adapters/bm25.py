"""Keywords by BM25, computed by Qdrant's engine package in this process. No request, no cost.

The weights are sent to Qdrant as numbers. So the embedded server and any real one hold the same, whichever tokenizers
they have. Qdrant multiplies a weight by how rare the word is in the collection (IDF).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from reindexer.core.errors import UsageError
from reindexer.core.keywords import STEMMED, STOPPED, KeywordRules, Keywords, words_of_document, words_of_query

AVERAGE_TOKENS = 256.0
"""The length of a chunk that is neither long nor short. An average that followed the texts would change the weights of
all points, unseen."""


class Bm25:
    """`KeywordEncoder`. Raises UsageError where the engine package is not installed."""

    def __init__(self, rules: KeywordRules) -> None:
        try:
            import qdrant_edge as edge
        except ImportError:
            raise UsageError("keywords need another package: pip install 'reindexer[keywords]'") from None
        language = rules.language.capitalize()
        stemmer: edge.SnowballParams | edge.DisabledStemmer = edge.DisabledStemmer()
        if rules.stemmer and rules.language in STEMMED:
            stemmer = edge.SnowballParams(getattr(edge.SnowballLanguage, language))
        of_language = {getattr(edge.Language, language)} if rules.language in STOPPED else None
        self._model = edge.Bm25(
            edge.Bm25Config(
                avg_len=AVERAGE_TOKENS, tokenizer=edge.TokenizerType.Word, lowercase=True, stemmer=stemmer,
                stopwords=edge.StopwordsSet(of_language, set(rules.stop_words) or None),
            )
        )  # fmt: skip

    def document(self, text: str) -> Keywords:
        """See `reindexer.ports.KeywordEncoder`."""
        return _plain(self._model.embed_document(words_of_document(text)))

    def query(self, text: str) -> Keywords:
        """See `reindexer.ports.KeywordEncoder`."""
        return _plain(self._model.embed_query(words_of_query(text)))


@lru_cache
def encoder(rules: KeywordRules) -> Bm25:
    """Return the encoder of these rules. Raises as `Bm25` does."""
    return Bm25(rules)


def _plain(made: Any) -> Keywords:
    return Keywords(tuple(made.indices), tuple(made.values))
