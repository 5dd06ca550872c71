"""One measurement of the benchmark, in a process of its own so that its peak memory is its own.

``python -m napari_osvos.benchmark_cell`` reads a `Cell` as JSON from the standard input and writes what it measured to
the file that its one argument names.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.benchmark_methods import make_method
from napari_osvos.benchmark_timing import ADAPT, POST, PREDICT, READ, Stopwatch, TimedMeaning, timed_clip
from napari_osvos.machine import peak_device_memory, peak_memory, versions

if TYPE_CHECKING:
    from napari_osvos.baselines import Baseline
    from napari_osvos.clip import Clip
    from napari_osvos.evaluation import Scores
    from napari_osvos.labels import Labels

NO_OBJECTS = dict.fromkeys(("F1_50", "F1_75", "SEG", "DET", "TRA"))


@dataclass(frozen=True)
class Cell:
    """One measurement: a method on a movie, with so many annotated frames and a seed.

    Attributes
    ----------
    movie
        Name of the movie.
    clip, truth
        Where its frames and its truth are.
    border
        Pixels along each edge that are not scored.
    method
        One of `benchmark_methods.METHODS`.
    parent
        Name or file of the parent that ours starts from; empty for the baselines.
    n_annotated
        How many frames are annotated by their truth.
    seed
        Of everything that is random.
    device, threads
        Where to compute.
    steps
        Updates of fine-tuning, in place of the quality's own number; None leaves it.
    skip_frames
        Numbers of frames that are neither annotated nor scored.
    instances, tracks
        Whether objects are to be told apart, and followed; see `benchmark_movies.BenchmarkMovie`.
    void_label
        Label of the pixels of the truth that do not count.
    group
        Movies of one group count as one in the mean over movies; empty for a group of its own.
    timed_by
        Parent of the measurement of ``balanced`` whose seconds this one gets; empty where it is not timed by another.
    seconds
        For the updates, in place of a number of steps.
    pictures
        Folder to draw the worst frames into; empty for none.
    """

    movie: str
    clip: str
    truth: str
    border: int
    method: str
    parent: str
    n_annotated: int
    seed: int
    device: str = "auto"
    threads: int = 1
    steps: int | None = None
    skip_frames: tuple[int, ...] = ()
    instances: bool = False
    tracks: bool = False
    void_label: int | None = None
    group: str = ""
    timed_by: str = ""
    seconds: float | None = None
    pictures: str = ""


def spread(frames: Sequence[int], n: int) -> tuple[int, ...]:
    """Return `n` of the frames, evenly spread from the first to the last; the first alone when `n` is 1.

    Raises
    ------
    ValueError
        If no frame would be left to score.
    """
    if n >= len(frames):
        raise ValueError(
            f"{n} frames cannot be annotated: only {len(frames)} hold labels and one must be left to score."
        )
    picks = np.linspace(0, len(frames) - 1, n).round().astype(int)
    return tuple(frames[i] for i in picks)


def measure(cell: Cell) -> dict[str, Any]:
    """Fit, predict and score.

    Returns
    -------
    Plain numbers and texts: the scores ``J``, ``F``, ``F2px`` (means over the scored frames), ``J_frames`` (number and
    J of each), ``annotated_frames``, ``n_scored``, ``n_predicted`` (where objects are scored, the annotated frames are
    predicted, too: tracks need them); seconds that add up, also where threads work at once (see `Stopwatch`):
    ``read_s`` (the movie, in fitting and predicting), ``adapt_s``, ``predict_s``, ``post_s`` (labels of what was
    predicted) and ``link_s``, all but ``adapt_s`` of all predicted frames; ``train_s``, those of ``adapt_s`` that went
    into ``updates`` of a network; ``peak_memory_mb`` (of the whole process until the last prediction, Python and
    libraries included), ``peak_device_memory_mb``, ``device_name`` and ``version``; recall and decay over the scored
    frames, ``J_recall``, ``J_decay``, ``F_recall`` and ``F_decay``; and, None where there are no objects or tracks to
    score, ``F1_50``, ``F1_75`` and ``SEG`` of the scored frames, ``DET`` and ``TRA`` of all predicted frames. And a
    ``warning``, None where all went well.
    """
    from napari_osvos.annotations import Annotations
    from napari_osvos.evaluation import both_frames, evaluate
    from napari_osvos.io import read_clip, read_labels
    from napari_osvos.labels import Labels, frame_positions

    watch = Stopwatch()
    clip, truth = timed_clip(read_clip(cell.clip), watch), read_labels(cell.truth)
    place = {truth.frame_numbers[i]: t for i, t in frame_positions(truth, clip).items()}  # frame number -> position
    _check_scoring(cell, clip, truth, list(place))
    place = {number: t for number, t in place.items() if number not in cell.skip_frames}
    at = {number: i for i, number in enumerate(truth.frame_numbers)}

    def holds_objects(number: int) -> bool:
        return bool(both_frames(truth, truth, (at[number], at[number]), cell.void_label)[1].any())

    annotated = spread(list(filter(holds_objects, place)), cell.n_annotated)
    scored = [number for number in place if number not in annotated]
    wanted = list(place) if cell.instances else scored
    annotations = Annotations.from_labels(truth, frames=annotated, void_label=cell.void_label)
    annotations = annotations.with_blank_slices().aligned_to(clip)  # the truth shows all there is
    method, device = make_method(cell)
    with watch.part(ADAPT):
        method.fit(clip, annotations)
    if method.meaning is not None:
        method.meaning = TimedMeaning.of(method.meaning, watch)
    positions = [place[number] for number in wanted]
    with watch.part(PREDICT):
        found = dict(method.iter_labels(clip, frames=positions))
    memory, device_memory = peak_memory(), peak_device_memory()  # before scoring takes some
    labels, lineage, link_seconds = Labels(np.stack([found[t] for t in positions]), frame_numbers=wanted), None, None
    if cell.tracks:
        from napari_osvos.tracking import painted_on, track

        linking = time.perf_counter()
        tracked = track(labels, painted_on(annotations, positions))
        labels, lineage, link_seconds = tracked.labels, tracked.lineage, time.perf_counter() - linking
    scores = evaluate(
        labels,
        truth,
        skip_frames=annotated,
        border=cell.border,
        instances=cell.instances,
        tracks=cell.instances,
        lineage=lineage,
        void_label=cell.void_label,
    )
    warning = _draw(cell, clip, place, labels, truth, annotated, scores) if cell.pictures else None
    learned = _provenance(method)
    return {
        "J": scores.j_mean,
        "F": scores.f_mean,
        "F2px": scores.f_2px_mean,
        "J_recall": scores.region_similarity.recall,
        "J_decay": scores.region_similarity.decay,
        "F_recall": scores.contour_accuracy.recall,
        "F_decay": scores.contour_accuracy.decay,
        "J_frames": " ".join(f"{number}:{j:.4f}" for number, j in zip(scores.frames, scores.j, strict=True)),
        "annotated_frames": " ".join(map(str, annotated)),
        "n_scored": len(scored),
        "n_predicted": len(wanted),
        **{f"{part}_s": round(watch.of(part), 3) for part in (READ, ADAPT, PREDICT)},
        "post_s": None if method.meaning is None else round(watch.of(POST), 3),
        "train_s": learned.get("seconds"),
        "updates": learned.get("steps"),
        "link_s": None if link_seconds is None else round(link_seconds, 3),
        "peak_memory_mb": None if memory is None else round(memory / 1e6),
        "peak_device_memory_mb": None if device_memory is None else round(device_memory / 1e6),
        "device_name": device,
        "version": versions()["napari-osvos"],
        "warning": warning,
    } | (_object_scores(scores, cell.tracks) if cell.instances else NO_OBJECTS)


def _check_scoring(cell: Cell, clip: Clip, truth: Labels, numbers: Sequence[int]) -> None:
    """Make sure, before anything is learned, that these frames can be scored.

    Raises
    ------
    ValueError
        As `evaluation.frames_to_score`.
    """
    from napari_osvos.evaluation import frames_to_score
    from napari_osvos.labels import Labels

    if not numbers:
        return  # nothing can be annotated either, which `spread` says
    blank = np.broadcast_to(np.zeros((), np.uint8), (len(numbers), *clip.labels_shape[1:]))
    frames_to_score(Labels(blank, frame_numbers=numbers), truth, cell.skip_frames, cell.border)


def _draw(
    cell: Cell,
    clip: Clip,
    place: Mapping[int, int],
    labels: Labels,
    truth: Labels,
    annotated: Sequence[int],
    scores: Scores,
) -> str | None:
    """Draw the worst frames; what was measured is not lost if that fails: return in one sentence what went wrong."""
    from napari_osvos.benchmark_pictures import draw_worst, picture_name

    path = Path(cell.pictures) / picture_name(cell)
    title = f"{cell.movie}, {cell.method}"
    try:
        draw_worst(path, clip, place, labels, truth, annotated, scores, title, cell.void_label)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        return f"the picture {path} could not be drawn: {str(error).rstrip('.')}."
    return None


def _provenance(method: Baseline) -> dict[str, Any]:
    """Return what a network says of its training; nothing of others."""
    segmenter = getattr(method, "segmenter", None)
    return {} if segmenter is None else segmenter.provenance


def _object_scores(scores: Scores, tracks: bool) -> dict[str, float | None]:
    assert scores.instances is not None
    assert scores.tracks is not None
    return {
        "F1_50": scores.instances.at_50.f1,
        "F1_75": scores.instances.at_75.f1,
        "SEG": scores.instances.seg,
        "DET": scores.tracks.det,
        "TRA": scores.tracks.tra if tracks else None,  # without stable ids in the truth it would say nothing
    }


def main() -> int:
    """Measure the cell that the standard input describes."""
    cell = Cell(**json.loads(sys.stdin.read()))
    try:
        measured = measure(cell)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    Path(sys.argv[1]).write_text(json.dumps(measured), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
