"""The stages that ``segment``, ``fine-tune`` and ``predict`` are made of."""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_osvos.cli.console import Advance, Console, duration
from napari_osvos.cli.report import Report
from napari_osvos.config import FineTuneConfig
from napari_osvos.machine import check_space

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip
    from napari_osvos.parent import ParentNetwork
    from napari_osvos.segmenter import Segmenter


def choose_device(given: argparse.Namespace, console: Console, report: Report) -> torch.device:
    """Return the device to compute on, set the number of threads, and say both.

    Raises
    ------
    ValueError
        If the machine has no such device.
    """
    import torch

    from napari_osvos.device import describe_device, resolve_device

    if given.threads:
        torch.set_num_threads(given.threads)
    device = resolve_device(given.device)
    words = describe_device(device)
    report.add(device=str(device), device_name=words, threads=torch.get_num_threads())
    console.say(f"Computing on {words}.")
    return device


def read_movie(given: argparse.Namespace, report: Report) -> Clip:
    """Open the movie."""
    from napari_osvos.io import read_clip

    clip = read_clip(given.movie, axes=given.axes, channels=given.channels)
    report.add(movie=str(given.movie), shape=list(clip.labels_shape), channels=clip.n_channels, dtype=str(clip.dtype))
    return clip


def read_paint(given: argparse.Namespace, clip: Clip, report: Report) -> Annotations:
    """Read what was painted and bring it onto the movie.

    Raises
    ------
    ValueError
        If it is empty, of another size, or on frames that the movie does not have.
    """
    from napari_osvos.annotations import Annotations
    from napari_osvos.io import read_labels

    labels = read_labels(given.annotations)
    annotations = Annotations.from_labels(
        labels,
        frames=given.frames,
        partial=given.partial,
        background_label=given.background_label,
        void_label=given.void_label,
    )
    annotations = annotations.aligned_to(clip)
    clip.intensity_range()  # a movie without a finite pixel is found out here, not after training
    report.add(annotations=str(given.annotations), annotated_frames=[clip.frame_numbers[t] for t in annotations.frames])
    return annotations


def load_start(given: argparse.Namespace) -> ParentNetwork | Segmenter:
    """Return what fine-tuning starts from: a bundled parent, a parent in a file, or a segmenter to go on from.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such parent or file.
    """
    from napari_osvos.parent import ParentNetwork
    from napari_osvos.segmenter import Segmenter

    if given.continued:
        return Segmenter.load(given.continued)
    if given.parent in ParentNetwork.bundled_names():
        return ParentNetwork.bundled(given.parent)
    if Path(given.parent).suffix or Path(given.parent).exists():
        return ParentNetwork.load(given.parent)
    return ParentNetwork.bundled(given.parent)  # says which there are


def positions_of(clip: Clip, numbers: Sequence[int] | None) -> list[int]:
    """Return the positions of the frames to predict, rising; all of them for None.

    Raises
    ------
    ValueError
        If the movie has no frame of a number.
    """
    from napari_osvos.labels import spell

    if numbers is None:
        return list(range(clip.n_frames))
    place = {number: t for t, number in enumerate(clip.frame_numbers)}
    for number in numbers:
        if number not in place:
            raise ValueError(f"{clip.name} has no frame {number}; its frames are {spell(clip.frame_numbers)}.")
    return sorted(place[number] for number in numbers)


def check_disk(given: argparse.Namespace, clip: Clip, positions: Sequence[int]) -> None:
    """Make sure that labels and probabilities will fit on their disks.

    Raises
    ------
    OSError
        If they will not.
    """
    from napari_osvos.writing import COMPRESSED_LABELS, COMPRESSED_PROBABILITIES

    pixels = int(np.prod(clip.labels_shape[1:], dtype=np.int64)) * len(positions)
    check_space(given.output, round(2 * pixels * COMPRESSED_LABELS))
    if given.probabilities:
        check_space(given.probabilities, round(4 * pixels * COMPRESSED_PROBABILITIES))


def learn(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    clip: Clip,
    annotations: Annotations,
    config: FineTuneConfig,
    start: ParentNetwork | Segmenter,
    device: torch.device,
    *,
    keep: Path | None,
) -> Segmenter:
    """Fine-tune on the annotations, showing progress.

    Parameters
    ----------
    keep
        Where to save what was learned so far when the user stops it with Ctrl+C; None loses it.
    """
    from napari_osvos.finetune import FineTuner

    tuner = FineTuner(start, config, device=device)
    done = 0
    report.add(settings=config.to_dict(), quality=config.quality, seed=config.seed)
    with report.timing("fine_tune"), console.progress("fine-tuning", config.planned_steps) as advance:
        try:
            for step in tuner.steps(clip, annotations):
                done = step.step
                advance(step.step, step.steps, f"loss {step.loss:.3f}")
        except KeyboardInterrupt:
            if keep is not None and done:
                tuner.segmenter.save(keep)
                raise KeyboardInterrupt(f"What was learned in {done} steps is in {keep}.") from None
            raise
    report.add(steps=done)
    frames = len(annotations.frames)
    console.say(
        f"Fine-tuned on {frames} frame{'s' * (frames > 1)} in {done} steps, {duration(report.seconds['fine_tune'])}."
    )
    return tuner.segmenter


class FinishedFrames:
    """Predicted labels in memory, compressed (a frame of 1024 x 1024 takes some 10 kB), until they are written."""

    def __init__(self) -> None:
        self._packed: list[tuple[int, bytes, tuple[int, ...]]] = []

    def __len__(self) -> int:
        return len(self._packed)

    def add(self, t: int, labels: NDArray[np.uint16]) -> None:
        """Keep the labels of the frame at a position."""
        self._packed.append((t, zlib.compress(np.ascontiguousarray(labels, np.uint16).tobytes(), 1), labels.shape))

    @property
    def positions(self) -> list[int]:
        """Positions of the frames, in the order in which they came."""
        return [t for t, _, _ in self._packed]

    def __iter__(self) -> Iterator[NDArray[np.uint16]]:
        for _, packed, shape in self._packed:
            yield np.frombuffer(zlib.decompress(packed), np.uint16).reshape(shape)


def label_frames(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    clip: Clip,
    segmenter: Segmenter,
    positions: Sequence[int],
) -> FinishedFrames:
    """Predict frames and write labels and, if wanted, probabilities, showing progress.

    After Ctrl+C, or any failure, the labels of the frames that were finished are kept beside the output.
    """
    from napari_osvos.io import write_labels, write_probabilities

    finished = FinishedFrames()
    confidence: dict[int, float] = {}
    shape = (len(positions), *clip.labels_shape[1:])
    all_frames = len(positions) == clip.n_frames
    numbers = None if all_frames and not clip.has_numbers else [clip.frame_numbers[t] for t in positions]

    def probabilities(advance: Advance) -> Iterator[NDArray[np.float32]]:
        began = time.perf_counter()
        for done, prediction in enumerate(segmenter.iter_frames(clip, frames=positions), start=1):
            finished.add(prediction.frame, prediction.labels)
            confidence[clip.frame_numbers[prediction.frame]] = round(float(prediction.confidence), 4)
            advance(done, len(positions), "")
            report.add_seconds("predict", time.perf_counter() - began)
            yield prediction.probability
            began = time.perf_counter()  # what the writer took in between is not prediction

    began = time.perf_counter()
    try:
        with console.progress("predicting", len(positions)) as advance:
            if given.probabilities:
                write_probabilities(
                    given.probabilities,
                    probabilities(advance),
                    shape=shape,
                    frame_numbers=numbers,
                    overwrite=given.force,
                )
            else:
                for _ in probabilities(advance):
                    pass
        write_labels(given.output, finished, shape=shape, frame_numbers=numbers, overwrite=given.force)
    except BaseException as error:
        kept = _keep_finished(given.output, finished, clip)
        if isinstance(error, KeyboardInterrupt) and kept:
            raise KeyboardInterrupt(kept) from None
        if kept:
            console.say(kept)
        raise
    report.add_seconds("write", time.perf_counter() - began - report.seconds["predict"])
    report.add(outputs=[str(path) for path in (given.output, given.probabilities) if path], confidence=confidence)
    return finished


def _keep_finished(output: Path, finished: FinishedFrames, clip: Clip) -> str:
    """Write the finished frames beside the output, with their frame numbers, and return a sentence that says so."""
    from napari_osvos.io import write_labels

    if not len(finished):
        return ""
    path = output.with_name(f"partial-{output.name}")
    numbers = [clip.frame_numbers[t] for t in finished.positions]
    try:
        shape = (len(finished), *clip.labels_shape[1:])
        write_labels(path, finished, shape=shape, frame_numbers=numbers, overwrite=True)
    except (OSError, ValueError):
        return ""  # the disk is what failed: the first error is the one to report
    return f"The {len(finished)} finished frames are in {path}."
