"""Offers the paint that an earlier session on the movie left behind, and brings it back."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.messages import Message
from napari_osvos._qt.movie_layer import ready_the_brush
from napari_osvos._qt.paint_desk import PaintDesk
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.session_keeper import SessionKeeper

# An offer waits this long for the layers that are opened together with the movie.
CONSIDERATION = 400  # ms


class RecoveryDesk(QObject):
    """Asks in the panel, not in a window of its own, whether paint is to be brought back.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    offer : Message
        Where it is offered.
    desk : PaintDesk
        Makes the layer for it.
    watch : PaintWatch
    keeper : SessionKeeper

    Signals
    -------
    restored : dict
        The settings of the session that was brought back.
    """

    restored = Signal(dict)

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        offer: Message,
        desk: PaintDesk,
        watch: PaintWatch,
        keeper: SessionKeeper,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._offer = viewer, data, offer
        self._desk, self._watch, self._keeper = desk, watch, keeper
        self._offered: dict[int, Any] = {}
        self._considering = QTimer(self)
        self._considering.setSingleShot(True)
        self._considering.timeout.connect(self._show_offer)
        self._reading = Background(self)
        self._reading.done.connect(self._bring_back)
        self._reading.failed.connect(self._say_unreadable)
        keeper.offered.connect(self._hear_offer)
        data.movie_changed.connect(offer.clear)
        offer.acted.connect(self.restore)
        offer.refused.connect(self.discard)

    def _hear_offer(self, frames: dict[int, Any]) -> None:
        self._offered = frames
        self._considering.start(CONSIDERATION)

    def _show_offer(self) -> None:
        found, offered = self._keeper.found, self._offered
        self._offered = {}
        if found is None or not offered:
            return
        if self._holds(offered):
            self._keeper.settle()
        else:
            words = f"There is paint of an earlier session: {found.in_words}."
            self._offer.say(words, action="Bring it back", refusal="No, thanks")

    def _holds(self, frames: dict[int, Any]) -> bool:
        """Whether the layer that is painted on has just this paint, as a sample has each time it is opened."""
        movie, array = self._data.movie, self._watch.array
        if movie is None or array is None or max(frames) >= movie.axes.n_frames:
            return False
        return all(np.array_equal(movie.axes.read_frame(array, t), labels) for t, labels in frames.items())

    def restore(self) -> None:
        """Bring the paint of the earlier session back, in a layer of its own."""
        found = self._keeper.found
        if found is not None and self._data.movie is not None:
            self._reading.start(found.read_frames)

    def discard(self) -> None:
        """Do not offer it again; it stays on the disk."""
        self._keeper.settle()
        self._offer.clear()

    def _bring_back(self, read: tuple[dict[int, Any], list[str]]) -> None:
        frames, complaints = read
        movie, found = self._data.movie, self._keeper.found
        if movie is None or found is None:
            return
        settings = found.settings()
        shape = movie.axes.labels_shape
        fitting = {t: labels for t, labels in frames.items() if t < shape[0] and labels.shape == shape[1:]}
        complaints += [f"Frame {t} is of another size." for t in frames.keys() - fitting.keys()]
        array = self._desk.new_array(movie)
        for t, labels in fitting.items():
            movie.axes.write_frame(array, t, labels)
        layer = self._desk.new_annotations(np.asanyarray(array))
        layer.name = f"{movie.name} annotations, brought back"
        if fitting:
            movie.go_to(self._viewer, min(fitting))
        ready_the_brush(layer, movie.axes)
        self._keeper.settle()
        self._offer.clear()
        self.restored.emit(settings)
        if complaints:
            self._offer.say(" ".join(complaints), "warning")

    def _say_unreadable(self, error: Exception) -> None:
        self._offer.say(str(error), "error")
