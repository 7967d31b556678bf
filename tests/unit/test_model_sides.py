"""What is told of models that embed queries and documents differently."""

from __future__ import annotations

import pytest

from reindexer.core.model_sides import advice
from reindexer.core.profile import Profile


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("nomic-embed-text:v1.5", 'document_prefix = "search_document: ", query_prefix = "search_query: "'),
        ("nomic-ai/nomic-embed-text-v1", 'document_prefix = "search_document: ", query_prefix = "search_query: "'),
        ("intfloat/multilingual-e5-large", 'document_prefix = "passage: ", query_prefix = "query: "'),
        ("BAAI/bge-small-en-v1.5", 'query_prefix = "Represent this sentence for searching relevant passages: "'),
        ("mxbai-embed-large", 'query_prefix = "Represent this sentence for searching relevant passages: "'),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", 'query_prefix = "query: "'),
        ("voyage-3.5", 'document_input_type = "document", query_input_type = "query"'),
        ("embed-multilingual-v3.0", 'document_input_type = "search_document", query_input_type = "search_query"'),
        ("nvidia/nv-embedqa-e5-v5", 'document_input_type = "passage", query_input_type = "query"'),
    ],
)
def test_a_profile_that_says_nothing_of_a_known_model_is_told_what_its_makers_want(model: str, told: str) -> None:
    line = f"{model} embeds queries and documents differently, and wants {told} in its profile"
    assert advice(model, Profile()) == line
    assert advice(model, Profile(query_prefix="find: ")) is None


@pytest.mark.parametrize(
    "model", ["text-embedding-3-small", "bge-m3", "multilingual-e5-large-instruct", "mistral-embed", "all-minilm"]
)
def test_nothing_is_told_of_other_models(model: str) -> None:
    assert advice(model, Profile()) is None
