"""What is painted: the layer for it, its fit, the list of its frames."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.frames_section import FramesSection
from napari_osvos._qt.movie_layer import LARGEST_IN_MEMORY, MovieLayer, pixels_of
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.session_keeper import SessionKeeper
from napari_osvos.layer_fit import empty_labels, mend
from napari_osvos.session import PAINTING


class PaintDesk(QObject):
    """Keeps the layer that is painted on, the list of its frames and the session together.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    frames : FramesSection
    watch : PaintWatch
    keeper : SessionKeeper
    connections : Connections
        What ends when the panel is closed.
    """

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        frames: FramesSection,
        watch: PaintWatch,
        keeper: SessionKeeper,
        connections: Connections,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._frames = viewer, data, frames
        self._watch, self._keeper = watch, keeper
        self._makes = False  # whether the layer that is about to come holds no paint
        self._backgrounds: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # the label for it, of each layer of paint
        self._fit = Connections()
        self._fit_of: Any = None
        data.annotations_changed.connect(self._take_annotations)
        data.new_wanted.connect(self.new_annotations)
        data.mend_wanted.connect(self.mend)
        watch.changed.connect(self.list_frames)
        frames.wanted.connect(self.go_to)
        frames.partial_set.connect(self._set_partial)
        frames.background_changed.connect(self._keep_background)
        connections.connect(viewer.dims.events.current_step, self.list_frames)
        self._take_annotations()

    # -- movie and layer -----------------------------------------------------------------------

    def _take_annotations(self) -> None:
        layer = self._data.annotations.layer
        if layer is not self._fit_of:  # its shape and place decide whether it fits
            self._fit.disconnect_all()
            self._fit_of = layer
            if layer is not None:
                for event in (layer.events.data, layer.events.scale, layer.events.translate):
                    self._fit.connect(event, self._data.check_fit)
        painted = self._data.painted_layer
        movie, followed = self._data.movie, self._watch.movie
        over, before = ((one.layer, one.axes) if one is not None else None for one in (movie, followed))
        if painted is not self._watch.layer or (painted is not None and over != before):
            self._keeper.save_all()  # what was painted on the former layer
            self._watch.follow(movie if painted is not None else None, painted, empty=self._makes)
            self._frames.background.setValue(self._backgrounds.get(painted, 0) if painted is not None else 0)
        self._keeper.turn_to(movie, painted)

    def new_annotations(self, array: Any = None) -> Any:
        """Make a layer to paint on and choose it; return it."""
        movie = self._data.movie
        if movie is None:
            return None
        self._makes = not isinstance(array, np.ndarray)
        layer = movie.new_annotations(self._viewer, self.new_array(movie) if self._makes else array)
        self._data.annotations.choose(layer)
        self._makes = False
        return layer

    def new_array(self, movie: MovieLayer) -> Any:
        """Empty labels; where they are large, in a file that takes no more room than what is painted."""
        session = self._keeper.session
        if movie.labels_bytes <= LARGEST_IN_MEMORY or session is None:
            return empty_labels(movie.axes)
        path = session.segmenter_path(0).parent / PAINTING.format(f"{time.time_ns():x}")  # never one that is in use
        return np.lib.format.open_memmap(path, "w+", np.uint16, movie.axes.labels_layer_shape)

    def mend(self) -> None:
        """Make the chosen layer fit: place it anew, or put its paint into a new layer of the right shape."""
        movie, layer = self._data.movie, self._data.annotations.layer
        if movie is None or layer is None:
            return
        misfit = movie.misfit(layer)
        if misfit is None or misfit.remedy is None:
            return
        if misfit.kind == "placement":
            place = movie.placement()
            layer.scale, layer.translate = place["scale"], place["translate"]
            self._data.check_fit()
            return
        frame, z = movie.in_view(self._viewer)
        try:
            array = mend(pixels_of(layer), movie.axes, frame=frame, z=z, name=layer.name)
        except ValueError as error:
            self._data.message.say(str(error), "warning")
            return
        name = layer.name
        layer.visible = False  # it stays as it is, under the one that takes its place
        mended = self.new_annotations(array)
        mended.name = f"{name} over {movie.name}"

    # -- frames --------------------------------------------------------------------------------

    def list_frames(self, event: Any = None) -> None:
        """Show the frames that hold paint."""
        painted, movie = self._watch.painted, self._data.movie
        in_view = None if movie is None else movie.in_view(self._viewer)[0]
        self._frames.show_frames(() if painted is None else painted.frames, in_view)

    def go_to(self, frame: int) -> None:
        """Bring a painted frame into view."""
        if self._data.movie is not None:
            self._data.movie.go_to(self._viewer, frame)

    def _keep_background(self) -> None:
        """Remember which label paints background on this layer; on another one it may be an object."""
        if self._watch.layer is not None:
            self._backgrounds[self._watch.layer] = self._frames.background.value()

    def _set_partial(self, frame: int, partial: bool) -> None:
        if self._watch.painted is not None:
            self._watch.painted.set_partial(frame, partial)
            if partial:  # what is unknown cannot be final
                self._watch.painted.set_accepted(frame, False)
            self.list_frames()

    def leave(self) -> None:
        """Let go of the layers."""
        self._fit.disconnect_all()
        self._fit_of = None
        self._watch.follow(None, None)
