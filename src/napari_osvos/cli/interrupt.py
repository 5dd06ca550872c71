"""Ctrl+C that lets the work at hand come to a good end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def asking_at_ctrl_c(may_wait: Callable[[], bool]) -> Iterator[None]:
    """Have Ctrl+C raise KeyboardInterrupt only where `may_wait` returns False.

    Outside of the main thread, which alone sees Ctrl+C, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pressed(*_: object) -> None:
        if not may_wait():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
