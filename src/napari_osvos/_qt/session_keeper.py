"""Saves paint and settings every few seconds, each layer of paint to a session folder of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_osvos._qt.connections import Connections, forward_to
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos.autosave import Autosaver
from napari_osvos.movie_facts import MovieFacts
from napari_osvos.session import SessionFolder, choose_root, known_roots

INTERVAL = 3000  # ms


class SessionKeeper(QObject):
    """The session folders of one panel: one for every layer that was painted on, over every movie.

    Parameters
    ----------
    viewer : napari.Viewer
    watch : PaintWatch
        Whose paint is saved.
    settings : callable
        Returns the settings of the panel as plain data; a bound method.
    connections : Connections
        What ends when the panel is closed.

    Attributes
    ----------
    root : Path
        Folder of the sessions to come: the one that was chosen last, in this viewer or an earlier one.

    Signals
    -------
    folder_changed : Path
        The present session is kept there.
    moved : Path
        The sessions to come are kept in there.
    said : str, str
        A sentence and its kind.
    """

    folder_changed = Signal(object)
    moved = Signal(object)
    said = Signal(str, str)
    _failed = Signal(str)

    def __init__(
        self,
        viewer: Any,
        watch: PaintWatch,
        settings: Callable[[], dict[str, Any]],
        connections: Connections,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._watch, self._settings = watch, settings
        self.root = known_roots()[0]
        self._savers: dict[tuple[Any, Any], Autosaver] = {}  # of a movie and a layer of paint, or None
        self._present: tuple[Any, Any] | None = None
        self._failed.connect(self._tell_failed, Qt.ConnectionType.QueuedConnection)
        connections.connect(viewer.layers.events.removed, self._end_those_of)
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL)
        self._timer.timeout.connect(self.save)
        self._timer.start()

    @property
    def session(self) -> SessionFolder | None:
        """The session of the present movie and layer of paint."""
        return None if self._present is None else self._savers[self._present].session

    def turn_to(self, movie: MovieLayer | None, layer: Any) -> None:
        """Save what is painted on this layer (None: there is none yet) over this movie from now on."""
        present = None if movie is None else (movie.layer, layer)
        if movie is None or present is None or present == self._present:
            self._present = present
            return
        if present not in self._savers:
            begun = self._savers.pop((movie.layer, None), None)  # before there was a layer to paint on
            self._savers[present] = begun or self._begin(movie.facts)
            if self._watch.painted is not None:  # what is known already went to a session that has ended
                self._savers[present].save(self._watch.painted.copies())
        self._present = present
        self.folder_changed.emit(self._savers[present].session.path)

    def _begin(self, facts: MovieFacts) -> Autosaver:
        session = SessionFolder.for_movie(facts.name, facts.source, facts.shape, facts.dtype, self.root)
        return Autosaver(session, forward_to(self, "_failed"))

    def save(self) -> None:
        """Have saved what changed; returns at once."""
        if self._present is not None:
            painted = self._watch.painted
            frames = None if painted is None else painted.take_unsaved()
            self._savers[self._present].save(frames, self._settings())

    def save_all(self) -> None:
        """Have saved the last strokes as well, before the layer is left."""
        if self._present is not None:
            with contextlib.suppress(Exception):  # a file that is gone must not keep the rest from being saved
                self._watch.settle()
            self.save()

    def move_to(self, root: Path) -> None:
        """Keep the paint of this session, and the sessions to come in any viewer, in another folder.

        What runs have written stays where it is: it may be on the screen, or be refined.
        """
        self.root = root
        try:
            choose_root(root)
        except OSError as error:
            self._tell_failed(str(error))
        if self._present is not None:
            former, painted = self._savers[self._present], self._watch.painted
            self.save()
            saver = self._savers[self._present] = self._begin(former.session.movie)
            saver.save(None if painted is None else painted.copies(), self._settings())
            _in_thread(_replace, former, saver)
            self.folder_changed.emit(saver.session.path)
        self.moved.emit(root)

    def close(self) -> None:
        """Save what is left and end the sessions."""
        self._timer.stop()
        self.save_all()
        self.end_sessions()

    def save_last(self) -> None:
        """Have saved what no timer came to, after Qt has destroyed the panel; tells nobody."""
        if self._present is None:
            return
        painted, frames, settings = self._watch.painted, None, None
        if painted is not None:
            with contextlib.suppress(Exception):  # as in `save_all`
                painted.finish()
            frames = painted.take_unsaved()
        with contextlib.suppress(RuntimeError):  # the controls went with the panel
            settings = self._settings()
        self._savers[self._present].save(frames, settings)

    def end_sessions(self) -> None:
        """End the sessions in a thread that Python waits for when it exits; touches nothing of Qt."""
        savers = list(self._savers.values())
        self._savers.clear()
        self._present = None
        if savers:
            _in_thread(_close_all, savers)

    def _end_those_of(self, event: Any) -> None:
        """End the sessions of a layer that was removed."""
        ended = [pair for pair in self._savers if event.value in pair]
        if self._present in ended:
            self.save_all()
            self._present = None
        if ended:
            _in_thread(_close_all, [self._savers.pop(pair) for pair in ended])

    def _tell_failed(self, sentence: str) -> None:
        self.said.emit(sentence, "error")


def _in_thread(work: Callable[..., None], *given: Any) -> None:
    threading.Thread(target=work, args=given, name="napari-osvos last save").start()


def _close_all(savers: Sequence[Autosaver]) -> None:
    for saver in savers:
        saver.close()


def _replace(former: Autosaver, saver: Autosaver) -> None:
    """End a session whose paint another one has now; if that cannot be written, it will be offered again."""
    saved = saver.wait()
    if saved and former.session.path.exists():
        with contextlib.suppress(OSError):
            former.session.settle()  # while it is in use still, so that it is never offered
    former.close()
