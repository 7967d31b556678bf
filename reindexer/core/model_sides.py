"""Well-known models that embed queries and documents differently: what their makers want a profile to say.

By the model cards. A source whose profile says nothing works, and finds less. So this is advice, and never an error.
"""

from __future__ import annotations

import re

from reindexer.core.profile import SIDES, Profile

_RETRIEVE = "Represent this sentence for searching relevant passages: "

_KNOWN: tuple[tuple[str, Profile], ...] = (
    (r"nomic-embed-text", Profile(query_prefix="search_query: ", document_prefix="search_document: ")),
    (r"\be5-(?:small|base|large)(?!.*instruct)", Profile(query_prefix="query: ", document_prefix="passage: ")),
    (r"\bbge-(?:small|base|large)-en|mxbai-embed-large", Profile(query_prefix=_RETRIEVE)),
    (r"arctic-embed.*v?2\.0|arctic-embed2", Profile(query_prefix="query: ")),
    (r"arctic-embed", Profile(query_prefix=_RETRIEVE)),
    (
        r"embedding-?gemma",
        Profile(query_prefix="task: search result | query: ", document_prefix="title: none | text: "),
    ),
    (r"^voyage-", Profile(query_input_type="query", document_input_type="document")),
    (r"nv-embedqa|nemotron-embed", Profile(query_input_type="query", document_input_type="passage")),
    (
        r"^(?:cohere[./])?embed-(?:english|multilingual|v\d)",
        Profile(query_input_type="search_query", document_input_type="search_document"),
    ),
)
"""Part of the model's name, and what its profile should say. The first that fits counts."""


def advice(model: str, profile: Profile) -> str | None:
    """Return what a profile should say for its model, in one line. None: nothing is known of it, or it says something.

    `model`: its name, as it is in effect.
    """
    if any(part for side in SIDES for part in profile.asking(side)):
        return None
    for pattern, wanted in _KNOWN:
        if re.search(pattern, model, re.IGNORECASE):
            lines = ", ".join(f'{name} = "{value}"' for name, value in wanted.as_json().items())
            return f"{model} embeds queries and documents differently, and wants {lines} in its profile"
    return None
