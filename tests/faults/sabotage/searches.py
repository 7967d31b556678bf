"""Rows about searches: what is a hit, and what is told of it."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

SEARCH = "tests/integration/test_search.py::"
AS_OF = "tests/integration/test_as_of.py::"

SEARCHES = (
    Sabotage(
        "search: of several rankings that are fused each one has the filter",
        "hybrid-filter-in-each-ranking",
        "models.Prefetch(**each, filter=where, limit=most)",
        "models.Prefetch(**each, limit=most)",
        "tests/contract/test_index.py::TestQdrantKeywords::test_each_way_keeps_to_the_filter_and_to_the_source",
    ),
    Sabotage(
        "search: a Qdrant that goes away after a refusal is told as one that is away",
        "search-refusal-look",
        "with self._asking(self._timeout_s):",
        "if True:",
        "tests/contract/test_index.py::test_a_search_that_is_refused_by_a_qdrant_that_goes_away_then_is_not_served",
        fails_with="disconnected",
    ),
    Sabotage(
        "search: before a worker has added keywords, meaning counts",
        "search-before-keywords",
        "except KeywordsMissing:",
        "except ZeroDivisionError:",
        "tests/integration/test_search_modes.py::test_until_a_worker_adds_keywords_a_search_goes_by_meaning_and_says_so",
    ),
    Sabotage(
        "search: what holds a number of the query comes before what is merely near in meaning",
        "hybrid-numbers-first",
        "[encoder.query(numbers_of_query(query))] if encoder else []",
        "[]",
        "tests/integration/test_search_modes.py::"
        "test_the_row_of_a_number_comes_first_wherever_it_is_in_meaning_and_whatever_words_are_beside",
    ),
    Sabotage(
        "search: a point of another source is no hit, by item or by chunk",
        "search-own-source",
        "filter_of(terms.where, ours, without=own)",
        "filter_of(terms.where, without=own)",
        "tests/contract/test_index.py::test_a_search_finds_no_point_of_another_source",
    ),
    Sabotage(
        "search: a text is told only if it is what was indexed",
        "hit-text-fingerprint",
        "if spec.chunk(row.text, span, row.columns).fingerprint == hit.fingerprint:",
        "if True:",
        SEARCH + "test_a_hit_has_the_text_of_its_chunk_while_that_is_what_was_indexed",
    ),
    Sabotage(
        "search: the header of a hit's chunk is cut as when it was indexed",
        "hit-text-header-cut",
        "by.embedder_of(source).limits.max_input_tokens",
        "RequestLimits().max_input_tokens",
        "tests/integration/test_chunk_header.py::test_a_hit_has_its_text_where_a_short_input_cuts_its_header",
    ),
    Sabotage(
        "search: an open search gives no texts without the key",
        "open-search-text",
        "require_key(access)",
        "pass",
        SEARCH + "test_an_open_search_gives_no_texts_without_the_key",
    ),
    Sabotage(
        "search: one that is open gives no texts of what is like an item, either",
        "open-similar-text",
        "require_key(access)",
        "pass",
        SEARCH + "test_an_open_search_gives_no_texts_without_the_key",
    ),
    Sabotage(
        "search: one that is open gives no texts that stand in payloads",
        "open-search-stored-text",
        "if key in shown}",
        "}",
        SEARCH + "test_an_open_search_gives_no_texts_of_payloads_without_the_key",
    ),
    Sabotage(
        "similar: the item itself is no hit",
        "similar-own-item",
        ", without_item=own",
        "",
        SEARCH + "test_similar_finds_what_is_near_to_an_item_and_not_itself_and_asks_no_provider",
    ),
    Sabotage(
        "similar: an item that the caller may not see is as one that is not there",
        "similar-item-seen",
        "own, forced, MOST_CHUNKS",
        "own, (), MOST_CHUNKS",
        SEARCH + "test_similar_to_an_item_that_a_condition_hides_is_as_to_one_that_is_not_there",
    ),
    Sabotage(
        "nothing mixed: the vectors of an item are those of the generation that is searched, wherever the alias is",
        "similar-own-collection",
        "collection.name, only",
        "collection.alias, only",
        "tests/integration/generations/test_outside.py::"
        "test_similar_asks_one_generation_for_the_item_and_for_what_is_like_it",
        fails_with="SourceError",  # the vectors have other dimensions
    ),
    Sabotage(
        "nothing mixed: sources whose model is known at other addresses share no query vector",
        "search-shared-query-vector",
        ", frozenset(source.servers)",
        "",
        "tests/faults/test_provider_address.py::"
        "test_sources_whose_model_is_known_at_other_addresses_share_no_query_vector",
    ),
    Sabotage(
        "as_of: a change counts while it is in the outbox",
        "as-of-outbox",
        "WHERE source = %(source)s),",
        "WHERE false AND source = %(source)s),",
        AS_OF + "test_a_change_counts_from_its_commit_until_it_is_in_the_index",
    ),
    Sabotage(
        "as_of: a change counts while the items of its value are to be found",
        "as-of-fan-out",
        "WHERE source = %(source)s),",
        "WHERE false AND source = %(source)s),",
        AS_OF + "test_a_change_of_a_related_row_counts_until_its_items_are_settled",
    ),
    Sabotage(
        "as_of: a change counts while its item is due or claimed",
        "as-of-due",
        "AND generation = %(generation)s),",
        "AND generation = %(generation)s AND false),",
        AS_OF + "test_a_change_counts_from_its_commit_until_it_is_in_the_index",
    ),
    Sabotage(
        "as_of: a change counts while its item failed and heals",
        "as-of-heals",
        "heal_at IS NOT NULL)",
        "heal_at IS NULL)",
        AS_OF + "test_what_fails_for_a_while_counts_and_what_failed_for_good_does_not",
    ),
    Sabotage(
        "as_of: nothing is known while all rows are looked at",
        "as-of-no-walk",
        "(kind <> 'backfill' OR force)",
        "false",
        AS_OF + "test_a_truncate_counts_until_the_last_point_is_gone",
    ),
    Sabotage(
        "as_of: nothing is known while a forced backfill may write a lost collection",
        "as-of-no-walk",
        " OR force)",
        ")",
        AS_OF + "test_nothing_is_known_while_a_lost_collection_is_written_again",
    ),
    Sabotage(
        "as_of: nothing is known of a generation that is being filled",
        "as-of-filled",
        "state <> 'filling' AND ",
        "",
        AS_OF + "test_nothing_is_known_of_a_generation_that_is_being_filled",
    ),
    Sabotage(
        "as_of: nothing is known beside a standby",
        "as-of-filled",
        "NOT pg_is_in_recovery()",
        "true",
        "tests/faults/test_standby.py::test_a_search_beside_a_standby_does_not_tell_how_current_it_is",
    ),
    Sabotage(
        "as_of: a look that takes long serves many searches",
        "as-of-look-serves",
        "SHARE * (ended - began)",
        "0",
        AS_OF + "test_a_look_that_takes_long_serves_many_searches_but_none_after_a_mark",
    ),
    Sabotage(
        "as_of: who waited for a mark is told anew",
        "as-of-since",
        " or (since is not None and look.began <= since)",
        "",
        AS_OF + "test_a_look_that_takes_long_serves_many_searches_but_none_after_a_mark",
    ),
    Sabotage(
        "as_of: many searches after marks share a look",
        "as-of-since",
        "since is not None and look.began <= since",
        "since is not None",
        AS_OF + "test_many_searches_after_marks_share_a_look_and_leave_connections_to_others",
    ),
    Sabotage(
        "as_of: a search over HTTP after a mark looks anew",
        "as-of-after-mark",
        "time.monotonic() if body.after is not None else None",
        "None",
        AS_OF + "test_a_look_that_takes_long_serves_many_searches_but_none_after_a_mark",
    ),
    Sabotage(
        "as_of: what was told of a source is not told of the next one of its name",
        "as-of-its-generation",
        "filled[0] == look.made",
        "filled",
        AS_OF + "test_what_was_told_of_a_source_is_not_told_of_the_next_one_of_its_name",
    ),
    Sabotage(
        "as_of: no search waits for another's look",
        "as-of-beside-a-look",
        "2 * MAX_LOOK_S if needed else 0",
        "2 * MAX_LOOK_S",
        AS_OF + "test_no_search_waits_for_anothers_look_or_long_for_its_own",
    ),
    Sabotage(
        "as_of: no search waits long for its own look",
        "as-of-look-bounded",
        '"as_of", MAX_LOOK_S)',
        '"as_of", 10.0)',
        AS_OF + "test_no_search_waits_for_anothers_look_or_long_for_its_own",
    ),
    Sabotage(
        "as_of: a look that fails fails no search",
        "as-of-fails-no-search",
        "except (psycopg.Error, ReindexerError):",
        "except ZeroDivisionError:",
        AS_OF + "test_a_look_that_fails_fails_no_search",
        fails_with="LockNotAvailable",
    ),
    Sabotage(
        "as_of: a key with a filter is not told when others edit",
        "as-of-key",
        " and not access.filter",
        "",
        AS_OF + "test_a_key_with_a_filter_is_not_told_when_others_edit",
    ),
)
