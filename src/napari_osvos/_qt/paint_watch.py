"""Notices what is painted on a Labels layer, stroke by stroke, without looking at the whole movie."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, QTimer, Signal

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.movie_layer import MovieLayer, pixels_of
from napari_osvos.painted_frames import PaintedFrames

# Looking at frames may take this long at a time, and comes this soon after a stroke.
BUDGET = 0.008  # s
DELAY = 40  # ms


class PaintWatch(QObject):
    """Follows the paint of one layer.

    What is known of a layer (which frames are painted in part only) is known again when it is followed once more.

    Signals
    -------
    changed
        Other frames hold paint, or another number of objects.
    looked
        No frame waits to be looked at.
    """

    changed = Signal()
    looked = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._connections = Connections()
        self.movie: MovieLayer | None = None
        self.layer: Any = None
        self.painted: PaintedFrames | None = None
        self._known: WeakKeyDictionary[Any, WeakKeyDictionary[Any, PaintedFrames]] = WeakKeyDictionary()
        self._touched: set[int] = set()  # frames that undo may reach
        self._in_view: tuple[int, int] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)

    def follow(self, movie: MovieLayer | None, layer: Any, *, empty: bool = False) -> None:
        """Follow another layer, or none.

        Parameters
        ----------
        movie : MovieLayer or None
        layer : napari.layers.Labels or None
            Fits the movie.
        empty : bool
            It was made this moment and holds no paint: no need to look for it.
        """
        self._connections.disconnect_all()
        self._timer.stop()
        self.movie, self.layer = movie, layer
        self._touched = set()
        if movie is None or layer is None:
            self.painted = None
        else:
            self.painted = self._painted_of(movie, layer, empty)
            self._in_view = movie.in_view(self._viewer)
            self._connections.connect(layer.events.paint, self._stroke)
            self._connections.connect(layer.events.set_data, self._drawn_anew)
            self._connections.connect(layer.events.data, self._replaced)
            self._timer.start(DELAY)
        self.changed.emit()

    def _painted_of(self, movie: MovieLayer, layer: Any, empty: bool) -> PaintedFrames:
        known = self._known.setdefault(movie.layer, WeakKeyDictionary())
        painted = known.get(layer)
        if painted is not None and painted.axes == movie.axes:
            painted.replace_labels(pixels_of(layer))  # it may have been painted on meanwhile
            return painted
        known[layer] = PaintedFrames(pixels_of(layer), movie.axes, scan=not empty)
        return known[layer]

    @property
    def array(self) -> Any:
        """The array of the layer; None without one."""
        return None if self.layer is None else pixels_of(self.layer)

    def settle(self) -> None:
        """Look at every frame that was painted on, now; those never looked at (`PaintedFrames.n_waiting`) wait on."""
        if self.painted is not None and self.movie is not None:
            self.painted.mark_changed(self._within_reach())
            self.painted.finish()
            self.changed.emit()

    # -- what the layer tells ------------------------------------------------------------------

    def _stroke(self, event: Any) -> None:
        if self.painted is None or self.movie is None:
            return
        touched: set[int] = set()
        for atom in event.value:
            indices = atom.slice_key if hasattr(atom, "slice_key") else atom[0]
            touched.update(self.movie.axes.frames_touched(indices))
        self._touched |= touched
        self._mark(touched)

    def _drawn_anew(self, event: Any) -> None:
        """Undo and scripts tell no more than that the slice is to be drawn again, as moving the slider does."""
        if self.painted is None or self.movie is None:
            return
        in_view = self.movie.in_view(self._viewer)
        if in_view != self._in_view:
            self._in_view = in_view
            self._mark({in_view[0]})  # a script may have painted it while it was not in view
            return
        self._touched.add(in_view[0])
        self._mark(self._within_reach())

    def _within_reach(self) -> set[int]:
        """The frames that undo may have changed, whichever is in view."""
        assert self.painted is not None
        assert self.movie is not None
        return {self.movie.in_view(self._viewer)[0], *self._touched, *(one.frame for one in self.painted.frames)}

    def _replaced(self, event: Any) -> None:
        if self.painted is None or self.movie is None:
            return
        array = pixels_of(self.layer)
        if tuple(array.shape) != self.movie.axes.labels_layer_shape:
            self.follow(None, None)
        else:
            self.painted.replace_labels(array)
            self._timer.start(DELAY)

    def _mark(self, frames: set[int]) -> None:
        assert self.painted is not None
        self.painted.mark_changed(frames)
        if not self._timer.isActive():
            self._timer.start(DELAY)

    def _look(self) -> None:
        if self.painted is None:
            return
        changed = self.painted.update(BUDGET)
        if changed:
            self.changed.emit()
        if self.painted.n_waiting:
            self._timer.start(DELAY // 2)
        else:
            self.looked.emit()
