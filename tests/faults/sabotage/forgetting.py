"""Rows about items that are forgotten."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

_FILE = "tests/integration/test_forget.py"

FORGETTING = (
    Sabotage(
        "forgetting knows a long key that nobody has noted",
        "forget-long-key",
        "(item_id,) = long_keys.names(connection, found, [item_id])",
        "item_id = long_keys.name(connection, item_id)",
        f"{_FILE}::test_a_long_key_that_no_drain_has_named_yet_is_forgotten_or_refused_as_any_other",
    ),
    Sabotage(
        "an item that has a row is not forgotten",
        "forget-row-refused",
        "if found.rows or found.unreadable:",
        "if False:",
        f"{_FILE}::test_a_row_that_is_there_is_refused_and_nothing_is_touched",
    ),
    Sabotage(
        "a forgotten item leaves every generation",
        "forget-every-generation",
        "for collection in collections_of(self.connection, find_source(self.connection, self.source)):",
        "for collection in collections_of(self.connection, find_source(self.connection, self.source))[-1:]:",
        f"{_FILE}::test_an_item_that_is_indexed_in_two_generations_leaves_both_and_every_record",
    ),
    Sabotage(
        "forgetting waits for a claim of the item",
        "forget-claimed-waits",
        "WHERE due.lease_until IS NULL OR due.lease_until <= clock_timestamp() OR due.token = %(ours)s",
        "WHERE true OR due.token = %(ours)s",
        f"{_FILE}::test_a_worker_that_has_claimed_it_is_waited_for",
    ),
    Sabotage(
        "forgetting claims under a token above those of points",
        "forget-token-above",
        "%(seen)s::bigint + 1,",
        "%(seen)s::bigint * 0,",
        f"{_FILE}::test_points_of_a_higher_token_go_as_well",
        fails_with="something of the item changes again and again",
    ),
    Sabotage(
        "forgetting reads back what it deleted",
        "forget-read-back",
        "if left:",
        "if False:",
        f"{_FILE}::test_points_of_a_higher_token_go_as_well",
    ),
    Sabotage(
        "an item whose forgetting ends half-way is in doubt",
        "forget-hold-doubtful",
        "true,",
        "false,",
        f"{_FILE}::test_a_row_that_comes_meanwhile_is_not_lost",
    ),
    Sabotage(
        "an item that can't be forgotten is given back",
        "forget-released",
        'self.connection.execute(load("forget.sql")["release"], self._named())',
        "pass",
        f"{_FILE}::test_while_qdrant_is_away_it_is_not_forgotten_and_it_can_be_done_again[refuse]",
    ),
    Sabotage(
        "forgetting leaves changes that come later",
        "forget-later-changes",
        "AND ctid::text || ' ' || xmin::text = ANY (%(changes)s::text[]);",
        "AND (true OR %(changes)s::text[] IS NULL);",
        f"{_FILE}::test_a_row_that_comes_while_the_records_go_stays_due[in the outbox]",
    ),
    Sabotage(
        "forgetting leaves an item that became due later",
        "forget-unchanged",
        "if taken != versions or others or self._generations()[0] != generations:",
        "if False:",
        f"{_FILE}::test_a_row_that_comes_while_the_records_go_stays_due[due]",
    ),
    Sabotage(
        "no item is forgotten while a promotion commits",
        "forget-unpromoted",
        "unpromoted(self.connection, self.source)",
        "pass",
        f"{_FILE}::test_a_row_that_comes_while_the_records_go_stays_due[due]",
    ),
    Sabotage(
        "a forgotten item in doubt is verified",
        "forget-doubt",
        "if ago_s is not None and self._recheck_s(ago_s) is not None:",
        "if False:",
        f"{_FILE}::test_what_a_lost_claim_writes_later_is_found_and_goes_and_then_nothing_names_the_item",
    ),
    Sabotage(
        "a forgotten item in doubt goes after its last verification",
        "forget-after-recheck",
        "AND (forgotten_at IS NOT NULL OR",
        "AND (false OR",
        f"{_FILE}::test_what_a_lost_claim_writes_later_is_found_and_goes_and_then_nothing_names_the_item",
    ),
    Sabotage(
        "an item that comes back is forgotten no more",
        "forgotten-row-back",
        "CASE WHEN excluded.outcome = 'DELETED' THEN ledger.forgotten_at END",
        "ledger.forgotten_at",
        f"{_FILE}::test_an_item_that_comes_back_while_it_is_verified_is_known_again",
    ),
    Sabotage(
        "the audit names no item",
        "audit-no-item-id",
        "audit.item_mark(which.source, which.item_id)",
        "which.item_id",
        f"{_FILE}::test_the_audit_says_so_and_names_no_item",
    ),
)
