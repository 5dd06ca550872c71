"""Adopts the prediction of a frame as paint, to be corrected, and accepts frames, which no run overwrites then."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.mask_veil import MaskVeil
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos._qt.paint_desk import PaintDesk
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.prediction import Predictions
from napari_osvos.adopting import adopt


class CorrectDesk(QObject):
    """Adopts and accepts the frame in view.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    watch : PaintWatch
    desk : PaintDesk
        Makes a layer to paint on where there is none.
    predictions : Predictions
    veil : MaskVeil
        Puts masks out of sight while a frame is corrected.

    Signals
    -------
    said : str, str
        A sentence and its kind.
    marked
        Frames were accepted or corrected, or are no longer.
    """

    said = Signal(str, str)
    marked = Signal()

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        watch: PaintWatch,
        desk: PaintDesk,
        predictions: Predictions,
        veil: MaskVeil,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._watch, self._desk = viewer, data, watch, desk
        self._predictions, self._veil = predictions, veil
        watch.looked.connect(self._forget_unpainted)

    # -- adopting ------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Copy the prediction of the frame in view into the annotations, in one step that can be undone."""
        movie = self._data.movie
        if movie is None:
            self.said.emit("There is no movie; open one, or drag it into the viewer.", "warning")
            return
        frame = movie.in_view(self._viewer)[0]
        kept = self._round_of(movie, frame)
        if kept is None:
            self.said.emit(f"Frame {frame} has no masks yet; segment the movie, or show a round.", "warning")
            return
        try:
            pixels, layer = self._adopted(movie, frame, kept)
        except ValueError as error:
            self.said.emit(str(error), "warning")
            return
        if not pixels and movie.axes.read_frame(kept.masks_layer.data, frame).any():
            self.said.emit(f"All objects that were found on frame {frame} are painted already.", "info")
        elif not pixels:
            self.said.emit(f"No object was found on frame {frame}.", "info")
        else:
            words = f"The masks of frame {frame} are paint now. Correct them; Ctrl+Z takes all of them away."
            self.said.emit(words, "done")
            self._veil.draw(frame)
        layer.visible = True
        self._viewer.layers.selection = {layer}
        layer.mode = "paint"

    def _round_of(self, movie: MovieLayer, frame: int) -> KeptRound | None:
        return self._predictions.round_of(movie, frame, self._veil.veiled)

    def _adopted(self, movie: MovieLayer, frame: int, kept: KeptRound) -> tuple[int, Any]:
        """Adopt a frame; return the number of pixels that were painted by it, and the layer they are on."""
        layer = self._data.painted_layer
        if layer is None:
            if self._data.annotations.layer is not None:
                raise ValueError(self._data.message.text or "The layer to paint on does not fit the movie.")
            layer = self._desk.new_annotations()
        painted = self._watch.painted
        assert painted is not None
        prediction = movie.axes.read_frame(kept.masks_layer.data, frame)
        paint = movie.axes.read_frame(layer.data, frame)
        others = [int(labels.max(initial=0)) for t, labels in painted.copies().items() if t != frame]
        after = adopt(
            prediction,
            paint,
            objects=kept.means_objects,
            keep_ids=kept.is_linked,
            largest=max(others, default=0),
        )
        pixels = int(np.count_nonzero(after != paint))
        if pixels:
            movie.axes.write_frame(_ThroughHistory(layer), frame, after)
            painted.set_corrected(frame, True)
            self._tell_marked()
        return pixels, layer

    # -- accepting -----------------------------------------------------------------------------

    def toggle_accepted(self) -> None:
        """Accept the frame in view, or no longer."""
        movie, painted = self._data.movie, self._watch.painted
        if movie is not None:
            frame = movie.in_view(self._viewer)[0]
            self.set_accepted(frame, painted is None or frame not in painted.accepted)

    def set_accepted(self, frame: int, accepted: bool) -> None:
        """Accept a frame, or no longer; where it is not painted, or in part, its prediction is adopted first."""
        try:
            words = self._accept(frame) if accepted else f"Frame {frame} is no longer accepted."
        except ValueError as error:
            self.said.emit(str(error), "warning")
            self._tell_marked()  # the tick goes back to what is so
            return
        if self._watch.painted is not None:
            self._watch.painted.set_accepted(frame, accepted)
        self.said.emit(words, "done" if accepted else "info")
        self._tell_marked()

    def _accept(self, frame: int) -> str:
        movie, layer, painted = self._data.movie, self._data.painted_layer, self._watch.painted
        if movie is None:
            raise ValueError("There is no movie; open one, or drag it into the viewer.")
        holds = layer is not None and bool(movie.axes.read_frame(layer.data, frame).any())
        if not holds or (painted is not None and frame in painted.partial):
            kept = self._round_of(movie, frame)
            if kept is None:
                raise ValueError(f"Frame {frame} is neither painted in full nor segmented; there is nothing to accept.")
            pixels, _ = self._adopted(movie, frame, kept)
            if not pixels and not holds:
                raise ValueError(f"No object was found on frame {frame}; there is nothing to accept.")
            assert self._watch.painted is not None
            self._watch.painted.set_partial(frame, False)
        return f"Frame {frame} is accepted: it is learned from, and no run overwrites it."

    def _tell_marked(self) -> None:
        self._desk.list_frames()
        self.marked.emit()

    def _forget_unpainted(self) -> None:
        """Frames whose paint is gone, as when adopting was undone, are neither corrected nor accepted any more."""
        painted = self._watch.painted
        if painted is None:
            return
        gone = (painted.accepted | painted.corrected) - {one.frame for one in painted.frames}
        for frame in gone:
            painted.set_accepted(frame, False)
            painted.set_corrected(frame, False)
        if gone:
            self.marked.emit()


class _ThroughHistory:
    """A Labels layer as an array to write to: what is written can be undone in one step."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __setitem__(self, index: tuple[Any, ...], values: np.ndarray) -> None:
        where = np.nonzero(values != np.asarray(self._layer.data[index]))
        count = where[0].size
        # the layer keeps the indices for undo: half as large as NumPy makes them
        pixels = iter([axis.astype(np.int32) for axis in where])
        whole = tuple(next(pixels) if isinstance(i, slice) else np.full(count, i, np.int32) for i in index)
        self._layer.data_setitem(whole, values[where])
