"""A model that embeds queries and documents differently, as nomic, E5 and Voyage do, on the fake provider."""

from __future__ import annotations

from dataclasses import replace

from reindexer.core.profile import Profile
from reindexer.testing.provider import Call, FakeProvider, Reply

DOCUMENT, QUERY = "search_document: ", "search_query: "
BY_PREFIX = Profile(document_prefix=DOCUMENT, query_prefix=QUERY)
BY_TYPE = Profile(document_input_type="document", query_input_type="query")


def by_prefix(provider: FakeProvider) -> None:
    """The vector of a query is that of the document with the same words."""

    def answer(call: Call) -> Reply:
        return provider.vectors(replace(call, inputs=tuple(each.replace(QUERY, DOCUMENT) for each in call.inputs)))

    provider.behave = answer


def by_type(provider: FakeProvider) -> None:
    """The same by `input_type`, which it wants. What is asked for as a document has another vector than without."""

    def answer(call: Call) -> Reply:
        if call.body.get("input_type") not in ("document", "query"):
            words = "'input_type' parameter is required for this model: 'document' or 'query'"
            return Reply(400, {"error": {"message": words, "type": "invalid_request_error", "code": None}})
        return provider.vectors(replace(call, inputs=tuple(f"as a document: {each}" for each in call.inputs)))

    provider.behave = answer
