"""A value that each process makes for itself."""

from __future__ import annotations

import os
import threading

import pytest

from reindexer.core.per_process import PerProcess
from tests.support.in_fork import in_fork

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks"),
]


def test_a_value_is_made_once_in_a_process_and_anew_in_its_fork() -> None:
    value = PerProcess(lambda: [os.getpid()])
    assert value.peek() is None
    ours = value.get()
    assert value.get() is ours == [os.getpid()]
    assert in_fork(lambda: (value.peek(), value.get() == [os.getpid()], value.get() is value.get())) == repr(
        (None, True, True)
    )
    assert value.get() is ours


def test_a_value_that_was_dropped_is_made_anew() -> None:
    value = PerProcess(list[int])
    ours = value.get()
    assert value.drop() is ours
    assert value.drop() is None
    assert value.get() is not ours
    assert in_fork(value.drop) == "None"


def test_threads_that_ask_at_once_get_the_same_value() -> None:
    at_once, made = threading.Barrier(8), list[object]()
    value = PerProcess(lambda: [threading.get_ident()])

    def ask() -> None:
        at_once.wait(30)
        made.append(value.get())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 8
    assert all(each is made[0] for each in made)


def test_a_value_may_need_another() -> None:
    inner = PerProcess(lambda: 1)
    assert PerProcess(lambda: inner.get() + 1).get() == 2


def test_a_process_forked_while_a_value_is_made_makes_its_own() -> None:
    began, goes_on = threading.Event(), threading.Event()

    def slow() -> int:
        began.set()
        goes_on.wait(10)
        return 1

    thread = threading.Thread(target=PerProcess(slow).get)
    thread.start()
    began.wait(30)
    try:
        assert in_fork(PerProcess(lambda: 7).get) == "7"
    finally:
        goes_on.set()
        thread.join(30)
