"""Where two rounds differ, in a layer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils import DirectLabelColormap
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.connections import Connections, forward_to
from napari_osvos._qt.layer_combo import FILLED_BY_A_RUN
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.round_masks import ONLY_NEWER, ONLY_OLDER, OTHER_OBJECT, difference

# Told apart by those who see red and green alike.
COLOURS: dict[int | None, str] = {ONLY_OLDER: "#f58518", ONLY_NEWER: "#29a8ff", OTHER_OBJECT: "#f2e34c"}
# Masks that changed are compared anew so long after.
DELAY = 200  # ms


class DifferenceFrames:
    """The difference of two rounds as an array of `LayerAxes.labels_layer_shape`: a frame is there once it is compared.

    Parameters
    ----------
    axes : LayerAxes
    wanted : callable
        Called with a frame that is shown and not there; it is empty until then.
    """

    def __init__(self, axes: LayerAxes, wanted: Callable[[int], None]) -> None:
        self.shape = axes.labels_layer_shape
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.uint8)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self._axes, self._wanted = axes, wanted
        self._frame: int | None = None
        first = axes.ndim - self.ndim  # the axis of the image that is the first one of the labels
        self._time = None if axes.time_axis is None else axes.time_axis - first
        self._block = np.zeros([1 if i == self._time else n for i, n in enumerate(self.shape)], np.uint8)

    def put(self, frame: int, values: np.ndarray) -> bool:
        """Take a frame, (Y, X) or (Z, Y, X); return whether it is another one than before."""
        former, before = self._frame, self._block.copy()
        self._axes.write_frame(self._block, 0, values)
        self._frame = frame
        return former != frame or not np.array_equal(before, self._block)

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        frames = self._axes.frames_touched(index)
        if len(frames) == 1 and frames[0] != self._frame:
            self._wanted(frames[0])
        if self._time is None or self._time >= len(index):
            whole = np.asarray(self._block[index])
            return whole if frames == (self._frame,) else np.zeros_like(whole)
        one: np.ndarray = self._block[tuple(_first(part) if i == self._time else part for i, part in enumerate(index))]
        shown = one if frames == (self._frame,) else np.zeros_like(one)
        if isinstance(index[self._time], slice):
            shown = np.repeat(shown, len(frames), axis=self._time)
        return shown


def _first(part: Any) -> Any:
    return slice(0, 1) if isinstance(part, slice) else 0


class RoundDifference(QObject):
    """Shows in a layer of its own where the masks of two rounds differ.

    Only the frame in view is compared, in a thread of its own.

    Parameters
    ----------
    viewer : napari.Viewer

    Signals
    -------
    closed
        The layer was deleted.
    """

    closed = Signal()
    _wanted = Signal(int)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._connections = Connections()
        self.layer: Any = None
        self.pair: tuple[RoundLayers, RoundLayers] | None = None
        self._frames: DifferenceFrames | None = None
        self._next: int | None = None
        self._comparing = Background(self)
        self._comparing.done.connect(self._take)
        self._comparing.failed.connect(self._take)
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(DELAY)
        self._again.timeout.connect(self._compare_in_view)
        self._wanted.connect(self._compare, Qt.ConnectionType.QueuedConnection)

    def open(self, older: RoundLayers, newer: RoundLayers) -> None:
        """Show where two rounds differ, as one moves through the movie."""
        self.close()
        for layers in (older, newer):
            layers.show()
            self._connections.connect(layers.labels_layer.events.set_data, self._compare_soon)
        self.pair = older, newer
        self._frames = DifferenceFrames(older.movie.axes, forward_to(self, "_wanted"))
        colours = {None: "transparent", 0: "transparent", **COLOURS}
        selected = set(self._viewer.layers.selection)
        self.layer = Labels(
            self._frames,
            name=f"difference of rounds {older.number} and {newer.number} of {older.movie.name}",
            opacity=0.8,
            colormap=DirectLabelColormap(color_dict=colours),
            metadata={FILLED_BY_A_RUN: newer.number},
            **older.movie.placement(),
        )
        self.layer.editable = False
        self._viewer.add_layer(self.layer)
        self._viewer.layers.selection = selected
        self._connections.connect(self._viewer.layers.events.removed, self._take_removed)

    def close(self) -> None:
        """Take the layer away."""
        self._connections.disconnect_all()
        self._again.stop()
        layer, self.layer, self.pair, self._frames, self._next = self.layer, None, None, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _take_removed(self, event: Any) -> None:
        if event.value is self.layer or (self.pair and event.value in {one.labels_layer for one in self.pair}):
            self.close()
            self.closed.emit()

    # -- comparing -----------------------------------------------------------------------------

    def _compare_soon(self, event: Any = None) -> None:
        self._again.start()

    def _compare_in_view(self) -> None:
        if self.pair is not None:
            self._compare(self.pair[0].movie.in_view(self._viewer)[0])

    def _compare(self, frame: int) -> None:
        self._next = frame
        if self.pair is None or self._comparing.busy:
            return
        older, newer = self.pair
        axes, frames, self._next = older.movie.axes, self._frames, None
        arrays = older.present_labels, newer.present_labels
        self._comparing.start(lambda: (frames, frame, difference(*(axes.read_frame(array, frame) for array in arrays))))

    def _take(self, compared: Any) -> None:
        if isinstance(compared, tuple) and self._frames is compared[0] and self._frames is not None:
            _, frame, values = compared
            if self._frames.put(frame, values):
                self.layer.refresh(extent=False)
        if self._next is not None:
            self._compare(self._next)
