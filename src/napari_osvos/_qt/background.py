"""Work that would hold up the viewer (writing files, mostly), done in a thread, its outcome told in the viewer's."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal


class Background(QObject):
    """One piece of work in a thread of its own.

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
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether work is going on."""
        return self._thread is not None

    def start(self, work: Callable[[], Any]) -> None:
        """Do the work; nothing happens while other work is going on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(work,), daemon=True, name="napari-osvos files")
            self._thread.start()

    def _work(self, work: Callable[[], Any]) -> None:
        outcome: tuple[Any, Exception | None]
        try:
            outcome = (work(), None)
        except Exception as error:
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the panel was closed meanwhile
            self._ended.emit(*outcome)

    def _tell(self, value: Any, error: Exception | None) -> None:
        self._thread = None
        if error is None:
            self.done.emit(value)
        else:
            self.failed.emit(error)
