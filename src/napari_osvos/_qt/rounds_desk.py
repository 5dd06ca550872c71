"""Does what the buttons and the key of the rounds say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.movie_layer import LARGEST_IN_MEMORY, MovieLayer, pixels_of
from napari_osvos._qt.round_difference import COLOURS, RoundDifference
from napari_osvos._qt.round_keeper import RoundKeeper
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.round_words import columns_of, details_of
from napari_osvos._qt.rounds_section import RoundRow, RoundsSection
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.round_masks import ONLY_NEWER, ONLY_OLDER, OTHER_OBJECT, clear_others, open_masks, read_masks
from napari_osvos.round_record import thinned


class RoundsDesk(QObject):
    """Lists the rounds of the present movie, shows and compares their masks, and deletes them.

    Parameters
    ----------
    viewer : napari.Viewer
    data : DataSection
    section : RoundsSection
    keeper : RoundKeeper

    Signals
    -------
    revert_wanted : KeptRound
        Go back to it; its masks are shown already, if there are any.
    shown : KeptRound
        Its masks are shown, and those of the others are not.
    """

    revert_wanted = Signal(object)
    shown = Signal(object)

    def __init__(
        self, viewer: Any, data: DataSection, section: RoundsSection, keeper: RoundKeeper, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._data, self._section, self._keeper = viewer, data, section, keeper
        self.difference = RoundDifference(viewer, self)
        self._doomed: list[KeptRound] = []
        self._then: Callable[[], None] | None = None
        self._loading = Background(self)
        self._loading.done.connect(self._take_loaded)
        self._loading.failed.connect(self._failed)
        keeper.changed.connect(self.list_rounds)
        keeper.said.connect(section.message.say)
        data.movie_changed.connect(self.list_rounds)
        section.selection_changed.connect(self.allow)
        section.show_wanted.connect(self.show)
        section.compare_wanted.connect(self.compare)
        section.revert_wanted.connect(self.revert)
        section.delete_wanted.connect(self._ask)
        section.delete_confirmed.connect(self._delete)
        section.delete_refused.connect(self._spare)
        self.difference.closed.connect(self._tell_closed)
        self.list_rounds()

    def list_rounds(self, event: Any = None) -> None:
        """Show the rounds of the present movie, the newest first."""
        rows = []
        for kept in reversed(self._keeper.rounds):
            losses = tuple(thinned(kept.about.losses))
            rows.append(RoundRow(kept, columns_of(kept.about), details_of(kept.about), losses))
        self._section.show_rounds(rows)
        self.allow()

    @property
    def selected(self) -> list[KeptRound]:
        """The rounds that are selected, the oldest first."""
        keys = self._section.selected
        return [kept for kept in self._keeper.rounds if kept in keys]

    def allow(self, event: Any = None) -> None:
        """Enable the buttons that there is something for."""
        selected = self.selected
        one = selected[0] if len(selected) == 1 else None
        self._section.allow(
            show=one is not None and _has_masks(one),
            compare=self._section.compare.isChecked() or self.pair is not None,
            revert=one is not None and one.about.tuning is not None and not self._keeper.is_busy,
            delete=bool(selected) and not any(map(self._keeper.is_going_on, selected)),
        )

    # -- showing -------------------------------------------------------------------------------

    def show(self) -> None:
        """Show the masks of the round that is selected, and hide those of the others."""
        selected = self.selected
        if len(selected) == 1:
            self.show_round(selected[0])

    def show_round(self, kept: KeptRound) -> None:
        """Show the masks of a round, and hide those of the others."""
        self.difference.close()
        self._section.show_legend(())
        self._load([kept], lambda: self._shown(kept))

    def _shown(self, kept: KeptRound) -> None:
        assert kept.layers is not None
        kept.layers.show()
        self._show_only(kept.layers)
        self._tell(f"Round {kept.about.number} is shown.")

    def _show_only(self, shown: RoundLayers) -> None:
        """Hide the masks of all rounds but one: several on top of each other cannot be told apart."""
        for kept in self._keeper.rounds:
            if kept.layers is not None and kept.layers.is_shown:
                kept.layers.labels_layer.visible = kept.layers is shown
            if kept.layers is shown:
                self.shown.emit(kept)

    @property
    def pair(self) -> tuple[KeptRound, KeptRound] | None:
        """The two to compare: those selected, or the one that is and the one before; else the last two."""
        known = [kept for kept in self._keeper.rounds if _has_masks(kept)]
        chosen = [kept for kept in self.selected if kept in known]
        if len(known) < 2 or len(chosen) > 2:
            return None
        if len(chosen) < 2:
            newer = max(known.index(chosen[0]) if chosen else len(known) - 1, 1)
            chosen = known[newer - 1 : newer + 1]
        older, newer_one = chosen
        return (older, newer_one) if older.about.axes == newer_one.about.axes else None

    def flip(self) -> None:
        """Show the masks of the other one of two rounds."""
        pair = self.pair
        if pair is None:
            self._tell("There are no two rounds with masks to flip between.")
            return

        def flipped() -> None:
            older, newer = (kept.layers for kept in pair)
            assert older is not None
            assert newer is not None
            for layers in (older, newer):
                layers.show()
            shown = older if newer.labels_layer.visible else newer
            self._show_only(shown)
            hidden = older if shown is newer else newer
            self._tell(f"Round {shown.number} is shown, round {hidden.number} is hidden (Shift-R flips).")

        self._load(pair, flipped)

    def compare(self, wanted: bool) -> None:
        """Show where two rounds differ, or no more."""
        pair = self.pair
        if not wanted or pair is None:
            self.difference.close()
            self._section.show_legend(())
            self.allow()
            return

        def compared() -> None:
            older, newer = (kept.layers for kept in pair)
            assert older is not None
            assert newer is not None
            self.difference.open(older, newer)
            self._show_only(newer)
            meaning = {
                ONLY_OLDER: f"in {older.number} only",
                ONLY_NEWER: f"in {newer.number} only",
                OTHER_OBJECT: "cut otherwise",
            }
            self._section.show_legend([(COLOURS[value], words) for value, words in meaning.items()])

        self._load(pair, compared)

    def _tell_closed(self) -> None:
        self._section.show_legend(())
        self.allow()

    # -- going back, deleting ------------------------------------------------------------------

    def revert(self) -> None:
        """Go back to the round that is selected."""
        selected = self.selected
        if len(selected) == 1:
            if _has_masks(selected[0]):
                self.show_round(selected[0])
            self.revert_wanted.emit(selected[0])

    def _ask(self) -> None:
        self._doomed = self.selected
        if self._doomed:
            which = " and ".join(str(kept.about.number) for kept in self._doomed)
            many = len(self._doomed) > 1
            whose = "their" if many else "its"
            words = f"Delete round{'s' * many} {which} for good, with {whose} masks and what was learned?"
            self._section.message.say(words, "warning", action="Delete", refusal="Keep")

    def _delete(self) -> None:
        doomed, self._doomed = self._doomed, []
        self._section.message.clear()
        for kept in doomed:
            try:
                self._keeper.delete(kept)
            except ValueError as error:
                self._section.message.say(str(error), "warning")

    def _spare(self) -> None:
        self._doomed = []
        self._section.message.clear()

    # -- masks of earlier sessions -------------------------------------------------------------

    def _load(self, wanted: Sequence[KeptRound], then: Callable[[], None]) -> None:
        """Have the masks of rounds in layers, then do something; those on the disk are read in the background."""
        missing = [kept for kept in wanted if kept.layers is None]
        try:
            movies = [self._movie_of(kept) for kept in missing]
        except ValueError as error:
            self._section.show_legend(())
            self._section.message.say(str(error), "warning")
            return
        if missing:
            self._section.message.say("Reading masks ...")
            self._then = then
            pairs = list(zip(missing, movies, strict=True))
            self._loading.start(lambda: [(kept, movie, *_read(kept, movie)) for kept, movie in pairs])
        else:
            then()

    def _take_loaded(self, loaded: list[tuple[KeptRound, MovieLayer, Any, list[str]]]) -> None:
        then, self._then = self._then, None
        self._section.message.clear()
        complaints = []
        for kept, movie, labels, sentences in loaded:
            complaints += sentences
            if kept.layers is None and kept in self._keeper.rounds:
                layers = RoundLayers(self._viewer, movie, kept.about.number, False, kept.folder.path, labels=labels)
                self._keeper.attach(kept, layers)
        if then is not None and all(kept.layers is not None for kept, *_ in loaded):
            then()
        if complaints:
            self._section.message.say(" ".join(complaints), "warning")

    def _movie_of(self, kept: KeptRound) -> MovieLayer:
        """The movie of a round of an earlier session, as it was read then.

        Raises
        ------
        ValueError
            If it is not open; one sentence.
        """
        about, present = kept.about, self._data.movie
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        if present is not None:
            layers.insert(0, present.layer)
        for layer in layers:
            movie = None
            with contextlib.suppress(ValueError):  # axes that this layer cannot have
                movie = MovieLayer(layer, LayerAxes(about.axes, pixels_of(layer).shape), about.channels)
            if movie is not None and (layer is layers[0] and movie.facts.shape == about.movie.shape):
                return movie
            if movie is not None and movie.facts.is_same_movie(about.movie):
                return movie
        raise ValueError(f"Round {about.number} is of {about.movie.name!r}; open it to see its masks.")

    def _failed(self, error: Exception) -> None:
        self._then = None
        self._section.show_legend(())
        self._section.message.say(str(error), "error")

    def _tell(self, sentence: str) -> None:
        self._section.message.say(sentence)
        self._viewer.status = sentence


def _has_masks(kept: KeptRound) -> bool:
    return kept.layers is not None or (kept.run is None and bool(kept.about.filled))


def _read(kept: KeptRound, movie: MovieLayer) -> tuple[Any, list[str]]:
    """Read masks from the disk; those too large for memory are shown from there."""
    path = kept.folder.masks(kept.about.number)
    array = open_masks(path, movie.axes)
    if array.size * 2 <= LARGEST_IN_MEMORY:  # as uint16
        return read_masks(array, path, movie.axes, kept.about.filled)
    clear_others(array, movie.axes, kept.about.filled)
    return array, []
