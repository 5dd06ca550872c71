"""Keeps the layers of a run and what is in view together, without holding up the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.run import Run

# A layer is drawn again at most this often.
REFRESH_INTERVAL = 100  # ms


class RunStage(QObject):
    """Adds the layers of a run, draws them again as they fill, and tells when the user looks elsewhere.

    Signals
    -------
    set_up
        The layers are there.
    moved : int, int
        Another frame and slice of the movie are in view.
    lost : str
        The layer of this name was deleted.
    """

    set_up = Signal()
    moved = Signal(int, int)
    lost = Signal(str)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._run: Run | None = None
        self._connections = Connections()
        self._steps: Iterator[None] = iter(())
        self._turn, self._refresh = QTimer(self), QTimer(self)
        for timer, action in ((self._turn, self._go_on), (self._refresh, self._draw)):
            timer.setSingleShot(True)
            timer.timeout.connect(action)

    def open(self, run: Run) -> None:
        """Show a run."""
        self._run = run
        self._connections.connect(self._viewer.dims.events.current_step, self._tell_moved)
        self._connections.connect(self._viewer.layers.events.removed, self._tell_lost)
        self._steps = self._set_up(run)
        self._turn.start(0)

    def close(self) -> None:
        """Let go of the run and of the viewer; the layers stay as they are."""
        self._run = None
        self._steps = iter(())
        self._turn.stop()
        self._refresh.stop()
        self._connections.disconnect_all()

    def draw_soon(self, frame: int) -> None:
        """Show what was written of a frame, if it is in view."""
        run = self._run
        if run is not None and frame == run.wish.movie.in_view(self._viewer)[0] and not self._refresh.isActive():
            self._refresh.start(REFRESH_INTERVAL)

    def _set_up(self, run: Run) -> Iterator[None]:
        """What takes the viewer some time, bit by bit, so that it can be used in between."""
        for _ in run.layers.show_step_by_step():
            self._turn.start(0)
            yield
        self.set_up.emit()

    def _go_on(self) -> None:
        next(self._steps, None)

    def _draw(self) -> None:
        if self._run is not None:
            self._run.layers.refresh()

    def _tell_moved(self, event: Any = None) -> None:
        if self._run is not None:
            self.moved.emit(*self._run.wish.movie.in_view(self._viewer))

    def _tell_lost(self, event: Any) -> None:
        if self._run is not None and event.value is self._run.layers.labels_layer:
            self.lost.emit(event.value.name)
