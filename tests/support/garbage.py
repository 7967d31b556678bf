"""Objects that wait for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Callable


def left_behind(kind: type, act: Callable[[], object]) -> int:
    """How many objects of this very class an act leaves behind, until a garbage collection comes."""

    def there() -> int:
        return sum(type(each) is kind for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = there()
        act()
        return there() - before
    finally:
        gc.enable()
