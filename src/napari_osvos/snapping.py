"""Contour snapping: masks take the shape of the regions that the network's contours enclose.

As published, contours are turned into regions, and a region is foreground where the mask covers more than half of it.
The paper cuts an ultrametric contour map at 0.29, which suits contours that are learned from many images. How sure a
network is of contours after one annotated frame depends on the movie, so that here the cut is half of what it says on
the painted borders. Regions are the basins of a watershed of the contour map, merged, weakest border first, until
every border between two has a mean probability of contour of at least the cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUT = 0.29
"""The published mean strength of contour from which a border parts two regions."""
SHARE = 0.5
"""Of the strength that painted borders have, the cut is this share."""


def fitting_cut(frames: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> float:
    """Return the cut that suits a network: half of the mean strength of contour on painted borders.

    Parameters
    ----------
    frames : iterable
        Contour (Y, X) float32 in [0, 1], and where borders are painted, (Y, X) bool.

    Returns
    -------
    float
        In (0, 1]; `CUT` where there is no border.
    """
    total, count = 0.0, 0
    for contour, border in frames:
        total += float(contour[border].sum(dtype=np.float64))
        count += int(border.sum())
    return max(SHARE * total / count, 1e-3) if count else CUT


def contour_regions(contour: NDArray[np.float32], cut: float = CUT) -> NDArray[np.int64]:
    """Return the regions of a contour map.

    Parameters
    ----------
    contour : (Y, X) float32 array
        Probability of contour, in [0, 1].
    cut : float
        See `CUT`.

    Returns
    -------
    (Y, X) int64 array
        0 to n - 1, every pixel belongs to a region.

    References
    ----------
    Caelles et al., CVPR 2017, section 3.3; Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation",
    TPAMI 2011.
    """
    from skimage.graph import merge_hierarchical, rag_boundary
    from skimage.segmentation import watershed

    if contour.max(initial=0) < cut:
        return np.zeros(contour.shape, np.int64)
    basins = watershed(np.round(contour, 2))  # plateaus of all but equal height are one basin
    if basins.max() <= 1:  # none has a neighbour to be merged with
        return np.zeros(contour.shape, np.int64)
    graph = rag_boundary(basins, contour.astype(np.float64))
    regions: NDArray[np.int64] = merge_hierarchical(
        basins, graph, cut, rag_copy=False, in_place_merge=True, merge_func=_merge, weight_func=_mean_border
    )
    return regions


def _merge(graph: Any, source: int, target: int) -> None:
    """Nothing but the borders is kept of two regions that become one."""


def _mean_border(graph: Any, source: int, target: int, neighbour: int) -> dict[str, float]:
    """Mean contour along the border of a merged region with a neighbour, weighted by length."""
    sides = [graph[end][neighbour] for end in (source, target) if graph.has_edge(end, neighbour)]
    count = sum(side["count"] for side in sides)
    return {"count": count, "weight": sum(side["count"] * side["weight"] for side in sides) / count}


def snap(classes: NDArray[np.int32], contour: NDArray[np.float32], cut: float = CUT) -> NDArray[np.int32]:
    """Return labels that follow the contours.

    Parameters
    ----------
    classes : (Y, X) int array
        Class of each pixel, 0 is background.
    contour : (Y, X) float32 array
        Probability of contour, in [0, 1].
    cut : float
        See `CUT`.

    Returns
    -------
    (Y, X) int array
        The class that covers more than half of the region of each pixel; background where none does.
    """
    regions = contour_regions(contour, cut)
    n = int(classes.max(initial=0)) + 1
    votes = np.bincount((regions.astype(np.int64) * n + classes).ravel(), minlength=n * (int(regions.max()) + 1))
    votes = votes.reshape(-1, n)
    votes[:, 0] = 0
    winner = votes.argmax(1)
    winner[votes.max(1) * 2 <= np.bincount(regions.ravel(), minlength=len(votes))] = 0
    snapped: NDArray[np.int32] = winner[regions].astype(np.int32)
    return snapped
