"""The size of painted objects, which sets the scale at which a network sees them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from skimage.measure import label


def object_diameter(labels: Iterable[np.ndarray]) -> float:
    """Return the diameter of typical objects, in pixels; 0 if there is none.

    Parameters
    ----------
    labels : iterable of (Y, X) int arrays
        0 is background. Each connected component of each label is an object.

    Returns
    -------
    float
        Area-weighted median over all objects of the hydraulic diameter 4 area / perimeter: a disc of
        diameter d has d, a long ribbon of width w has 2 w. Specks weigh as little as they cover.
    """
    areas, diameters = [], []
    for frame in labels:
        components = label(np.asarray(frame), connectivity=1)
        if not components.any():
            continue
        area = np.bincount(components.ravel())[1:].astype(float)
        # Edges between pixels overstate the length of a line by 4 / pi on the mean over directions.
        perimeter = np.pi / 4 * _edges(components)[1:]
        # That of one or a few pixels comes out too small; the disc of their area has the shortest.
        perimeter = np.maximum(perimeter, 2 * np.sqrt(np.pi * area))
        areas.append(area)
        diameters.append(4 * area / perimeter)
    if not areas:
        return 0.0
    area, diameter = np.concatenate(areas), np.concatenate(diameters)
    order = np.argsort(diameter)
    covered = np.cumsum(area[order])
    return float(diameter[order][np.searchsorted(covered, covered[-1] / 2)])


def _edges(components: np.ndarray) -> np.ndarray:
    """Count, for each component, the pixel edges that it shares with anything else."""
    count = np.zeros(components.max() + 1)
    padded = np.pad(components, 1)
    for axis in (0, 1):
        first, second = (padded[:-1], padded[1:]) if axis == 0 else (padded[:, :-1], padded[:, 1:])
        differ = first != second
        for side in (first, second):
            count += np.bincount(side[differ], minlength=len(count))
    return count
