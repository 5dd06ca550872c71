"""Offers paint and rounds that earlier sessions on the movie left behind, one after the other; brings them back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.brought_paint import bring_paint
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.messages import Message
from napari_osvos._qt.paint_desk import PaintDesk
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.session_keeper import SessionKeeper
from napari_osvos.session import SessionFolder, find_recoverable, known_roots
from napari_osvos.session_rounds import read_rounds

# An offer waits this long for the layers that are opened together with the movie.
CONSIDERATION = 400  # ms


class RecoveryDesk(QObject):
    """Asks in the panel, not in a window of its own, whether paint is to be brought back.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    offer : Message
        Where it is offered.
    desk : PaintDesk
        Makes the layer for it.
    watch : PaintWatch
    keeper : SessionKeeper

    Signals
    -------
    restored : SessionFolder
        Its paint, axes and channels were brought back; its rounds are to be listed.
    said : str, str
        A sentence and its kind.
    """

    restored = Signal(object)
    said = Signal(str, str)

    def __init__(
        self,
        viewer: Any,
        data: DataSection,
        offer: Message,
        desk: PaintDesk,
        watch: PaintWatch,
        keeper: SessionKeeper,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._offer = viewer, data, offer
        self._desk, self._watch, self._keeper = desk, watch, keeper
        self._layer: Any = None
        self._left: list[SessionFolder] = []
        self._found: set[Path] = set()  # those that are left, and those before them
        self._offered: tuple[SessionFolder, dict[int, Any]] | None = None
        self._considering = QTimer(self)
        self._considering.setSingleShot(True)
        self._considering.timeout.connect(self._read_next)
        self._searching, self._reading = Background(self), Background(self)
        self._searching.done.connect(self._take_found)
        self._reading.done.connect(self._take_read)
        data.movie_changed.connect(self._take_movie)
        keeper.moved.connect(self._search_there)
        offer.acted.connect(self.restore)
        offer.refused.connect(self.discard)
        self._take_movie()

    # -- searching -----------------------------------------------------------------------------

    def _take_movie(self) -> None:
        movie = self._data.movie
        layer = None if movie is None else movie.layer
        if layer is self._layer:  # with other axes, which may be what the paint needs
            return
        self._layer, self._left, self._found, self._offered = layer, [], set(), None
        self._considering.stop()
        self._offer.clear()
        self._search((self._keeper.root, *known_roots()))

    def _search(self, roots: Sequence[Path]) -> None:
        layer, movie = self._layer, self._data.movie
        if movie is not None:
            facts = movie.facts
            self._searching.start(lambda: (layer, find_recoverable(facts, *roots)))

    def _search_there(self, root: Path) -> None:
        """Search a folder that was chosen for sessions just now; the others were searched already."""
        self._search([root])

    def _take_found(self, found: tuple[Any, list[SessionFolder]]) -> None:
        layer, sessions = found
        if layer is self._layer:
            self._left += [session for session in sessions if session.path not in self._found]
            self._found |= {session.path for session in sessions}
            if self._offered is None:  # else they come after it
                self._considering.start(CONSIDERATION)

    def _read_next(self) -> None:
        if self._left:
            layer, session = self._layer, self._left.pop(0)
            self._reading.start(lambda: (layer, session, *session.read_frames(), len(read_rounds(session)[0])))

    def _take_read(self, read: tuple[Any, SessionFolder, dict[int, Any], list[str], int]) -> None:
        layer, session, frames, complaints, n_rounds = read
        if layer is not self._layer:
            return
        if self._offered is not None:  # one of a folder that was chosen meanwhile
            self._left.insert(0, session)
            return
        if complaints:
            self.said.emit(" ".join(complaints), "warning")
        held = bool(frames) and self._holds(frames)
        if not n_rounds and (held or not frames):
            if held:
                _settle(session)
            self._read_next()
            return
        self._offered = session, {} if held else frames
        rounds = f"{n_rounds} round{'s' * (n_rounds != 1)}"
        if held or not frames:
            words = f"There {'are' if n_rounds != 1 else 'is'} {rounds} of an earlier session: {session.in_words}."
        else:
            words = f"There is paint of an earlier session: {session.in_words}{f', with {rounds}' * bool(n_rounds)}."
        self._offer.say(words, action="Bring it back", refusal="No, thanks")

    def _holds(self, frames: dict[int, Any]) -> bool:
        """Whether the layer that is painted on has just this paint, as a sample has each time it is opened."""
        movie, array = self._data.movie, self._watch.array
        if movie is None or array is None or max(frames) >= movie.axes.n_frames:
            return False
        return all(np.array_equal(movie.axes.read_frame(array, t), labels) for t, labels in frames.items())

    # -- answers -------------------------------------------------------------------------------

    def restore(self) -> None:
        """Bring the paint of the earlier session back, in a layer of its own, and its rounds."""
        if self._offered is None:
            return
        (session, frames), self._offered = self._offered, None
        self._offer.clear()
        self._data.restore(session.settings())
        movie = self._data.movie
        assert movie is not None
        name = f"{movie.name} annotations, brought back"
        layer, complaints = bring_paint(self._viewer, self._desk, movie, frames, name)
        if layer is not None or not frames:
            self.restored.emit(session)
        if complaints:
            self.said.emit(" ".join([*complaints, "What was not brought back will be offered again."]), "warning")
        elif self._watch.layer is not None:  # else nothing that is saved now would lead to its rounds
            _settle(session)
        self._read_next()

    def discard(self) -> None:
        """Do not offer it again; it stays on the disk."""
        if self._offered is not None:
            _settle(self._offered[0])
        self._offered = None
        self._offer.clear()
        self._read_next()


def _settle(session: SessionFolder) -> None:
    """Note that the offer was answered."""
    with contextlib.suppress(OSError):  # it will be offered once more
        session.settle()
