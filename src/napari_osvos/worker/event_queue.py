"""Events on their way to the user of an engine: one thread hands them over, in order."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from napari_osvos.worker.events import Event, Failed
from napari_osvos.worker.packing import discard_arrays, unpack_event


class EventQueue:
    """Hands events over in a thread of its own, and reads their arrays there: what is not wanted is not read.

    Parameters
    ----------
    on_event : callable
        Takes each event.
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event: Callable[[Event], None] | None = on_event
        self._events: queue.SimpleQueue[tuple[Event | Mapping[str, Any], Callable[[], bool]] | None]
        self._events = queue.SimpleQueue()
        threading.Thread(target=self._hand_over, name="napari-osvos events", daemon=True).start()

    def put(self, event: Event | Mapping[str, Any], is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Add an event, also in its packed form; `is_wanted` is asked when its turn has come."""
        self._events.put((event, is_wanted))

    def close(self) -> None:
        """Hand over nothing more, and let go of the user."""
        self._on_event = None
        self._events.put(None)

    def _hand_over(self) -> None:
        while (item := self._events.get()) is not None:
            event, is_wanted = item
            on_event = self._on_event
            if on_event is None or not is_wanted():
                if not isinstance(event, Event):
                    discard_arrays(event)
                continue
            if not isinstance(event, Event):
                try:
                    event = unpack_event(event)
                except OSError as error:  # of an engine that was killed meanwhile
                    if not is_wanted():
                        continue
                    event = Failed(f"What the engine sent cannot be read: {error}.", traceback.format_exc())
            try:
                on_event(event)
            except Exception:
                traceback.print_exc()  # a mistake of the user must not end the thread
            del item, event, on_event  # an idle thread must not keep what it handed over last
