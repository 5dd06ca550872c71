"""Notices which frames of the masks of a round are to be saved: filled by a run, linked, or corrected by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos.layer_axes import LayerAxes


class MaskWatch:
    """The masks of a round as `napari_osvos.round_saver.RoundSaver` saves them.

    Parameters
    ----------
    viewer : napari.Viewer
    layers : RoundLayers
    saved : iterable of int
        Frames that are saved already.
    """

    def __init__(self, viewer: Any, layers: RoundLayers, saved: Iterable[int] = ()) -> None:
        self._viewer, self._layers = viewer, layers
        self._connections = Connections()
        self._layer: Any = None
        self._lock = threading.Lock()
        self._taken: set[int] = set(saved)
        self._marked: set[int] = set()
        self._stroked: set[int] = set()  # frames that undo may reach

    @property
    def axes(self) -> LayerAxes:
        """Of the movie."""
        return self._layers.movie.axes

    @property
    def present_labels(self) -> Any:
        """Array of the masks, as they are now."""
        return self._layers.present_labels

    @property
    def is_in_file(self) -> bool:
        """Whether this array is the file itself, because it is too large for memory."""
        return self._layers.is_in_file and self._layers.present_labels is self._layers.labels

    def look(self) -> bool:
        """Follow the layer of the masks, which may have been added anew; return whether there is something to save."""
        if self._layers.labels_layer is not self._layer:
            self.leave()
            self._layer = self._layers.labels_layer
            if self._layer is not None:
                self._connections.connect(self._layer.events.paint, self._stroke)
                self._connections.connect(self._layer.events.set_data, self._drawn)
                self._connections.connect(self._layer.events.data, self._replaced)
        return bool(self._marked or set(self._layers.filled) - self._taken)

    def take_changed(self) -> tuple[set[int], frozenset[int]]:
        """Return the frames that changed since the last call, and all that are filled; in any thread."""
        with self._lock:
            filled = frozenset(self._layers.filled)
            changed = self._marked | (filled - self._taken)
            self._marked = set()
            self._taken |= filled
        return changed, filled

    def mark_changed(self, frames: Iterable[int] | None = None) -> None:
        """Note that frames changed, or all; in any thread."""
        with self._lock:
            self._marked.update(self._layers.filled if frames is None else frames)

    def leave(self) -> None:
        """Let go of the layer."""
        self._connections.disconnect_all()
        self._layer = None

    def _stroke(self, event: Any) -> None:
        touched: set[int] = set()
        for atom in event.value:
            indices = atom.slice_key if hasattr(atom, "slice_key") else atom[0]
            touched.update(self.axes.frames_touched(indices))
        self._stroked |= touched
        self.mark_changed(touched & set(self._layers.filled))  # no other event may come of a stroke

    def _drawn(self, event: Any = None) -> None:
        """Undo and scripts tell no more than that the slice is drawn again, as moving the slider does."""
        in_view = self._layers.movie.in_view(self._viewer)[0]
        self.mark_changed({in_view, *self._stroked} & set(self._layers.filled))

    def _replaced(self, event: Any = None) -> None:
        self.mark_changed()
