"""Labels over a movie, read and checked one frame at a time, and the pairing of frames by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import Clip

LARGEST_LABEL = 2**31 - 1
STRIP = 2**22
"""Pixels of a frame whose values are collected at a time."""


class Numbered(Protocol):
    """Frames that carry numbers: `Clip`, `Labels` and `Annotations`."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def n_frames(self) -> int:
        """Number of frames."""

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """Number of each frame."""

    @property
    def has_numbers(self) -> bool:
        """Whether the numbers are its own, not counted."""


class Labels(Sequence[npt.NDArray[np.int32]]):
    """A lazy sequence of label frames: ``labels[t]`` is (Y, X) or (Z, Y, X) int32, 0 = background.

    Each frame is checked as it is read: labels are whole numbers, not negative. A float array of whole
    numbers will do.

    Parameters
    ----------
    array : array
        Labels (Y, X), (T, Y, X) or (T, Z, Y, X): NumPy, dask or zarr.
    axes : str, optional
        As for `Clip`; by default the above. Channels may only repeat each other (a grey picture saved
        in colour).
    frame_numbers : sequence of int, optional
        The number of each frame; ``range(T)`` by default.
    masks_255 : bool
        Whether an 8-bit frame of only 0 and 255, a binary mask as ImageJ and DAVIS write it, reads as 0 and 1.
    name : str
        What messages call the labels.

    Raises
    ------
    ValueError
        If the axes do not fit.
    """

    def __init__(
        self,
        array: Any,
        axes: str | None = None,
        *,
        frame_numbers: Sequence[int] | None = None,
        masks_255: bool = False,
        name: str = "",
    ) -> None:
        array = array if hasattr(array, "shape") and hasattr(array, "dtype") else np.asarray(array)
        if axes is None:
            axes = {2: "YX", 3: "TYX", 4: "TZYX"}.get(len(array.shape))
        self.name = name or "the labels"
        self._planes = Clip(array, axes, frame_numbers=frame_numbers, name=self.name)
        self._masks_255 = masks_255
        self.dtype = np.dtype(np.int32)

    def __repr__(self) -> str:
        return f"Labels({self.name!r}, shape={self.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, Y, X), or (T, Z, Y, X) where there is a Z axis."""
        return self._planes.labels_shape

    @property
    def ndim(self) -> int:
        """Number of axes, 3 or 4."""
        return len(self.shape)

    @property
    def n_frames(self) -> int:
        """Number of frames, T."""
        return self._planes.n_frames

    @property
    def depth(self) -> int:
        """Slices of a frame, 1 without a Z axis."""
        return self._planes.depth

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """What the values are stored as; frames are int32 whatever that is."""
        return self._planes.dtype

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """Number of each frame."""
        return self._planes.frame_numbers

    @property
    def has_numbers(self) -> bool:
        """Whether the frame numbers come with the labels (file names, metadata) rather than from counting."""
        return self._planes.has_numbers

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        return (self.at(t) for t in range(self.n_frames))

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self.at(t) for t in range(*position.indices(self.n_frames))]
        if not -self.n_frames <= position < self.n_frames:
            raise IndexError(f"{self.name} has no frame at position {position}; it has {self.n_frames} frames.")
        return self.at(position % self.n_frames)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.stack(list(self)).astype(dtype or self.dtype, copy=False)

    def at(self, position: int, *, masks_255: bool | None = None) -> npt.NDArray[np.int32]:
        """Read the frame at a position, 0 to T - 1: (Y, X) or (Z, Y, X) int32.

        `masks_255` overrides the setting of the same name.

        Raises
        ------
        ValueError
            If there is no such frame, or it holds something else than labels.
        OSError
            If its file cannot be read.
        """
        if not 0 <= position < self.n_frames:
            raise ValueError(f"{self.name} has no frame at position {position}; it has {self.n_frames} frames.")
        if not self._planes.has_depth:
            return self.plane(position, masks_255=masks_255)
        return np.stack([self.plane(position * self.depth + z, masks_255=masks_255) for z in range(self.depth)])

    def frame(self, number: int) -> npt.NDArray[np.int32]:
        """Read the frame of a number: (Y, X) or (Z, Y, X) int32.

        Raises
        ------
        ValueError
            If no frame has this number, or it holds something else than labels.
        """
        if number not in self.frame_numbers:
            raise ValueError(f"{self.name} has no frame {number}; its frames are {spell(self.frame_numbers)}.")
        return self.at(self.frame_numbers.index(number))

    def plane(self, p: int, *, masks_255: bool | None = None) -> npt.NDArray[np.int32]:
        """Read one plane, slice ``p % depth`` of frame ``p // depth``: (Y, X) int32.

        `masks_255` overrides the setting of the same name.
        """
        plane = self._planes.plane(p)
        where = f"Frame {self.frame_numbers[p // self.depth]} of {self.name}"
        if plane.shape[-1] > 1 and (plane != plane[..., :1]).any():
            raise ValueError(f"{where} is a colour picture; labels must have one channel.")
        binary = self._masks_255 if masks_255 is None else masks_255
        return checked_labels(plane[..., 0], where, masks_255=binary)


class FrameStack:
    """Frames that a function gives as one array, which `Labels` reads plane by plane.

    Parameters
    ----------
    at : callable
        Gives the frame at a position.
    positions : sequence of int
        Of the frames.
    shape : sequence of int
        Of a frame.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, at: Any, positions: Sequence[int], shape: Sequence[int]) -> None:
        self._at = at
        self._positions = tuple(positions)
        self.shape = (len(self._positions), *shape)

    def __getitem__(self, index: tuple[Any, ...]) -> npt.NDArray[np.int32]:
        return np.asarray(self._at(self._positions[index[0]])[index[1:]])


def checked_labels(values: npt.NDArray[Any], where: str, *, masks_255: bool = False) -> npt.NDArray[np.int32]:
    """Return label values as int32.

    Raises
    ------
    ValueError
        If a value is not a whole number, is negative or exceeds int32; the message begins with `where`.
    """
    if values.dtype.kind == "f":
        odd = values[~(np.isfinite(values) & (values == np.floor(values)))]
        if odd.size:
            raise ValueError(f"{where} holds the value {odd.flat[0]:.6g}; labels must be whole numbers.")
    elif values.dtype.kind not in "bui":
        raise ValueError(f"{where} has dtype {values.dtype}; labels must be whole numbers.")
    if values.size and values.min() < 0:
        raise ValueError(f"{where} holds the negative label {int(values.min())}; labels must be 0 or more.")
    # As a number of Python: in the dtype of small floats the limit would be rounded, or infinite.
    if values.size and values.max().item() > LARGEST_LABEL:
        raise ValueError(f"{where} holds label {int(values.max())}; the largest allowed is {LARGEST_LABEL}.")
    if masks_255 and values.dtype == np.uint8 and values.max() == 255 and np.isin(values, (0, 255)).all():
        values = values // 255
    return values.astype(np.int32, copy=False)


def values_in(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values that occur, rising: of a huge frame strip by strip, since to sort it is to copy it."""
    step = max(1, STRIP // max(1, labels[:1].size))
    strips = [np.unique(labels[begin : begin + step]) for begin in range(0, len(labels), step)]
    return np.unique(np.concatenate(strips)) if strips else labels.reshape(-1)


def frame_positions(source: Numbered, target: Numbered) -> dict[int, int]:
    """Pair the frames of two sequences: position in `source` -> position in `target`.

    By frame number. Where `source` has no numbers of its own (a plain stack), its positions are positions
    of `target`; where only `target` has none, the numbers of `source` are positions of `target`, unless they do
    not fit and both have as many frames (then they are paired in order). Two single frames always pair.
    Source frames without a partner are left out.
    """
    if source.n_frames == target.n_frames == 1:
        return {0: 0}
    if not source.has_numbers:
        return {t: t for t in range(min(source.n_frames, target.n_frames))}
    place = {number: t for t, number in enumerate(target.frame_numbers)}
    if not target.has_numbers and source.n_frames == target.n_frames and not place.keys() >= set(source.frame_numbers):
        return {t: t for t in range(source.n_frames)}
    return {t: place[number] for t, number in enumerate(source.frame_numbers) if number in place}


def spell(numbers: Sequence[int]) -> str:
    """Spell out frame numbers for a message, shortened when there are many."""
    if len(numbers) > 2 and tuple(numbers) == tuple(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    if len(numbers) > 8:
        return f"{', '.join(map(str, numbers[:4]))}, ... {numbers[-1]}"
    return ", ".join(map(str, numbers))
