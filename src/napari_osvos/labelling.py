"""From what a network says of a frame to labels: instances of look-alike objects, or classes of distinct ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_osvos.instances import SeparationConfig, separate
from napari_osvos.snapping import CUT, snap
from napari_osvos.task import TASKS, Task


@dataclass(frozen=True)
class PlaneMaps:
    """What a network says of one plane; all float32 in [0, 1].

    Attributes
    ----------
    classes : (K, Y, X) array
        Probability of each class; what is left to 1 is background.
    contour, distance : (Y, X) array or None
        Probability of an object's border, and depth in the object; None where they were not asked for or not learned.
    """

    classes: NDArray[np.float32]
    contour: NDArray[np.float32] | None
    distance: NDArray[np.float32] | None


def foreground_of(maps: PlaneMaps) -> NDArray[np.float32]:
    """Return the probability of foreground (Y, X), of all classes together."""
    total: NDArray[np.float32] = maps.classes[0] if len(maps.classes) == 1 else np.minimum(maps.classes.sum(0), 1)
    return total


@dataclass(frozen=True)
class LabelMeaning:
    """What the labels of a segmenter mean, and how they are made.

    Attributes
    ----------
    task : str
        ``look-alike`` or ``distinct``, see `napari_osvos.task`.
    values : tuple of int
        Label of each class that the network tells apart; one for look-alike objects.
    radius : float
        Of a painted object, in pixels of the movie.
    separation : SeparationConfig
        How look-alike objects are cut apart.
    cut : float
        Probability of contour from which a border parts regions, where distinct objects are snapped to contours.
    """

    task: Task = "distinct"
    values: tuple[int, ...] = (1,)
    radius: float = 16.0
    separation: SeparationConfig = field(default_factory=SeparationConfig)
    cut: float = CUT

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "task": self.task,
            "values": list(self.values),
            "radius": self.radius,
            "separation": self.separation.to_dict(),
            "cut": self.cut,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> LabelMeaning:
        """Read what `to_dict` returned.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is none.
        """
        if plain["task"] not in TASKS:
            raise ValueError(f"the task is {plain['task']!r}; it is {' or '.join(TASKS)}")
        values = tuple(int(v) for v in plain["values"])
        if not values or min(values) < 1 or len(set(values)) < len(values):
            raise ValueError(f"the labels are {values}; they are different whole numbers from 1")
        separation = SeparationConfig.from_dict(plain["separation"])
        return cls(plain["task"], values, float(plain["radius"]), separation, float(plain["cut"]))

    def labels(self, planes: Sequence[PlaneMaps], threshold: float, snapped: bool = False) -> NDArray[np.int32]:
        """Return the labels of a frame from what a network says of its slices.

        Parameters
        ----------
        planes : sequence of PlaneMaps
            One for each slice.
        threshold : float
            Probability from which a pixel is foreground.
        snapped : bool
            Snap distinct objects to contours.

        Returns
        -------
        (Z, Y, X) int32 array
        """
        foreground = np.stack([foreground_of(maps) for maps in planes])
        if self.task == "distinct":
            return self._classes(planes, foreground >= threshold, snapped)
        if len(planes) == 1:  # a lone slice is cut apart as an image, not as a stack
            parts = (foreground[0], threshold, planes[0].contour, planes[0].distance)
            return separate(*parts, self.radius, self.separation)[None]
        contour, distance = _stacked([m.contour for m in planes]), _stacked([m.distance for m in planes])
        return separate(foreground, threshold, contour, distance, self.radius, self.separation)

    def _classes(self, planes: Sequence[PlaneMaps], mask: NDArray[np.bool_], snapped: bool) -> NDArray[np.int32]:
        classes = np.stack([maps.classes.argmax(0) for maps in planes]).astype(np.int32) + 1
        classes[~mask] = 0
        if snapped:
            for z, maps in enumerate(planes):
                if maps.contour is not None:
                    classes[z] = snap(classes[z], maps.contour, self.cut)
        return np.array([0, *self.values], np.int32)[classes]


def _stacked(parts: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    there = [part for part in parts if part is not None]
    return np.stack(there) if len(there) == len(parts) else None
