"""Ends open streams when the server is told to end: it would wait for them, and they never end by themselves."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def told_to_end() -> Iterator[asyncio.Event]:
    """An event that is set when a signal ends the server, which gets the signal as well.

    Outside the main thread no signal can be had; there nothing but its owner ends the application.
    """
    ending, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {each: signal.getsignal(each) for each in _SIGNALS}

    def noticed(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ending.set)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for each, handler in before.items():
        if callable(handler):
            signal.signal(each, noticed)
    try:
        yield ending
    finally:
        for each, handler in before.items():
            if callable(handler):
                signal.signal(each, handler)
