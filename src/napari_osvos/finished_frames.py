"""Labels of finished frames in memory, compressed, until they are linked and written."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.labels import Labels


class FinishedFrames:
    """Labels by the position of their frame; a frame of 1024 x 1024 takes some 10 kB.

    Frames may come in any order, and again: the last labels of a frame count.

    Parameters
    ----------
    shape : sequence of int
        Of a frame, (Y, X) or (Z, Y, X).

    Attributes
    ----------
    largest : int
        Largest label that ever came.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.largest = 0
        self._packed: dict[int, tuple[bytes, np.dtype[Any]]] = {}
        self._unpacked: tuple[int, npt.NDArray[np.int32]] | None = None  # the slices of a stack are read one by one

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of the frames, rising."""
        return tuple(sorted(self._packed))

    def add(self, position: int, labels: npt.NDArray[Any]) -> None:
        """Keep the labels of the frame at a position.

        Raises
        ------
        ValueError
            If they are not as large as the frames.
        """
        if labels.shape != self.shape:
            raise ValueError(f"The labels of frame {position} are {labels.shape} pixels; frames are {self.shape}.")
        largest = int(labels.max(initial=0))
        self.largest, small = max(self.largest, largest), np.min_scalar_type(largest)
        self._packed[position] = zlib.compress(np.ascontiguousarray(labels, small).tobytes(), 1), small
        self._unpacked = None

    def at(self, position: int) -> npt.NDArray[np.int32]:
        """Return the labels of the frame at a position, (Y, X) or (Z, Y, X) int32.

        Raises
        ------
        KeyError
            If it is not finished.
        """
        unpacked = self._unpacked
        if unpacked is None or unpacked[0] != position:
            packed, dtype = self._packed[position]
            frame = np.frombuffer(zlib.decompress(packed), dtype).reshape(self.shape).astype(np.int32)
            unpacked = self._unpacked = position, frame
        return unpacked[1]

    def labels(self, frame_numbers: Sequence[int] | None = None, name: str = "the labels") -> Labels:
        """Return the frames that are finished by now, in rising order, unpacked when they are read.

        Parameters
        ----------
        frame_numbers : sequence of int, optional
            The number of each position of the movie; by default frames are counted from 0.
        name : str
            What messages call the labels.

        Raises
        ------
        ValueError
            If no frame is finished.
        """
        positions = self.positions
        numbers = None if frame_numbers is None else [frame_numbers[t] for t in positions]
        return Labels(FrameStack(self.at, positions, self.shape), frame_numbers=numbers, name=name)


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
