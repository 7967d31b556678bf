"""Rows about keywords: each point has those of its own text, whichever way it came to it."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

CONTRACT = "tests/contract/test_index.py::TestQdrantKeywords::"
OF_POINTS = "tests/integration/test_keywords.py::"

KEYWORDS = (
    Sabotage(
        "keywords: points that keep their vectors get them as well",
        "keywords-beside-kept-vector",
        "bool(wanted) and (self.item.uncertain or wanted != keywords_of(self.item.payload_fingerprint))",
        "False",
        OF_POINTS + "test_keywords_come_to_a_filled_source_in_place_without_any_request_to_the_provider",
    ),
    Sabotage(
        "keywords: a payload beside an older text tells nothing of new ones",
        "keywords-of-older-text",
        "keywords = keywords_of(self.item.payload_fingerprint)",
        "keywords = keywords_of(self.payload_fingerprint)",
        OF_POINTS + "test_keywords_that_are_added_while_a_text_waits_reach_its_kept_chunks_as_well",
    ),
    Sabotage(
        "the fence: keywords spare a point of a higher token or of another text",
        "fence-keywords",
        "update_filter=models.Filter(must=[*_same(collection.source, p), lower])",
        "update_filter=None",
        CONTRACT + "test_late_keywords_are_refused",
    ),
    Sabotage(
        "keywords: a point that has none yet keeps its token",
        "keywords-before-token",
        "[models.HasVectorCondition(has_vector=KEYWORDS)] if p.keywords else []",
        "[]",
        "tests/contract/test_index.py::test_a_point_whose_keywords_were_lost_meanwhile_keeps_its_token",
    ),
    Sabotage(
        "keywords: a collection that holds points can have them",
        "keywords-added-in-place",
        "_add_keywords(client, collection)",
        "pass",
        CONTRACT + "test_keywords_come_to_a_collection_that_holds_points",
        fails_with="Qdrant answered 400",
    ),
    Sabotage(
        "keywords: a collection that holds none yet can be read",
        "keywords-not-there-yet",
        "not with_keywords or self._holds_keywords(collection)",
        "True",
        CONTRACT + "test_keywords_come_to_a_collection_that_holds_points",
        fails_with="Qdrant answered 400",
    ),
    Sabotage(
        "keywords: who compares finds a point that lacks them",
        "reconcile-keywords",
        "keywords_of and not same_keywords(point.keywords, keywords_of(chunk.said(row.text)))",
        "False",
        OF_POINTS + "test_a_point_that_lacks_its_keywords_or_has_others_is_found_and_mended",
    ),
    Sabotage(
        "keywords: the rules are fixed for a generation",
        "keywords-fixed-rules",
        "before.keywords and after.keywords and before.keyword_rules != after.keyword_rules",
        "False",
        OF_POINTS + "test_the_rules_of_keywords_are_not_changed_beside_those_that_are_there",
    ),
)
