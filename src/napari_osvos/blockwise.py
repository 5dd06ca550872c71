"""Frames too large to be cut into objects at once: by connected parts of the foreground, and these in blocks.

The landscape that is flooded depends on the foreground within a known reach, and a flood does not leave its connected
part. So parts are flooded in groups that lie near each other, each group in a block of its own, which gives exactly
what the whole frame would. A part larger than a block (a closed layer of cells) is flooded in overlapping blocks: what
two of them see in common tells which objects are the same, and each block has the say inside of its own borders.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_osvos.instances import Basins, SeparationConfig, basins, fill_holes, landscape, separate
from napari_osvos.snapping import CUT, snap

WHOLE = 2**22
"""Pixels (voxels) up to which a frame is cut apart at once."""
EDGE = 1024
"""Of a block without what is around it."""
REACH = 6.0
"""Radii of an object that blocks see beyond their borders where a part is larger than they are."""
ROWS = 2**24
"""Pixels that are looked at at a time in a pass over the frame."""

Map = NDArray[np.floating[Any]]
Box = tuple[slice, ...]


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield parts of the first axis of an array, of at most some 2**24 pixels."""
    step = max(1, ROWS // max(1, math.prod(shape[1:])))
    for begin in range(0, shape[0], step):
        yield slice(begin, min(shape[0], begin + step))


def separate_any_size(
    foreground: Map,
    threshold: float,
    contour: Map | None,
    distance: Map | None,
    radius: float,
    config: SeparationConfig,
) -> NDArray[np.int32]:
    """Cut foreground into instances as `napari_osvos.instances.separate` does, in blocks where it is large.

    The labels are the same, numbers included, but for objects of a connected part of the foreground that is larger than
    `EDGE`: there, the border of an object larger than some `REACH` radii may be another one.

    Parameters
    ----------
    foreground, contour, distance
        Float32 or float16.
    threshold, radius, config
        As for `separate`.

    Returns
    -------
    int32 array
        1 to n, 0 is background.
    """
    if foreground.size <= WHOLE:
        parts = [None if part is None else part.astype(np.float32, copy=False) for part in (contour, distance)]
        return separate(foreground.astype(np.float32, copy=False), threshold, parts[0], parts[1], radius, config)
    return _Blocks(foreground, threshold, contour, distance, radius, config).separated()


@dataclass(frozen=True, eq=False)
class _Found:
    """Objects of a block."""

    labels: NDArray[np.int32]
    basins: Basins
    numbers: NDArray[np.int32]
    """Of the object of each basin."""


class _Blocks:
    """Foreground that is cut apart in place: numbers of connected parts give way to those of objects, beyond them."""

    def __init__(
        self,
        foreground: Map,
        threshold: float,
        contour: Map | None,
        distance: Map | None,
        radius: float,
        config: SeparationConfig,
    ) -> None:
        self.contour, self.distance, self.radius, self.config = contour, distance, radius, config
        self.labels: NDArray[np.int32] = np.empty(foreground.shape, np.int32)
        mask = np.empty(foreground.shape, bool)
        for rows in row_blocks(foreground.shape):
            mask[rows] = foreground[rows] >= threshold
        # Parts that touch at a corner share a peak where both are level.
        self.n_parts = int(ndimage.label(mask, np.ones((3,) * mask.ndim, bool), output=self.labels))
        del mask
        # What smoothing reaches, and as far again, diagonally, for the distances there to be right.
        reach = int(4 * config.smoothing * radius + 0.5)
        self.margin = math.ceil((1 + math.sqrt(2)) * reach) + 2
        self.order: list[NDArray[np.int64]] = []  # of each object, where in the frame its first peak is
        self.same: list[tuple[int, int]] = []  # objects of different blocks that are one
        self.begins: list[int] = []  # first object of each block so far
        self.n_objects = 0

    def separated(self) -> NDArray[np.int32]:
        """Return the labels."""
        boxes = _boxes(self.labels, self.n_parts)
        large = (boxes[:, -2:, 1] - boxes[:, -2:, 0] > EDGE).any(1)
        group = np.full(self.n_parts + 2, -1, np.int64)  # of each part; of the background and of what is done, none
        if large.any():
            chosen = np.zeros(self.n_parts + 2, bool)
            chosen[1:-1] = large
            chosen[-1] = True  # what is done by now is of such parts, too
            self._flood_large(chosen, boxes[large])
        corners, (*_, width) = boxes[:, -2:, 0] // EDGE, self.labels.shape
        group[1:-1] = np.where(large, -1, corners[:, 0] * (width // EDGE + 1) + corners[:, 1])
        places = group[1:-1]
        order = np.argsort(places, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(places[order])) + 1):
            if len(members) and places[members[0]] >= 0:
                self._flood_group(group, int(places[members[0]]), boxes[members])
        return self._numbered()

    def _found(self, crop: Box, parts: NDArray[np.int32], wanted: NDArray[np.bool_]) -> _Found:
        maps = [None if m is None else m[crop].astype(np.float32) for m in (self.contour, self.distance)]
        height = landscape(parts > 0, maps[0], maps[1], self.radius, self.config)
        found = basins(height, wanted)
        numbers = found.numbers(self.config.depth)
        return _Found(numbers[found.labels], found, numbers)

    def _flood_group(self, group: NDArray[np.int64], number: int, boxes: NDArray[np.int64]) -> None:
        """Cut the parts of a group apart."""
        crop = self._around(boxes[:, :, 0].min(0), boxes[:, :, 1].max(0), self.margin)
        parts = self.labels[crop]
        wanted = group[np.minimum(parts, self.n_parts + 1)] == number
        found = self._found(crop, parts, wanted)
        _, first = np.unique(found.numbers[1:], return_index=True)
        self.order.append(self._in_frame(found.basins.peaks[first], crop))
        parts[wanted] = found.labels[wanted] + (self.n_parts + self.n_objects)
        self.n_objects += len(first)

    def _flood_large(self, chosen: NDArray[np.bool_], boxes: NDArray[np.int64]) -> None:
        """Cut parts that are larger than a block apart, block by block."""
        margin = max(self.margin, min(math.ceil(REACH * self.radius), EDGE // 2))
        low, high = boxes[:, -2:, 0].min(0), boxes[:, -2:, 1].max(0)
        for y, x in itertools.product(range(low[0], high[0], EDGE), range(low[1], high[1], EDGE)):
            begin, end = np.array([y, x]), np.minimum([y + EDGE, x + EDGE], high)
            crop = self._around(begin, end, margin)
            parts = self.labels[crop]
            wanted = chosen[np.minimum(parts, self.n_parts + 1)]
            inner = [slice(int(a) - c.start, int(b) - c.start) for a, b, c in zip(begin, end, crop[-2:], strict=True)]
            core = (*crop[:-2], *inner)
            near = (*crop[:-2], *(slice(max(0, c.start - margin // 2), c.stop + margin // 2) for c in inner))
            if wanted[core].any():
                self._flood_block(crop, core, near, parts, wanted)

    def _flood_block(
        self, crop: Box, core: Box, near: Box, parts: NDArray[np.int32], wanted: NDArray[np.bool_]
    ) -> None:
        found = self._found(crop, parts, wanted)
        held = np.unique(found.labels[core])
        held = held[held > 0]
        ids = np.zeros(int(found.labels.max(initial=0)) + 1, np.int32)
        ids[held] = np.arange(1, len(held) + 1) + (self.n_parts + self.n_objects)
        # Where a block before had the say: who covers the same pixels there is the same.
        done = parts[near] > self.n_parts
        theirs, mine = parts[near][done], found.labels[near][done]
        block = np.searchsorted(self.begins, theirs - self.n_parts - 1, side="right")
        sizes = dict(zip(*_counted(theirs), strict=True)), dict(zip(*_counted(block, mine), strict=True))
        for (at, a, b), n in zip(*_counted(block, theirs, mine), strict=True):
            if ids[b] and 2 * n > max(sizes[0][(a,)], sizes[1][(at, b)]):
                self.same.append((a - self.n_parts - 1, int(ids[b]) - self.n_parts - 1))
        self.begins.append(self.n_objects)
        places = self._in_frame(found.basins.peaks, crop)
        inside = np.ones(len(places), bool)
        for position, own in zip(np.unravel_index(found.basins.peaks, parts.shape), core, strict=True):
            inside &= (position >= own.start) & (position < own.stop)
        first = np.full(len(ids), np.iinfo(np.int64).max)
        np.minimum.at(first, found.numbers[1:][inside], places[inside])
        self.order.append(first[held])
        target = parts[core]
        mine_alone = wanted[core]
        target[mine_alone] = ids[found.labels[core][mine_alone]]
        self.n_objects += len(held)

    def _around(self, low: NDArray[np.int64], high: NDArray[np.int64], margin: int) -> Box:
        """Return a box in Y and X with a margin, and all of Z."""
        shape: tuple[int, ...] = self.labels.shape
        flat = list(zip(low[-2:], high[-2:], shape[-2:], strict=True))
        around = [slice(max(0, int(a) - margin), min(n, int(b) + margin)) for a, b, n in flat]
        return (*(slice(0, n) for n in shape[:-2]), *around)

    def _in_frame(self, positions: NDArray[np.int64], crop: Box) -> NDArray[np.int64]:
        """Return positions in a flattened box as positions in the flattened frame."""
        shape = tuple(part.stop - part.start for part in crop)
        places = [place + part.start for place, part in zip(np.unravel_index(positions, shape), crop, strict=True)]
        return np.asarray(np.ravel_multi_index(places, self.labels.shape), np.int64)

    def _numbered(self) -> NDArray[np.int32]:
        """Number the objects as the whole frame would, without those that are too small."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        n, labels = self.n_objects, self.labels
        pairs = np.array(self.same, np.int64).reshape(-1, 2)
        graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
        whole, one = connected_components(graph, directed=False) if n else (0, np.zeros(0, np.int64))
        areas, order = np.zeros(n, np.int64), np.full(whole, np.iinfo(np.int64).max)
        for rows in row_blocks(labels.shape):
            areas += np.bincount(labels[rows].ravel(), minlength=self.n_parts + 1 + n)[self.n_parts + 1 :]
        total = np.bincount(one, areas, minlength=whole) if n else np.zeros(0)
        if n:
            np.minimum.at(order, one, np.concatenate(self.order))
        kept = total >= max(self.config.smallest, 1)
        ranks = np.argsort(np.argsort(np.where(kept, order, np.iinfo(np.int64).max), kind="stable"), kind="stable")
        table = np.zeros(self.n_parts + 1 + n, np.int32)
        table[self.n_parts + 1 :] = np.where(kept, ranks + 1, 0)[one]
        for rows in row_blocks(labels.shape):
            labels[rows] = table[labels[rows]]
        if self.config.fill_holes:
            fill_holes(labels)
        return labels


def _counted(*columns: NDArray[Any]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Return the different combinations of values, and how often each occurs."""
    if not len(columns[0]):
        return [], []
    rows, count = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
    return [tuple(row) for row in rows.tolist()], count.tolist()


def _boxes(labels: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """Return first and last + 1 of every part along each axis, (n, axes, 2)."""
    found = ndimage.find_objects(labels, n)
    return np.array([[(part.start, part.stop) for part in box] for box in found], np.int64).reshape(-1, labels.ndim, 2)


def snap_any_size(classes: NDArray[np.int32], contour: Map, cut: float = CUT, radius: float = 16.0) -> None:
    """Snap classes to contours in place, see `napari_osvos.snapping.snap`; in overlapping blocks where they are many.

    Regions are then those of a block with what is around it, so that one larger than that may be cut.

    Parameters
    ----------
    classes : (Y, X) int array
        0 to 255.
    contour : (Y, X) float array
    cut : float
        As for `snap`.
    radius : float
        Of an object, in pixels: blocks see some `REACH` of it beyond their borders.
    """
    if classes.size <= WHOLE:
        classes[...] = snap(classes, contour.astype(np.float32, copy=False), cut)
        return
    before = classes.astype(np.uint8)
    margin = min(max(32, math.ceil(REACH * radius)), EDGE // 2)
    height, width = classes.shape
    for y, x in itertools.product(range(0, height, EDGE), range(0, width, EDGE)):
        top, left = max(0, y - margin), max(0, x - margin)
        crop = slice(top, y + EDGE + margin), slice(left, x + EDGE + margin)
        part = before[crop].astype(np.int32)
        if part.any():
            snapped = snap(part, contour[crop].astype(np.float32), cut)
            classes[y : y + EDGE, x : x + EDGE] = snapped[y - top : y - top + EDGE, x - left : x - left + EDGE]
