"""The objects of each frame of a movie, kept as small tables instead of label images, and how they overlap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The objects of one frame, in the order of their labels, and the runs of pixels that they are made of.

    A run is a stretch of pixels of one object along a row. Runs take a hundredth of the memory of a label image,
    and the overlap of any two frames is found from them alone.

    Attributes
    ----------
    labels : (N,) int64 array
        Rising, 1 or more.
    centroids : (N, D) float64 array
        Centres, (Y, X) or (Z, Y, X), in pixels times the scale.
    areas : (N,) float64 array
        Areas or volumes, in the same units squared or cubed.
    pixels : (N,) int64 array
        Number of pixels.
    boxes : (N, 2, D) int64 array
        First and, exclusively, last pixel on each axis.
    starts, stops : (R,) integer arrays
        First and, exclusively, last pixel of each run, counted through the frame; rising.
    owners : (R,) integer array
        Which object each run belongs to, 0 to N - 1.
    shape : tuple of int
        (Y, X) or (Z, Y, X) of the frame.
    """

    labels: Ints
    centroids: Floats
    areas: Floats
    pixels: Ints
    boxes: Ints
    starts: npt.NDArray[Any]
    stops: npt.NDArray[Any]
    owners: npt.NDArray[Any]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def diameters(self) -> Floats:
        """Diameters of the discs or balls of the same size: (N,) float64."""
        if len(self.shape) == 3:
            return np.asarray(np.cbrt(6 * self.areas / np.pi))
        return np.asarray(np.sqrt(4 * self.areas / np.pi))

    @property
    def nbytes(self) -> int:
        """Memory that the tables take, in bytes."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


def objects_of(labels: npt.NDArray[Any], scale: Sequence[float] | None = None) -> FrameObjects:
    """Tabulate the objects of a frame.

    Parameters
    ----------
    labels : (Y, X) or (Z, Y, X) integer array
        0 is background.
    scale : sequence of float, optional
        Size of a pixel on each axis, above 0; 1 by default.

    Raises
    ------
    ValueError
        If the labels have another number of axes, are no whole numbers or are negative, or the scale does not fit.
    """
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "bui":
        raise ValueError(
            f"The labels of a frame have {labels.ndim} axes and dtype {labels.dtype}; "
            "they must be whole numbers over (Y, X) or (Z, Y, X)."
        )
    pixel = np.ones(labels.ndim) if scale is None else np.asarray(scale, float)
    if pixel.shape != (labels.ndim,) or not (np.isfinite(pixel).all() and (pixel > 0).all()):
        raise ValueError(f"The scale is {scale}; it must be {labels.ndim} numbers above 0, one an axis.")
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(f"The labels of a frame hold {int(labels.min())}; labels must be 0 or more.")
    starts, stops, values = _runs(labels)
    names, owners = np.unique(values, return_inverse=True)
    lengths = stops - starts
    first = np.stack(np.unravel_index(starts, labels.shape), -1) if len(starts) else np.zeros((0, labels.ndim), int)
    last = first.copy()
    last[:, -1] += lengths - 1
    pixels = np.bincount(owners, lengths, len(names)).astype(np.int64)
    middles = (first + last) / 2  # of runs; all pixels of a run share the other coordinates
    centroids = np.empty((len(names), labels.ndim))
    boxes = np.empty((len(names), 2, labels.ndim), np.int64)
    by_owner = np.argsort(owners, kind="stable")
    edges = np.searchsorted(owners[by_owner], np.arange(len(names)))
    for axis in range(labels.ndim if len(names) else 0):
        centroids[:, axis] = np.bincount(owners, middles[:, axis] * lengths, len(names)) / pixels * pixel[axis]
        boxes[:, 0, axis] = np.minimum.reduceat(first[by_owner, axis], edges)
        boxes[:, 1, axis] = np.maximum.reduceat(last[by_owner, axis], edges) + 1
    place = np.int32 if labels.size < 2**31 else np.int64
    return FrameObjects(
        names.astype(np.int64),
        centroids,
        pixels * pixel.prod(),
        pixels,
        boxes,
        starts.astype(place),
        stops.astype(place),
        owners.astype(np.int32),
        labels.shape,
    )


def _runs(labels: npt.NDArray[Any]) -> tuple[Ints, Ints, npt.NDArray[Any]]:
    """Return the first and the last pixel (exclusively) and the label of each run of one label along a row."""
    width = labels.shape[-1]
    flat = labels.ravel()
    if not flat.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64), flat[:0]
    changes = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=changes[1:])
    changes[::width] = True  # a run does not go on in the next row
    starts = np.flatnonzero(changes)
    stops = np.append(starts[1:], flat.size)
    values = flat[starts]
    objects = values > 0
    return starts[objects], stops[objects], values[objects]


def overlaps(first: FrameObjects, second: FrameObjects) -> tuple[Ints, Ints, Ints]:
    """Find which objects of two frames share pixels, and how many.

    Returns
    -------
    i, j, shared : (P,) int64 arrays
        Object `i` of the first and `j` of the second frame, rising, have `shared` pixels in common.

    Raises
    ------
    ValueError
        If the frames are of different sizes.
    """
    if first.shape != second.shape:
        raise ValueError(f"A frame of {first.shape} pixels and one of {second.shape} have no common pixels.")
    begin = np.searchsorted(second.stops, first.starts, "right")
    count = np.searchsorted(second.starts, first.stops, "left") - begin  # runs of `second` that meet each of `first`
    a = np.repeat(np.arange(len(first.starts)), count)
    b = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
    shared = np.minimum(first.stops[a], second.stops[b]) - np.maximum(first.starts[a], second.starts[b])
    keys = first.owners[a].astype(np.int64) * max(len(second), 1) + second.owners[b]
    pairs, which = np.unique(keys, return_inverse=True)
    i, j = np.divmod(pairs, max(len(second), 1))
    return i, j, np.bincount(which, shared, len(pairs)).astype(np.int64)


def largest_first(i: Ints, j: Ints, weight: npt.NDArray[Any]) -> Ints:
    """Choose pairs so that each `i` and each `j` is in at most one, those of most weight first.

    Parameters
    ----------
    i, j : (P,) int64 arrays
    weight : (P,) array
        Of pairs of the same weight the first wins.

    Returns
    -------
    (Q,) int64 array
        The chosen pairs, rising.
    """
    chosen: dict[int, int] = {}
    taken: set[int] = set()
    for pair in np.argsort(-weight, kind="stable").tolist():
        if int(i[pair]) not in chosen and int(j[pair]) not in taken:
            chosen[int(i[pair])] = pair
            taken.add(int(j[pair]))
    return np.array(sorted(chosen.values()), np.int64)


class MovieObjects(Mapping[int, FrameObjects]):
    """The objects of the frames of a movie by position; frames come in any order, and again once they are corrected.

    Parameters
    ----------
    scale : sequence of float, optional
        Size of a pixel on each axis of a frame, (Y, X) or (Z, Y, X); 1 by default. Only ratios matter.
    """

    def __init__(self, scale: Sequence[float] | None = None) -> None:
        self.scale = None if scale is None else tuple(float(s) for s in scale)
        self._frames: dict[int, FrameObjects] = {}

    def __getitem__(self, position: int) -> FrameObjects:
        return self._frames[position]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._frames))

    def __len__(self) -> int:
        return len(self._frames)

    def __repr__(self) -> str:
        return f"MovieObjects({len(self)} frames, {sum(map(len, self._frames.values()))} objects)"

    def add(self, position: int, labels: npt.NDArray[Any]) -> FrameObjects:
        """Take the objects of a frame; those that were there at this position before are replaced.

        Parameters
        ----------
        position : int
            Of the frame, 0 or more.
        labels : (Y, X) or (Z, Y, X) integer array
            Objects are told apart by their labels, which need not go together with those of other frames.

        Raises
        ------
        ValueError
            As `objects_of`; if the position is negative, or the frame is not as large as the others.
        """
        if position < 0:
            raise ValueError(f"The position of a frame is {position}; it must be 0 or more.")
        frame = objects_of(labels, self.scale)
        for other in self._frames.values():
            if other.shape != frame.shape:
                raise ValueError(f"Frame {position} is {frame.shape} pixels, others are {other.shape}.")
            break
        self._frames[position] = frame
        return frame

    def discard(self, position: int) -> None:
        """Forget the objects of a frame, if there are any."""
        self._frames.pop(position, None)

    @property
    def nbytes(self) -> int:
        """Memory that the tables take, in bytes."""
        return sum(frame.nbytes for frame in self._frames.values())
