"""What the network is measured against: the simplest of it, and what the others have in common.

All are fitted, then asked as a `Segmenter` is: ``fit(clip, annotations)``, ``iter_labels(clip)``. `NearestMask` is
here; `baseline_otsu`, `baseline_forest` and `baseline_convpaint` decide on each pixel, `baseline_flow` carries labels
along, and `unet` is trained as the network is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_osvos.instances import choose_separation, separation_of_paint
from napari_osvos.labelling import LabelMeaning, PlaneMaps
from napari_osvos.task import instances_of
from napari_osvos.unpainted_edge import supervised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .annotations import Annotations
    from .clip import Clip

FramesOfLabels = Iterator[tuple[int, "NDArray[Any]"]]

MOST_FRAMES_SEPARATED = 2
"""Annotated frames on which it is chosen how to cut foreground into objects, as in fine-tuning."""


class Baseline(Protocol):
    """What every baseline does."""

    meaning: LabelMeaning | None
    """By what it makes labels of foreground, once it is fitted; None where it has labels from the start."""

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Learn from the annotated planes of a movie."""

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> FramesOfLabels:
        """Yield each frame's position and its (Y, X) or (Z, Y, X) integer labels, 0 = background, in any order."""


def nearest_plane(planes: Sequence[int], p: int, depth: int) -> int:
    """Return the plane nearest to `p` in time: in its own slice if there is one, of two equally near the earlier."""

    def distance(q: int) -> tuple[int, int, int]:
        return (abs(q % depth - p % depth), abs(q // depth - p // depth), q)

    return min(planes, key=distance)


class NearestMask:
    """Copies the annotated labels that are nearest in time; of two at the same distance the earlier."""

    meaning: LabelMeaning | None = None

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Keep the annotated planes."""
        self._labels = {p: annotations.labels(p) for p in annotations.planes}

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> FramesOfLabels:
        """Yield copies; a slice of a stack takes the nearest annotation in its own z, else in any."""
        depth, planes = clip.depth, list(self._labels)
        for t in range(clip.n_frames) if frames is None else frames:
            labels = [self._labels[nearest_plane(planes, t * depth + z, depth)] for z in range(depth)]
            yield t, np.stack(labels) if clip.has_depth else labels[0]


class PixelBaseline(ABC):
    """Decides on each pixel of a plane, then cuts foreground into objects.

    Foreground is cut by a watershed of its distance transform [1]_: smoothed by the size of the painted objects, one
    basin for each peak. How deep a valley has to be to part two objects, the smallest object and whether holes are
    filled are chosen on the annotated frames, by the same search as for the network.

    Parameters
    ----------
    instances
        Whether each painted label is one of many objects; otherwise all foreground is 1.

    References
    ----------
    .. [1] https://scikit-image.org/docs/stable/auto_examples/segmentation/plot_watershed.html
    """

    name: str

    def __init__(self, instances: bool = False) -> None:
        self.instances = instances
        self.meaning: LabelMeaning | None = LabelMeaning()

    @abstractmethod
    def learn(self, clip: Clip, planes: Sequence[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]) -> None:
        """Learn from planes: number, foreground (Y, X), and where that is known (Y, X)."""

    @abstractmethod
    def decide(self, plane: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where a (Y, X, C) plane is foreground, (Y, X)."""

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Learn from every pixel that is annotated, then choose how to cut foreground into objects.

        As in fine-tuning, a band along the edge in which objects were left unpainted (`unpainted_edge`) says nothing.

        Raises
        ------
        ValueError
            If the annotated pixels are all foreground or all background: there is nothing to tell apart.
        """
        self.range = clip.intensity_range()
        diameter = annotations.object_diameter()
        planes = [(p, annotations.mask(p), supervised(annotations, p, diameter)) for p in annotations.planes]
        painted = {bool(value) for _, mask, known in planes for value in np.unique(mask[known])}
        if len(painted) < 2:
            kind = "foreground" if painted == {True} else "background"
            raise ValueError(f"All annotated pixels are {kind}; {self.name} needs foreground and background.")
        self.learn(clip, planes)
        if self.instances:
            self.meaning = self._choose_separation(clip, annotations, diameter)

    def _choose_separation(self, clip: Clip, annotations: Annotations, diameter: float) -> LabelMeaning:
        complete = [p for p in annotations.planes if not annotations.is_partial(p)]
        separation = choose_separation(
            (
                (
                    (self.decide(clip.plane(p)).astype(np.float32), None, None),
                    instances_of(annotations, p),
                    supervised(annotations, p, diameter),
                )
                for p in complete[:MOST_FRAMES_SEPARATED]
            ),
            threshold=0.5,
            radius=diameter / 2,
            start=separation_of_paint([instances_of(annotations, p) for p in complete]),
        )
        return LabelMeaning("look-alike", radius=diameter / 2, separation=separation)

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> FramesOfLabels:
        """Yield the labels of each frame."""
        assert self.meaning is not None
        depth = clip.depth
        for t in range(clip.n_frames) if frames is None else frames:
            decided = [self.decide(clip.plane(t * depth + z)).astype(np.float32) for z in range(depth)]
            labels = self.meaning.labels([PlaneMaps(plane[None], None, None) for plane in decided], threshold=0.5)
            yield t, labels if clip.has_depth else labels[0]

    def stretched(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        """Return a (Y, X, C) plane whose intensities are stretched by the range of the movie, finite everywhere."""
        return stretch(plane, self.range)


def stretch(plane: NDArray[Any], intensity_range: NDArray[Any]) -> NDArray[np.float32]:
    """Return a (Y, X, C) plane in which the range (C, 2) of the movie is 0 to 1; pixels that are not finite become so.

    What lies beyond the range stays beyond 0 and 1.
    """
    low, high = intensity_range[:, 0], intensity_range[:, 1]
    unit = np.nan_to_num((plane.astype(np.float32) - low) / (high - low), posinf=1.0, neginf=0.0)
    return np.asarray(unit, np.float32)
