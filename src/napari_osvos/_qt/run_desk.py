"""Runs, as the buttons, the dial, the bar and the curve show them."""

from __future__ import annotations

from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject

from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.estimate_desk import EstimateDesk
from napari_osvos._qt.frames_section import FramesSection
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.progress_section import ProgressSection
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.run_section import RunSection
from napari_osvos._qt.session_keeper import SessionKeeper
from napari_osvos._qt.settings_section import SettingsSection
from napari_osvos._qt.wish import Wish
from napari_osvos.worker.events import TrainingProgress


class RunDesk(QObject):
    """Turns what the controls say into runs, and what runs say into what the controls show."""

    def __init__(
        self,
        data: DataSection,
        frames: FramesSection,
        section: RunSection,
        settings: SettingsSection,
        progress: ProgressSection,
        watch: PaintWatch,
        keeper: SessionKeeper,
        estimates: EstimateDesk,
        control: RunControl,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._data, self._frames, self._section, self._settings = data, frames, section, settings
        self._progress, self._watch, self._keeper = progress, watch, keeper
        self.control = control
        self._estimates = estimates
        self._rounds: dict[str, int] = {}
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

    # -- starting ------------------------------------------------------------------------------

    def segment(self) -> None:
        """Learn from what is painted now and segment the movie, or say why that cannot be."""
        if self.control.run is not None:
            return
        try:
            self._start(self._wish())
        except (ValueError, OSError) as error:
            self.say(str(error), "warning")

    def apply(self, layer: Any, axes: Any) -> None:
        """Segment a layer with the segmenter that is chosen, as it is.

        Parameters
        ----------
        layer : napari.layers.Image
        axes : LayerAxes
        """
        session, segmenter = self._keeper.session, self._section.segmenter
        if session is None or segmenter is None or self.control.run is not None:
            return
        movie = self._data.movie
        if movie is None or movie.layer is not layer:
            movie = MovieLayer(layer, axes, self._channels_for(axes))
        try:
            self._start(Wish(movie=movie, session=session, segmenter=segmenter, **self._machine()))
        except (ValueError, OSError) as error:
            self.say(str(error), "warning")

    def _channels_for(self, axes: Any) -> tuple[int, ...] | None:
        """The channels of the movie, where another one has as many."""
        movie = self._data.movie
        return movie.channels if movie is not None and movie.axes.n_channels == axes.n_channels else None

    def _machine(self) -> dict[str, Any]:
        quality = self._section.dial.quality
        return {
            "prediction": self._settings.prediction_config(quality),
            "device": self._settings.device_name,
            "threads": self._settings.threads.value() or None,
            "probabilities": self._settings.probabilities.isChecked(),
        }

    def _wish(self) -> Wish:
        movie, session = self._data.movie, self._keeper.session
        if movie is None or session is None:
            raise ValueError("There is no movie; open one, or drag it into the viewer.")
        if self._data.painted_layer is None:
            chosen = self._data.annotations.layer
            if chosen is None:
                raise ValueError("There is no layer to paint on; press New, then paint the objects of one frame.")
            raise ValueError(self._data.message.text or f"{chosen.name!r} does not fit the movie.")
        self._watch.settle()
        painted = self._watch.painted
        if painted is None or not painted.frames:
            raise ValueError("Nothing is painted yet; paint the objects of one frame.")
        return Wish(
            movie=movie,
            session=session,
            frames=painted.copies(),
            partial=painted.partial,
            background_label=self._frames.background_label,
            tuning=self._settings.tuning_config(self._section.dial.quality),
            parent=self._section.parent_name,
            segmenter=self._section.segmenter,
            **self._machine(),
        )

    def _start(self, wish: Wish) -> None:
        name = wish.movie.name
        before = wish.session.rounds if wish.frames is not None else ()
        number = max([self._rounds.get(name, 0), *before]) + 1
        tuning = wish.tuning if wish.frames is not None else None
        self.control.start(wish, number, self._estimates.expected.of(wish.movie.clip(), tuning))
        self._rounds[name] = number

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
        if run.segmenter is not None:
            self._section.offer_segmenter(f"round {run.number}", run.segmenter)
        if run.expected is not None:
            whole = len(run.layers.filled) == run.wish.movie.axes.n_frames
            learned = None if run.cut_short or not run.learned_in else run.learned_in
            self._estimates.expected.correct(run.expected, learned, run.filled_in if whole else None)
            self._estimates.estimate()
