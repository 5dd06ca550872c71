"""Predicting the frames of a movie, linking their objects, and writing what comes of it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.cli.console import Advance, Console
from napari_osvos.cli.exports import label_dtype, link_labels, write_exports
from napari_osvos.cli.paint import Paint, final_labels
from napari_osvos.cli.report import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip
    from napari_osvos.finished_frames import FinishedFrames
    from napari_osvos.labels import Labels
    from napari_osvos.segmenter import Segmenter
    from napari_osvos.suggest import FrameReview
    from napari_osvos.tracking import TrackedMovie


def label_frames(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    clip: Clip,
    segmenter: Segmenter,
    positions: Sequence[int],
    paint: Paint | None = None,
    review: FrameReview | None = None,
) -> TrackedMovie | None:
    """Predict frames, link their objects, and write labels and, if wanted, probabilities, uncertainties and exports.

    Accepted frames are not predicted: their labels are what was painted. After Ctrl+C, or any failure, the labels of
    the frames that were finished are kept beside the output.

    Parameters
    ----------
    positions
        Of the frames that there are to be labels of, rising.
    paint
        What was painted, which names objects.
    review
        Shown every prediction.

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
        final = final_labels(paint, clip, segmenter.meaning.task) if paint else {}
        labelling = _Labelling(clip, segmenter, positions, finished, final, review)
        with console.progress("predicting", labelling.n_predicted) as advance:
            labelling.write(given, report, advance)
        report.add(confidence=labelling.confidence)
        annotations = paint.annotations if paint else None
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
    report.add(outputs=[str(path) for path in (given.output, given.probabilities, given.uncertainty) if path])
    if tracked:
        write_exports(given, console, report, tracked, clip)
    return tracked


class _Labelling:
    """Labels of frames one after the other: predicted, or final; how sure each prediction is."""

    def __init__(
        self,
        clip: Clip,
        segmenter: Segmenter,
        positions: Sequence[int],
        finished: FinishedFrames,
        final: Mapping[int, Callable[[], NDArray[np.int32]]],
        review: FrameReview | None,
    ) -> None:
        self.clip, self.segmenter, self.positions, self.finished = clip, segmenter, positions, finished
        self.final, self.review = final, review
        self.confidence: dict[int, float] = {}

    @property
    def n_predicted(self) -> int:
        """How many frames there are whose labels are not final."""
        return sum(t not in self.final for t in self.positions)

    def write(self, given: argparse.Namespace, report: Report, advance: Advance) -> None:
        """Label all frames, and write probabilities and uncertainties if wanted."""
        from napari_osvos.certainty import pixel_uncertainty
        from napari_osvos.io import write_probabilities

        def written(path: Path, planes: Iterator[NDArray[np.floating[Any]]]) -> None:
            counted = len(self.positions) == self.clip.n_frames and not self.clip.has_numbers
            write_probabilities(
                path,
                planes,
                shape=(len(self.positions), *self.clip.labels_shape[1:]),
                frame_numbers=None if counted else [self.clip.frame_numbers[t] for t in self.positions],
                overwrite=given.force,
            )

        began, before = time.perf_counter(), report.seconds.get("predict", 0.0)
        probabilities = self._probabilities(report, advance)
        frames = probabilities
        if given.probabilities:
            written(given.probabilities, probabilities)
            frames = self._stored(given.probabilities)  # each frame is predicted once, and a writer takes all of them
        if given.uncertainty:
            written(given.uncertainty, (pixel_uncertainty(frame) for frame in frames))
        elif not given.probabilities:
            for _ in frames:
                pass
        if given.probabilities or given.uncertainty:
            predicted = report.seconds.get("predict", 0.0) - before
            report.add_seconds("write", time.perf_counter() - began - predicted)

    def _probabilities(self, report: Report, advance: Advance) -> Iterator[NDArray[np.float32]]:
        """Label each frame and yield its probability of foreground; 0 and 1 where the labels are final."""
        predicted = self.segmenter.iter_frames(self.clip, [t for t in self.positions if t not in self.final])
        began = time.perf_counter()
        for t in self.positions:
            if t in self.final:
                labels = self.final[t]()
                probability = np.asarray(labels > 0, np.float32)
            else:
                prediction = next(predicted)
                labels, probability = prediction.labels, prediction.probability
                self.confidence[self.clip.frame_numbers[t]] = round(float(prediction.confidence), 4)
                if self.review is not None:
                    self.review.add(prediction)
                advance(len(self.confidence), self.n_predicted, "")
            self.finished.add(t, labels)
            report.add_seconds("predict", time.perf_counter() - began)
            yield probability
            began = time.perf_counter()  # what the writer took in between is not prediction

    def _stored(self, path: Path) -> Iterator[NDArray[np.float32]]:
        """Yield the frames of a file of probabilities."""
        from napari_osvos.io import read_clip

        stored = read_clip(path)
        for k in range(len(self.positions)):
            planes = [stored.plane(p)[..., 0] for p in range(k * stored.depth, (k + 1) * stored.depth)]
            yield np.stack(planes).reshape(self.clip.labels_shape[1:])


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
