"""Rows about the application kit: what it does in somebody else's transaction, and what it hands out of one."""

from __future__ import annotations

from tests.faults.sabotage.row import Sabotage

SQLALCHEMY = "tests/integration/test_sqlalchemy_marks.py::"
DJANGO = "tests/integration/test_django.py::"
ALEMBIC = "tests/integration/test_alembic_operations.py::"

APPLICATIONS = (
    Sabotage(
        "migrations: all tables are locked together, or none",
        "attach-locks-together",
        "_lock(connection, modes)",
        "_lock(connection, modes[:0])",
        ALEMBIC + "test_a_writer_that_holds_one_table_and_comes_to_another_waits_for_less_than_a_second",
    ),
    Sabotage(
        "migrations: detaching waits for what workers have in hand",
        "detach-in-transaction-waits",
        "!= (0,):",
        "!= (0,) and False:",
        ALEMBIC + "test_detaching_waits_until_no_worker_has_an_item_in_hand_and_lets_none_take_one",
        fails_with="DID NOT RAISE",
    ),
    Sabotage(
        "migrations: our settings do not stay for theirs",
        "transaction-settings-back",
        "for name, value in before:",
        "for name, value in before[:0]:",
        ALEMBIC + "test_the_statements_that_follow_have_the_settings_of_before",
    ),
    Sabotage(
        "SQLAlchemy: the mark is that of the session's own transaction",
        "mark-own-transaction",
        "session.execute(_TAKE, parameters, bind_arguments=arguments)",
        "session.get_bind(**arguments).connect().execute(_TAKE, parameters)",
        SQLALCHEMY + "test_savepoints_belong_to_the_transaction_around_them",
    ),
    Sabotage(
        "SQLAlchemy: what is not yet flushed is written before the mark is taken",
        "mark-after-flush",
        "session.flush()",
        "pass",
        SQLALCHEMY + "test_what_is_flushed_only_by_the_commit_is_marked",
    ),
    Sabotage(
        "SQLAlchemy: no token before the commit",
        "mark-not-before-commit",
        "each.taken = _take(session, each)",
        "each.mark.token = each.taken = _take(session, each)",
        SQLALCHEMY + "test_a_commit_that_fails_has_no_token",
    ),
    Sabotage(
        "SQLAlchemy: the end of a savepoint is no commit",
        "mark-outer-commit",
        "if session.in_nested_transaction():",
        "if False:",
        SQLALCHEMY + "test_savepoints_belong_to_the_transaction_around_them",
    ),
    Sabotage(
        "SQLAlchemy: no token of a transaction that somebody else may roll back",
        "mark-joined-transaction",
        " and not _goes_on(session, each)",
        "",
        SQLALCHEMY + "test_a_session_that_joins_a_transaction_of_its_connections_has_no_token_yet",
    ),
    Sabotage(
        "Django: the mark is that of the block's own transaction",
        "django-mark-own-transaction",
        "with connection.cursor() as cursor:",
        "with connection.copy('other').cursor() as cursor:",
        DJANGO + "test_what_a_transaction_wrote_can_be_waited_for",
    ),
    Sabotage(
        "Django: no token before the commit",
        "django-mark-after-commit",
        "transaction.on_commit(partial(mark.hand_out, str(token)), using=using)",
        "mark.hand_out(str(token))",
        DJANGO + "test_a_transaction_that_is_rolled_back_has_no_token",
    ),
)
