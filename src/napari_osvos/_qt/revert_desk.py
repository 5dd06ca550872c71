"""Goes back to a round: its paint, its settings, and where it started from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QObject

from napari_osvos._qt.background import Background
from napari_osvos._qt.brought_paint import bring_paint
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.paint_desk import PaintDesk
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.rounds_desk import RoundsDesk
from napari_osvos._qt.rounds_section import RoundsSection
from napari_osvos._qt.run_section import RunSection


class RevertDesk(QObject):
    """Does what "Revert" says. The layer that was painted on stays as it is, hidden.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    runs : RunSection
    section : RoundsSection
    rounds : RoundsDesk
    paint : PaintDesk
    watch : PaintWatch
    restore : callable
        Sets what `Round.settings` holds; a bound method.
    """

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        runs: RunSection,
        section: RoundsSection,
        rounds: RoundsDesk,
        paint: PaintDesk,
        watch: PaintWatch,
        restore: Callable[[Mapping[str, Any]], None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._runs, self._section = viewer, data, runs, section
        self._paint, self._watch, self._restore = paint, watch, restore
        self._reading = Background(self)
        self._reading.done.connect(self._take)
        self._reading.failed.connect(lambda error: section.message.say(str(error), "error"))
        rounds.revert_wanted.connect(self.revert)

    def revert(self, kept: KeptRound) -> None:
        """Go back to a round; its paint is read in the background."""
        movie = self._data.movie
        if movie is not None:
            layer = movie.layer
            self._reading.start(lambda: (layer, kept, *kept.folder.read_paint(kept.about.number)))

    def _take(self, read: tuple[Any, KeptRound, dict[int, Any], list[str]]) -> None:
        layer, kept, frames, complaints = read
        movie, about = self._data.movie, kept.about
        if movie is None or movie.layer is not layer:
            return
        self._data.restore(about.settings)
        movie, former = self._data.movie, self._data.annotations.layer  # with other axes, perhaps
        assert movie is not None
        name = f"{movie.name} annotations of round {about.number}"
        painted, misfits = bring_paint(self._viewer, self._paint, movie, frames, name)
        if painted is None:
            words = [*complaints, *misfits] or [f"The paint of round {about.number} is no longer there."]
            self._section.message.say(" ".join(words), "error")
            return
        if former is not None and former is not painted:
            former.visible = False
        self._restore(about.settings)
        known = self._watch.painted
        if known is not None:
            for one in frames:
                known.set_partial(one, one in about.partial)
                known.set_corrected(one, one in about.corrected)
                known.set_accepted(one, one in about.accepted)
            self._paint.list_frames()
        self._say(about.number, [*complaints, *misfits, *self._choose_origin(kept)])

    def _choose_origin(self, kept: KeptRound) -> list[str]:
        """Start from where the round started; return a sentence if that is gone."""
        start, parent = kept.about.start, kept.about.parent
        if start is None:
            self._runs.choose_origin(parent)
            return []
        if not start.is_file():
            self._runs.choose_origin(parent)
            return [f"What it started from, {start.name}, is no longer there."]
        self._runs.offer_segmenter(start.stem, start)
        self._runs.choose_origin(start)
        return []

    def _say(self, number: int, complaints: list[str]) -> None:
        words = f"Paint, settings and start are those of round {number}; your other paint is in the hidden layer."
        self._section.message.say(" ".join([words, *complaints]), "warning" if complaints else "done")
