"""Saves paint and settings every few seconds, and offers what an earlier session left behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos.autosave import Autosaver
from napari_osvos.session import MovieFacts, SessionFolder, find_recoverable

INTERVAL = 3000  # ms


class SessionKeeper(QObject):
    """The session folders of one panel: one for every movie it was used on.

    Parameters
    ----------
    watch : PaintWatch
        Whose paint is saved.
    settings : callable
        Returns the settings of the panel as plain data; a bound method.

    Signals
    -------
    folder_changed : Path
        The present session is kept there.
    offered : dict
        There is paint of an earlier session on this movie: {frame: labels}; `found` is the session.
    said : str, str
        A sentence and its kind.
    """

    folder_changed = Signal(object)
    offered = Signal(object)
    said = Signal(str, str)
    _failed = Signal(str)

    def __init__(
        self, watch: PaintWatch, settings: Callable[[], dict[str, Any]], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._watch, self._settings = watch, settings
        self._root: Path | None = None
        self._savers: dict[Any, tuple[SessionFolder, Autosaver]] = {}
        self._layer: Any = None
        self._seen_painted: object = None
        self.found: SessionFolder | None = None
        self._search = Background(self)
        self._search.done.connect(self._take_found)
        self._searched_for: Any = None
        self._failed.connect(self._tell_failed, Qt.ConnectionType.QueuedConnection)
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL)
        self._timer.timeout.connect(self.save)
        self._timer.start()

    @property
    def session(self) -> SessionFolder | None:
        """The session of the present movie."""
        return self._savers[self._layer][0] if self._layer in self._savers else None

    def turn_to(self, movie: MovieLayer | None) -> None:
        """Save to the session of this movie from now on."""
        self.save()
        self._layer = None if movie is None else movie.layer
        if movie is None:
            return
        if self._layer not in self._savers:
            facts = movie.facts
            session = SessionFolder.for_movie(facts.name, facts.source, facts.shape, facts.dtype, self._root)
            self._savers[self._layer] = (session, Autosaver(session, _forward_to(self._failed)))
            root, self._searched_for = self._root, self._layer
            self._search.start(lambda: _newest_paint(facts, root))
        self.folder_changed.emit(self._savers[self._layer][0].path)

    def save(self) -> None:
        """Have saved what changed; returns at once."""
        if self._layer not in self._savers:
            return
        session, saver = self._savers[self._layer]
        painted = self._watch.painted
        frames = {}
        if painted is not None:
            frames = painted.take_unsaved()
            if painted is not self._seen_painted and not painted.n_waiting:
                # another layer is painted on: what the former one held is no part of this session any more
                self._seen_painted = painted
                there = {one.frame for one in painted.frames}
                frames |= {frame: None for frame in session.frames if frame not in there}
        saver.save(frames or None, self._settings())

    def move_to(self, root: Path) -> None:
        """Keep this session, and those to come, in another folder."""
        self._root = root
        if self.session is not None:
            try:
                self.session.move_to(root)
            except OSError as error:
                self.said.emit(str(error), "error")
            self.folder_changed.emit(self.session.path)

    def settle(self) -> None:
        """Note that the offer was answered."""
        found, self.found = self.found, None
        if found is not None:
            with contextlib.suppress(OSError):  # it will be offered once more
                found.settle()

    def close(self) -> None:
        """Save what is left and end the sessions."""
        self._timer.stop()
        self.save()
        self.end_sessions()

    def end_sessions(self) -> None:
        """End the sessions in a thread that Python waits for when it exits; touches nothing of Qt."""
        savers = [saver for _, saver in self._savers.values()]
        self._savers.clear()
        self._layer = None
        if savers:
            threading.Thread(target=_close_all, args=(savers,), name="napari-osvos last save").start()

    def _take_found(self, paint: tuple[SessionFolder, dict[int, Any]] | None) -> None:
        if paint is not None and self._layer is self._searched_for and self._layer is not None:
            self.found, frames = paint
            self.offered.emit(frames)

    def _tell_failed(self, sentence: str) -> None:
        self.said.emit(sentence, "error")


def _newest_paint(facts: MovieFacts, root: Path | None) -> tuple[SessionFolder, dict[int, Any]] | None:
    sessions = find_recoverable(facts, root)
    return (sessions[0], sessions[0].read_frames()[0]) if sessions else None


def _forward_to(signal: Any) -> Callable[[str], None]:
    def forward(sentence: str) -> None:
        with contextlib.suppress(RuntimeError):  # the panel was closed meanwhile
            signal.emit(sentence)

    return forward


def _close_all(savers: list[Autosaver]) -> None:
    for saver in savers:
        saver.close()
