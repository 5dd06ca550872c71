"""A time-lapse movie of any layout, read one plane at a time.

A `Clip` stands in front of a NumPy, dask or zarr array (or anything that has ``shape``, ``dtype`` and
indexing) and hands out single planes as (Y, X, C). No other module has to know where the axes lie.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_osvos.axes import resolve_axes

# Pixels of one plane that are looked at for the intensity range.
RANGE_PIXELS = 256 * 256
MOST_PLANES = 10**7
"""A file that tells of more planes than this is damaged: at 1000 a second they would take hours."""


UNNAMED = "the movie"
"""What messages call a movie that was given no name."""


class PlaneSource(Protocol):
    """What a `Clip` needs of an array: NumPy, dask, zarr and the lazy files of `formats` all have it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Dtype of the pixels."""

    def __getitem__(self, index: Any, /) -> Any: ...


class Clip:
    """A time-lapse over a NumPy, dask or zarr array, one plane at a time.

    Plane ``p`` is slice ``p % depth`` of frame ``p // depth``; without a Z axis a plane is a frame.

    Parameters
    ----------
    array : array
        Any integer, float or bool dtype; nothing is read here.
    axes : str, optional
        One letter per axis, in any order: ``T`` time, ``Z`` depth, ``Y``, ``X``, ``C`` channels, ``S``
        colour samples (grey, grey + alpha, RGB or RGBA, of which alpha is dropped). A stack without
        ``T`` is a sequence over ``Z``. Other letters may name axes of length 1. When None, a last axis of
        at most 4 behind a longer one is ``S`` (3 or 4) or ``C`` (1 or 2), and what is left is
        YX, TYX or TZYX.
    channels : sequence of int, optional
        The channels to keep, in this order; all by default.
    frame_numbers : sequence of int, optional
        The number of each frame, unique; ``range(T)`` by default. Annotations and truth are paired by it.
    name : str, optional
        What messages call the movie.

    Raises
    ------
    ValueError
        If the axes do not fit the array, the dtype is not a real number, the array is empty, a channel
        does not exist or the frame numbers are not one unique number per frame.
    """

    def __init__(
        self,
        array: Any,
        axes: str | None = None,
        *,
        channels: Sequence[int] | None = None,
        frame_numbers: Sequence[int] | None = None,
        name: str = "",
    ) -> None:
        self.name = name or UNNAMED
        self._array: PlaneSource = array if hasattr(array, "shape") and hasattr(array, "dtype") else np.asarray(array)
        shape = tuple(int(n) for n in self._array.shape)
        self._axes = resolve_axes(axes, shape, self.name)
        if 0 in shape:
            raise ValueError(f"{self.name} is empty: its shape is {shape}.")
        stored = np.dtype(self._array.dtype)
        if stored.kind not in "buif":
            raise ValueError(f"{self.name} has dtype {stored}; it must be bool, integer or float.")
        self.dtype = np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("=")
        length = dict(zip(self._axes, shape, strict=True))
        self.n_frames = length.get("T", 1)
        self.depth = length.get("Z", 1)
        self.has_depth = "Z" in length
        self.plane_shape = (length["Y"], length["X"])
        if max(self.n_planes, length.get("C", 1)) > MOST_PLANES:  # before anything is as long as they are many
            raise ValueError(f"{self.name} has shape {shape}; more than {MOST_PLANES:,} planes cannot be.")
        self._channels = _kept_channels(length, channels, self.name)
        self.has_numbers = frame_numbers is not None
        self.frame_numbers = checked_numbers(frame_numbers, self.n_frames, self.name)
        self._percentiles: dict[tuple[tuple[float, ...], int], npt.NDArray[np.float64]] = {}

    def __repr__(self) -> str:
        return f"Clip({self.name!r}, labels_shape={self.labels_shape}, channels={self.n_channels}, dtype={self.dtype})"

    @property
    def n_planes(self) -> int:
        """Number of planes, T * Z."""
        return self.n_frames * self.depth

    @property
    def n_channels(self) -> int:
        """Number of channels of a plane, 1 for grey."""
        return len(self._channels)

    @property
    def labels_shape(self) -> tuple[int, ...]:
        """Shape of labels over this movie: (T, Y, X), or (T, Z, Y, X) where there is a Z axis."""
        return (self.n_frames, *([self.depth] if self.has_depth else []), *self.plane_shape)

    def plane(self, p: int) -> npt.NDArray[Any]:
        """Read one plane, and no other.

        Parameters
        ----------
        p : int
            Plane, 0 to ``n_planes - 1``.

        Returns
        -------
        (Y, X, C) array
            A copy of its own in `dtype` (the stored one in native byte order; uint8 0 or 1 for bool).

        Raises
        ------
        ValueError
            If there is no such plane.
        OSError
            If its file cannot be read.
        """
        p = operator.index(p)
        if not 0 <= p < self.n_planes:
            raise ValueError(f"{self.name} has no plane {p}; its planes are 0 to {self.n_planes - 1}.")
        parts = [slice(c, c + 1) for c in self._channels]  # one by one: the others are not read
        if self._channels == tuple(range(self.n_channels)):
            parts = [slice(0, self.n_channels)]
        t, z = divmod(p, self.depth)
        planes = [_read_plane(self._array, self._axes, t, z, part) for part in parts]
        # a copy of its own, and only one: what torch takes over must be writable, and a plane may be huge
        return np.array(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1), self.dtype, order="C")

    def percentiles(self, percentages: Sequence[float], max_planes: int = 16) -> npt.NDArray[np.float64]:
        """Percentiles of the intensities of the movie, which stay the same from frame to frame.

        Measured on an even sample: `max_planes` planes, 65,536 pixels or so of each. Pixels that are NaN,
        infinite or beyond float32 do not count. Kept for the next call.

        Parameters
        ----------
        percentages : sequence of float
            Each 0 to 100.
        max_planes : int
            Planes looked at, at least 1; more only if they hold no finite pixel.

        Returns
        -------
        (C, n) float64 array
            One row a channel, in units of the pixels.

        Raises
        ------
        ValueError
            If a channel has no finite pixel, or a parameter is out of range.
        """
        key = (tuple(float(q) for q in percentages), int(max_planes))
        if key not in self._percentiles:
            self._percentiles[key] = _measure_percentiles(self, *key)
        return self._percentiles[key].copy()

    @property
    def known_percentiles(self) -> dict[tuple[tuple[float, ...], int], npt.NDArray[np.float64]]:
        """The percentiles that were measured so far, by what was asked for."""
        return {key: values.copy() for key, values in self._percentiles.items()}

    def take_percentiles(self, known: Mapping[tuple[tuple[float, ...], int], npt.NDArray[np.float64]]) -> None:
        """Take over the `known_percentiles` of the same movie elsewhere, which need not be measured again."""
        self._percentiles.update({key: values.copy() for key, values in known.items()})

    def intensity_range(self, low: float = 0.1, high: float = 99.9, max_planes: int = 16) -> npt.NDArray[np.float32]:
        """Intensities that the movie fills, for showing or normalising it.

        Parameters
        ----------
        low, high, max_planes
            Two rising `percentiles`.

        Returns
        -------
        (C, 2) float32 array
            Low and high of each channel, in units of the pixels, high above low: where the percentiles are
            equal, minimum and maximum of the sample, and for a constant channel ``(low, low + 1)``.

        Raises
        ------
        ValueError
            As `percentiles`, and if `low` is not below `high`.
        """
        if not low < high:
            raise ValueError(f"The percentiles are {low} and {high}; the first must be the lower.")
        bounds = self.percentiles((low, high, 0, 100), max_planes).astype(np.float32)
        equal = bounds[:, 1] <= bounds[:, 0]
        bounds[equal, :2] = bounds[equal, 2:]
        bottom, top = bounds[:, 0], bounds[:, 1]
        # in float32 a large number plus 1 is the same number
        wider = np.maximum(bottom + np.float32(1), np.nextafter(bottom, np.float32(np.inf)))
        return np.stack([bottom, np.where(top > bottom, top, wider)], axis=1)


def checked_numbers(frame_numbers: Sequence[int] | None, n_frames: int, name: str) -> tuple[int, ...]:
    """Return one unique number per frame, counting from 0 when none are given.

    Raises
    ------
    ValueError
        If their count is not the number of frames or a number comes twice.
    """
    if frame_numbers is None:
        return tuple(range(n_frames))
    numbers = tuple(operator.index(n) for n in frame_numbers)
    if len(numbers) != n_frames:
        raise ValueError(f"{name} has {n_frames} frames but {len(numbers)} frame numbers; each frame needs one.")
    if len(set(numbers)) != n_frames:
        twice = next(n for n in numbers if numbers.count(n) > 1)
        raise ValueError(f"{name} has two frames of number {twice}; frame numbers must be unique.")
    return numbers


def checked_clip(movie: Any) -> Clip:
    """Return a movie that is a `Clip`.

    Raises
    ------
    TypeError
        If it is anything else, such as an array.
    """
    if not isinstance(movie, Clip):
        kind = type(movie).__name__
        raise TypeError(f"The movie is of type {kind}, not a Clip; Clip(array) and read_clip(path) make one.")
    return movie


def _kept_channels(length: dict[str, int], channels: Sequence[int] | None, name: str) -> tuple[int, ...]:
    count = length.get("C", 1)
    if "S" in length:
        count = {2: 1, 4: 3}.get(length["S"], length["S"])  # grey + alpha, RGB + alpha
    if channels is None:
        return tuple(range(count))
    kept = tuple(operator.index(c) for c in channels)
    for c in kept:
        if not 0 <= c < count:
            raise ValueError(f"{name} has no channel {c}; its channels are 0 to {count - 1}.")
    if not kept:
        raise ValueError(f"No channel of {name} is kept; name at least one of 0 to {count - 1}.")
    return kept


def _read_plane(array: PlaneSource, axes: str, t: int, z: int, channels: slice) -> npt.NDArray[Any]:
    """Read one plane as (Y, X, C)."""
    place = {"T": t, "Z": z, "1": 0, "C": channels, "S": channels, "Y": slice(None), "X": slice(None)}
    pixels = np.asarray(array[tuple(place[letter] for letter in axes)])
    left = [{"S": "C"}.get(letter, letter) for letter in axes if letter in "CSYX"]
    if "C" not in left:
        left.append("C")
        pixels = pixels[..., np.newaxis]
    return pixels.transpose([left.index(letter) for letter in "YXC"])


def _measure_percentiles(clip: Clip, percentages: tuple[float, ...], max_planes: int) -> npt.NDArray[np.float64]:
    for q in percentages:
        if not 0 <= q <= 100:
            raise ValueError(f"A percentile is {q}; it must be from 0 to 100.")
    if max_planes < 1:
        raise ValueError(f"max_planes is {max_planes}; it must be at least 1.")
    height, width = clip.plane_shape
    step = max(1, int(np.ceil(np.sqrt(height * width / RANGE_PIXELS))))
    sampled = np.linspace(0, clip.n_planes - 1, min(max_planes, clip.n_planes)).round().astype(int)
    samples = [_finite(clip.plane(int(p))[::step, ::step]) for p in np.unique(sampled)]
    channels = [np.concatenate(parts) for parts in zip(*samples, strict=True)]
    # perhaps the sample missed what is there: look at everything, once
    for p in range(clip.n_planes if not all(map(len, channels)) else 0):
        found = _finite(clip.plane(p))
        channels = [values if len(values) else more for values, more in zip(channels, found, strict=True)]
        if all(map(len, channels)):
            break
    for c, values in enumerate(channels):
        if not len(values):
            which = f"Channel {c} of {clip.name}" if clip.n_channels > 1 else clip.name
            raise ValueError(f"{which} has no finite pixel: every one is NaN or infinite.")
    return np.array([np.percentile(values, percentages) for values in channels])


def _finite(pixels: npt.NDArray[Any]) -> list[npt.NDArray[np.float64]]:
    """Pixels (Y, X, C) of each channel that float32 can hold."""
    values = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64)
    return [channel[np.abs(channel) <= np.finfo(np.float32).max] for channel in values.T]
