"""Runs, as the buttons, the dial, the bar and the curve show them."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject

from napari_osvos._qt.estimate_desk import EstimateDesk
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.progress_section import ProgressSection
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.run_section import RunSection
from napari_osvos._qt.wish import Wish
from napari_osvos._qt.wish_desk import WishDesk
from napari_osvos.painted_frames import PaintedFrames
from napari_osvos.worker.events import TrainingProgress


class RunDesk(QObject):
    """Starts runs at the press of a button, and shows in the controls what they say."""

    def __init__(
        self,
        wishes: WishDesk,
        section: RunSection,
        progress: ProgressSection,
        watch: PaintWatch,
        estimates: EstimateDesk,
        control: RunControl,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._wishes, self._section, self._progress, self._watch = wishes, section, progress, watch
        self.control = control
        self._estimates = estimates
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # the last one of a movie, and of a session
        self._awaited: PaintedFrames | None = None
        estimates.said.connect(self.say)
        section.start_wanted.connect(self.segment)
        section.pause_wanted.connect(control.toggle_pause)
        section.stop_wanted.connect(control.stop_and_keep)
        section.cancel_wanted.connect(control.cancel)
        control.begun.connect(self._show_begun)
        control.state_changed.connect(self._show_state)
        control.progressed.connect(self._show_progress)
        control.learned.connect(self._show_loss)
        control.said.connect(self.say)
        control.ended.connect(self._take_ended)
        watch.looked.connect(self._go_on)

    # -- starting ------------------------------------------------------------------------------

    def segment(self) -> None:
        """Learn from what is painted now and segment the movie, or say why that cannot be.

        A layer that was just opened is looked through for paint first.
        """
        self._awaited = None
        if self.control.run is not None:
            return
        self._watch.settle()
        painted = self._watch.painted
        if painted is not None and painted.n_waiting:
            self._awaited = painted
            self.say("Looking for paint in all frames ...")
            return
        try:
            self._start(self._wishes.to_learn())
        except (ValueError, OSError) as error:
            self.say(str(error), "warning")

    @property
    def is_looking(self) -> bool:
        """Whether a run begins as soon as all paint is found."""
        return self._awaited is not None

    def _go_on(self) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            self._progress.message.clear()
            if awaited is self._watch.painted:  # else the user has gone elsewhere
                self.segment()

    def apply(self, layer: Any, axes: Any) -> None:
        """Segment a layer with the segmenter that is chosen, as it is.

        Parameters
        ----------
        layer : napari.layers.Image
        axes : LayerAxes
        """
        if self.control.run is not None:
            return
        try:
            self._start(self._wishes.to_apply(layer, axes))
        except (ValueError, OSError) as error:
            self.say(str(error), "warning")

    def _start(self, wish: Wish) -> None:
        # neither the name of a layer nor that of a file of the session is given twice
        counted = (wish.movie.layer, wish.session)
        number = max(self._numbers.get(one, 0) for one in counted) + 1
        self.control.start(wish, number, self._estimates.expected_of(wish))
        self._numbers.update(dict.fromkeys(counted, number))

    def count_from(self, movie_layer: Any, number: int) -> None:
        """Give rounds of a movie numbers above this one, which an earlier session has given."""
        self._numbers[movie_layer] = max(self._numbers.get(movie_layer, 0), number)

    # -- showing -------------------------------------------------------------------------------

    def say(self, sentence: str, kind: str = "info", details: str = "") -> None:
        """Say something in the panel; errors in napari's notifications as well."""
        self._progress.message.say(sentence, kind, details=details)
        if kind == "error":
            show_error(sentence)

    def _show_begun(self, run: Run) -> None:
        self._progress.begin(f"OSVOS: {run.wish.movie.name}", learns=run.learns)

    def _show_state(self, state: str) -> None:
        self._section.show_state(state)
        if state == "idle":
            self._progress.end()

    def _show_progress(self, share: float, what: str, seconds_left: float) -> None:
        self._progress.show_progress(share, what, seconds_left if seconds_left >= 0 else None)

    def _show_loss(self, points: list[TrainingProgress]) -> None:
        for point in points:
            self._progress.plot.add(point.step, point.loss)
        self._progress.plot.draw()

    def _take_ended(self, run: Run) -> None:
        if run.expected is not None and run.learns:
            whole = len(run.layers.filled) == run.wish.movie.axes.n_frames
            learned = None if run.cut_short or not run.learned_in else run.learned_in
            self._estimates.expected.correct(run.expected, learned, run.filled_in if whole else None)
            self._estimates.estimate()
