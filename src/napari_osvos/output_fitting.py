"""What is fitted on the annotated frames once they are learned: threshold, how objects are cut, how frames look."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_osvos.appearance import Appearance
from napari_osvos.config import PredictConfig
from napari_osvos.expected_accuracy import PaintFit
from napari_osvos.half_painted import found_in_vain, looks_half_painted
from napari_osvos.instances import choose_separation
from napari_osvos.intensity import IntensityScale
from napari_osvos.labelling import LabelMeaning, foreground_of
from napari_osvos.painted_plane import PaintedPlane
from napari_osvos.sampling import inner_boundary
from napari_osvos.segmenter import Segmenter
from napari_osvos.snapping import fitting_cut

# Annotated frames that are predicted to choose a threshold, and by how much its logit may differ from that of the loss.
MOST_FRAMES_LOOKED_AT = 4
# Fewer are cut into objects again and again, to choose how.
MOST_FRAMES_SEPARATED = 2
THRESHOLD_SHIFTS = (0.0, -0.2, 0.2, -0.4, 0.4, -0.6, 0.6)


@dataclass(frozen=True)
class LookBack:
    """What is seen of the annotated frames after learning.

    Attributes
    ----------
    threshold : float
        At which masks of complete frames overlap best with the paint, near that of the loss. Whether the paint reaches
        to the outer or the inner rim of a blurred border is a habit of its painter.
    appearance : Appearance or None
        What the frames look like to the network.
    half_painted : dict
        {frame: number of objects found where nothing is painted} of complete frames that look painted in part.
    fit : PaintFit
        How well the paint is found, that of complete frames where there are any.
    """

    threshold: float
    appearance: Appearance | None
    half_painted: dict[int, int]
    fit: PaintFit


def look_back(segmenter: Segmenter, frames: Sequence[PaintedPlane], intensity: IntensityScale) -> LookBack:
    """Predict the first few annotated planes, and see.

    Parameters
    ----------
    segmenter : Segmenter
        With the threshold that follows from the loss; its config is set to a plain prediction.
    frames : sequence of PaintedPlane
        Complete ones first: of the others only the look is of use.
    intensity : IntensityScale
        Of the movie.
    """
    logit = math.log(segmenter.threshold / (1 - segmenter.threshold))
    candidates = [1 / (1 + math.exp(-logit - shift)) for shift in THRESHOLD_SHIFTS]
    complete, partial = _Tally(candidates), _Tally(candidates)
    segmenter.config = PredictConfig()
    seen: list[Tensor] = []
    in_vain: dict[int, tuple[int, int]] = {}
    for frame in frames[:MOST_FRAMES_LOOKED_AT]:
        whole = foreground_of(segmenter.plane_maps(frame.image, intensity, contours=False, seen=seen))
        (partial if frame.partial else complete).add(whole[frame.known], frame.labels[frame.known] > 0)
        if not frame.partial:
            counts, so_far = found_in_vain(whole, frame.labels, frame.known), in_vain.get(frame.frame, (0, 0))
            in_vain[frame.frame] = (so_far[0] + counts[0], so_far[1] + counts[1])
    best = complete.best
    return LookBack(
        threshold=candidates[best],
        appearance=Appearance.of(seen),
        half_painted={frame: counts[0] for frame, counts in in_vain.items() if looks_half_painted(*counts)},
        fit=(complete if in_vain else partial).fit(best),
    )


class _Tally:
    """Pixels of mask and paint at several thresholds, and what they would be if the probabilities were right."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self.thresholds = thresholds
        self.overlap, self.union, self.probable_overlap, self.probable_union = np.zeros((4, len(thresholds)))

    def add(self, probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        for i, threshold in enumerate(self.thresholds):
            found = probability >= threshold
            n_found, inside = np.count_nonzero(found), probability[found].sum(dtype=np.float64)
            self.overlap[i] += np.count_nonzero(found & truth)
            self.union[i] += np.count_nonzero(found | truth)
            self.probable_overlap[i] += inside
            self.probable_union[i] += n_found + probability.sum(dtype=np.float64) - inside

    @property
    def best(self) -> int:
        """Which threshold is best: the first, which is that of the loss, unless another is better."""
        return int(np.argmax(self.overlap / np.maximum(self.union, 1)))

    def fit(self, i: int) -> PaintFit:
        return PaintFit(
            float(self.overlap[i] / max(self.union[i], 1)),
            float(self.probable_overlap[i] / max(self.probable_union[i], 1)),
        )


def fitting_meaning(segmenter: Segmenter, frames: Sequence[PaintedPlane], intensity: IntensityScale) -> LabelMeaning:
    """Return what labels mean, with the settings at which annotated objects come out as they were painted.

    Parameters
    ----------
    segmenter, intensity
        As for `look_back`; the threshold is the one to be used.
    frames : sequence of PaintedPlane
        Complete ones; the first few are looked at.
    """
    meaning = segmenter.meaning
    segmenter.config = PredictConfig()
    maps = ((segmenter.plane_maps(f.image, intensity), f) for f in frames[:MOST_FRAMES_SEPARATED])
    if meaning.task == "distinct":
        borders = ((m.contour, inner_boundary(f.labels) & f.known) for m, f in maps if m.contour is not None)
        return dataclasses.replace(meaning, cut=fitting_cut(borders))
    separation = choose_separation(
        (((foreground_of(m), m.contour, m.distance), f.labels, f.known) for m, f in maps),
        segmenter.threshold,
        meaning.radius,
        meaning.separation,
    )
    return dataclasses.replace(meaning, separation=separation)
