"""Work that would hold up the viewer (writing files, mostly), done in a thread, its outcome told in the viewer's."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal


class Background(QObject):
    """Work in a thread of its own, one piece after the other.

    Signals
    -------
    done : object
        What the work returned.
    failed : Exception
        What it raised.
    """

    done = Signal(object)
    failed = Signal(object)
    _ended = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._ended.connect(self._tell, Qt.ConnectionType.QueuedConnection)
        self._waiting: deque[Callable[[], Any]] = deque()  # what is at work is the first

    def start(self, work: Callable[[], Any]) -> None:
        """Do the work, after what was begun before."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._begin()

    @property
    def busy(self) -> bool:
        """Whether there is work going on."""
        return bool(self._waiting)

    def _begin(self) -> None:
        threading.Thread(target=self._work, args=(self._waiting[0],), daemon=True, name="napari-osvos files").start()

    def _work(self, work: Callable[[], Any]) -> None:
        outcome: tuple[Any, Exception | None]
        try:
            outcome = (work(), None)
        except Exception as error:
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the panel was closed meanwhile
            self._ended.emit(*outcome)

    def _tell(self, value: Any, error: Exception | None) -> None:
        self._waiting.popleft()
        if self._waiting:
            self._begin()
        if error is None:
            self.done.emit(value)
        else:
            self.failed.emit(error)
