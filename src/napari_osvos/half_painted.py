"""Frames that look painted in part only, though they are marked complete."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

PROBABILITY = 0.35
"""From which an object counts that the network sees where nothing is painted: less than half, as it was taught that
there is none."""
SHARE = 0.3
"""Objects found in vain, as a share of those painted, from which on a frame looks painted in part."""
FEWEST = 3
"""Objects found in vain that are no chance."""


def found_in_vain(
    probability: NDArray[np.float32], labels: NDArray[np.integer[Any]], known: NDArray[np.bool_]
) -> tuple[int, int]:
    """Count the objects that the network finds where nothing is painted, and those that are painted.

    Parameters
    ----------
    probability : (Y, X) float32 array in [0, 1]
        Of foreground.
    labels : (Y, X) int array
        Paint of a complete plane; 0 is background.
    known : (Y, X) bool array
        Where it supervises.

    Returns
    -------
    in_vain, painted : int
        Connected regions of `PROBABILITY` or more that touch no paint, lie where it is known that none is, and are at
        least 0.3 times as large as the median painted object; and painted objects.
    """
    ids, sizes = np.unique(labels, return_counts=True)
    sizes = sizes[ids > 0]
    if not len(sizes):
        return 0, 0
    regions, n = ndimage.label(probability >= PROBABILITY)
    index = np.arange(1, n + 1)
    painted = ndimage.maximum(labels > 0, regions, index) if n else np.zeros(0)
    unknown = ndimage.maximum(~known, regions, index) if n else np.zeros(0)
    large = np.bincount(regions.ravel(), minlength=n + 1)[1:] >= 0.3 * np.median(sizes)
    return int(np.count_nonzero(large & ~(np.asarray(painted) > 0) & ~(np.asarray(unknown) > 0))), len(sizes)


def looks_half_painted(in_vain: int, painted: int) -> bool:
    """Whether so many objects found in vain, beside so many painted ones, say that the painter stopped half-way."""
    return in_vain >= FEWEST and in_vain >= SHARE * painted


def half_painted_in_words(number: int, in_vain: int) -> str:
    """Return what the user is told of the frame of a number, in which so many objects were found in vain."""
    return (
        f"Frame {number} looks painted in part only: the network finds some {in_vain} objects where nothing is "
        "painted. Paint them, or mark the frame as painted in part."
    )
