"""What a refused write leaves: of each item the highest token, found in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reindexer.index.fenced import Place
from reindexer.index.write import highest_tokens


class Counted(Mapping[Place, int]):
    """Counts how often a place is looked at."""

    def __init__(self, tokens: Mapping[Place, int]) -> None:
        self._tokens, self.looks = tokens, 0

    def __getitem__(self, place: Place) -> int:
        self.looks += 1
        return self._tokens[place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)


def test_of_each_item_the_highest_token_counts() -> None:
    refused = {("a", 0): 7, ("b", 0): 0, ("a", 1): 9, ("a", 2): 8}
    assert highest_tokens(refused) == {"a": 9, "b": 0}


def test_a_long_item_that_is_refused_costs_one_look_at_each_of_its_places() -> None:
    refused = Counted({("a", chunk): chunk for chunk in range(1_000)})
    assert highest_tokens(refused) == {"a": 999}
    assert refused.looks == 1_000
