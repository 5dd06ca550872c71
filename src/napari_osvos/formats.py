"""Files of pixels, opened lazily: TIFF, NumPy, zarr, single pictures. Folders and videos have modules of their own.

Each ``open_...`` returns an `OpenedFile`: an array that reads only what is indexed, and what the file says of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import PlaneSource
from napari_osvos.lazy_pixels import MappedPixels, ZarrPixels

TIFF_ENDINGS = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm", ".pnm")
# Key of this package's own metadata in the files it writes.
METADATA_KEY = "napari_osvos"


class UnreadableFileError(OSError):
    """A file that is not what its name says, is damaged, or is cut short."""


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """An opened movie or stack of labels.

    Attributes
    ----------
    array : array
        Reads what is indexed. Errors in reading are `OSError` and name the file.
    axes : str, or None
        Letters as for `Clip`; None where the file does not say.
    frame_numbers : tuple of int, or None
        Numbers from file names or metadata.
    """

    array: PlaneSource
    axes: str | None = None
    frame_numbers: tuple[int, ...] | None = None


class FileArray:
    """An array in a file; errors in reading a part of it name the file."""

    def __init__(self, array: Any, path: Path) -> None:
        self._array = array
        self._path = path
        self.shape = tuple(int(n) for n in array.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        with reading(self._path):
            return np.asarray(self._array[index])


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn whatever a library raises on a bad file into one sentence.

    Raises
    ------
    UnreadableFileError
        Naming the file and the cause.
    FileNotFoundError
        If the file was taken away meanwhile.
    """
    try:
        yield
    except (UnreadableFileError, PermissionError, MemoryError):
        raise
    except Exception as error:  # libraries raise struct.error, zlib.error, SyntaxError, KeyError and more
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} is no longer there.") from error
        cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if "imagecodecs" in cause:
            raise UnreadableFileError(
                f"{path} is compressed in a way that needs one more package: pip install imagecodecs."
            ) from error
        raise UnreadableFileError(f"{path} cannot be read; it may be damaged or cut short: {cause}.") from error


def open_tiff(path: Path, *, labels: bool = False) -> OpenedFile:
    """Open a TIFF stack: axes from ImageJ, OME or shaped metadata; memory-mapped where stored plainly, else by pages.

    Colours in planes of their own are taken for frames in a stack of nothing else, and in labels: libraries write
    stacks of three or four frames that way.

    Raises
    ------
    UnreadableFileError
        If the file is no TIFF, is damaged, or holds images of several sizes.
    """
    import tifffile

    with contextlib.ExitStack() as closing:
        with reading(path), _structure_errors() as damage:
            tif: Any = closing.enter_context(tifffile.TiffFile(path))
            sizes = {series.shape for series in tif.series}
            if len(tif.series) > 1 and len(sizes) == 1 and tif.series[0].kind == "shaped":
                closing.close()  # frames written one by one: each page says that it is a series of its own
                tif = closing.enter_context(tifffile.TiffFile(path, is_shaped=False))
            series = tif.series[0]
            written = _written_here(tif)
            axes, shape = _tiff_layout(series, written, labels)
        if damage:
            raise UnreadableFileError(f"{path} is damaged or cut short: {damage[0]}.")
        if len(sizes) > 1 and (series.kind in ("generic", "uniform") or len(series.shape) == 2):
            raise UnreadableFileError(f"{path} holds images of several sizes; all frames must be of one size.")
        compression = series.keyframe.compression
        if compression not in tifffile.TIFF.DECOMPRESSORS:
            raise UnreadableFileError(
                f"{path} has {compression.name} compression, which needs one more package: pip install imagecodecs."
            )
        numbers = written.get("frame_numbers")
        with reading(path):
            if series.dataoffset is not None:
                dtype = np.dtype(tif.byteorder + series.dtype.char)
                mapped = np.memmap(path, dtype=dtype, mode="r", offset=series.dataoffset, shape=shape)
                return OpenedFile(FileArray(MappedPixels(mapped, path), path), axes, numbers)
            array = FileArray(_TiffPages(series, shape), path)
        weakref.finalize(array, closing.pop_all().close)  # the pages are read later
        return OpenedFile(array, axes, numbers)


def _tiff_layout(series: Any, written: dict[str, Any], labels: bool) -> tuple[str, tuple[int, ...]]:
    """Letters for `Clip` and lengths of the axes of a series, see `open_tiff`; of those of length 1 only Y and X.

    Which others of length 1 a series names depends on the kind of file and the version of tifffile.
    """
    held = [(axis, int(n)) for axis, n in zip(series.axes, series.shape, strict=True) if n > 1 or axis in "YX"]
    axes, shape = "".join(axis for axis, _ in held), tuple(n for _, n in held)
    if written:  # the axes that belong to the labels, also those of length 1, and V for others
        single = "".join(axis for axis in written["axes"] if axis not in axes)
        axes = "".join(axis if axis in written["axes"] else "V" for axis in axes)
        return single + axes, (1,) * len(single) + shape
    if "S" in axes and "C" not in axes and series.keyframe.photometric.name != "RGB":
        axes = axes.replace("S", "C")
    if "S" in axes and axes.index("S") < axes.index("Y") and (labels or axes == "SYX"):
        axes = axes.replace("S", "Q")
    return axes, shape


class _TiffPages:
    """The pages of a TIFF series as one array of the given shape; one page at a time is read, when it is indexed."""

    def __init__(self, series: Any, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.dtype = series.dtype
        self._series = series
        self._reading = threading.Lock()  # a file has one place to read at
        n_pages, page_size = len(series), math.prod(series.keyframe.shape)
        fits = (k for k in range(len(shape)) if (math.prod(shape[:k]), math.prod(shape[k:])) == (n_pages, page_size))
        first = next(fits, None)
        if first is None:
            raise ValueError(f"{n_pages} pages of {series.keyframe.shape} pixels do not make an array of shape {shape}")
        self._first = first  # of the axes of a page
        self._numbers = np.arange(n_pages).reshape(shape[:first])

    def __getitem__(self, index: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        numbers = self._numbers[index[: self._first]]
        pages = [self._page(int(n))[index[self._first :]] for n in np.ravel(numbers)]
        return np.stack(pages).reshape(np.shape(numbers) + pages[0].shape)

    def _page(self, n: int) -> npt.NDArray[Any]:
        shape = self.shape[self._first :]
        with self._reading, contextlib.ExitStack() as closing:
            page = self._series[n]
            if page is None:  # OME metadata may leave out planes
                return np.zeros(shape, self.dtype)
            file = page.parent.filehandle
            if file.closed:  # a further file of a series in several
                file.open()
                closing.callback(file.close)
            pixels = page.asarray()
        if self._series.transform is not None:
            pixels = self._series.transform(pixels)
        return np.asarray(pixels, self.dtype).reshape(shape)


def _written_here(tif: Any) -> dict[str, Any]:
    """Return the axes and frame numbers that this package wrote into a TIFF, or an empty dict."""
    notes: Any = {}
    with contextlib.suppress(ValueError, TypeError):
        if tif.is_imagej:
            notes = json.loads(tif.imagej_metadata.get("Info", "{}"))
        elif tif.is_shaped:
            notes = tif.shaped_metadata[0]
    notes = notes.get(METADATA_KEY, {}) if isinstance(notes, dict) else {}
    return _checked_notes(notes)


def _checked_notes(notes: Any) -> dict[str, Any]:
    if not isinstance(notes, dict) or not isinstance(notes.get("axes"), str):
        return {}
    numbers = notes.get("frame_numbers")
    if numbers is not None:
        numbers = tuple(int(n) for n in numbers)
    return {"axes": notes["axes"], "frame_numbers": numbers}


@contextlib.contextmanager
def _structure_errors() -> Iterator[list[str]]:
    """Collect what tifffile only logs: a stack that is cut short would open as a shorter one."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            for sign in ("invalid page offset", "invalid or corrupted", "failed to reshape"):
                if sign in message:
                    found.append(message.split("> ")[-1].split(", raised")[0].rstrip("."))

    logger, collector = logging.getLogger("tifffile"), Collector(logging.WARNING)
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


def open_npy(path: Path) -> OpenedFile:
    """Map a NumPy file into memory; files that hold Python objects are refused.

    Raises
    ------
    UnreadableFileError
        If the file is damaged or holds objects.
    """
    with reading(path):
        mapped: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        return OpenedFile(FileArray(MappedPixels(mapped, path), path))


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group (OME-Zarr too)."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def open_zarr(path: Path, *, labels: bool = False) -> OpenedFile:
    """Open a zarr array, or the full-resolution level of an OME-Zarr image (NGFF 0.4 or 0.5).

    Parameters
    ----------
    labels : bool
        Whether to prefer the label image of an image that has exactly one.

    Raises
    ------
    UnreadableFileError
        If it is no zarr, is damaged, or holds no image that can be chosen.
    """
    import zarr

    with reading(path):
        node: Any = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            names = getattr(node.metadata, "dimension_names", None) or node.attrs.get("_ARRAY_DIMENSIONS")
            return OpenedFile(_pixels_of(node, path, labels), _axes_of(names))
        if labels and "labels" in node:
            listed = _ome(node["labels"]).get("labels") or node["labels"].attrs.get("labels") or []
            if len(listed) == 1:
                node = node["labels"][listed[0]]
        if "multiscales" not in _ome(node) and "0" in node and isinstance(node["0"], zarr.Group):
            node = node["0"]  # bioformats2raw keeps each image in a numbered group
        scales = _ome(node).get("multiscales")
        if scales:
            level = node[scales[0]["datasets"][0]["path"]]
            names = [axis["name"] if isinstance(axis, dict) else axis for axis in scales[0].get("axes", ())]
            notes = _checked_notes(node.attrs.get(METADATA_KEY))
            return OpenedFile(_pixels_of(level, path, labels), _axes_of(names), notes.get("frame_numbers"))
        arrays = [name for name, _ in node.arrays()]
        if len(arrays) == 1:
            return OpenedFile(_pixels_of(node[arrays[0]], path, labels))
    held = ", ".join(arrays) if arrays else "no array"
    raise UnreadableFileError(f"{path} is a zarr group that holds {held}; give the array of it that is meant.")


def _pixels_of(array: Any, path: Path, labels: bool) -> FileArray:
    """Return the pixels of a zarr array; labels often leave out chunks, as they are mostly background."""
    return FileArray(array if labels else ZarrPixels(array, path), path)


def _ome(group: Any) -> dict[str, Any]:
    """OME metadata of a zarr group: under "ome" since NGFF 0.5, at the top before."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))


def _axes_of(names: Any) -> str | None:
    """Axis letters of the dimension names t, c, z, y, x or time, channel ...; None when they are other names."""
    spelled = {"t": "T", "time": "T", "c": "C", "channel": "C", "z": "Z", "y": "Y", "x": "X"}
    letters = [spelled.get(str(name).lower()) for name in names or ()]
    return "".join(map(str, letters)) if letters and all(letters) else None


def open_picture(path: Path, *, labels: bool = False) -> OpenedFile:
    """Open a single PNG, JPEG ... as (Y, X) or (Y, X, S).

    Raises
    ------
    UnreadableFileError
        As `read_picture`.
    """
    pixels = read_picture(path, labels=labels)
    return OpenedFile(pixels, "YXS"[: pixels.ndim])


def read_picture(path: Path, *, labels: bool = False) -> npt.NDArray[Any]:
    """Read a PNG, JPEG ... as (Y, X) or (Y, X, 3), without alpha.

    A palette picture gives its colours, but as labels its indices; labels are always (Y, X).

    Raises
    ------
    UnreadableFileError
        If the picture is damaged, or cannot be labels: because it is coloured, or a JPEG.
    """
    from PIL import Image

    if labels and path.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        raise UnreadableFileError(f"{path} is compressed with losses, which alters labels; give PNG or TIFF.")
    with reading(path), Image.open(path) as picture:
        picture.load()
        if labels and picture.mode == "P":
            return np.array(picture)
        if picture.mode in ("LA", "La"):
            return np.array(picture.getchannel("L"))
        if picture.mode == "1":
            return np.array(picture).astype(np.uint8)
        if picture.mode in ("L", "I", "F") or picture.mode.startswith("I;16"):
            return np.array(picture)
        colours = np.array(picture.convert("RGB"))
        if labels and (colours != colours[..., :1]).any():
            raise UnreadableFileError(f"{path} is a colour picture; labels must have one channel.")
        return colours[..., 0].copy() if labels else colours
