"""One measurement of the benchmark, in a process of its own so that its peak memory is its own.

``python -m napari_osvos.benchmark_cell`` reads a `Cell` as JSON from the standard input and writes what it measured to
the file that its one argument names.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.baselines import Baseline, NearestMask, RandomForest
from napari_osvos.config import QUALITIES
from napari_osvos.machine import peak_device_memory, peak_memory, versions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip
    from napari_osvos.evaluation import Scores
    from napari_osvos.parent import ParentNetwork

UNTRAINED = ("random-forest", "nearest-mask")
UNET = "unet"
BASELINES = (UNET, *UNTRAINED)
NO_PARENT = "-no-parent"
METHODS = (*QUALITIES, *(quality + NO_PARENT for quality in QUALITIES), *BASELINES)
"""A quality is ours with the parent, with ``-no-parent`` it starts from random weights."""
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
        One of `METHODS`.
    parent
        Name or file of the parent that ours starts from; empty for the baselines.
    n_annotated
        How many frames are annotated by their truth.
    seed
        Of fine-tuning or of the forest.
    device, threads
        Where to compute.
    steps
        Updates of fine-tuning, in place of the quality's own number; None leaves it.
    skip_frames
        Numbers of frames that are neither annotated nor scored.
    instances, tracks
        Whether objects are to be told apart, and followed; see `benchmark.BenchmarkMovie`.
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
    Plain numbers and texts: the scores ``J``, ``F``, ``F2px`` (means over the scored frames), ``annotated_frames``,
    ``n_scored``, ``n_predicted`` (where objects are scored, the annotated frames are predicted, too: tracks need them),
    ``adapt_s``, ``predict_s`` and ``link_s`` (all predicted frames), ``peak_memory_mb`` (of the whole process until the
    last prediction, Python and libraries included), ``peak_device_memory_mb``, ``device_name`` and ``version``;
    ``J_recall`` and ``J_decay``; and, None where there are no objects or tracks to score, ``F1_50``, ``F1_75`` and
    ``SEG`` of the scored frames, ``DET`` and ``TRA`` of all predicted frames.
    """
    from napari_osvos.annotations import Annotations
    from napari_osvos.evaluation import evaluate
    from napari_osvos.io import read_clip, read_labels
    from napari_osvos.labels import Labels, frame_positions

    clip, truth = read_clip(cell.clip), read_labels(cell.truth)
    place = {truth.frame_numbers[i]: t for i, t in frame_positions(truth, clip).items()}  # frame number -> position
    place = {number: t for number, t in place.items() if number not in cell.skip_frames}
    annotated = spread([number for number in place if truth.frame(number).any()], cell.n_annotated)
    scored = [number for number in place if number not in annotated]
    wanted = list(place) if cell.instances else scored
    annotations = Annotations.from_labels(truth, frames=annotated).aligned_to(clip)
    method, device = _method(cell)
    began = time.perf_counter()
    method.fit(clip, annotations)
    adapted = time.perf_counter()
    positions = [place[number] for number in wanted]
    found = dict(method.iter_labels(clip, frames=positions))
    predicted = time.perf_counter()
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
    )
    return {
        "J": scores.j_mean,
        "F": scores.f_mean,
        "F2px": scores.f_2px_mean,
        "J_recall": scores.region_similarity.recall,
        "J_decay": scores.region_similarity.decay,
        "annotated_frames": " ".join(map(str, annotated)),
        "n_scored": len(scored),
        "n_predicted": len(wanted),
        "adapt_s": round(adapted - began, 3),
        "predict_s": round(predicted - adapted, 3),
        "link_s": None if link_seconds is None else round(link_seconds, 3),
        "peak_memory_mb": None if memory is None else round(memory / 1e6),
        "peak_device_memory_mb": None if device_memory is None else round(device_memory / 1e6),
        "device_name": device,
        "version": versions()["napari-osvos"],
    } | (_object_scores(scores, cell.tracks) if cell.instances else NO_OBJECTS)


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


class Ours:
    """Fine-tuning and its segmenter behind the face of a baseline; the U-Net is trained in the same way."""

    def __init__(self, cell: Cell) -> None:
        from napari_osvos.config import FineTuneConfig
        from napari_osvos.device import resolve_device
        from napari_osvos.finetune import FineTuner
        from napari_osvos.unet import random_unet

        quality = "balanced" if cell.method == UNET else cell.method.removesuffix(NO_PARENT)
        task = "look-alike" if cell.instances else "auto"
        config = FineTuneConfig.from_dict({"quality": quality, "seed": cell.seed, "steps": cell.steps, "task": task})
        self.device = resolve_device(cell.device)
        start = random_unet(seed=cell.seed) if cell.method == UNET else _parent(cell)
        self._tuner = FineTuner(start, config, device=self.device)

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Fine-tune."""
        self._segmenter = self._tuner.fit(clip, annotations)

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Predict."""
        return self._segmenter.iter_labels(clip, frames=frames)


def _parent(cell: Cell) -> ParentNetwork:
    """Return the parent that a cell names, or random weights of its size."""
    from napari_osvos.config import NetworkConfig
    from napari_osvos.parent import ParentNetwork

    path = Path(cell.parent)
    parent = ParentNetwork.load(path) if path.is_file() else None
    if cell.method.endswith(NO_PARENT):
        network = NetworkConfig.preset(cell.parent) if parent is None else parent.net.config
        return ParentNetwork.random(network, seed=cell.seed)
    return parent or ParentNetwork.bundled(cell.parent)


def _method(cell: Cell) -> tuple[Baseline, str]:
    """Return the method, ready to fit, and the device that it computes on in words."""
    if cell.method == "nearest-mask":
        return NearestMask(), "CPU"
    if cell.method == "random-forest":
        return RandomForest(cell.seed, cell.threads, instances=cell.instances), "CPU"
    import torch

    from napari_osvos.device import describe_device

    torch.set_num_threads(cell.threads)
    ours = Ours(cell)
    return ours, describe_device(ours.device)


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
