"""The stages that ``segment``, ``fine-tune`` and ``predict`` are made of."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_osvos.cli.console import Console, duration
from napari_osvos.cli.interrupt import asking_at_ctrl_c
from napari_osvos.cli.report import Report
from napari_osvos.config import FineTuneConfig
from napari_osvos.machine import check_space

if TYPE_CHECKING:
    import torch

    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip
    from napari_osvos.parent import ParentNetwork
    from napari_osvos.segmenter import Segmenter


def choose_device(given: argparse.Namespace, console: Console, report: Report, *, learns: bool = True) -> torch.device:
    """Return the device to compute on, set the number of threads, and say both; connect to the cluster if one is given.

    Parameters
    ----------
    learns
        Whether there is more to compute than what a cluster does.

    Raises
    ------
    ValueError
        If the machine has no such device, or the cluster cannot be used.
    """
    import torch

    from napari_osvos.device import describe_device, resolve_device

    if given.threads:
        torch.set_num_threads(given.threads)
    cluster = getattr(given, "cluster", None)
    if cluster is not None:
        report.add(cluster=cluster.connect())
        if not learns:
            return torch.device("cpu")
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


def numbers_of(clip: Clip, positions: Sequence[int]) -> list[int] | None:
    """Return the numbers that labels of these frames have; None where all frames are there, counted from 0."""
    if len(positions) == clip.n_frames and not clip.has_numbers:
        return None
    return [clip.frame_numbers[t] for t in positions]


def check_disk(given: argparse.Namespace, clip: Clip, positions: Sequence[int]) -> None:
    """Make sure that labels, probabilities and uncertainties will fit on their disks.

    Raises
    ------
    OSError
        If they will not.
    """
    from napari_osvos.writing import COMPRESSED_LABELS, COMPRESSED_PROBABILITIES

    pixels = int(np.prod(clip.labels_shape[1:], dtype=np.int64)) * len(positions)
    check_space(given.output, round(2 * pixels * COMPRESSED_LABELS))
    for path in (given.probabilities, given.uncertainty):
        if path:
            check_space(path, round(4 * pixels * COMPRESSED_PROBABILITIES))


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
) -> tuple[Segmenter, tuple[str, ...]]:
    """Fine-tune on the annotations, showing progress.

    Parameters
    ----------
    keep
        Where to save what was learned so far when the user stops it with Ctrl+C; None loses it. The first Ctrl+C then
        ends fine-tuning after the step at hand, with all that belongs to its end; the second ends it at once.

    Returns
    -------
    segmenter : Segmenter
        What was learned.
    remarks : tuple of str
        Sentences for the user on what it was learned from.
    """
    from napari_osvos.finetune import FineTuner

    tuner = FineTuner(start, config, device=device)
    done, stopped = 0, False

    def may_wait() -> bool:
        nonlocal stopped
        stopped = keep is not None and done > 0 and not stopped
        return stopped

    report.add(settings=config.to_dict(), quality=config.quality, seed=config.seed)
    planned = tuner.planned_steps(len(annotations.planes))
    with report.timing("fine_tune"), console.progress("fine-tuning", planned) as advance:
        try:
            with asking_at_ctrl_c(may_wait):
                for step in tuner.steps(clip, annotations):
                    done = step.step
                    advance(step.step, step.steps, f"loss {step.loss:.3f}")
                    if stopped:
                        tuner.end_early()
                if stopped:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            if keep is not None and done:
                tuner.segmenter.save(keep)
                raise KeyboardInterrupt(
                    f"What was learned in {done} steps is in {keep}; --continue {keep} goes on from it."
                ) from None
            raise
    report.add(steps=done, remarks=list(tuner.remarks))
    frames = len(annotations.frames)
    console.say(
        f"Fine-tuned on {frames} frame{'s' * (frames > 1)} in {done} steps, {duration(report.seconds['fine_tune'])}."
    )
    return tuner.segmenter, tuner.remarks
