"""Movies and labels in files: `read_clip`, `read_labels`, `write_labels`, `write_probabilities`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from napari_osvos.clip import Clip
from napari_osvos.formats import (
    PICTURE_ENDINGS,
    TIFF_ENDINGS,
    OpenedFile,
    is_zarr,
    open_npy,
    open_picture,
    open_tiff,
    open_zarr,
)
from napari_osvos.frame_folder import open_folder
from napari_osvos.labels import Labels
from napari_osvos.video import VIDEO_ENDINGS, open_video
from napari_osvos.writing import write_labels, write_probabilities

__all__ = ["read_clip", "read_labels", "write_labels", "write_probabilities"]


def read_clip(path: str | Path, axes: str | None = None, channels: Sequence[int] | None = None) -> Clip:
    """Open a movie; its pixels are read plane by plane, later.

    Parameters
    ----------
    path : str or Path
        A TIFF stack (axes by ImageJ or OME metadata), a folder with a TIFF file or picture per frame (file numbers are
        frame numbers), OME-Zarr or a zarr array, an ``.npy`` array, a video (extra ``video``), or one picture.
    axes : str, optional
        The axes, where the file does not tell or is wrong; see `Clip`.
    channels : sequence of int, optional
        The channels to keep; all by default.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    OSError
        If it cannot be read.
    ValueError
        If the format is not known, or axes or channels do not fit.
    """
    path = Path(path)
    opened = _open(path, labels=False)
    return Clip(
        opened.array, axes or opened.axes, channels=channels, frame_numbers=opened.frame_numbers, name=str(path)
    )


def read_labels(path: str | Path, axes: str | None = None) -> Labels:
    """Open labels, which are read and checked frame by frame, later.

    Takes what `read_clip` takes, except videos and JPEG. A folder of the Cell Tracking Challenge such as ``02_ST``
    or ``02_GT`` stands for its ``SEG``. 8-bit frames of only 0 and 255 are masks and read as 0 and 1.

    Parameters
    ----------
    path : str or Path
        Stack, folder, zarr or picture of whole numbers, 0 = background.
    axes : str, optional
        The axes, where the file does not tell or is wrong; see `Clip`.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    OSError
        If it cannot be read.
    ValueError
        If the format is not known or the axes do not fit.
    """
    path = Path(path)
    opened = _open(path, labels=True)
    return Labels(opened.array, axes or opened.axes, frame_numbers=opened.frame_numbers, masks_255=True, name=str(path))


def _open(path: Path, *, labels: bool) -> OpenedFile:
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if path.is_dir():
        return open_zarr(path, labels=labels) if is_zarr(path) else open_folder(path, labels=labels)
    ending = path.suffix.lower()
    if ending in TIFF_ENDINGS:
        opened = open_tiff(path, labels=labels)
    elif ending in PICTURE_ENDINGS:
        opened = open_picture(path, labels=labels)
    elif ending == ".npy":
        opened = open_npy(path)
    elif ending in VIDEO_ENDINGS and not labels:
        opened = open_video(path)
    else:
        kinds = "TIFF, PNG, .npy, .zarr or a folder of frames" + ("" if labels else ", JPEG or a video")
        raise ValueError(f"{path} has an ending that is not known; {'labels' if labels else 'a movie'} may be {kinds}.")
    # a frame taken out of a folder keeps its number; short runs of digits are as often a version or a date
    padded = re.search(r"[0-9]{3,}$", path.stem)
    if opened.frame_numbers is None and padded and opened.axes in ("YX", "YXS", "YXC", "CYX"):
        return OpenedFile(opened.array, opened.axes, (int(padded[0]),))
    return opened
