"""What a run may start from: general networks, and what earlier rounds have learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject

from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.recovery_desk import RecoveryDesk
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.run_section import RunSection
from napari_osvos.session import SessionFolder
from napari_osvos.session_rounds import round_folders


class OriginDesk(QObject):
    """Offers the rounds of all movies in "Start from", and chooses for each movie what was chosen for it last."""

    def __init__(
        self,
        data: DataSection,
        section: RunSection,
        control: RunControl,
        recovery: RecoveryDesk,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._data, self._section = data, section
        self._layer: Any = None
        self._chosen: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        data.movie_changed.connect(self._take_movie)
        control.kept.connect(self._take_kept)
        recovery.restored.connect(self._take_restored)
        self._take_movie()

    def _take_movie(self) -> None:
        layer = None if self._data.movie is None else self._data.movie.layer
        if layer is self._layer:
            return
        if self._layer is not None:
            self._chosen[self._layer] = self._section.origin.currentData()
        self._layer = layer
        self._section.choose_origin(None if layer is None else self._chosen.get(layer))

    def _take_kept(self, run: Run) -> None:
        movie, path = run.wish.movie, run.segmenter
        if path is not None:
            self._section.offer_segmenter(f"{movie.name}, round {run.number}", path)
            self._chosen[movie.layer] = path
            if movie.layer is self._layer:
                self._section.choose_origin(path)

    def forget(self, path: Path) -> None:
        """Offer what a round has learned no more: it was deleted."""
        if self._section.segmenter == path:
            self._section.choose_origin(None)
        self._section.withdraw_segmenter(path)
        for layer in [layer for layer, chosen in self._chosen.items() if chosen == path]:
            del self._chosen[layer]

    def _take_restored(self, session: SessionFolder) -> None:
        for folder in round_folders(session):
            for number in folder.segmenters:
                words = f"{session.movie.name}, earlier round {number}"
                self._section.offer_segmenter(words, folder.segmenter(number))
