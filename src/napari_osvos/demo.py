"""The demonstration: simulate a movie, paint its first frame, segment the rest, link it, score it, draw it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig
from napari_osvos.evaluation import Scores, evaluate
from napari_osvos.finetune import FineTuner
from napari_osvos.io import write_labels
from napari_osvos.lineage import Lineage
from napari_osvos.machine import replacing
from napari_osvos.overlay import Strip, movie_strip
from napari_osvos.parent import ParentNetwork
from napari_osvos.sample_data import SimulatedMovie, simulate_movie
from napari_osvos.segmenter import Segmenter
from napari_osvos.tracking import TrackedMovie, as_tracks, track
from napari_osvos.tracking_scores import TrackTruth

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FILES = ("movie.tif", "painted.tif", "truth.tif", "labels.tif")
"""What `demonstrate` writes."""

Said = Callable[[str, int, int], None]
"""Called as ``said(what is being done, steps done, steps in all)``."""


@dataclass(frozen=True)
class Demonstration:
    """What came of one movie.

    Attributes
    ----------
    look
        Of the simulated movie.
    scores
        Of all frames but the painted one; of tracks, of all frames.
    tracked
        Labels that are track ids, and the tracks.
    seconds
        Of each part: simulate, fine_tune, predict, link, evaluate, write.
    strip
        Its row of the overlay picture.
    """

    look: str
    scores: Scores
    tracked: TrackedMovie
    seconds: dict[str, float]
    strip: Strip

    def to_dict(self) -> dict[str, Any]:
        """Return scores, number of tracks and divisions, and seconds as plain data."""
        return {
            "scores": self.scores.to_dict(),
            "n_tracks": len(self.tracked.lineage),
            "n_divisions": len(self.tracked.lineage.divisions),
            "seconds": {part: round(s, 3) for part, s in self.seconds.items()},
        }


def demonstrate(
    look: str,
    folder: Path,
    *,
    parent: ParentNetwork | Segmenter,
    config: FineTuneConfig,
    device: str | torch.device = "auto",
    n_frames: int = 24,
    shape: tuple[int, int] = (256, 256),
    seed: int = 0,
    said: Said = lambda what, done, total: None,
) -> Demonstration:
    """Segment one simulated movie from its first frame.

    Parameters
    ----------
    look
        One of `sample_data.LOOKS`.
    folder
        Receives `FILES`; in ``painted.tif`` only the first frame holds labels. Files of these names are replaced.
    parent
        What fine-tuning starts from.
    config
        How to fine-tune.
    device
        Where to compute.
    n_frames, shape, seed
        Of the movie: frames, (Y, X) in pixels, and the seed of its random numbers.
    said
        Is told how far it is.

    Raises
    ------
    ValueError
        If the look is unknown or the movie has fewer than 2 frames.
    """
    if n_frames < 2:
        raise ValueError(
            f"The demo movie has {n_frames} frames; one is painted and at least one more must be segmented."
        )
    clock = _Clock()
    movie = simulate_movie(look, n_frames=n_frames, shape=shape, seed=seed)
    clip = Clip(movie.frames, "TYX", name=f"the {look} movie")
    painted = np.zeros_like(movie.labels)
    painted[0] = movie.labels[0]
    clock.lap("simulate")
    annotations = Annotations.from_labels(painted).aligned_to(clip)
    tuner = FineTuner(parent, config, device=device)
    for step in tuner.steps(clip, annotations):
        said("fine-tuning", step.step, step.steps)
    segmenter = tuner.segmenter
    clock.lap("fine_tune")
    found = np.zeros_like(movie.labels)
    for t, frame in segmenter.iter_labels(clip):
        found[t] = frame
        said("predicting", t + 1, n_frames)
    clock.lap("predict")
    alike = segmenter.meaning.task == "look-alike"
    tracked = track(found, annotations) if alike else as_tracks(found)
    labels = np.asarray(tracked.labels)
    clock.lap("link")
    truth = TrackTruth(movie.labels, _true_tracks(movie))
    scores = evaluate(labels, movie.labels, skip_frames=[0], tracks=truth, lineage=tracked.lineage)
    clock.lap("evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    _write_movie(folder / FILES[0], movie.frames)
    for name, array in zip(FILES[1:], (painted, movie.labels, labels), strict=True):
        write_labels(folder / name, array, overwrite=True)
    strip = movie_strip(
        clip,
        labels,
        painted=painted,
        annotated=[0],
        truth=movie.labels,
        scores=dict(zip(scores.frames, scores.j, strict=True)),
        title=f"{look}:  J {scores.j_mean:.3f} over {len(scores.frames)} frames, learned from one in"
        f" {clock.seconds['fine_tune']:.1f} s;  {tracked.in_words}",
        by_label=True,
    )
    clock.lap("write")
    return Demonstration(look, scores, tracked, clock.seconds, strip)


def _true_tracks(movie: SimulatedMovie) -> Lineage:
    lives = as_tracks(movie.labels).lineage.values()
    return Lineage(replace(life, mother=movie.mothers.get(life.id, 0)) for life in lives)


def _write_movie(path: Path, frames: NDArray[Any]) -> None:
    """Write (T, Y, X) frames as a TIFF stack that ImageJ and napari open with a time axis."""
    import tifffile

    with replacing(path) as partial:
        tifffile.imwrite(partial, frames, imagej=True, metadata={"axes": "TYX"}, compression="zlib")


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def lap(self, part: str) -> None:
        """Note the seconds since the lap before."""
        now = time.perf_counter()
        self.seconds[part] = now - self._began
        self._began = now
