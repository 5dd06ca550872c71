"""A folder with one file per frame, as the Cell Tracking Challenge and DAVIS have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from natsort import natsorted

from napari_osvos.formats import (
    PICTURE_ENDINGS,
    TIFF_ENDINGS,
    OpenedFile,
    UnreadableFileError,
    open_picture,
    open_tiff,
    reading,
)

# Sizes of so many files are compared when a folder is opened; those of the others as they are read.
CHECKED_FILES = 1000


class FrameFolder:
    """The frames of a folder as an array (T, Y, X[, S]) or (T, Z, Y, X[, S]), read file by file.

    Raises
    ------
    UnreadableFileError
        If a file is damaged, is a movie of its own, or differs from the first in size or dtype.
    """

    def __init__(self, files: Sequence[Path], *, labels: bool = False) -> None:
        self._files = list(files)
        self._labels = labels
        first = self._open(0)
        self.shape = (len(self._files), *first.array.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(first.array.dtype)
        axes = first.axes or ""
        self.axes = "T" + "".join("Z" if letter in "QIR" else letter for letter in axes)
        if "T" in axes or self.axes.count("Z") > 1:
            raise UnreadableFileError(
                f"{self._files[0]} is a movie of its own; give that file, or a folder of one file per frame."
            )
        height, width = axes.index("Y"), axes.index("X")
        size = first.array.shape[height], first.array.shape[width]
        for path in self._files[1:CHECKED_FILES]:
            if _header_size(path) != size:
                raise self._differs(path, _spell_shape(_header_size(path)), _spell_shape(size))

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        t, *rest = index if isinstance(index, tuple) else (index,)
        frame = self._open(t).array
        if tuple(frame.shape) != self.shape[1:]:
            raise self._differs(self._files[t], _spell_shape(frame.shape), _spell_shape(self.shape[1:]))
        if not np.can_cast(frame.dtype, self.dtype):  # would wrap around
            raise self._differs(self._files[t], str(frame.dtype), str(self.dtype))
        return np.asarray(frame[tuple(rest)])

    def _open(self, t: int) -> OpenedFile:
        path = self._files[t]
        if path.suffix.lower() in TIFF_ENDINGS:
            return open_tiff(path, labels=self._labels)
        return open_picture(path, labels=self._labels)

    def _differs(self, path: Path, this: str, first: str) -> UnreadableFileError:
        return UnreadableFileError(
            f"{path} is {this} but {self._files[0].name} is {first}; all frames of a folder must agree."
        )


def open_folder(folder: Path, *, labels: bool = False) -> OpenedFile:
    """Open a folder of TIFF files or pictures, one per frame, by frame number or else in natural order.

    The frame number is the last run of digits in a file's name (``man_seg005.tif`` is frame 5), or, where that
    does not rise from file to file in natural order, the last run that does (``t001_c1.tif``). Names without digits
    are counted in natural order, and so are those in which no single run rises (``10-59-58.tif``, ``11-00-06.tif``).

    Parameters
    ----------
    labels : bool
        Whether to read labels: palette indices rather than colours, and, in a folder of the Cell Tracking
        Challenge such as ``02_ST`` or ``02_GT``, its ``SEG`` (or else ``TRA``).

    Raises
    ------
    UnreadableFileError
        If there are no frames, or they do not agree.
    ValueError
        If two files have one number.
    """
    files = frame_files(folder)
    if labels and not files:
        for inner in ("SEG", "TRA"):
            if (folder / inner).is_dir():
                folder = folder / inner
                files = frame_files(folder)
                break
    if not files:
        inside = natsorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        hint = f"; it holds the folders {', '.join(inside[:6])}" if inside else ""
        raise UnreadableFileError(f"{folder} holds no TIFF, PNG or JPEG frames{hint}.")
    numbers = numbers_in_names([path.stem for path in files], str(folder))
    if numbers is not None:
        order = sorted(range(len(files)), key=numbers.__getitem__)
        files, numbers = [files[i] for i in order], tuple(numbers[i] for i in order)
    frames = FrameFolder(files, labels=labels)
    return OpenedFile(frames, frames.axes, numbers)


def numbers_in_names(stems: Sequence[str], where: str) -> tuple[int, ...] | None:
    """Return the frame number in each file name without ending, or None where frames are counted; see `open_folder`.

    Raises
    ------
    ValueError
        If every run of digits is that of two files, as in ``t1_c1``, ``t1_c2``, ``t2_c1``, ``t2_c2``; the message
        begins with `where`.
    """
    runs = [re.findall(r"[0-9]+", stem) for stem in stems]
    shortest = min(map(len, runs))
    if shortest == 0:
        return None
    order = natsorted(range(len(stems)), key=stems.__getitem__)
    unique = False
    for k in range(1, shortest + 1):
        numbers = tuple(int(run[-k]) for run in runs)
        if all(numbers[one] < numbers[next_one] for one, next_one in pairwise(order)):
            return numbers
        unique |= len(set(numbers)) == len(numbers)
    if unique:  # such as the seconds of a time of day: they tell the files apart but not their order
        return None
    last = [int(run[-1]) for run in runs]
    first, second = next((i, last.index(n)) for i, n in enumerate(last) if last.index(n) != i)
    raise ValueError(
        f"{where} has two files of frame number {last[first]}, {stems[second]} and {stems[first]}; "
        "each frame needs a number of its own in its file name."
    )


def frame_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are taken for frames, in natural order."""
    wanted = TIFF_ENDINGS + PICTURE_ENDINGS
    files = (p for p in folder.iterdir() if p.suffix.lower() in wanted and not p.name.startswith(".") and p.is_file())
    return natsorted(files, key=lambda path: (path.stem, path.suffix))


def _header_size(path: Path) -> tuple[int, int]:
    """(Y, X) of a frame file, by its header alone."""
    with reading(path):
        if path.suffix.lower() in TIFF_ENDINGS:
            import tifffile

            with tifffile.TiffFile(path) as tif:
                page = tif.pages.first
                return page.imagelength, page.imagewidth
        from PIL import Image

        with Image.open(path) as picture:
            return picture.height, picture.width


def _spell_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) + " pixels"
