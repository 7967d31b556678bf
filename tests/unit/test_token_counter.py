"""Tokens: counted by the model's tables where they can be had, and estimated where they can't."""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest

from reindexer.adapters.embedders.token_counter import ESTIMATE, token_counter
from reindexer.core.text.tokens import estimate_tokens


def tiktoken(monkeypatch: pytest.MonkeyPatch, behave: object) -> None:
    """A module of that name, which is not ours, as it is where it is installed."""
    module = ModuleType("tiktoken")
    vars(module)["encoding_for_model"] = behave
    monkeypatch.setitem(sys.modules, "tiktoken", module)


def test_with_the_tables_tokens_are_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = SimpleNamespace(name="cl100k_base", encode_ordinary=str.split)
    tiktoken(monkeypatch, lambda model: encoding)
    counter = token_counter("text-embedding-3-small")
    assert (counter.name, counter.count("three short words")) == ("tiktoken cl100k_base", 3)


@pytest.mark.parametrize("error", [KeyError("unheard of"), OSError("no network"), ValueError("bad table")])
def test_without_tables_or_for_an_unknown_model_they_are_estimated(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def behave(model: str) -> None:
        raise error

    tiktoken(monkeypatch, behave)
    assert token_counter("some-model") is ESTIMATE


def test_without_the_library_they_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert token_counter("text-embedding-3-small") is ESTIMATE
    assert ESTIMATE.count("some words") == estimate_tokens("some words")


def test_tables_that_do_not_come_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    tiktoken(monkeypatch, lambda model: never.wait(20))
    began = time.monotonic()
    assert token_counter("text-embedding-3-small", within_s=0.1) is ESTIMATE
    assert time.monotonic() - began < 5
    never.set()
