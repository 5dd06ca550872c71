"""What the panel listens to, so that it can stop listening to all of it at once."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any


class Connections:
    """Callbacks connected to events of napari, which outlive the panel unless they are disconnected.

    Holding bound methods here makes a cycle with their owner; `disconnect_all` breaks it.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Any, Callable[..., Any]]] = []

    def connect(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Call a method whenever the emitter fires."""
        emitter.connect(callback)
        self._pairs.append((emitter, callback))

    def connect_if_there(self, events: Any, name: str, callback: Callable[..., Any]) -> None:
        """Connect to an event that not every version of napari, or not every layer, has."""
        emitter = getattr(events, name, None)
        if emitter is not None:
            self.connect(emitter, callback)

    def disconnect_all(self) -> None:
        """Stop listening; nothing happens if it was done before."""
        pairs, self._pairs = self._pairs, []
        for emitter, callback in pairs:
            with contextlib.suppress(Exception):  # the emitter may be gone already
                emitter.disconnect(callback)


def forward_to(owner: Any, signal: str) -> Callable[[Any], None]:
    """Return what emits a signal of a Qt object, in any thread, for as long as the object is there.

    The signal is looked up anew each time: one that was looked up before its object was destroyed crashes PyQt.
    """
    reference = weakref.ref(owner)

    def forward(value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the panel was closed meanwhile
            live = reference()
            if live is not None:
                getattr(live, signal).emit(value)

    return forward
