"""Labels and probabilities written frame by frame, as a TIFF stack or as OME-Zarr.

A file appears under its name only when it is complete: it is written beside it and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import checked_numbers
from napari_osvos.formats import METADATA_KEY, is_zarr
from napari_osvos.labels import Labels, checked_labels
from napari_osvos.machine import aside, check_space, replacing, tidy
from napari_osvos.ome_zarr import create_image

# What deflate leaves of the pixels at most, by experience: labels are flat, probabilities are not.
COMPRESSED_LABELS = 0.15
COMPRESSED_PROBABILITIES = 0.6
# Above this, a TIFF no longer is what ImageJ reads by itself (4 GB of offsets) and becomes a BigTIFF.
LARGEST_IMAGEJ_BYTES = 3_500_000_000
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What an OSError says of a disk, or of a share of one, that is full."""


def write_labels(
    path: str | Path,
    labels: Any,
    *,
    shape: Sequence[int] | None = None,
    frame_numbers: Sequence[int] | None = None,
    dtype: npt.DTypeLike = np.uint16,
    overwrite: bool = False,
) -> None:
    """Write labels frame by frame, to a TIFF stack or, by the ending ``.zarr``, to OME-Zarr (NGFF 0.5).

    A TIFF is deflated, opens in ImageJ with its time axis, and keeps the frame numbers in ImageJ's "Info";
    one beyond 3.5 GB, or of uint32, is a BigTIFF with the same in its description. OME-Zarr has one chunk a plane (or
    1024 x 1024 pixels), and keeps the frame numbers in the attribute ``napari_osvos``.

    Parameters
    ----------
    path : str or Path
        Ends in ``.tif``, ``.tiff`` or ``.zarr``; its folder is made where it is missing.
    labels : array, Labels or iterable
        (T, Y, X) or (T, Z, Y, X) whole numbers of 0 or more; or their frames in order, or pairs ``(t, frame)`` with
        rising t, as `Segmenter.iter_labels` yields them: the k-th frame that comes is the k-th of the file.
    shape : sequence of int, optional
        (T, Y, X) or (T, Z, Y, X); needed with an iterable that has no shape.
    frame_numbers : sequence of int, optional
        The number of each frame, by which `read_labels` and the evaluation find it; by default those of
        `Labels`, else counted from 0.
    dtype : dtype
        uint16, or uint32 for labels above 65,535.
    overwrite : bool
        Whether to replace what is there.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    ValueError
        If the ending, the dtype, the shape, a frame or a label does not fit.
    OSError
        If the disk has too little space or cannot be written.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.uint16, np.uint32):
        raise ValueError(f"The dtype of labels is {dtype}; it must be uint16 or uint32.")
    largest = int(np.iinfo(dtype).max)
    if isinstance(labels, Labels) and frame_numbers is None and labels.has_numbers:
        frame_numbers = labels.frame_numbers

    def checked(frame: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
        values = checked_labels(frame, where)
        if values.max() > largest:
            raise ValueError(
                f"{where} holds label {values.max()}, but {dtype} ends at {largest}; write with dtype='uint32'."
            )
        if values.dtype == np.int32 and dtype == np.uint32:  # none is negative: a huge frame is not copied
            return values.view(dtype)
        return values.astype(dtype, copy=False)

    _write(path, labels, shape, frame_numbers, dtype, overwrite, checked, COMPRESSED_LABELS)


def write_probabilities(
    path: str | Path,
    probabilities: Any,
    *,
    shape: Sequence[int] | None = None,
    frame_numbers: Sequence[int] | None = None,
    overwrite: bool = False,
) -> None:
    """Write probabilities as float32 frame by frame, in the formats of `write_labels`.

    Parameters
    ----------
    path, shape, frame_numbers, overwrite
        As for `write_labels`.
    probabilities : array or iterable
        (T, Y, X) or (T, Z, Y, X) in [0, 1], or its frames, as for `write_labels`.

    Raises
    ------
    FileExistsError, ValueError, OSError
        As `write_labels`; ValueError also if a value is outside [0, 1] or NaN.
    """

    def checked(frame: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
        if not (frame.min() >= 0 and frame.max() <= 1):  # so that NaN fails, too
            raise ValueError(f"{where} holds values from {frame.min()} to {frame.max()}; probabilities are 0 to 1.")
        return frame.astype(np.float32, copy=False)

    _write(
        path, probabilities, shape, frame_numbers, np.dtype(np.float32), overwrite, checked, COMPRESSED_PROBABILITIES
    )


def check_output(path: str | Path, *, overwrite: bool = False) -> Path:
    """Check, before any work is done, that an output may be written under this name.

    Raises
    ------
    FileExistsError
        If it exists and `overwrite` is False.
    ValueError
        If the ending is not known, or it is a folder that is no zarr.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff", ".zarr") or path.name.lower().endswith((".ome.tif", ".ome.tiff")):
        raise ValueError(f"{path} cannot be written; the name must end in .tif, .tiff, .zarr or .ome.zarr.")
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists; choose another name or allow overwriting it.")
        if path.is_dir() != (path.suffix.lower() == ".zarr") or (path.is_dir() and not is_zarr(path)):
            kind = "folder that is no zarr" if path.is_dir() else "file"
            raise ValueError(f"{path} is a {kind}, which is never overwritten; choose another name.")
    return path


def _write(
    path: str | Path,
    frames: Any,
    shape: Sequence[int] | None,
    frame_numbers: Sequence[int] | None,
    dtype: np.dtype[Any],
    overwrite: bool,
    checked: Callable[[npt.NDArray[Any], str], npt.NDArray[Any]],
    compressed: float,
) -> None:
    path = check_output(path, overwrite=overwrite)
    shape = _output_shape(frames, shape, path)
    numbers = None if frame_numbers is None else checked_numbers(frame_numbers, shape[0], str(path))
    notes = {"axes": "TZYX" if len(shape) == 4 else "TYX", "frame_numbers": numbers and list(numbers)}
    check_space(path, int(np.prod(shape, dtype=np.int64) * dtype.itemsize * compressed))
    source = _one_by_one(frames, shape)
    stack = _checked_frames(source, shape, checked, path)
    try:
        if path.suffix.lower() == ".zarr":
            with replacing_folder(path) as partial:
                _write_zarr(partial, stack, shape, dtype, notes, name=path.name)
                _expect_end(source, shape, path)
        else:
            with replacing(path) as partial:
                _write_tiff(partial, stack, shape, dtype, notes)
                _expect_end(source, shape, path)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        reason = f"The disk became full, so {path} was not written; free some space or write elsewhere."
        raise OSError(errno.ENOSPC, reason) from error


def _output_shape(frames: Any, shape: Sequence[int] | None, path: Path) -> tuple[int, ...]:
    own = getattr(frames, "shape", None)
    if own is not None and len(own) == 2:
        own = (1, *own)
    if own is None and shape is None:
        if not isinstance(frames, Sequence) or not len(frames):
            raise ValueError(f"The shape of what is written to {path} is not known; give shape=(T, Y, X).")
        own = (len(frames), *np.shape(frames[0][1] if _is_pair(frames[0]) else frames[0]))
    if own is not None and shape is not None and tuple(own) != tuple(shape):
        raise ValueError(f"{path} was to have shape {tuple(shape)}, but the array has {tuple(own)}.")
    known = tuple(int(n) for n in (own if own is not None else shape or ()))
    if len(known) not in (3, 4) or min(known) < 1:
        raise ValueError(f"{path} was to have shape {known}; it must be (T, Y, X) or (T, Z, Y, X), none of them 0.")
    return known


def _one_by_one(frames: Any, shape: tuple[int, ...]) -> Iterator[Any]:
    if not hasattr(frames, "shape"):
        return iter(frames)
    return iter((frames,)) if len(frames.shape) == 2 else (frames[t] for t in range(shape[0]))


def _is_pair(item: Any) -> bool:
    """Whether this is ``(t, frame)`` rather than a frame."""
    return isinstance(item, tuple) and len(item) == 2 and np.ndim(item[0]) == 0


def _checked_frames(
    source: Iterator[Any],
    shape: tuple[int, ...],
    checked: Callable[[npt.NDArray[Any], str], npt.NDArray[Any]],
    path: Path,
) -> Iterator[npt.NDArray[Any]]:
    """Yield as many frames as `shape` announces, checked."""
    last = -1
    for count in range(shape[0]):
        try:
            item = next(source)
        except StopIteration:
            raise ValueError(f"Only {count} of the {shape[0]} frames announced for {path} came.") from None
        where = f"Frame {count} for {path}"
        if _is_pair(item):
            t, item = int(item[0]), item[1]
            where = f"Frame {t} for {path}"
            if t <= last:
                raise ValueError(f"Frame {t} came after frame {last}; frames must come in rising order.")
            last = t
        frame = np.asarray(item)
        if frame.shape != shape[1:]:
            raise ValueError(f"{where} has shape {frame.shape}; it must have {shape[1:]}.")
        yield checked(frame, where)


def _expect_end(source: Iterator[Any], shape: tuple[int, ...], path: Path) -> None:
    """Let the iterator come to its end, and check that it does."""
    for _ in source:
        raise ValueError(f"More than the {shape[0]} frames announced for {path} came.")


def _write_tiff(
    path: Path, stack: Iterator[npt.NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any], notes: dict[str, Any]
) -> None:
    import tifffile

    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    imagej = bool(dtype != np.uint32) and n_bytes < LARGEST_IMAGEJ_BYTES
    axes, note = notes["axes"], {METADATA_KEY: notes}
    pages: Any = (page for frame in stack for page in (frame if frame.ndim == 3 else frame[np.newaxis]))
    if imagej and shape[-1] == 1:  # or the last axis would pass for one of samples
        axes, shape, pages = axes + "S", (*shape, 1), (page[..., np.newaxis] for page in pages)
    elif shape[-1] == 1:  # outside of ImageJ's format only a whole array keeps such an axis; it is as small as a frame
        pages = np.stack(list(stack))
    with tifffile.TiffWriter(path, imagej=imagej, bigtiff=not imagej) as tif:
        tif.write(
            pages,
            shape=shape,
            dtype=dtype,
            photometric="minisblack",
            compression="zlib",
            rowsperstrip=shape[len(notes["axes"]) - 2],  # one strip a page: quick to read plane by plane
            maxworkers=1,  # several would read hundreds of MB ahead
            metadata={"axes": axes, **({"Info": json.dumps(note)} if imagej else note)},
        )


def _write_zarr(
    path: Path,
    stack: Iterator[npt.NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    notes: dict[str, Any],
    name: str,
) -> None:
    array = create_image(path, shape, dtype, frame_numbers=notes["frame_numbers"], name=name)
    for t, frame in enumerate(stack):
        array[t] = frame


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a name to write a folder to, which then takes the place of `path`; nothing is left after an error.

    A process that was killed leaves its part behind, which the next one clears away, see `machine.tidy`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = aside(path, "partial"), aside(path, "old")
    tidy(path)
    try:
        yield partial
        if path.exists():
            os.replace(path, old)  # a folder cannot be replaced in one step
        os.replace(partial, path)
    finally:
        tidy(path)
