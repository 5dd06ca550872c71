"""The masks of a round on disk, frame by frame, and where two rounds differ."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import UnreadableFileError, reading
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.writing import replacing_folder

ONLY_OLDER, ONLY_NEWER, OTHER_OBJECT = 1, 2, 3
"""Values of `difference`."""
_STRIP = 1 << 20  # pixels that are compared at a time


class MaskWriter:
    """Writes masks to a zarr, compressed, one chunk a frame; frames that are as they were are not written again.

    Parameters
    ----------
    path : Path
        Made when the first frame is written; what is there stays.
    axes : LayerAxes
        Of the movie; the zarr has its `labels_layer_shape`.
    """

    def __init__(self, path: Path, axes: LayerAxes) -> None:
        self.path, self._axes = path, axes
        self._sums: dict[int, int] = {}

    def write(self, labels: Any, frames: Iterable[int]) -> None:
        """Write some frames.

        Parameters
        ----------
        labels : array
            Of `labels_layer_shape`, whole numbers of 0 or more.
        frames : iterable of int
            Which of them.

        Raises
        ------
        OSError
            If a frame cannot be written.
        """
        for frame in sorted(frames):
            values = self._axes.read_frame(labels, frame)
            checksum = zlib.crc32(values.tobytes())
            if self._sums.get(frame) == checksum:
                continue
            self._axes.write_frame(self._array(), frame, values)
            self._sums[frame] = checksum

    def _array(self) -> Any:
        import zarr

        if not self.path.exists():
            with replacing_folder(self.path) as partial:
                shape, index = self._axes.labels_layer_shape, self._axes.frame_index(0)
                zarr.create_array(
                    str(partial),
                    shape=shape,
                    dtype=np.uint32,  # compressed, they are hardly larger than uint16
                    chunks=tuple(n if isinstance(part, slice) else 1 for n, part in zip(shape, index, strict=True)),
                    # Chunks of nothing but the fill value are not written; those of empty frames are to be, so that one
                    # that is gone is noticed.
                    fill_value=int(np.iinfo(np.uint32).max),
                    zarr_format=3,
                )
        return zarr.open_array(str(self.path), mode="r+")


def open_masks(path: Path, axes: LayerAxes) -> Any:
    """Open masks of `labels_layer_shape` to read them frame by frame, and to write to them.

    Raises
    ------
    OSError
        If they are not there, damaged, or of another shape; one sentence.
    """
    import zarr

    if not path.exists():
        raise FileNotFoundError(f"{path} is no longer there.")
    with reading(path):
        array = zarr.open_array(str(path), mode="r+")
    if tuple(array.shape) != axes.labels_layer_shape or np.dtype(array.dtype).kind != "u":
        raise UnreadableFileError(
            f"{path} has shape {tuple(array.shape)} and dtype {array.dtype}; masks of this movie have shape "
            f"{axes.labels_layer_shape} and are uint16 or uint32."
        )
    return array


def read_masks(array: Any, path: Path, axes: LayerAxes, frames: Collection[int]) -> tuple[npt.NDArray[Any], list[str]]:
    """Read masks into memory.

    Parameters
    ----------
    array : zarr.Array
        What `open_masks` returned.
    path : Path
        Where it is, for messages.
    axes : LayerAxes
    frames : collection of int
        Those that were filled; others stay empty.

    Returns
    -------
    labels : array
        Of `labels_layer_shape`, uint16, or uint32 for labels above 65,535.
    complaints : list of str
        One sentence for each frame that is damaged or gone; it is left empty.
    """
    labels: npt.NDArray[Any] = np.zeros(axes.labels_layer_shape, np.uint16)
    complaints = []
    for frame in sorted(frames):
        try:
            if not _is_there(array, path, axes, frame):
                raise FileNotFoundError(f"Frame {frame} of {path} is no longer there; it is left empty.")
            with reading(path):
                values = axes.read_frame(array, frame)
            if values.max(initial=0) > np.iinfo(labels.dtype).max:
                labels = labels.astype(np.uint32)
            axes.write_frame(labels, frame, values)
        except FileNotFoundError as error:
            complaints.append(str(error))
        except OSError:
            complaints.append(f"Frame {frame} of {path} is damaged; it is left empty.")
    return labels, complaints


def _is_there(array: Any, path: Path, axes: LayerAxes, frame: int) -> bool:
    """Whether the one chunk of a frame is there; of frames that are cut into several, empty ones are not written."""
    index = axes.frame_index(frame)
    if any(isinstance(part, slice) and array.chunks[i] < array.shape[i] for i, part in enumerate(index)):
        return True
    place = tuple(0 if isinstance(part, slice) else part for part in index)
    return bool((path / array.metadata.encode_chunk_key(place)).exists())


def clear_others(array: Any, axes: LayerAxes, filled: Collection[int]) -> None:
    """Empty the frames that were not filled: a run that was killed leaves previews in some of them."""
    empty = np.zeros(axes.labels_shape[1:], array.dtype)
    for frame in sorted(set(range(axes.n_frames)) - set(filled)):
        axes.write_frame(array, frame, empty)


def difference(older: npt.NDArray[Any], newer: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Tell where two segmentations of a frame differ.

    Labels need not agree: the object of one that an object of the other shares most pixels with, and the other way
    round, is the same object.

    Parameters
    ----------
    older, newer : (Y, X) or (Z, Y, X) whole-number arrays
        Labels; 0 is background.

    Returns
    -------
    uint8 array
        Of the same shape: `ONLY_OLDER` where only the older one has an object, `ONLY_NEWER` where only the newer one
        has, `OTHER_OBJECT` where both have but not the same; 0 elsewhere.

    Raises
    ------
    ValueError
        If they are of different shapes.
    """
    if older.shape != newer.shape:
        raise ValueError(f"Frames of shapes {older.shape} and {newer.shape} cannot be compared; they must be equal.")
    a, b = np.ravel(older), np.ravel(newer)
    different = np.zeros(a.shape, np.uint8)
    different[(a != 0) & (b == 0)] = ONLY_OLDER
    different[(a == 0) & (b != 0)] = ONLY_NEWER
    same = _partners(a, b)
    for part in _strips(a.size):
        x, y = a[part].astype(np.int64), b[part].astype(np.int64)
        both = np.flatnonzero((x != 0) & (y != 0))
        pairs, inverse = np.unique(x[both] << 32 | y[both], return_inverse=True)
        other = np.array([pair not in same for pair in pairs.tolist()], bool)
        different[part][both[other[inverse]]] = OTHER_OBJECT
    return different.reshape(older.shape)


def _partners(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> set[int]:
    """Pairs of labels, packed into one number, each of which is to the other what it shares most pixels with."""
    shared: dict[int, int] = {}
    for part in _strips(a.size):
        x, y = a[part].astype(np.int64), b[part].astype(np.int64)
        both = (x != 0) & (y != 0)
        pairs, counts = np.unique(x[both] << 32 | y[both], return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            shared[pair] = shared.get(pair, 0) + count
    best: dict[tuple[str, int], tuple[int, int]] = {}
    for pair, count in shared.items():
        for end in (("older", pair >> 32), ("newer", pair & 0xFFFFFFFF)):
            best[end] = max(best.get(end, (0, 0)), (count, -pair))
    return {p for p, n in shared.items() if best["older", p >> 32] == best["newer", p & 0xFFFFFFFF] == (n, -p)}


def _strips(size: int) -> Iterator[slice]:
    return (slice(start, start + _STRIP) for start in range(0, size, _STRIP))
