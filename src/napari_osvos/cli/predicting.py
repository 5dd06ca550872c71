"""Predicting the frames of a movie, linking their objects, and writing what comes of it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_osvos.cli.console import Advance, Console
from napari_osvos.cli.exports import label_dtype, link_labels, write_exports
from napari_osvos.cli.report import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip
    from napari_osvos.finished_frames import FinishedFrames
    from napari_osvos.labels import Labels
    from napari_osvos.segmenter import Segmenter
    from napari_osvos.tracking import TrackedMovie


def label_frames(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    clip: Clip,
    segmenter: Segmenter,
    positions: Sequence[int],
    annotations: Annotations | None = None,
) -> TrackedMovie | None:
    """Predict frames, link their objects, and write labels and, if wanted, probabilities and exports.

    After Ctrl+C, or any failure, the labels of the frames that were finished are kept beside the output.

    Returns
    -------
    TrackedMovie or None
        None where objects that look alike were not linked.
    """
    from napari_osvos.finished_frames import FinishedFrames
    from napari_osvos.io import write_labels

    finished = FinishedFrames(clip.labels_shape[1:])
    all_frames = len(positions) == clip.n_frames
    numbers = None if all_frames and not clip.has_numbers else clip.frame_numbers
    try:
        _predict(given, console, report, clip, segmenter, positions, finished)
        tracked = _identify(given, console, report, finished.labels(numbers), segmenter, positions, annotations)
        labels = tracked.labels if tracked else finished.labels(numbers)
        with report.timing("write"):
            largest = max(tracked.lineage, default=0) if tracked else finished.largest
            write_labels(given.output, labels, dtype=label_dtype(largest), overwrite=given.force)
    except BaseException as error:
        kept = _keep_finished(given.output, finished, clip)
        if isinstance(error, KeyboardInterrupt) and kept:
            raise KeyboardInterrupt(kept) from None
        if kept:
            console.say(kept)
        raise
    report.add(outputs=[str(path) for path in (given.output, given.probabilities) if path])
    if tracked:
        write_exports(given, console, report, tracked, clip)
    return tracked


def _predict(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    clip: Clip,
    segmenter: Segmenter,
    positions: Sequence[int],
    finished: FinishedFrames,
) -> None:
    """Predict frames into `finished`, and write probabilities if wanted, showing progress."""
    from napari_osvos.io import write_probabilities

    confidence: dict[int, float] = {}
    numbers = None if len(positions) == clip.n_frames and not clip.has_numbers else clip.frame_numbers

    def probabilities(advance: Advance) -> Iterator[NDArray[np.float32]]:
        began = time.perf_counter()
        for done, prediction in enumerate(segmenter.iter_frames(clip, frames=positions), start=1):
            finished.add(prediction.frame, prediction.labels)
            confidence[clip.frame_numbers[prediction.frame]] = round(float(prediction.confidence), 4)
            advance(done, len(positions), "")
            report.add_seconds("predict", time.perf_counter() - began)
            yield prediction.probability
            began = time.perf_counter()  # what the writer took in between is not prediction

    began, before = time.perf_counter(), report.seconds.get("predict", 0.0)
    with console.progress("predicting", len(positions)) as advance:
        if given.probabilities:
            write_probabilities(
                given.probabilities,
                probabilities(advance),
                shape=(len(positions), *clip.labels_shape[1:]),
                frame_numbers=None if numbers is None else [numbers[t] for t in positions],
                overwrite=given.force,
            )
            predicted = report.seconds["predict"] - before
            report.add_seconds("write", time.perf_counter() - began - predicted)
        else:
            for _ in probabilities(advance):
                pass
    report.add(confidence=confidence)


def _identify(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    labels: Labels,
    segmenter: Segmenter,
    positions: Sequence[int],
    annotations: Annotations | None,
) -> TrackedMovie | None:
    """Link objects that look alike, if there is time to link them through, and say what the labels are."""
    from napari_osvos.tracking import as_tracks, painted_ids, painted_on

    task, tracked = segmenter.meaning.task, None
    if task == "distinct":
        tracked = as_tracks(labels)
        words = "Distinct objects: each label stands for what was painted with it"
        if annotations is not None and painted_ids(annotations) is None:
            words += "; to tell its objects apart, add --task look-alike"
    elif len(positions) > 1 if given.track is None else given.track:
        painted = None if annotations is None else painted_on(annotations, positions)
        tracked = link_labels(given, console, report, labels, painted)
        words = f"Look-alike objects: each label is one object; {tracked.in_words}"
    else:
        tracked = as_tracks(labels) if len(positions) == 1 else None
        words = "Look-alike objects: each label is one object of its frame, not linked"
    console.say(f"{words}.")
    report.add(task=task)
    if tracked:
        report.add(n_tracks=len(tracked.lineage), n_divisions=len(tracked.lineage.divisions))
    return tracked


def _keep_finished(output: Path, finished: FinishedFrames, clip: Clip) -> str:
    """Write the finished frames beside the output, with their frame numbers, and return a sentence that says so."""
    from napari_osvos.io import write_labels

    if not len(finished):
        return ""
    path = output.with_name(f"partial-{output.name}")
    try:
        write_labels(path, finished.labels(clip.frame_numbers), dtype=label_dtype(finished.largest), overwrite=True)
    except (OSError, ValueError):
        return ""  # the disk is what failed: the first error is the one to report
    return f"The {len(finished)} finished frames are in {path}."
