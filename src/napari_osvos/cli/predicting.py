"""Predicting the frames of a movie, linking their objects, and writing what comes of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_osvos.cli.console import Console
from napari_osvos.cli.exports import label_dtype, link_labels, write_exports
from napari_osvos.cli.options import overwrites
from napari_osvos.cli.paint import Paint, final_labels
from napari_osvos.cli.report import Report
from napari_osvos.cli.stages import numbers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip
    from napari_osvos.frame_store import FrameStore
    from napari_osvos.labels import Labels
    from napari_osvos.pipeline import Advance
    from napari_osvos.predict_job import PredictJob
    from napari_osvos.segmenter import Segmenter
    from napari_osvos.suggest import FrameReview
    from napari_osvos.tracking import TrackedMovie


def label_frames(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    job: PredictJob,
    clip: Clip,
    segmenter: Segmenter,
    positions: Sequence[int],
    store: FrameStore,
    paint: Paint | None = None,
    review: FrameReview | None = None,
) -> TrackedMovie | None:
    """Predict frames, link their objects, and write labels and, if wanted, probabilities, uncertainties and exports.

    Accepted frames are not predicted: their labels are what was painted.

    Parameters
    ----------
    positions
        Of the frames that there are to be labels of, rising.
    store
        Of finished frames: those that it has are not predicted again.
    paint
        What was painted, which names objects.
    review
        Shown every prediction.

    Returns
    -------
    TrackedMovie or None
        None where objects that look alike were not linked.
    """
    from napari_osvos.io import write_labels

    final = final_labels(paint, clip, segmenter.meaning.task) if paint else {}
    with report.timing("predict"):
        finished = set(store.finished)
        _write_final(store, {t: labels for t, labels in final.items() if t in set(positions) - finished})
        missing = [t for t in positions if t not in finished and t not in final]
        with console.progress("predicting", len(missing)) as advance:
            _predict_missing(given, job, segmenter, clip, missing, store, advance)
        report.add(confidence=_confidence(clip, positions, store))
        _review(review, positions, store)
    numbers = None if len(positions) == clip.n_frames and not clip.has_numbers else clip.frame_numbers
    labels = store.stack(positions, numbers)
    annotations = paint.annotations if paint else None
    tracked = _identify(given, console, report, labels, segmenter, positions, annotations)
    with report.timing("write"):
        largest = max(store.about(t).largest for t in positions)
        dtype = label_dtype(max(tracked.lineage, default=0) if tracked else largest)
        write_labels(given.output, tracked.labels if tracked else labels, dtype=dtype, overwrite=overwrites(given))
    if given.probabilities or given.uncertainty:
        with report.timing("write"):
            _write_probabilities(given, clip, positions, store)
    report.add(outputs=[str(path) for path in (given.output, given.probabilities, given.uncertainty) if path])
    if tracked:
        write_exports(given, console, report, tracked, clip)
    return tracked


def _predict_missing(
    given: argparse.Namespace,
    job: PredictJob,
    segmenter: Segmenter,
    clip: Clip,
    missing: Sequence[int],
    store: FrameStore,
    advance: Advance,
) -> None:
    """Have the missing frames of a store predicted, here in this process or on the cluster that is given."""
    from napari_osvos.pipeline import predict_frames

    if given.cluster is not None:
        given.cluster.predict_frames(job, segmenter, clip, missing, store, advance)
        return
    predict_frames(segmenter, clip, missing, store, advance)


def _write_final(store: FrameStore, final: Mapping[int, Callable[[], NDArray[np.int32]]]) -> None:
    """Write the labels of frames that are not to be predicted, with probabilities of 0 and 1."""
    for t, labels_at in final.items():
        labels = labels_at()
        probability = np.asarray(labels > 0, np.float32)
        store.write(t, labels, confidence=None, probability=probability, uncertainty=np.zeros_like(probability))


def _confidence(clip: Clip, positions: Sequence[int], store: FrameStore) -> dict[int, float]:
    """Return the confidence of each frame that was predicted, by frame number."""
    known = {t: store.about(t).confidence for t in positions}
    return {clip.frame_numbers[t]: round(sure, 4) for t, sure in known.items() if sure is not None}


def _review(review: FrameReview | None, positions: Sequence[int], store: FrameStore) -> None:
    """Show the predictions of this run and of those before to the review."""
    for t in positions if review is not None else ():
        about = store.about(t)
        if about.confidence is not None:
            assert review is not None
            review.see(t, store.labels(t), about.confidence, about.novelty)


def _write_probabilities(given: argparse.Namespace, clip: Clip, positions: Sequence[int], store: FrameStore) -> None:
    """Write the probabilities and uncertainties that are wanted."""
    from napari_osvos.io import write_probabilities

    for path, at in ((given.probabilities, store.probability), (given.uncertainty, store.pixel_uncertainty)):
        if path:
            write_probabilities(
                path,
                (at(t) for t in positions),
                shape=(len(positions), *clip.labels_shape[1:]),
                frame_numbers=numbers_of(clip, positions),
                overwrite=overwrites(given),
            )


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
