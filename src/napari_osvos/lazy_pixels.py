"""Arrays in files that look, as they are read, whether all of the file is still there."""

from __future__ import annotations

import itertools
import mmap
import os
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HUGE_BYTES = 2**26
"""Of a part of a mapped file: from here on it is not kept mapped."""


class MappedPixels:
    """A file that is mapped into memory.

    Where such a file became shorter meanwhile, the system would end the process without a word. A huge part, once it is
    read, stays in memory no more than any other copy.

    Parameters
    ----------
    mapped : memmap
        Of `path`.
    path : Path
        The file.
    """

    def __init__(self, mapped: np.memmap[Any, Any], path: Path) -> None:
        self._mapped, self._end = mapped, mapped.offset + mapped.nbytes
        self._file = os.open(path, os.O_RDONLY)  # goes on to be this file when another takes its name
        weakref.finalize(self, os.close, self._file)
        self.shape, self.ndim, self.dtype = mapped.shape, mapped.ndim, mapped.dtype

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        if os.fstat(self._file).st_size < self._end:
            raise OSError("it became shorter while it was read")
        part = np.asarray(self._mapped[index])
        if part.nbytes < HUGE_BYTES:
            return part
        copied = np.array(part)
        mapping: Any = self._mapped._mmap  # type: ignore[attr-defined]
        if hasattr(mapping, "madvise"):  # pages that were read would count as memory of this process
            mapping.madvise(mmap.MADV_DONTNEED)
        return copied


class ZarrPixels:
    """A zarr array that warns when a chunk is not there: zarr reads it as if it were empty.

    Parameters
    ----------
    array : zarr.Array
        In a folder; of other stores nothing is said.
    path : Path
        What messages call it.
    """

    def __init__(self, array: Any, path: Path) -> None:
        self._array, self._path, self._is_told = array, path, False
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        pixels = np.asarray(self._array[index])
        if not self._is_told:
            missing = next(self._missing(index if isinstance(index, tuple) else (index,)), None)
            if missing is not None:
                self._is_told = True  # one sentence for all: blank parts of a movie are often left out on purpose
                warnings.warn(
                    f"{self._path} has no chunk {missing}, which therefore reads as {self._array.fill_value}; "
                    "there may be others. Copy the movie again if they should be there.",
                    stacklevel=2,
                )
        return pixels

    def _missing(self, index: tuple[Any, ...]) -> Iterator[str]:
        """Yield the names of the chunks behind an index of whole numbers and slices that are not there."""
        array, root = self._array, getattr(self._array.store, "root", None)
        if root is None:
            return
        spans = []
        for k, (length, chunk) in enumerate(zip(array.shape, array.shards or array.chunks, strict=True)):
            place = index[k] if k < len(index) else slice(None)
            first, last, _ = place.indices(length) if isinstance(place, slice) else (int(place), int(place) + 1, 1)
            spans.append(range(first // chunk, (last - 1) // chunk + 1))
        for position in itertools.product(*spans):
            key = array.metadata.encode_chunk_key(position)
            if not Path(root, array.path, key).is_file():
                yield key
