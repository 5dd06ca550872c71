"""Keeps every run as a round in the session folder, and finds those of earlier sessions again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.connections import Connections, forward_to
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.kept_round import KeptRound, round_of
from napari_osvos._qt.mask_watch import MaskWatch
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.session_keeper import SessionKeeper
from napari_osvos.round_record import Round
from napari_osvos.round_saver import RoundSaver
from napari_osvos.rounds import RoundFolder
from napari_osvos.session import SessionFolder
from napari_osvos.session_rounds import read_rounds, round_folders

INTERVAL = 2000  # ms


class RoundKeeper(QObject):
    """The rounds of all movies of a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    control : RunControl
    keeper : SessionKeeper
    settings : callable
        Returns the settings of the panel as plain data; a bound method.
    connections : Connections
        What ends when the panel is closed.

    Signals
    -------
    changed
        Other rounds, or something else is to be said of one.
    deleted : KeptRound
    said : str, str
        A sentence and its kind.
    """

    changed = Signal()
    deleted = Signal(object)
    said = Signal(str, str)
    _failed = Signal(str)

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        control: RunControl,
        keeper: SessionKeeper,
        settings: Callable[[], dict[str, Any]],
        connections: Connections,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._control, self._keeper = viewer, data, control, keeper
        self._settings = settings
        self._rounds: WeakKeyDictionary[Any, list[KeptRound]] = WeakKeyDictionary()  # of each movie layer
        self._followed: KeptRound | None = None  # the one that is going on
        self._failed.connect(self._tell_failed, Qt.ConnectionType.QueuedConnection)
        self.saver = RoundSaver(forward_to(self, "_failed"))
        self._reading = Background(self)
        self._reading.done.connect(self._take_read)
        self._reading.failed.connect(lambda error: self.said.emit(str(error), "error"))
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL)
        self._timer.timeout.connect(self.save)
        self._timer.start()
        control.state_changed.connect(self._take_state)
        control.kept.connect(self._take_news)
        keeper.folder_changed.connect(self._go_on)
        connections.connect(viewer.layers.events.removed, self._forget_closed_movies)

    @property
    def rounds(self) -> list[KeptRound]:
        """The rounds of the present movie, from the first to the last."""
        movie = self._data.movie
        known = [] if movie is None else self._rounds.get(movie.layer, [])
        return sorted((one for one in known if one.is_there), key=lambda one: (one.about.number, one.about.when))

    @property
    def is_busy(self) -> bool:
        """Whether a run is going on."""
        return self._followed is not None

    def is_going_on(self, kept: KeptRound) -> bool:
        """Whether a run writes this round."""
        return kept is self._followed

    def masks_over(self, layer: Any) -> list[KeptRound]:
        """Return the rounds of a movie layer whose masks are in the viewer, visible or not."""
        there = set(self._viewer.layers)
        known = (kept for kept in self._all() if kept.layers is not None and kept.layers.movie.layer is layer)
        return [kept for kept in known if kept.masks_layer in there]

    # -- runs ----------------------------------------------------------------------------------

    def _take_state(self, state: str) -> None:
        run = self._control.run
        if run is not None and (self._followed is None or self._followed.run is not run):
            self._begin(run)
        elif run is None:
            self._end()
        else:
            self._take_news()

    def _begin(self, run: Run) -> None:
        self._end()
        folder, movie = run.wish.session.rounds, self._data.movie
        about = round_of(run, time.time(), self._settings())
        self._followed = KeptRound(folder, about, run, run.layers, MaskWatch(self._viewer, run.layers))
        owner = run.wish.movie if movie is None else movie  # a layer that a segmenter is applied to has no session
        self._rounds.setdefault(owner.layer, []).append(self._followed)
        self.saver.save(folder, about, self._followed.masks, run.wish.frames)

    def _take_news(self, run: Run | None = None) -> None:
        """Save what is known by now of the run that goes on."""
        if self._followed is not None:
            self._save(self._followed)
            self.changed.emit()

    def _end(self) -> None:
        kept, self._followed = self._followed, None
        if kept is None or kept.run is None:
            return
        if not kept.run.layers.has_predictions:  # its layer is gone
            kept.layers = kept.masks = None
        if kept.layers is None and not kept.segmenter.is_file():
            self._drop(kept)
            self.saver.delete(kept.folder, kept.about.number)
        else:
            self._save(kept)
        self._forget_closed_movies()
        self.changed.emit()

    def refresh(self, run: Run) -> None:
        """Save the masks of a run anew, whose labels are others now."""
        for kept in self._all():
            if kept.run is run and kept.masks is not None:
                kept.masks.mark_changed()

    # -- saving --------------------------------------------------------------------------------

    def save(self) -> None:
        """Have saved what changed; returns at once."""
        for kept in self._all():
            if kept.masks is not None and kept.masks.look():
                self._save(kept)

    def _save(self, kept: KeptRound) -> None:
        if kept.run is not None:
            kept.about = round_of(kept.run, kept.about.when, kept.about.settings)
        self.saver.save(kept.folder, kept.about, kept.masks)

    def attach(self, kept: KeptRound, layers: RoundLayers) -> None:
        """Take the layers of a round of an earlier session, whose masks are there."""
        layers.filled = set(kept.about.filled)
        kept.layers, kept.masks = layers, MaskWatch(self._viewer, layers, layers.filled)
        kept.masks.look()

    def delete(self, kept: KeptRound) -> None:
        """Delete a round for good, with its layers.

        Raises
        ------
        ValueError
            If a run writes it or learns on from it; one sentence.
        """
        run = self._control.run
        if run is not None and (self.is_going_on(kept) or run.wish.segmenter == kept.segmenter):
            raise ValueError(f"A run is using round {kept.about.number}; cancel it or wait for its end.")
        self._drop(kept)
        if kept.layers is not None:
            kept.layers.discard()
        self.saver.delete(kept.folder, kept.about.number)
        self.deleted.emit(kept)
        self.changed.emit()

    # -- earlier sessions ----------------------------------------------------------------------

    def take_session(self, session: SessionFolder) -> None:
        """List the rounds of an earlier session on the present movie; they are read in the background."""
        movie = self._data.movie
        if movie is not None:
            layer = movie.layer
            self._reading.start(lambda: (layer, *_read(session)))

    def _take_read(self, read: tuple[Any, list[tuple[RoundFolder, Round]], list[str]]) -> None:
        layer, found, complaints = read
        if layer not in self._viewer.layers:
            return
        known = self._rounds.setdefault(layer, [])
        listed = {(one.folder.path, one.about.number) for one in known}
        known += [KeptRound(*pair) for pair in found if (pair[0].path, pair[1].number) not in listed]
        if complaints:
            self.said.emit(" ".join(complaints), "warning")
        self._go_on()
        self.changed.emit()

    def _go_on(self, event: Any = None) -> None:
        """Have the present session remember where the rounds of its movie are, for those that it is brought back to."""
        movie, session = self._data.movie, self._keeper.session
        if movie is not None and session is not None:
            folders = {kept.folder.path.parent: None for kept in self._rounds.get(movie.layer, ())}
            with contextlib.suppress(OSError):  # the autosave says that the folder cannot be written
                session.go_on_from(folders)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Save what is left, and let go of the layers."""
        self._timer.stop()
        self._end()
        self.save()
        for kept in self._all():
            if kept.masks is not None:
                kept.masks.leave()
        self.saver.close()
        self._rounds.clear()

    def _all(self) -> list[KeptRound]:
        return [kept for rounds in list(self._rounds.values()) for kept in rounds]

    def _drop(self, kept: KeptRound) -> None:
        if kept.masks is not None:
            kept.masks.leave()
        for rounds in self._rounds.values():
            if kept in rounds:
                rounds.remove(kept)

    def _forget_closed_movies(self, event: Any = None) -> None:
        """Save and let go of the rounds of movies that were removed."""
        gone = [layer for layer in list(self._rounds) if layer not in self._viewer.layers]
        if gone:
            self.save()
        for kept in [kept for layer in gone for kept in self._rounds[layer] if not self.is_going_on(kept)]:
            self._drop(kept)

    def _tell_failed(self, sentence: str) -> None:
        self.said.emit(sentence, "error")


def _read(session: SessionFolder) -> tuple[list[tuple[RoundFolder, Round]], list[str]]:
    for folder in round_folders(session):
        folder.finish_deletions()
    return read_rounds(session)
