"""Which frame to annotate next and how good the others are, in the panel and on the strip under the time slider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QWidget

from napari_osvos._qt.confidence_strip import StripContent
from napari_osvos._qt.connections import Connections
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.next_section import NextSection
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.strip_place import StripPlace
from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.next_frames import NextFrames
from napari_osvos.suggest import Suggestion


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a round says of the frames of its movie.

    Attributes
    ----------
    source : weak reference
        To the round, or to the run that makes it.
    confidences : mapping
        {frame: J to expect}.
    way : NextFrames
        Through its suggestions.
    expected : ExpectedAccuracy or None
    """

    source: Any
    confidences: Mapping[int, float]
    way: NextFrames
    expected: ExpectedAccuracy | None


class NextDesk(QObject):
    """Shows what a round says of the frames of its movie, and goes to the one to annotate next.

    The round is the last one of the movie, or one that was shown since.

    Parameters
    ----------
    viewer : napari.Viewer
    section : NextSection
    place : StripPlace
    data : DataSection
    watch : PaintWatch
    control : RunControl
    connections : Connections
        What ends when the panel is closed.
    panel : QWidget
        In whose window the strip is put.
    """

    def __init__(
        self,
        viewer: Any,
        section: NextSection,
        place: StripPlace,
        data: DataSection,
        watch: PaintWatch,
        control: RunControl,
        connections: Connections,
        panel: QWidget,
    ) -> None:
        super().__init__(panel)
        self._viewer, self._section, self._place = viewer, section, place
        self._data, self._watch, self._control, self._panel = data, watch, control, panel
        self._verdicts: WeakKeyDictionary[Any, Verdict] = WeakKeyDictionary()  # of each movie layer
        control.filled.connect(self.take)
        control.ended.connect(self.take)
        control.state_changed.connect(self.refresh)
        data.movie_changed.connect(self.refresh)
        watch.changed.connect(self.refresh)
        place.strip.wanted.connect(self.go_to)
        section.next_wanted.connect(self.go_next)
        connections.connect(viewer.dims.events.current_step, self.refresh)
        for event in (viewer.dims.events.ndim, viewer.dims.events.order, viewer.dims.events.range):
            connections.connect(event, place.align_soon)
        self.refresh()

    # -- what is known -------------------------------------------------------------------------

    def take(self, run: Run) -> None:
        """Show what a run says, as far as it is."""
        self.show_verdict(run.wish.movie.layer, run, run.confidences, run.suggestions, run.expected_accuracy)

    def take_round(self, kept: KeptRound) -> None:
        """Show what a round of the present movie, or one whose masks are shown, says."""
        movie = self._data.movie if kept.layers is None else kept.layers.movie
        if movie is not None:
            about = kept.about
            try:
                suggestions = tuple(map(Suggestion.from_dict, about.suggestions))
                expected = None if about.expected is None else ExpectedAccuracy.from_dict(about.expected)
            except TypeError:  # the file was damaged
                suggestions, expected = (), None
            self.show_verdict(movie.layer, kept.run or kept, about.confidences, suggestions, expected)

    def offer(self, rounds: Sequence[KeptRound]) -> None:
        """Show what the newest of the rounds of the present movie says, where nothing is shown: it was just opened."""
        told = [kept for kept in rounds if kept.about.confidences]
        if told and self.verdict is None:
            self.take_round(told[-1])

    def show_verdict(
        self,
        layer: Any,
        source: Any,
        confidences: Mapping[int, float],
        suggestions: Sequence[Suggestion],
        expected: ExpectedAccuracy | None,
    ) -> None:
        """Show what a round says.

        Parameters
        ----------
        layer : napari.layers.Image
            Its movie.
        source : object
            The round, or its run.
        confidences, suggestions, expected
            See `Run`.
        """
        before = self._verdicts.get(layer)
        way = NextFrames(suggestions)
        if before is not None and before.source() is source and before.way.suggestions == way.suggestions:
            way = before.way  # which frames were gone to
        self._verdicts[layer] = Verdict(ref(source), confidences, way, expected)
        self.refresh()

    def forget(self, *sources: Any) -> None:
        """Show no more what a round says, which is deleted."""
        for layer, verdict in list(self._verdicts.items()):
            if any(verdict.source() is one for one in sources if one is not None):
                del self._verdicts[layer]
        self.refresh()

    @property
    def verdict(self) -> Verdict | None:
        """What is shown for the present movie."""
        movie = self._data.movie
        return None if movie is None else self._verdicts.get(movie.layer)

    @property
    def _painted(self) -> frozenset[int]:
        painted = self._watch.painted
        return frozenset() if painted is None else frozenset(one.frame for one in painted.frames)

    @property
    def _accepted(self) -> frozenset[int]:
        painted = self._watch.painted
        return frozenset() if painted is None else painted.accepted & self._painted

    def _in_view(self) -> int:
        movie = self._data.movie
        return 0 if movie is None else int(movie.in_view(self._viewer)[0])

    # -- going ---------------------------------------------------------------------------------

    def go_next(self) -> None:
        """Go to the frame whose annotation would help most; again: the next best."""
        verdict = self.verdict
        found = None if verdict is None else verdict.way.go(self._painted)
        if found is not None:
            self.go_to(found.frame)
            self.refresh()

    def go_to(self, frame: int) -> None:
        """Bring a frame into view."""
        if self._data.movie is not None:
            self._data.movie.go_to(self._viewer, frame)

    # -- showing -------------------------------------------------------------------------------

    def refresh(self, event: Any = None) -> None:
        """Show what is known now."""
        movie, verdict = self._data.movie, self.verdict
        painted, accepted, in_view = self._painted, self._accepted, self._in_view()
        shown = None if verdict is None else verdict.way.shown(painted, in_view)
        self._section.allow(
            go=shown is not None,
            adopt=movie is not None and verdict is not None,
            accept=movie is not None and (verdict is not None or in_view in painted),
            accepted=in_view in accepted,
        )
        if verdict is None or movie is None:
            self._section.show_words("", "")
            self._place.show(None, self._panel)
            return
        expected = verdict.expected
        accuracy = "" if expected is None else f"On frames you did not paint, expect {expected.in_words}."
        self._section.show_words(accuracy, self._suggestion_words(verdict, shown, in_view))
        self._place.strip.show_content(
            StripContent(
                movie.axes.n_frames,
                dict(verdict.confidences),
                painted,
                accepted,
                None if shown is None else shown.frame,
                {one.frame: one.reason for one in verdict.way.suggestions},
            )
        )
        self._place.show(movie, self._panel)

    def _suggestion_words(self, verdict: Verdict, shown: Suggestion | None, in_view: int) -> str:
        if shown is not None and shown.frame == in_view:
            return f"This frame, {in_view}, would help most: {shown.reason}. Paint it, or adopt and correct it."
        if shown is not None:
            return f"Frame {shown.frame} would help most: {shown.reason}."
        if self._control.run is not None and verdict.source() is self._control.run:
            return "While the movie fills, the strip under the time slider shows how sure each frame is."
        if verdict.way.suggestions:
            return "Every frame that was suggested is annotated; segment again to hear of others."
        return "No frame is suggested."

    def leave(self) -> None:
        """Take the strip out of the window."""
        self._place.leave()
