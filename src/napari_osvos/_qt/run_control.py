"""One run after the other: from the press of a button to the masks in a layer of their own."""

from __future__ import annotations

import time
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_osvos._qt.engine_bridge import EngineBridge
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.run import Run, progress_of_filling, progress_of_learning, words_at_the_end
from napari_osvos._qt.run_stage import RunStage
from napari_osvos._qt.wish import Wish
from napari_osvos.worker.events import (
    Cancelled,
    EngineDied,
    Event,
    Failed,
    Finished,
    FrameDone,
    Noted,
    Preview,
    TrainingDone,
    TrainingProgress,
)


class RunControl(QObject):
    """Starts runs and shows what comes of them.

    Signals
    -------
    begun : Run
    state_changed : str
        ``idle``, ``learning``, ``filling`` or ``paused``.
    progressed : float, str, float
        Share of the work, what is being done, seconds left (below 0: not known).
    learned : list of TrainingProgress
        New points of the loss curve.
    said : str, str, str
        A sentence, its kind (see `messages.Message`) and details.
    taught : Run, tuple of str
        Learning is over; sentences on the paint it learned from.
    filled : Run
        More of its frames are filled.
    kept : Run
        What it has learned is on the disk.
    ended : Run
        It is over and its masks stay.
    """

    begun = Signal(object)
    state_changed = Signal(str)
    progressed = Signal(float, str, float)
    learned = Signal(list)
    said = Signal(str, str, str)
    taught = Signal(object, tuple)
    filled = Signal(object)
    kept = Signal(object)
    ended = Signal(object)

    def __init__(self, viewer: Any, bridge: EngineBridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._bridge = viewer, bridge
        self.run: Run | None = None
        self._paused = False
        self._stage = RunStage(viewer, self)
        self._stage.set_up.connect(self._tell_begun)
        self._stage.moved.connect(self._view)
        self._stage.lost.connect(self._tell_lost)
        bridge.told.connect(self._take)

    @property
    def state(self) -> str:
        """``idle``, ``learning``, ``filling`` or ``paused``."""
        if self.run is None:
            return "idle"
        return "paused" if self._paused else self.run.phase

    # -- what the user wants -------------------------------------------------------------------

    def start(self, wish: Wish, number: int, expected: tuple[float, float] | None) -> None:
        """Begin a run.

        Raises
        ------
        ValueError
            If it cannot be begun; one sentence.
        """
        if self.run is not None:
            raise ValueError("A run is going on; cancel it or wait for its end.")
        path = wish.session.segmenter_path(number)
        request = wish.request(wish.movie.in_view(self._viewer), path if wish.frames is not None else None)
        layers = RoundLayers(
            self._viewer,
            wish.movie,
            number,
            wish.probabilities,
            path.parent,
            uncertainty=wish.uncertainty,
            accepted=wish.locked,
        )
        self._bridge.sink = layers
        try:
            self._bridge.engine.run(request)
        except Exception:
            self._bridge.sink = None
            raise
        self.run = Run(wish, number, layers, expected, "learning" if wish.frames is not None else "filling")
        self.run.filling_since = time.monotonic()
        self._paused = False
        self.state_changed.emit(self.state)
        self._stage.open(self.run)

    def toggle_pause(self) -> None:
        """Pause the run, or go on with it."""
        if self.run is None:
            return
        self._paused = not self._paused
        if self._paused:
            self.run.paused_since = time.monotonic()
            self._bridge.engine.pause()
        else:
            self.run.filling_since += time.monotonic() - max(self.run.paused_since, self.run.filling_since)
            self._bridge.engine.resume()
        self.state_changed.emit(self.state)

    def stop_and_keep(self) -> None:
        """Learn no more and fill the movie; while it fills, keep the frames done."""
        if self.run is not None:
            if self._paused:
                self.toggle_pause()
            self._bridge.engine.stop_and_keep()

    def cancel(self) -> None:
        """End the run."""
        if self.run is not None:
            self.progressed.emit(0.0, "Cancelling", -1.0)
            self._bridge.engine.cancel()

    def close(self) -> None:
        """Let go of the run: frames that are finished stay, if there are any."""
        self._stage.close()
        run, self.run = self.run, None
        self._bridge.sink = None
        if run is not None:
            self._settle(run)

    # -- what the engine tells -----------------------------------------------------------------

    def _take(self, news: list[Event]) -> None:
        points = [event for event in news if isinstance(event, TrainingProgress)]
        if points and self.run is not None:
            self.run.losses.extend((point.step, point.loss) for point in points)
            self.learned.emit(points)
            self.progressed.emit(*progress_of_learning(self.run, points[-1]))
        fills = [event for event in news if isinstance(event, FrameDone)]
        for event in news:
            if self.run is None:
                break
            if isinstance(event, (Preview, FrameDone)):
                self._stage.draw_soon(event.frame)
            elif isinstance(event, Noted):
                if event.message not in self.run.notes:  # a full disk is noted with every frame
                    self.run.notes.append(event.message)  # said again at the end: progress takes its place
                    self.said.emit(event.message, "warning", "")
            elif isinstance(event, TrainingDone):
                self._take_training_done(self.run, event)
        if fills and self.run is not None:
            self.run.filled_in = time.monotonic() - self.run.filling_since
            self.run.confidences.update((event.frame, event.confidence) for event in fills)
            self.filled.emit(self.run)
            self.progressed.emit(*progress_of_filling(self.run, fills[-1]))
        for event in news:
            if self.run is not None and isinstance(event, (Finished, Failed, Cancelled, EngineDied)):
                self._end(self.run, event)

    def _take_training_done(self, run: Run, event: TrainingDone) -> None:
        run.phase, run.learned_in = "filling", event.seconds
        run.filling_since = time.monotonic()
        run.cut_short = event.stopped_early
        self.state_changed.emit(self.state)
        self.taught.emit(run, event.remarks)
        self._look_for_segmenter(run)

    def _look_for_segmenter(self, run: Run) -> None:
        """Note that a run's segmenter is on the disk: it is whole once it is there."""
        path = run.wish.session.segmenter_path(run.number)
        if run.learns and run.segmenter is None and path.is_file():
            run.segmenter = path
            self.kept.emit(run)

    def _end(self, run: Run, event: Event) -> None:
        self.run, self._paused = None, False
        self._bridge.sink = None
        self._stage.close()
        self._look_for_segmenter(run)  # it may have been cut off before it could tell
        run.phase = "over"
        if isinstance(event, Finished):
            run.task = str(event.provenance.get("task", ""))
            run.suggestions, run.expected_accuracy = event.suggestions, event.expected
            run.confidences.update((one.frame, one.confidence) for one in event.suggestions)
        kept = self._settle(run)
        self.state_changed.emit("idle")
        self.said.emit(*words_at_the_end(run, event, kept))
        if kept:
            self.ended.emit(run)

    def _settle(self, run: Run) -> int:
        """Keep the layers if a frame is finished, else take them away; return the number of finished frames."""
        if run.layers.has_predictions:
            run.layers.finish()
            return len(run.layers.filled)
        run.layers.discard()
        return 0

    # -- what the viewer tells -----------------------------------------------------------------

    def _tell_begun(self) -> None:
        if self.run is not None:
            self.begun.emit(self.run)
            if not self._bridge.engine.is_ready:
                self.progressed.emit(0.0, "Starting the engine", -1.0)

    def _view(self, frame: int, z: int) -> None:
        self._bridge.engine.view(frame, z)

    def _tell_lost(self, name: str) -> None:
        words = f"{name!r} was deleted; the run goes on and puts its masks into a new layer at its end."
        self.said.emit(words, "warning", "")
