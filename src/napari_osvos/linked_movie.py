"""A linked movie, frame by frame: which tracks a frame shows, where they are and how large, and in which units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import Clip, checked_clip
from napari_osvos.labels import Labels, frame_positions, spell
from napari_osvos.lineage import Lineage

Progress = Callable[[int, int], object]
"""Told how many frames are done, and of how many."""

# Up to this label a table from label to place is quicker than sorting the pixels.
TABLE_LENGTH = 1 << 22


@dataclass(frozen=True, eq=False)
class LinkedFrame:
    """The objects of one frame, in rising order of their ids.

    Attributes
    ----------
    position : int
        Place in the movie, from 0.
    number : int
        Frame number.
    ids : (N,) int64 array
        Track ids that the frame shows.
    places : (Y, X) or (Z, Y, X) int64 array
        0 for background, k for the pixels of ``ids[k - 1]``.
    """

    position: int
    number: int
    ids: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(N,) pixels of each object."""
        return np.bincount(self.places.ravel(), minlength=len(self.ids) + 1)[1:]

    @property
    def centroids(self) -> npt.NDArray[np.float64]:
        """(N, 2) or (N, 3) mean position of each object in pixels, Y and X or Z, Y and X; a pixel's centre is whole."""
        inside = np.nonzero(self.places)
        which = self.places[inside]
        sums = [np.bincount(which, axis, minlength=len(self.ids) + 1)[1:] for axis in inside]
        return np.stack(sums, axis=1) / self.sizes[:, np.newaxis]


def linked_frames(labels: Labels, lineage: Lineage, progress: Progress | None = None) -> Iterator[LinkedFrame]:
    """Read a linked movie one frame at a time, and check that labels and lineage say the same.

    Parameters
    ----------
    labels : Labels
        Frames in rising order of their numbers, whose labels are track ids.
    lineage : Lineage
        The tracks.
    progress : callable, optional
        Called after the caller is done with a frame.

    Raises
    ------
    ValueError
        If the frame numbers do not rise, a frame shows an id without a track, outside the life of its track, or
        does not show a track that begins or ends there.
    OSError
        If a frame cannot be read.
    """
    numbers = labels.frame_numbers
    if any(after <= before for before, after in pairwise(numbers)):
        raise ValueError(f"The frame numbers of {labels.name} are {spell(numbers)}; they must rise.")
    edges: dict[int, list[int]] = {number: [] for number in numbers}
    for track in lineage.values():
        for number in {track.first, track.last}:
            if number not in edges:
                raise ValueError(
                    f"Track {track.id} lives from frame {track.first} to {track.last}, "
                    f"but {labels.name} has no frame {number}; its frames are {spell(numbers)}."
                )
            edges[number].append(track.id)
    for position, number in enumerate(numbers):
        ids, places = _placed(labels.at(position))
        shown = set(ids.tolist())
        where = f"Frame {number} of {labels.name}"
        for id in shown:
            if id not in lineage:
                raise ValueError(f"{where} shows the id {id}, which no track of the lineage has.")
            track = lineage[id]
            if not track.first <= number <= track.last:
                raise ValueError(f"{where} shows track {id}, which lives from frame {track.first} to {track.last}.")
        for id in edges[number]:
            if id not in shown:
                raise ValueError(f"{where} does not show track {id}, which begins or ends there.")
        yield LinkedFrame(position, number, ids, places)
        if progress is not None:
            progress(position + 1, len(numbers))


def _placed(frame: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids of a frame, and the frame with each id replaced by its place among them, from 1."""
    largest = int(frame.max(initial=0))
    if largest <= TABLE_LENGTH:
        ids = np.flatnonzero(np.bincount(frame.ravel(), minlength=1))
        ids = ids[ids > 0]
        table = np.zeros(largest + 1, np.int64)
        table[ids] = np.arange(1, len(ids) + 1)
        return ids.astype(np.int64), table[frame]
    ids = np.unique(frame)
    ids = ids[ids > 0]
    places = np.where(frame > 0, np.searchsorted(ids, frame) + 1, 0)
    return ids.astype(np.int64), places.astype(np.int64)


@dataclass(frozen=True)
class Units:
    """What a pixel and a frame are worth.

    Attributes
    ----------
    pixel : tuple of float
        Size of a pixel along each axis of a frame, Y and X or Z, Y and X; ones where unknown.
    length : str
        ``"um"``, or ``"px"`` where the size is not known.
    frame : float
        Time from a frame to the one of the next number.
    time : str
        ``"s"``, or ``"frame"`` where the time is not known.
    """

    pixel: tuple[float, ...]
    length: str
    frame: float
    time: str

    @classmethod
    def of(cls, labels: Labels, scale: Sequence[float] | None, seconds_per_frame: float | None) -> Units:
        """Units of a movie.

        Parameters
        ----------
        labels : Labels
            The movie, by whose axes the scale is read.
        scale : sequence of float or None
            Size of a pixel in micrometres, (Z, Y, X); (Y, X) will do for a movie without depth.
        seconds_per_frame : float or None
            Time between frames of consecutive numbers.

        Raises
        ------
        ValueError
            If a number is not above 0, or the scale has not one number an axis.
        """
        axes = labels.ndim - 1
        pixel = (1.0,) * axes
        if scale is not None:
            pixel = tuple(float(size) for size in scale)
            if len(pixel) not in (axes, 3) or not all(math.isfinite(size) and size > 0 for size in pixel):
                wanted = "(Z, Y, X)" if axes == 3 else "(Z, Y, X) or (Y, X)"
                raise ValueError(f"The scale is {tuple(scale)}; it must be {wanted} in micrometres, each above 0.")
            pixel = pixel[-axes:]
        seconds = 1.0 if seconds_per_frame is None else float(seconds_per_frame)
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"The time between frames is {seconds_per_frame} s; it must be above 0.")
        return cls(pixel, "px" if scale is None else "um", seconds, "frame" if seconds_per_frame is None else "s")


class Beside:
    """The frames of a movie that lie beside the frames of labels, by frame number.

    Parameters
    ----------
    clip : Clip
    labels : Labels
        Of the same size as the frames of the clip.

    Raises
    ------
    ValueError
        If the sizes differ or a frame of the labels is not in the movie.
    TypeError
        If the movie is no `Clip`.
    """

    def __init__(self, clip: Clip, labels: Labels) -> None:
        if checked_clip(clip).labels_shape[1:] != labels.shape[1:]:
            raise ValueError(
                f"The frames of {labels.name} are {_size(labels.shape[1:])} but those of {clip.name} are "
                f"{_size(clip.labels_shape[1:])}; they must be of one size."
            )
        self._clip = clip
        self._places = frame_positions(labels, clip)
        absent = [number for t, number in enumerate(labels.frame_numbers) if t not in self._places]
        if absent:
            raise ValueError(f"{clip.name} has no frame {spell(absent)}, but {labels.name} has.")

    def at(self, position: int) -> npt.NDArray[Any]:
        """Pixels beside the labels at a position: (Y, X, C) or (Z, Y, X, C)."""
        first = self._places[position] * self._clip.depth
        if not self._clip.has_depth:
            return self._clip.plane(first)
        return np.stack([self._clip.plane(first + z) for z in range(self._clip.depth)])


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
