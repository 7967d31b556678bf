"""WordPiece, held against what the library `tokenizers` makes of the same texts with the same vocabulary.

wordpieces.json: recorded with tokenizers 0.23.3 (WordPiece, BertNormalizer with lowercase, BertPreTokenizer).
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from reindexer.adapters.embedders.static import built_in_model
from reindexer.adapters.embedders.static_model import FOLDER, VOCABULARY
from reindexer.adapters.embedders.wordpiece import pieces, words

RECORDED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("wordpieces.json").read_text(encoding="utf-8"))
TOKENS = (FOLDER / VOCABULARY).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("recorded", RECORDED, ids=range(len(RECORDED)))
def test_a_text_has_the_pieces_that_the_original_finds(recorded: dict[str, Any]) -> None:
    numbers = built_in_model().numbers
    found = [[TOKENS[number] for number in pieces(word, numbers)] or ["[UNK]"] for word in words(recorded["text"])]
    assert list(chain.from_iterable(found)) == recorded["pieces"]


def test_unlike_the_original_a_page_break_parts_words() -> None:
    assert words("end\fbegin\vnext") == ["end", "begin", "next"]
