"""Waiting for what a pause has to let through, in the tests of the engine and of the panel."""

from __future__ import annotations

import time
from collections.abc import Callable


def standstill(count: Callable[[], int], rest: Callable[[float], object] = time.sleep) -> int:
    """Wait, by `rest`, until a count stands still for a second: what was at work is done. Return the count."""
    deadline, before, now = time.monotonic() + 200, -1, count()
    while now != before:
        assert time.monotonic() < deadline, "It did not come to rest."
        rest(1.0)
        before, now = now, count()
    return now
