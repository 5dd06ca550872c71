"""Which masks are out of sight for a while: those in the way of a run, and all while a frame is corrected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from qtpy.QtCore import QObject

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.round_keeper import RoundKeeper
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl


class MaskVeil(QObject):
    """Hides masks and shows them again.

    Those of earlier rounds make way when a run begins: several on top of each other cannot be told apart. They come
    back if nothing comes of it.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    watch : PaintWatch
    control : RunControl
    rounds : RoundKeeper
        Knows the masks of each movie.
    connections : Connections
        What ends when the panel is closed.
    """

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        watch: PaintWatch,
        control: RunControl,
        rounds: RoundKeeper,
        connections: Connections,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._watch, self._rounds = viewer, data, watch, rounds
        self.veiled: list[Any] = []
        self._frame = -1  # that is corrected meanwhile
        self._former: list[Any] = []  # what made way for a run
        self._run: Callable[[], Run | None] = lambda: None
        control.begun.connect(self._make_way)
        control.ended.connect(self._make_way)  # of a run that was over before its beginning was told
        control.state_changed.connect(self._take_state)
        watch.changed.connect(self._look)
        connections.connect(viewer.dims.events.current_step, self._look)

    # -- while a frame is corrected ------------------------------------------------------------

    def draw(self, frame: int) -> None:
        """Put all masks of the movie out of sight: they would show through where the paint is erased."""
        if self._data.movie is not None:
            self.veiled += self._hide(self._data.movie.layer)
            self._frame = frame

    def _look(self, event: Any = None) -> None:
        """Show them again once another frame is in view, or the paint was taken away."""
        if not self.veiled:
            return
        movie, painted = self._data.movie, self._watch.painted
        there = movie is not None and movie.in_view(self._viewer)[0] == self._frame
        frames = () if painted is None else {one.frame for one in painted.frames}
        if there and painted is not None and (painted.n_waiting or self._frame in frames):
            return
        self.lift()

    def lift(self) -> None:
        """Show them again."""
        veiled, self.veiled = self.veiled, []
        self._show(veiled)

    # -- while a run goes on -------------------------------------------------------------------

    def _make_way(self, run: Run) -> None:
        """Hide the masks of the other rounds of the movie."""
        if self._run() is not run:
            self._run = ref(run)
            self.lift()  # what is out of sight makes way as well
            self._former = self._hide(run.wish.movie.layer, run.layers.labels_layer)

    def _take_state(self, state: str) -> None:
        """Show the masks again that made way for a run whose own are gone."""
        if state == "idle":
            former, self._former = self._former, []
            run = self._run()
            if run is not None and run.layers.labels_layer not in list(self._viewer.layers):
                self._show(former)

    # -- both ----------------------------------------------------------------------------------

    def let_masks_be(self) -> None:
        """Leave it to others which masks are shown."""
        self.veiled, self._former = [], []

    def leave(self) -> None:
        """Show what is out of sight for a while."""
        self.lift()
        self._take_state("idle")

    def _hide(self, movie: Any, but: Any = None) -> list[Any]:
        """Hide the masks of a movie layer; return those that were visible."""
        layers = [kept.masks_layer for kept in self._rounds.masks_over(movie)]
        hidden = [layer for layer in layers if layer.visible and layer is not but]
        for layer in hidden:
            layer.visible = False
        return hidden

    def _show(self, layers: list[Any]) -> None:
        for layer in layers:
            if layer in self._viewer.layers:
                layer.visible = True
