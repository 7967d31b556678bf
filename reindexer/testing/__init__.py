"""For tests of plug-ins and of applications. Needs the extra `testing`; no other module of the program imports it.

- `EmbedderContract`, `ChunkerContract`, `IndexContract`: what every embedder, chunker and index guarantees, as classes
  of tests to inherit. `FilteringIndexContract`: what an index with filters guarantees, `IndexContract` included.
  `KeywordIndexContract`: what one that takes keywords guarantees beside that.
- `FakeProvider`: an embedding provider on loopback, which can be slow, refuse and lie.
- `eventually`: waits for a condition.
- `reindexer.testing.fixtures`: pytest fixtures, among them one that runs the whole stack.
"""

from reindexer.testing.chunkers import ChunkerContract
from reindexer.testing.embedders import EmbedderContract
from reindexer.testing.filters import FilteringIndexContract
from reindexer.testing.indexes import IndexContract
from reindexer.testing.keywords import KeywordIndexContract
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually

__all__ = [
    "ChunkerContract", "EmbedderContract", "FakeProvider", "FilteringIndexContract", "IndexContract",
    "KeywordIndexContract", "eventually",
]  # fmt: skip
