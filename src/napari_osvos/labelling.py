"""From what a network says of a frame to labels: instances of look-alike objects, or classes of distinct ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_osvos.blockwise import row_blocks, separate_any_size, snap_any_size
from napari_osvos.instances import SeparationConfig
from napari_osvos.snapping import CUT
from napari_osvos.task import TASKS, Task

LARGEST_RADIUS = 1e5
"""Pixels; a file that tells of larger objects is damaged."""


@dataclass(frozen=True)
class PlaneMaps:
    """What a network says of one plane; all float32 in [0, 1], of huge planes float16.

    Attributes
    ----------
    classes : (K, Y, X) array
        Probability of each class; what is left to 1 is background. Where there is a `winner`, K is 1: all together.
    contour, distance : (Y, X) array or None
        Probability of an object's border, and depth in the object; None where they were not asked for or not learned.
        Of huge planes the distance may be less some of the contour, which is then not there: see `LabelMeaning.relief`.
    winner : (Y, X) uint8 array or None
        The most probable class, counted from 0, where of a huge plane the probability of each is not kept.
    """

    classes: NDArray[np.floating[Any]]
    contour: NDArray[np.floating[Any]] | None
    distance: NDArray[np.floating[Any]] | None
    winner: NDArray[np.uint8] | None = None


def foreground_of(maps: PlaneMaps) -> NDArray[np.floating[Any]]:
    """Return the probability of foreground (Y, X), of all classes together."""
    total: NDArray[np.floating[Any]] = maps.classes[0] if len(maps.classes) == 1 else np.minimum(maps.classes.sum(0), 1)
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
        if not isinstance(plain, Mapping):
            raise ValueError(f"the meaning of the labels is {plain!r}")
        if plain["task"] not in TASKS:
            raise ValueError(f"the task is {plain['task']!r}; it is {' or '.join(TASKS)}")
        values = tuple(plain["values"])
        if not values or len(set(values)) < len(values) or not all(map(_is_label, values)):
            raise ValueError(f"the labels are {values}; they are different whole numbers from 1")
        separation = SeparationConfig.from_dict(plain["separation"])
        radius = checked_number("radius", plain["radius"], 0, LARGEST_RADIUS)
        return cls(plain["task"], values, radius, separation, checked_number("cut", plain["cut"], 0, 1))

    @property
    def relief(self) -> float | None:
        """How much contour, taken off the learned distance, makes one map of both that gives the same landscape.

        None where they are not both wanted, or by themselves.
        """
        if self.task == "distinct" or not self.separation.learned:
            return None
        return self.separation.contour / self.separation.learned

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
        if self.task == "distinct":
            return self._classes(planes, threshold, snapped)
        foregrounds = [foreground_of(maps) for maps in planes]
        if len(planes) == 1:  # a lone slice is cut apart as an image, not as a stack
            parts = (foregrounds[0], threshold, planes[0].contour, planes[0].distance)
            return separate_any_size(*parts, self.radius, self.separation)[None]
        contour, distance = _stacked([m.contour for m in planes]), _stacked([m.distance for m in planes])
        parts = (np.stack(foregrounds), threshold, contour, distance)
        return separate_any_size(*parts, self.radius, self.separation)

    def _classes(self, planes: Sequence[PlaneMaps], threshold: float, snapped: bool) -> NDArray[np.int32]:
        labels = np.empty((len(planes), *planes[0].classes.shape[1:]), np.int32)
        values = np.array([0, *self.values], np.int32)
        for maps, target in zip(planes, labels, strict=True):
            for rows in row_blocks(target.shape):
                part = PlaneMaps(maps.classes[:, rows], None, None)
                best = part.classes.argmax(0) if maps.winner is None else maps.winner[rows]
                target[rows] = np.where(foreground_of(part) >= threshold, best.astype(np.int32) + 1, 0)
            if snapped and maps.contour is not None:
                snap_any_size(target, maps.contour, self.cut, self.radius)
            for rows in row_blocks(target.shape):
                target[rows] = values[target[rows]]
        return labels


def checked_number(name: str, value: Any, low: float, high: float) -> float:
    """Return a number of a file.

    Raises
    ------
    ValueError
        If it is none, or not from `low` to `high`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"the {name} is {value!r}; it is a number from {low:g} to {high:g}")
    return float(value)


def _is_label(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31


def _stacked(parts: Sequence[NDArray[np.floating[Any]] | None]) -> NDArray[np.floating[Any]] | None:
    there = [part for part in parts if part is not None]
    return np.stack(there) if len(there) == len(parts) else None
