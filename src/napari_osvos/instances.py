"""Foreground, contour and distance become instances: a watershed whose basins are merged where no valley parts them.

The landscape is high in the middle of an object and low at its border. It is the mean of two: the distance to the
border of the mask, and the distance that the network has learned; the probability of a contour is taken off. Each peak
is a basin of the watershed, and two basins are one object unless the valley between them lies lower than the lower of
their peaks by `SeparationConfig.depth` (the *dynamics* of that peak).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_osvos.settings import Config, setting

Labels2 = NDArray[np.int32]


@dataclass(frozen=True)
class SeparationConfig(Config):
    """How foreground is cut into objects; distances are in units of the radius of a painted object."""

    depth: float = setting(
        0.1, "two peaks are two objects if the valley between them is deeper than this", minimum=0, maximum=2
    )
    learned: float = setting(
        0.5, "share of the learned distance in the landscape; the rest is the distance to the border of the mask",
        minimum=0, maximum=1,
    )  # fmt: skip
    contour: float = setting(0.5, "how far the probability of a contour lowers the landscape", minimum=0, maximum=4)
    smoothing: float = setting(
        0.15, "standard deviation of the Gaussian that smooths the landscape", unit="radii", minimum=0, maximum=1
    )
    smallest: float = setting(0.0, "objects below this area are left out", unit="px", minimum=0)
    fill_holes: bool = setting(False, "fill holes inside of objects")


@dataclass(frozen=True)
class Basins:
    """Basins of a landscape, before any are merged.

    Attributes
    ----------
    labels : (Y, X) or (Z, Y, X) int32 array
        1 to n, 0 is background.
    pairs : (m, 2) int array
        Basins that touch, the first with the lower number.
    depths : (m,) float array
        How much lower than the lower of the two peaks the pass between them is when they meet, flooding downwards.
    peaks : (n,) int array
        Position of the first pixel of each peak, in the flattened landscape; rising.
    """

    labels: Labels2
    pairs: NDArray[np.int64]
    depths: NDArray[np.float64]
    peaks: NDArray[np.int64]

    def merged(self, depth: float) -> Labels2:
        """Return labels in which basins parted by less than `depth` are one; by their lowest basins, 1 to n."""
        merged: Labels2 = self.numbers(depth)[self.labels]
        return merged

    def numbers(self, depth: float) -> NDArray[np.int32]:
        """Return the object of each basin where those parted by less than `depth` are one; of 0 it is 0."""
        n = int(self.labels.max(initial=0))
        parent = np.arange(n + 1)
        for (a, b), d in zip(self.pairs, self.depths, strict=True):
            if d < depth:
                a, b = _root(parent, a), _root(parent, b)
                parent[max(a, b)] = min(a, b)
        roots = np.array([_root(parent, i) for i in range(n + 1)])
        numbers = np.zeros(n + 1, np.int32)
        kept = np.unique(roots[1:])
        numbers[kept] = np.arange(1, len(kept) + 1)
        found: NDArray[np.int32] = numbers[roots]
        return found


def _root(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def landscape(
    mask: NDArray[np.bool_],
    contour: NDArray[np.float32] | None,
    distance: NDArray[np.float32] | None,
    radius: float,
    config: SeparationConfig,
) -> NDArray[np.float32]:
    """Return what is flooded: about 1 in the middle of an object, 0 at its border.

    Parameters
    ----------
    mask : (Y, X) or (Z, Y, X) bool array
        Foreground.
    contour, distance : array or None
        Of the same shape, in [0, 1]; None where the network has no such head.
    radius : float
        Of a painted object, in pixels.
    config : SeparationConfig
        Weights and smoothing.
    """
    # Each slice of a stack is predicted by itself, and the settings are chosen on slices. In three dimensions an object
    # of few slices would be nowhere far from its border.
    height = np.stack([_far_from_border(plane, radius) for plane in mask.reshape(-1, *mask.shape[-2:])])
    height = height.reshape(mask.shape)
    if distance is not None and config.learned:
        height = (1 - config.learned) * height + config.learned * distance
    if contour is not None and config.contour:
        height = height - config.contour * contour
    height[~mask] = -config.contour  # what is not object is as low as a border
    sigma = config.smoothing * radius
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(
        height, sigma=(0.0,) * (height.ndim - 2) + (sigma, sigma), mode="nearest"
    )
    return smooth


def _far_from_border(mask: NDArray[np.bool_], radius: float) -> NDArray[np.float32]:
    """Return the distance to the border of a mask (Y, X), in radii."""
    if mask.all():
        return np.ones(mask.shape, np.float32)  # no background is in sight to be far from
    distance = ndimage.distance_transform_edt(mask) / max(radius, 1.0)
    return np.asarray(distance, np.float32)


def basins(height: NDArray[np.float32], mask: NDArray[np.bool_]) -> Basins:
    """Flood a landscape from each of its peaks.

    Parameters
    ----------
    height : (Y, X) or (Z, Y, X) float32 array
    mask : array
        Bool of the same shape: what is flooded. Each connected part of it has a peak.
    """
    from skimage.measure import label
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    inside = np.where(mask, height, height.min() - np.float32(1))
    summits = local_maxima(inside, connectivity=height.ndim) & mask
    # A part that fills the frame, all of one height, has no maximum: it is a peak as a whole.
    parts = label(mask, connectivity=1)
    with_peak = np.zeros(int(parts.max(initial=0)) + 1, bool)
    with_peak[parts[summits]] = True
    peaks = label(summits | (mask & ~with_peak[parts]), connectivity=height.ndim)
    flooded = watershed(-inside, peaks, mask=mask).astype(np.int32)
    tops = np.full(int(flooded.max(initial=0)) + 1, -np.inf, inside.dtype)
    # Several times quicker where nothing has to be converted on the way.
    np.maximum.at(tops, flooded.ravel().astype(np.intp), inside.ravel())
    pairs, passes = _passes(flooded, inside)
    # From the highest pass down: where two floods meet, the one with the lower peak ends (its dynamics).
    parent, depths = np.arange(len(tops)), np.zeros(len(pairs))
    for i in np.argsort(-passes, kind="stable"):
        a, b = (_root(parent, int(j)) for j in pairs[i])
        if a == b:
            depths[i] = np.inf  # they have met by a higher pass: this one parts nothing
            continue
        depths[i] = min(tops[a], tops[b]) - passes[i]
        low, high = (a, b) if tops[a] < tops[b] else (b, a)
        parent[low] = high
    tips = np.flatnonzero(peaks)
    first = tips[np.unique(peaks.ravel()[tips], return_index=True)[1]]
    return Basins(flooded, pairs, depths, first)


def _passes(flooded: Labels2, height: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs (m, 2) of neighbouring basins and the highest pass (m,) between each two."""
    n = int(flooded.max(initial=0)) + 1
    keys, levels = [], []
    for axis in range(flooded.ndim):
        here = [slice(None)] * flooded.ndim
        there = list(here)
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        a, b = flooded[tuple(here)], flooded[tuple(there)]
        border = (a != b) & (a > 0) & (b > 0)
        a, b = a[border].astype(np.int64), b[border].astype(np.int64)
        keys.append(np.minimum(a, b) * n + np.maximum(a, b))
        levels.append(np.minimum(height[tuple(here)][border], height[tuple(there)][border]))
    key, place = np.unique(np.concatenate(keys), return_inverse=True)
    passes = np.full(len(key), -np.inf)
    np.maximum.at(passes, place, np.concatenate(levels).astype(np.float64))
    return np.stack([key // n, key % n], 1), passes


def separate(
    foreground: NDArray[np.float32],
    threshold: float,
    contour: NDArray[np.float32] | None,
    distance: NDArray[np.float32] | None,
    radius: float,
    config: SeparationConfig,
) -> Labels2:
    """Cut foreground into instances.

    Parameters
    ----------
    foreground : (Y, X) or (Z, Y, X) float32 array
        Probability in [0, 1].
    threshold : float
        Probability from which a pixel is foreground.
    contour, distance : array or None
        Of the same shape, in [0, 1].
    radius : float
        Of a painted object, in pixels.
    config : SeparationConfig
        How.

    Returns
    -------
    int32 array
        1 to n, 0 is background.
    """
    mask = foreground >= threshold
    flooded = basins(landscape(mask, contour, distance, radius, config), mask)
    return tidy(flooded.merged(config.depth), config)


def tidy(labels: Labels2, config: SeparationConfig) -> Labels2:
    """Return labels without objects that are too small, and with their holes filled if so wished; 1 to n."""
    areas = np.bincount(labels.ravel(), minlength=1)
    kept = areas >= max(config.smallest, 1)
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    labels = numbers[labels]
    if config.fill_holes:
        fill_holes(labels)
    return labels


def fill_holes(labels: Labels2) -> None:
    """Fill the holes inside of objects with their label, in place, slice by slice."""
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        part = labels[box]
        for plane in part if part.ndim == 3 else [part]:
            plane[ndimage.binary_fill_holes(plane == number) & (plane == 0)] = number


def panoptic_quality(labels: NDArray[Any], truth: NDArray[Any], known: NDArray[np.bool_] | None = None) -> float:
    """Return the panoptic quality of instances: sum of IoU of the matched / (matched + half of all unmatched).

    Objects match where their IoU is above 0.5, which they can with one other only.

    Parameters
    ----------
    labels, truth : int array
        Of the same shape, 0 is background.
    known : bool array, optional
        Pixels that count.

    Returns
    -------
    float
        In [0, 1]; 1 if both are empty.

    References
    ----------
    Kirillov et al., "Panoptic Segmentation", CVPR 2019.
    """
    found, wanted = (labels, truth) if known is None else (labels[known], truth[known])
    n = int(found.max(initial=0)) + 1
    both = np.bincount(wanted.ravel().astype(np.int64) * n + found.ravel(), minlength=n)
    both = np.pad(both, (0, -len(both) % n)).reshape(-1, n)
    of_truth, of_labels = both.sum(1), both.sum(0)
    union = of_truth[:, None] + of_labels[None] - both
    iou = (both / np.maximum(union, 1))[1:, 1:]
    matched = iou[iou > 0.5]
    n_truth, n_labels = np.count_nonzero(of_truth[1:]), np.count_nonzero(of_labels[1:])
    all_ = n_truth + n_labels
    return float(matched.sum() / (len(matched) + (all_ - 2 * len(matched)) / 2)) if all_ else 1.0


DEPTHS = (0.05, 0.1, 0.2, 0.4)
LEARNED = (0.0, 0.5, 1.0)
SMALLEST_SHARE = 0.1
"""Nothing below this share of the median painted area is an object."""


def separation_of_paint(frames: Sequence[NDArray[np.int32]]) -> SeparationConfig:
    """Return what complete paint says of its objects by itself: the smallest area, and whether they have holes.

    Parameters
    ----------
    frames : sequence of (Y, X) int array
        Painted instances; 0 is background.
    """
    frames = [_renumbered(frame) for frame in frames]
    areas = np.concatenate([np.zeros(0), *(np.bincount(frame.ravel())[1:] for frame in frames)])
    areas = areas[areas > 0]
    if not len(areas):
        return SeparationConfig()
    smallest = min(SMALLEST_SHARE * float(np.median(areas)), 0.5 * float(areas.min()))
    holes = any(_has_hole(frame) for frame in frames)
    return SeparationConfig(smallest=round(smallest, 1), fill_holes=not holes)


def _renumbered(frame: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the labels as 1, 2, 3 ..., so that what is counted for each takes no memory for ids that are not there."""
    ids, places = np.unique(frame, return_inverse=True)
    ranks = np.searchsorted(ids[ids > 0], ids) + 1
    return np.where(ids > 0, ranks, 0).astype(np.int32)[places.reshape(frame.shape)]


def _has_hole(frame: NDArray[np.int32]) -> bool:
    for number, box in enumerate(ndimage.find_objects(frame), 1):
        if box is not None:
            part = frame[box]
            if ((part == 0) & ndimage.binary_fill_holes(part == number)).any():
                return True
    return False


def choose_separation(
    frames: Iterable[tuple[Sequence[NDArray[np.float32] | None], NDArray[np.int32], NDArray[np.bool_]]],
    threshold: float,
    radius: float,
    start: SeparationConfig | None = None,
) -> SeparationConfig:
    """Return the settings with which annotated frames come out as they were painted.

    Parameters
    ----------
    frames : iterable
        Foreground, contour and distance as `separate` takes them; painted instances; and where they are known.
    threshold, radius
        As for `separate`.
    start : SeparationConfig, optional
        Kept unless another one has a panoptic quality that is better by more than a hundredth.
    """
    start = start or SeparationConfig()
    others = itertools.product(LEARNED, DEPTHS)
    candidates = [start, *(start.replace(depth=depth, learned=learned) for learned, depth in others)]
    scores = np.zeros(len(candidates))
    for (foreground, contour, distance), truth, known in frames:
        assert foreground is not None
        mask, truth = foreground >= threshold, _renumbered(truth)
        flooded: dict[float, Basins] = {}
        for i, config in enumerate(candidates):
            if config.learned not in flooded:
                flooded[config.learned] = basins(landscape(mask, contour, distance, radius, config), mask)
            scores[i] += panoptic_quality(tidy(flooded[config.learned].merged(config.depth), config), truth, known)
    best = int(np.argmax(scores))
    return candidates[best] if scores[best] > scores[0] + 0.01 else start
