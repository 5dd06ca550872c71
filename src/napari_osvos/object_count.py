"""How many objects a frame of labels shows, counted piece by piece so that a viewer need not wait for it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Pixels that are looked at between two yields: some ms.
STRIP_PIXELS = 2**17


def counting(labels: npt.NDArray[Any]) -> Generator[None, None, int]:
    """Count the objects of a frame: its labels, or, where it has a single one, the parts it falls into.

    Parameters
    ----------
    labels : (Y, X) or (Z, Y, X) integer array
        0 = background. It must not change meanwhile.

    Yields
    ------
    None
        After every some ms of work.

    Returns
    -------
    int
        Number of objects. Parts touch at edges or corners, within a slice, and at faces between slices.
    """
    stack = labels if labels.ndim == 3 else labels[np.newaxis]
    rows = max(1, STRIP_PIXELS // max(1, stack.shape[2]))
    found: set[int] = set()
    for plane in stack:
        for top in range(0, len(plane), rows):
            strip = plane[top : top + rows]
            painted = strip[strip != 0]
            if painted.size:
                found.update(_distinct(painted))
            yield
    if len(found) != 1:
        return len(found)
    return (yield from _counting_parts(stack, rows))


def _distinct(values: npt.NDArray[Any]) -> list[int]:
    if (values == values[0]).all():
        return [int(values[0])]
    distinct: list[int] = np.unique(values).tolist()
    return distinct


def _counting_parts(stack: npt.NDArray[Any], rows: int) -> Generator[None, None, int]:
    """Count connected parts strip by strip; parts of neighbouring strips that touch are one."""
    total = 0
    touching: list[npt.NDArray[np.int64]] = []  # (2, n) numbers of parts that touch
    above: dict[int, npt.NDArray[np.int64]] = {}  # the strips of the slice before
    for plane in stack:
        last = None  # the last row of the strip before
        for top in range(0, len(plane), rows):
            parts, count = ndimage.label(plane[top : top + rows], np.ones((3, 3)))
            parts = np.where(parts > 0, parts + total, 0).astype(np.int64) if count else np.zeros_like(parts, np.int64)
            total += count
            if last is not None:
                for shift in (-1, 0, 1):
                    touching.append(_pairs(*_shifted(last, parts[0], shift)))
            last = parts[-1].copy()
            if len(stack) > 1:
                if top in above:
                    touching.append(_pairs(above[top], parts))
                above[top] = parts
            yield
    pairs = np.concatenate([np.zeros((2, 0), np.int64), *touching], axis=1) - 1
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(total, total))
    return int(connected_components(graph, directed=False, return_labels=False))


def _shifted(first: npt.NDArray[Any], second: npt.NDArray[Any], by: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if by < 0:
        return first[-by:], second[:by]
    return (first[:-by], second[by:]) if by else (first, second)


def _pairs(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Different pairs of parts that lie on each other."""
    both = (first > 0) & (second > 0)
    if not both.any():
        return np.zeros((2, 0), np.int64)
    return np.unique(np.stack([first[both], second[both]]), axis=1)
