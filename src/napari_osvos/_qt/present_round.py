"""Which round of the chosen movie is saved, linked and exported."""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from qtpy.QtCore import QObject, Signal

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.files import round_in_words
from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl


class PresentRound(QObject):
    """The round of the chosen movie that ended or was shown last.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    control : RunControl
    connections : Connections
        What ends when the panel is closed.

    Signals
    -------
    changed
        It is another one, or there is none any more.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        control: RunControl,
        connections: Connections,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data = viewer, data
        # of each movie layer, the present one last
        self._rounds: WeakKeyDictionary[Any, list[tuple[RoundLayers, Run | None]]] = WeakKeyDictionary()
        self._chosen: ReferenceType[Any] | None = None  # the movie layer as the run began
        control.begun.connect(self._take_begun)
        control.ended.connect(self._take_ended)
        data.movie_changed.connect(self.changed)
        connections.connect(viewer.layers.events.removed, self._forget_closed_movies)

    @property
    def layers(self) -> RoundLayers | None:
        """Its masks; None if there is no round."""
        return self._present[0]

    @property
    def run(self) -> Run | None:
        """What made it; None if there is no round, or it was made in an earlier session."""
        return self._present[1]

    @property
    def in_words(self) -> str:
        """Which one it is: ``round 2 of 'cells'``; empty if there is none."""
        return "" if self.layers is None else round_in_words(self.layers)

    @property
    def _present(self) -> tuple[RoundLayers | None, Run | None]:
        movie = self._data.movie
        known = [] if movie is None else self._rounds.get(movie.layer, [])
        return known[-1] if known else (None, None)

    def take_shown(self, kept: KeptRound) -> None:
        """Take a round whose masks are shown now."""
        over = kept.run is None or kept.run.phase == "over"  # what a run still writes may be taken away again
        if kept.layers is not None and over:
            movie = self._data.movie
            self._take(kept.layers, kept.run, None if movie is None else movie.layer)

    def forget(self, kept: KeptRound) -> None:
        """Go back to the one before a round that was deleted."""
        for known in self._rounds.values():
            known[:] = [one for one in known if one[0] is not kept.layers]
        self.changed.emit()

    def _take_begun(self, run: Run) -> None:
        movie = self._data.movie
        self._chosen = None if movie is None else ref(movie.layer)

    def _take_ended(self, run: Run) -> None:
        self._take(run.layers, run, None if self._chosen is None else self._chosen())

    def _take(self, layers: RoundLayers, run: Run | None, chosen: Any) -> None:
        """Take a round for its own movie, and for the chosen one, whose segmenter may have been applied to it."""
        for layer in {layers.movie.layer, chosen} - {None}:
            if layer in self._viewer.layers:
                known = [one for one in self._rounds.get(layer, []) if one[0] is not layers]
                self._rounds[layer] = [*known, (layers, run)]
        self.changed.emit()

    def _forget_closed_movies(self, event: Any = None) -> None:
        gone = [layer for layer in list(self._rounds) if layer not in self._viewer.layers]
        for layer in gone:
            del self._rounds[layer]
        if gone:
            self.changed.emit()
