"""The measures of the DAVIS benchmark: region similarity (J), contour accuracy (F) and their statistics.

References
----------
.. [1] F. Perazzi, J. Pont-Tuset, B. McWilliams, L. Van Gool, M. Gross, A. Sorkine-Hornung. "A Benchmark Dataset and
   Evaluation Methodology for Video Object Segmentation." CVPR 2016, pp. 724-732. doi:10.1109/CVPR.2016.85
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

Mask = npt.NDArray[np.bool_]

RELATIVE_TOLERANCE = 0.008
"""The tolerance of DAVIS for boundaries, as a share of the frame's diagonal."""


@dataclass(frozen=True)
class Statistics:
    """What DAVIS says of a measure over the frames of one movie [1]_.

    Attributes
    ----------
    mean
        Mean over the frames.
    recall
        Share of the frames above 0.5.
    decay
        Mean of the first quarter of the frames minus mean of the last; positive when it gets worse with time.
    """

    mean: float
    recall: float
    decay: float


def region_similarity(mask: npt.ArrayLike, truth: npt.ArrayLike, void: npt.ArrayLike | None = None) -> float:
    """Region similarity (J): intersection over union [1]_.

    Parameters
    ----------
    mask, truth : array_like
        Bool, or labels of which all above 0 are foreground; (Y, X) or (Z, Y, X).
    void : array_like, optional
        Bool of the same shape: pixels that count for neither.

    Returns
    -------
    float
        0 to 1; 1 if both are empty, 0 if only one is.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> region_similarity([[1, 1, 0]], [[0, 1, 1]])
    0.3333333333333333
    """
    found, wanted = _masks(mask, truth, void)
    union = np.count_nonzero(found | wanted)
    return float(np.count_nonzero(found & wanted) / union) if union else 1.0


def contour_accuracy(
    mask: npt.ArrayLike, truth: npt.ArrayLike, void: npt.ArrayLike | None = None, *, tolerance: float | None = None
) -> float:
    """Contour accuracy (F): harmonic mean of the precision and the recall of boundary pixels [1]_.

    A boundary is one pixel thin (`boundary`). Precision is the share of the mask's boundary pixels that have a boundary
    pixel of the truth within the tolerance, recall the same the other way round. In a stack each slice has boundaries
    of its own, and pixels are counted over all slices.

    Parameters
    ----------
    mask, truth : array_like
        Bool, or labels of which all above 0 are foreground; (Y, X) or (Z, Y, X).
    void : array_like, optional
        Bool of the same shape: pixels that count for neither. They are background before boundaries are taken, as in
        the benchmark's own code.
    tolerance : float, optional
        In pixels; by default `default_tolerance` of the frame.

    Returns
    -------
    float
        0 to 1; 1 if neither has a boundary (both are empty, or both fill the frame), 0 if only one has.

    Raises
    ------
    ValueError
        If the shapes differ or `tolerance` is negative.

    Examples
    --------
    >>> contour_accuracy([[1, 1, 0, 0]], [[1, 0, 0, 0]], tolerance=1)
    1.0
    """
    found, wanted = _masks(mask, truth, void)
    if tolerance is None:
        tolerance = default_tolerance(found.shape)
    if tolerance < 0:
        raise ValueError(f"The tolerance of a boundary is 0 pixels or more, not {tolerance}.")
    hits, counts = np.zeros(2, int), np.zeros(2, int)  # of the mask, of the truth
    for z in range(found.shape[0]):
        points = [np.argwhere(boundary(side[z])) for side in (found, wanted)]
        counts += [len(points[0]), len(points[1])]
        if len(points[0]) and len(points[1]):
            hits += [_count_near(points[0], points[1], tolerance), _count_near(points[1], points[0], tolerance)]
    if not counts.any():
        return float(bool(found.any()) == bool(wanted.any()))
    # 2PR / (P + R) with P = hits / counts of the mask and R = hits / counts of the truth
    if not hits.all():
        return 0.0
    precision, recall = hits / counts
    return float(2 * precision * recall / (precision + recall))


def boundary(mask: npt.NDArray[Any]) -> Mask:
    """One-pixel boundary of a mask (Y, X), as bool (Y, X).

    A pixel lies on it when its value differs from that of the pixel to its right, below it, or right below it [1]_; the
    edge of the frame is none.
    """
    inside = np.asarray(mask) > 0
    here = np.zeros(inside.shape, bool)
    here[:, :-1] |= inside[:, :-1] != inside[:, 1:]
    here[:-1] |= inside[:-1] != inside[1:]
    here[:-1, :-1] |= inside[:-1, :-1] != inside[1:, 1:]
    return here


def default_tolerance(shape: Sequence[int]) -> int:
    """Tolerance of DAVIS in pixels for a frame (..., Y, X): 0.8 % of its diagonal, rounded up [1]_."""
    return math.ceil(RELATIVE_TOLERANCE * math.hypot(shape[-2], shape[-1]))


def statistics(values: Sequence[float]) -> Statistics:
    """Mean, recall and decay of a measure over the frames of one movie.

    The quarters are those of DAVIS: their ends are rounded to whole frames and shared by neighbours, so that a movie of
    one frame has quarters too.

    Raises
    ------
    ValueError
        If there are no values.

    Examples
    --------
    >>> statistics([1.0, 0.75, 0.5, 0.25])
    Statistics(mean=0.625, recall=0.5, decay=0.5)
    """
    if not len(values):
        raise ValueError("There are no frames to take statistics of.")
    each = np.asarray(values, float)
    ends = np.floor(np.linspace(0, len(each) - 1, 5) + 0.5).astype(int)  # halves are rounded up
    decay = each[ends[0] : ends[1] + 1].mean() - each[ends[3] : ends[4] + 1].mean()
    return Statistics(float(each.mean()), float((each > 0.5).mean()), float(decay))


def _masks(mask: npt.ArrayLike, truth: npt.ArrayLike, void: npt.ArrayLike | None) -> tuple[Mask, Mask]:
    """Return both as bool (Z, Y, X), with what is void as background."""
    found, wanted = np.asarray(mask) > 0, np.asarray(truth) > 0
    if found.shape != wanted.shape or found.ndim not in (2, 3):
        raise ValueError(
            f"A mask and its truth have the same shape (Y, X) or (Z, Y, X), not {found.shape} and {wanted.shape}."
        )
    if void is not None:
        counted = ~np.asarray(void, bool)
        if counted.shape != found.shape:
            raise ValueError(f"The void pixels have the shape of the mask, {found.shape}, not {counted.shape}.")
        found, wanted = found & counted, wanted & counted
    shape = (-1, *found.shape[-2:])
    return found.reshape(shape), wanted.reshape(shape)


def _count_near(points: npt.NDArray[Any], others: npt.NDArray[Any], tolerance: float) -> int:
    """Count those of `points` (n, 2) that have one of `others` (m, 2) within `tolerance`."""
    reach = tolerance + 1e-6  # the bound of a query is exclusive
    distances, _ = KDTree(others).query(points, distance_upper_bound=reach)
    return int(np.count_nonzero(np.isfinite(distances)))
