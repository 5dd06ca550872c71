"""The learning part of a run: fine-tuning with previews, pause and an early end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import PredictConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.intensity import movie_intensity
from napari_osvos.memory import OUT_OF_MEMORY, Shortage, free_memory, is_out_of_memory
from napari_osvos.segmenter import Segmenter
from napari_osvos.training import TrainingStep
from napari_osvos.worker.controls import Controls
from napari_osvos.worker.events import Event, Preview, TrainingProgress
from napari_osvos.worker.remote_planes import RemotePlanes

Tell = Callable[[Event], None]

FIRST_PREVIEW = 0.7
"""Seconds of learning before the first preview: earlier ones show what the parent sees."""
PREVIEW_SHARE = 0.1
"""Largest share of the time that previews take while the view stays."""
PROGRESS_EVERY = 0.05
"""Seconds between two reports of progress."""


class Previews:
    """Predictions of the plane in view while the network learns.

    They change nothing of the learning: the weights are copied, and no random number of the learning is used.

    Parameters
    ----------
    tuner : FineTuner
        Which learns.
    clip : Clip
        The movie, over `planes`.
    planes : RemotePlanes
        A plane that is not there yet is asked for, and shown once it has come.
    controls : Controls
        Which plane is in view.
    tell : callable
        Takes each `Preview`.
    prediction : PredictConfig or None
        Threshold and tile.
    probabilities : bool
        Whether they are sent too.
    """

    def __init__(
        self,
        tuner: FineTuner,
        clip: Clip,
        planes: RemotePlanes,
        controls: Controls,
        tell: Tell,
        prediction: PredictConfig | None,
        probabilities: bool,
    ) -> None:
        self.tuner, self.clip, self.planes, self.controls, self.tell = tuner, clip, planes, controls, tell
        self.prediction = (prediction or PredictConfig()).replace(flips=False)
        self.probabilities = probabilities
        self.shortage = Shortage(lambda sentence: None)  # a preview that takes longer is not worth a word
        self.seconds = 0.0
        self.step = 0
        self._shown: tuple[int, int, int] | None = None  # frame, slice and step
        self._cost = 0.0
        self._ended = time.perf_counter()
        self.planes.prefetch([self._plane()])

    def after_step(self, step: int) -> None:
        """Show a preview if it is time for one."""
        self.step = step
        if self._is_due():
            self.show()

    def show(self) -> None:
        """Show the plane in view as the network stands, unless it was shown so before or its pixels are not there."""
        frame, z = self.controls.wishes.frame, self.controls.wishes.z
        p = self._plane()
        if self.step == 0 or self._shown == (frame, z, self.step):
            return
        if not self.planes.is_there(p):
            self.planes.prefetch([p])
            return
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            found = self._predict(p)
        if found is not None:
            labels, probability = found
            sent = probability.astype(np.float16) if self.probabilities else None
            self.tell(Preview(frame, z if self.clip.has_depth else None, labels, sent, self.step))
        self._shown = (frame, z, self.step)
        self._ended = time.perf_counter()
        self._cost = self._ended - began
        self.seconds += self._cost

    def _plane(self) -> int:
        return self.controls.wishes.frame * self.clip.depth + self.controls.wishes.z

    def _is_due(self) -> bool:
        since = time.perf_counter() - self._ended
        if self._shown is None:
            return since >= FIRST_PREVIEW
        if self._shown[:2] != (self.controls.wishes.frame, self.controls.wishes.z):
            return since >= self._cost  # at once, but scrubbing must not bring the learning to a stop
        return since >= self._cost * (1 / PREVIEW_SHARE - 1)

    def _predict(self, p: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
        """Return labels and probability (Y, X) of a plane; None where even a small tile needs too much memory."""
        segmenter = self.tuner.segmenter
        intensity = movie_intensity(self.clip, segmenter.net.config.intensities)
        segmenter.config, segmenter.shortage = self.prediction, self.shortage
        try:
            return segmenter.plane_labels(self.clip.plane(p), intensity)
        except OUT_OF_MEMORY as error:
            if not is_out_of_memory(error):
                raise
        free_memory()
        return None


def learn(
    tuner: FineTuner, clip: Clip, annotations: Annotations, previews: Previews, controls: Controls, tell: Tell
) -> tuple[Segmenter, int, float, bool]:
    """Fine-tune until the last step, or until the user has had enough.

    Returns
    -------
    segmenter : Segmenter
        What was learned.
    steps : int
        Updates done, at least 1.
    seconds : float
        Spent on them.
    stopped : bool
        Whether the user ended it.

    Raises
    ------
    RunCancelled
        If the user cancels.
    ValueError, FloatingPointError
        As `FineTuner.steps`.
    """
    seconds, told, done, stopped = 0.0, 0.0, 0, False
    steps = tuner.steps(clip, annotations)
    try:
        while True:
            controls.check()
            began = time.perf_counter()
            step = next(steps, None)
            seconds += time.perf_counter() - began
            if step is None:
                break
            done, stopped = step.step, controls.wishes.stop_learning and step.step < step.steps
            if time.perf_counter() - told >= PROGRESS_EVERY or stopped or step.step >= step.steps:
                told = time.perf_counter()
                tell(_progress(step, seconds, previews.seconds))
            if stopped:
                tuner.end_early()
                next(steps, None)
                break
            if step.step < step.steps:  # after the last, the frame in view is about to be filled
                previews.after_step(step.step)
            controls.wait_while_paused(previews.show)
    finally:
        steps.close()  # type: ignore[attr-defined]
    return tuner.segmenter, done, seconds, stopped


def _progress(step: TrainingStep, seconds: float, preview_seconds: float) -> TrainingProgress:
    left = step.seconds_left  # by the loop's clock, which knows of previews and, alas, of pauses
    spent = seconds + preview_seconds
    if step.seconds > spent:
        left *= spent / step.seconds
    return TrainingProgress(step.step, step.steps, step.loss, seconds, left)
