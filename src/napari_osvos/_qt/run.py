"""A run, going on or over, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from napari_osvos._qt.quality_dial import time_in_words
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.wish import Wish
from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.suggest import Suggestion
from napari_osvos.tracking import TrackedMovie
from napari_osvos.worker.events import EngineDied, Event, Failed, Finished, FrameDone, TrainingProgress


@dataclass(eq=False)
class Run:
    """A run, going on or over.

    Attributes
    ----------
    wish : Wish
        What was asked for.
    number : int
        Of the round.
    layers : RoundLayers
        What it fills.
    expected : (float, float) or None
        Seconds that learning and filling were thought to take.
    phase : str
        ``learning``, ``filling`` or ``over``.
    learned_in : float
        Seconds of learning.
    filled_in : float
        Seconds from there to the last frame.
    segmenter : Path or None
        Where the fine-tuned segmenter is.
    cut_short : bool
        Whether it was stopped before learning was over: a command would not learn the same.
    task : str
        What its labels mean, ``look-alike`` or ``distinct``; empty until it is over, or if it was cancelled.
    follows : bool
        Whether its objects are, or are being, followed through time.
    tracked : TrackedMovie or None
        Its objects through time, once they are linked.
    losses : list of (int, float)
        Step and loss of its learning.
    confidences : dict
        {frame: region similarity (J) to expect}, of the frames that are filled.
    suggestions : tuple of Suggestion
        Which frames to annotate next, the one that would help most first; empty until it is over.
    expected_accuracy : ExpectedAccuracy or None
        What can be expected on unpainted frames; None until it is over, or if it could not be measured.
    notes : list of str
        Sentences that the engine had for the user, such as that it goes on without a cluster.
    """

    wish: Wish
    number: int
    layers: RoundLayers
    expected: tuple[float, float] | None
    phase: str
    learned_in: float = 0.0
    filling_since: float = 0.0
    paused_since: float = 0.0
    filled_in: float = 0.0
    segmenter: Path | None = None
    cut_short: bool = False
    task: str = ""
    follows: bool = False
    tracked: TrackedMovie | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    confidences: dict[int, float] = field(default_factory=dict)
    suggestions: tuple[Suggestion, ...] = ()
    expected_accuracy: ExpectedAccuracy | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def learns(self) -> bool:
        """Whether there is something to learn from."""
        return self.wish.frames is not None


def progress_of_learning(run: Run, point: TrainingProgress) -> tuple[float, str, float]:
    """Return the share of the whole run that is done, what is being done, and the seconds left."""
    left = point.seconds_left + (run.expected[1] if run.expected else 0.0)
    share = point.seconds / max(point.seconds + left, 1e-6)
    return share, f"Learning, step {point.step} of {point.steps}", left


def progress_of_filling(run: Run, event: FrameDone) -> tuple[float, str, float]:
    """Return the share of the whole run that is done, what is being done, and the seconds left."""
    spent = run.learned_in + run.filled_in
    share = spent / max(spent + event.seconds_left, 1e-6)
    return share, f"Filling, frame {event.done} of {event.total}", event.seconds_left


def words_at_the_end(run: Run, event: Event, kept: int) -> tuple[str, str, str]:
    """Return a sentence for the user, its kind and details.

    Parameters
    ----------
    run : Run
    event : Event
        What ended it.
    kept : int
        Frames that are finished and stay.
    """
    many, verb = ("frames", "are") if kept != 1 else ("frame", "is")
    done = f"The {kept} {many} done {verb}"
    if kept:
        rest = f" {done} in {run.layers.labels_layer.name!r}."
    else:
        rest = f" What was learned is kept as round {run.number}." if run.segmenter is not None else ""
    over = rest or " Nothing of this run was kept."
    if isinstance(event, Finished):
        total = run.wish.movie.axes.n_frames
        lost = kept < total and not event.stopped
        sentence = f"Stopped.{over}"
        if kept:
            some = f"{kept} of {total} frames are" if lost else done if event.stopped else f"{kept} {many} {verb}"
            sentence = f"{some} in {run.layers.labels_layer.name!r}, after {time_in_words(event.seconds)}."
        kind = "warning" if run.notes or lost else "done" if kept else "info"
        return " ".join([sentence, *run.notes]), kind, ""
    if isinstance(event, (Failed, EngineDied)):
        return event.message + rest, "error", event.details
    return f"Cancelled.{over}", "info", ""
