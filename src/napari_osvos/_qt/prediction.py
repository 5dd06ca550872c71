"""Where the prediction of a frame is: among the layers that runs have filled."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, ref

from napari.layers import Labels
from qtpy.QtCore import QObject

from napari_osvos._qt.layer_combo import FILLED_BY_A_RUN
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl


class Predictions(QObject):
    """Finds the layer of masks that holds a frame of a movie: of those shown the newest, else the newest.

    Parameters
    ----------
    viewer : napari.Viewer
    control : RunControl
        Whose runs fill the layers.
    """

    def __init__(self, viewer: Any, control: RunControl, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._runs: WeakKeyDictionary[Any, ref[Run]] = WeakKeyDictionary()  # of each layer of masks
        for signal in (control.begun, control.filled, control.ended):
            signal.connect(self._take)

    def _take(self, run: Run) -> None:
        if run.layers.labels_layer is not None:
            self._runs[run.layers.labels_layer] = ref(run)  # a run holds its layers

    def _run_of(self, layer: Any) -> Run | None:
        found = self._runs.get(layer)
        return None if found is None else found()

    def layer_of(self, movie: MovieLayer, frame: int, hidden: Any = None) -> Any:
        """Return the layer of masks that holds a frame, or None.

        Parameters
        ----------
        movie : MovieLayer
        frame : int
        hidden : napari.layers.Labels, optional
            Is out of sight for a while only, and counts as shown.
        """
        found = [layer for layer in self._viewer.layers if self._holds(layer, movie, frame)]
        return max(found, key=lambda one: (one.visible or one is hidden, one.metadata[FILLED_BY_A_RUN]), default=None)

    def _holds(self, layer: Any, movie: MovieLayer, frame: int) -> bool:
        if not isinstance(layer, Labels) or FILLED_BY_A_RUN not in layer.metadata or movie.misfit(layer) is not None:
            return False
        run = self._run_of(layer)
        if run is None:  # of an earlier session
            return str(layer.name).startswith(movie.name)
        return run.wish.movie.layer is movie.layer and frame in run.layers.filled

    def means_objects(self, layer: Any) -> bool:
        """Whether the labels of a layer of masks tell objects of one kind apart; else they are classes."""
        run = self._run_of(layer)
        return run is None or run.task != "distinct"

    def is_followed(self, layer: Any) -> bool:
        """Whether a label of a layer of masks is the same object in all frames."""
        run = self._run_of(layer)
        return run is None or run.tracked is not None
