"""Objects through time: linked after each round, drawn as tracks, and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from qtpy.QtCore import QObject, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.files import export_masks, refusal_of, round_in_words
from napari_osvos._qt.objects_section import ObjectsSection
from napari_osvos._qt.present_round import PresentRound
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.run_objects import LOOK_ALIKE, can_be_linked, link_masks, scale_of
from napari_osvos._qt.save_dialog import ask_where
from napari_osvos._qt.track_layer import can_be_drawn, show_tracks
from napari_osvos.exporting import EXPORTS
from napari_osvos.linking import Linking
from napari_osvos.tracking import TrackedMovie


class TracksDesk(QObject):
    """Links the objects of a round, shows its tracks, and writes exports.

    Signals
    -------
    linked : Run
        Its masks hold other labels.
    """

    linked = Signal(object)
    _told = Signal(str, int, int)

    def __init__(
        self,
        viewer: Any,
        section: ObjectsSection,
        control: RunControl,
        present: PresentRound,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._section, self._control, self._present = viewer, section, control, present
        self._linkings: WeakKeyDictionary[Any, Linking] = WeakKeyDictionary()  # the last one of each movie layer
        self._layers: WeakKeyDictionary[Run, Any] = WeakKeyDictionary()
        self._forgotten: WeakSet[Run] = WeakSet()
        self._linking = Background(self)
        self._linking.done.connect(self._show)
        self._writing = Background(self)
        self._writing.done.connect(lambda sentence: section.message.say(sentence, "done"))
        for work in (self._linking, self._writing):
            work.failed.connect(self._failed)
            work.done.connect(self.allow)
            work.failed.connect(self.allow)
        self._told.connect(self._tell)
        section.offer({kind: f"{of.says[0].upper()}{of.says[1:]}" for kind, of in EXPORTS.items()})
        section.link_wanted.connect(self.link)
        section.export_wanted.connect(self._ask)
        control.ended.connect(self._take_run)
        control.state_changed.connect(self.allow)
        present.changed.connect(self.allow)

    @property
    def last(self) -> Run | None:
        """The run whose objects are linked and exported: that of the present round."""
        return self._present.run

    @property
    def busy(self) -> bool:
        """Whether objects are being linked or exported."""
        return self._linking.busy or self._writing.busy

    def allow(self, event: Any = None) -> None:
        """Enable the buttons that there is something for; while labels are written or read, that is nothing."""
        run = self.last
        idle = self._control.run is None and not self.busy
        self._section.allow(link=idle and run is not None and can_be_linked(run), export=idle and run is not None)
        self._section.name_round("" if run is None else round_in_words(run.layers))

    # -- linking -------------------------------------------------------------------------------

    def _take_run(self, run: Run) -> None:
        if run.task == LOOK_ALIKE:
            self._section.message.say(f"Round {run.number}: many look-alike objects, numbered anew in each frame.")
        elif run.task:
            self._section.message.say(
                f"Round {run.number}: objects or classes of their own, with the labels you painted."
            )
        if self._section.follow.isChecked() and run.task == LOOK_ALIKE and can_be_linked(run):
            self._link(run)

    def link(self) -> None:
        """Link the objects of the present round, as they are in its masks now."""
        run = self.last
        if run is not None and can_be_linked(run) and not self.busy:
            self._link(run)

    def _link(self, run: Run) -> None:
        run.follows = True
        self._section.message.say("Following objects ...")
        previous = self._linkings.get(run.wish.movie.layer)
        if run.tracked is not None and run.tracked.linking is not None:
            previous = run.tracked.linking  # rather than that of a later round
        tell = self._told.emit
        self._linking.start(
            lambda: (run, link_masks(run, previous, lambda done, total: tell("Following objects", done, total)))
        )
        self.allow()

    def _show(self, outcome: tuple[Run, TrackedMovie]) -> None:
        run, tracked = outcome
        if run in self._forgotten:  # it was deleted meanwhile
            self._section.message.clear()
            return
        run.tracked = tracked
        if tracked.linking is not None:
            self._linkings[run.wish.movie.layer] = tracked.linking
        if run.layers.labels_layer is not None:
            run.layers.labels_layer.refresh()
        self.linked.emit(run)
        self._layers[run] = show_tracks(self._viewer, run, scale_of(run), self._layers.get(run))
        words = f"Round {run.number}: many look-alike objects, {tracked.in_words}"
        if not can_be_drawn(run):
            words += f"; napari has no Tracks layer for the axes {run.wish.movie.axes.letters}"
        self._section.message.say(f"{words}.", "done")

    def forget(self, run: Run) -> None:
        """Take the tracks of a round away that was deleted."""
        self._forgotten.add(run)
        layer = self._layers.pop(run, None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        if self.last is run:
            self._section.message.clear()

    # -- exports -------------------------------------------------------------------------------

    def _ask(self, kind: str) -> None:
        if self._refuses(kind):
            return
        ending = EXPORTS[kind].endings[0].lstrip(".")
        path = ask_where(
            self._section, "Export", "tracks" if kind == "tracks" else "cells", {EXPORTS[kind].says: ending}
        )
        if path is not None:
            self.export(kind, path)

    def _refuses(self, kind: str) -> bool:
        sentence = "" if self.last is None else refusal_of(self.last, kind)
        if sentence:
            self._section.message.say(sentence, "warning")
        return bool(sentence)

    def export(self, kind: str, path: Path) -> None:
        """Write the objects of the present round, as they are in its masks now; what is there is replaced."""
        run, tell = self.last, self._told.emit
        if run is None or self.busy or self._refuses(kind):
            return
        self._section.message.say("Exporting ...")
        self._writing.start(lambda: export_masks(path, run, kind, lambda done, total: tell("Exporting", done, total)))
        self.allow()

    # -- what is said --------------------------------------------------------------------------

    def _tell(self, what: str, done: int, total: int) -> None:
        self._section.message.say(f"{what}, frame {done} of {total} ...")

    def _failed(self, error: Exception) -> None:
        self._section.message.say(str(error), "error")
