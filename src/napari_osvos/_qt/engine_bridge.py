"""Brings what the engine tells from its thread to the viewer's, no more of it than can be shown."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_osvos.worker.client import Engine
from napari_osvos.worker.events import Event, FrameDone, Noted, Preview

# Events are handed over this far apart, so that painting and scrolling come in between.
INTERVAL = 80  # ms


class FrameSink(Protocol):
    """Takes what is to be drawn, in the thread of the engine; an `OSError` of one sentence says that it cannot."""

    def write(self, frame: int, labels: object, probability: object = None, uncertainty: object = None) -> None:
        """Take a finished frame."""

    def write_preview(self, frame: int, z: int | None, plane: object, probability: object = None) -> None:
        """Take the preview of a plane."""


class EngineBridge(QObject):
    """An engine whose events arrive as a Qt signal, in the thread of the viewer.

    Frames are written by the engine's thread, straight into the arrays of the `sink`; what reaches the viewer's
    thread is the news only, some 12 times a second.

    Signals
    -------
    told : list of Event
        What came since the last time, in order.
    """

    told = Signal(list)
    _came = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sink: FrameSink | None = None
        self.had_run = False  # whether the news that are told came during a run
        self._lock = threading.Lock()
        self._news: deque[Event] = deque()
        self._awake = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._hand_over)
        self._came.connect(self._wake, Qt.ConnectionType.QueuedConnection)
        self.engine = Engine(_forward_to(self))

    def close(self) -> None:
        """End the engine; nothing is told any more."""
        self._timer.stop()
        self.sink = None
        self.engine.close()

    def take(self, event: Event) -> None:
        """Take an event; called in the engine's thread."""
        event = self._draw(event)
        with self._lock:
            last = self._news[-1] if self._news else None
            if isinstance(event, Preview) and isinstance(last, Preview):
                self._news.pop()  # it is in the array already
            self._news.append(event)
            wake, self._awake = not self._awake, True
        if wake:
            self._came.emit()

    def _draw(self, event: Event) -> Event:
        """Draw what came; return what is to be told of it."""
        sink = self.sink
        try:
            if sink is not None and isinstance(event, FrameDone):
                sink.write(event.frame, event.labels, event.probability, event.uncertainty)
            elif sink is not None and isinstance(event, Preview):
                sink.write_preview(event.frame, event.z, event.labels, event.probability)
        except OSError as error:
            if isinstance(event, FrameDone):
                self.engine.stop_and_keep()  # the frames to come would be lost as well
            return Noted(str(error))
        return event

    def _wake(self) -> None:
        if not self._timer.isActive():
            self._timer.start(INTERVAL)

    def _hand_over(self) -> None:
        with self._lock:
            news, self._news, self._awake = list(self._news), deque(), False
        if news:
            self.had_run = self.sink is not None
            self.told.emit(news)


def _forward_to(bridge: EngineBridge) -> Callable[[Event], None]:
    """Return what the engine calls: it does not keep the panel alive."""
    reference = weakref.ref(bridge)

    def forward(event: Event) -> None:
        live = reference()
        if live is not None:
            try:
                live.take(event)
            except RuntimeError as error:
                if "deleted" not in str(error):  # of Qt, while the window closes
                    raise

    return forward
