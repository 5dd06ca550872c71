"""What painted labels mean: many objects that look alike, or a few distinct ones. Chosen from the paint."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip

Task = Literal["look-alike", "distinct"]
TASKS: tuple[str, ...] = get_args(Task)

MOST_CLASSES = 16
"""More labels than this are objects of one kind, not kinds of objects."""
SIZE_RATIO = 2.0
"""Objects whose diameters differ by this factor are of different kinds."""
SPREADS = 2.5
"""So are those whose mean intensities differ by so many of their own standard deviations."""


def choose_task(annotations: Annotations, clip: Clip) -> Task:
    """Return what the painted labels most likely mean.

    A single label is one class. Labels that mostly fall into several parts each are classes, too. Of labels that are
    one object each, a few (`MOST_CLASSES` at most) are distinct if any two of them differ clearly in size
    (`SIZE_RATIO`) or in intensity (`SPREADS`); otherwise they are objects of one kind, as cells are.

    Parameters
    ----------
    annotations : Annotations
        Of the movie, aligned to it.
    clip : Clip
        The movie.

    Returns
    -------
    str
        ``look-alike`` or ``distinct``.
    """
    values = label_values(annotations)
    if len(values) < 2:
        return "distinct"
    if len(values) > MOST_CLASSES:
        return "look-alike"
    areas: dict[int, list[int]] = {v: [] for v in values}
    pixels: dict[int, list[NDArray[np.float64]]] = {v: [] for v in values}
    parts = []
    for p in annotations.planes:
        labels, plane = annotations.labels(p), clip.plane(p)
        for value in np.unique(labels[labels > 0]).tolist():
            where = labels == value
            sizes = np.bincount(label(where, connectivity=2).ravel())[1:]
            parts.append(np.count_nonzero(sizes > 0.25 * sizes.max()))
            areas[value].append(int(sizes.sum()))
            pixels[value].append(plane[where].astype(np.float64))
    if np.mean(np.array(parts) > 1) > 0.5:
        return "distinct"
    look = [_look(areas[v], pixels[v]) for v in values]
    every = all(_differ(a, b) for i, a in enumerate(look) for b in look[:i])
    return "distinct" if every else "look-alike"


def label_values(annotations: Annotations) -> tuple[int, ...]:
    """Return the painted labels, rising, without background."""
    found: set[int] = set()
    for p in annotations.planes:
        found.update(np.unique(annotations.labels(p)).tolist())
    return tuple(sorted(found - {0}))


def instances_of(annotations: Annotations, p: int) -> NDArray[np.int32]:
    """Return the painted objects of a plane, each with a label of its own, (Y, X) int32.

    Where the whole paint has one label only, its connected parts are the objects.
    """
    labels = annotations.labels(p)
    if len(label_values(annotations)) < 2:
        return np.asarray(label(labels, connectivity=1), np.int32)
    return labels


_Look = tuple[float, NDArray[np.float64], NDArray[np.float64]]


def _look(areas: list[int], pixels: list[NDArray[np.float64]]) -> _Look:
    """Diameter, and mean and standard deviation of each channel."""
    values = np.concatenate(pixels)
    values = values[np.isfinite(values).all(1)]
    mean = values.mean(0) if len(values) else np.zeros(values.shape[1])
    return float(np.sqrt(np.median(areas))), mean, values.std(0) if len(values) else np.zeros(values.shape[1])


def _differ(a: _Look, b: _Look) -> bool:
    if max(a[0], b[0]) > SIZE_RATIO * min(a[0], b[0]):
        return True
    spread = np.maximum(np.sqrt((a[2] ** 2 + b[2] ** 2) / 2), 1e-9)
    return bool((np.abs(a[1] - b[1]) / spread).max() > SPREADS)
