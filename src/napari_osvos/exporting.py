"""One door to all that leaves the program: the kinds of export, by their name or by the ending of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import Clip
from napari_osvos.ctc_folder import check_ctc_folder, check_ctc_ids, write_ctc_folder
from napari_osvos.davis_folder import check_davis_folder, check_davis_ids, check_no_stacks, write_davis_folder
from napari_osvos.geff_file import check_geff, write_geff
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage
from napari_osvos.linked_movie import Beside, Progress, Units, linked_frames
from napari_osvos.measurements import check_table, write_measurements, write_tracks
from napari_osvos.overlay_movie import check_overlay_movie, write_overlay_movie
from napari_osvos.writing import check_output, write_labels


@dataclass(frozen=True)
class Export:
    """A kind of export.

    Attributes
    ----------
    endings : tuple of str
        What the names of its files end in, the usual first; a folder has none.
    says : str
        What it is, for lists and menus.
    needs_clip : bool
        Whether it cannot be made without the movie.
    tells_tracks : bool
        Whether it says which objects of different frames are the same.
    check : callable
        Takes a path and ``overwrite``, and returns the path.
    """

    endings: tuple[str, ...]
    says: str
    needs_clip: bool
    tells_tracks: bool
    check: Callable[..., Path]


EXPORTS: dict[str, Export] = {
    "ctc": Export(
        ("",), "folder of the Cell Tracking Challenge: mask000.tif ... and res_track.txt", False, True, check_ctc_folder
    ),
    "geff": Export((".geff",), "graph of objects and tracks (GEFF)", False, True, check_geff),
    "tracks": Export((".tracks.csv",), "table with a row per track", False, True, check_table),
    "measurements": Export((".csv",), "table with a row per object and frame", False, True, check_table),
    "mp4": Export((".mp4",), "video with outlines", True, False, check_overlay_movie),
    "gif": Export((".gif",), "animated picture with outlines", True, False, check_overlay_movie),
    "tif": Export((".tif", ".tiff"), "labels as a TIFF stack", False, False, check_output),
    "zarr": Export((".zarr",), "labels as OME-Zarr", False, False, check_output),
    "davis": Export(("",), "folder of DAVIS: 00000.png ... with its palette", False, True, check_davis_folder),
}
"""The kinds of export by name. Of endings that fit, the first in this order is meant."""


def export_kind(path: str | Path, kind: str | None = None) -> tuple[str, Path]:
    """Tell which kind of export a path stands for.

    Parameters
    ----------
    path : str or Path
        ``KIND:PATH``, or a path whose ending tells the kind; one without an ending is a folder of the Cell Tracking
        Challenge.
    kind : str, optional
        A name of `EXPORTS`, where neither shall tell.

    Returns
    -------
    kind : str
        A name of `EXPORTS`.
    path : Path
        Without the kind.

    Raises
    ------
    ValueError
        If there is no such kind, or the ending is that of none.
    """
    before, colon, after = str(path).partition(":")
    if kind is None and colon and len(before) > 1 and before.isalnum():  # a lone letter is a drive of Windows
        kind, path = before, after
    path = Path(path)
    if kind is not None:
        if kind not in EXPORTS:
            raise ValueError(f"There is no export named {kind!r}; there are {', '.join(EXPORTS)}.")
        if not path.name:
            raise ValueError(f"The export {kind} has no file name; write {kind}:PATH.")
        return kind, path
    if not path.suffix and path.name:
        return "ctc", path
    for name, export in EXPORTS.items():
        if any(ending and path.name.lower().endswith(ending) for ending in export.endings):
            return name, path
    endings = ", ".join(ending for export in EXPORTS.values() for ending in export.endings if ending)
    raise ValueError(
        f"{path} cannot be exported; the name must end in {endings}, or have no ending for a folder of the "
        "Cell Tracking Challenge (or write ctc:PATH, or davis:PATH for one of DAVIS)."
    )


def export_beside(path: Path, kind: str) -> str:
    """Return the export of a kind that lies beside the labels of a movie, and is named like them.

    Parameters
    ----------
    path : Path
        Of the labels, without an ending.
    kind : str
        A name of `EXPORTS`, or an ending such as ``csv``.

    Returns
    -------
    str
        ``KIND:PATH``. A folder of the Cell Tracking Challenge ends in ``_RES``, one of DAVIS in ``_davis``.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    ending = f".{kind.lower().lstrip('.')}"
    if kind not in EXPORTS:
        fitting = [name for name, export in EXPORTS.items() if ending in export.endings]
        if not fitting:
            kinds = ", ".join(EXPORTS)
            raise ValueError(f"--export {kind} is no kind; into a folder, name one of {kinds}, or an ending.")
        kind = fitting[0]
    else:
        ending = {"ctc": "_RES", "davis": "_davis"}.get(kind) or EXPORTS[kind].endings[0]
    return f"{kind}:{path}{ending}"


def check_export(
    path: str | Path, *, kind: str | None = None, has_clip: bool = True, overwrite: bool = False
) -> tuple[str, Path]:
    """Check, before any work is done, that an export may be made, and return its kind and path.

    Raises
    ------
    FileExistsError
        If it exists and `overwrite` is False.
    ValueError
        If kind or ending are not known, it needs the movie and there is none, needs a package that is not
        installed, or would replace something of another kind.
    """
    kind, path = export_kind(path, kind)
    if EXPORTS[kind].needs_clip and not has_clip:
        raise ValueError(f"{path} shows the movie, so it cannot be exported without one.")
    return kind, EXPORTS[kind].check(path, overwrite=overwrite)


def check_export_of(path: str | Path, ndim: int, name: str, *, largest_id: int = 0, kind: str | None = None) -> None:
    """Check, before any work is done, that labels of so many axes and with such ids can be exported to a path.

    Parameters
    ----------
    path, kind
        As for `export_kind`.
    ndim : int
        3, or 4 where frames are stacks.
    name : str
        What the labels are called in messages.
    largest_id : int
        The largest that they are known to have, such as one that was painted.

    Raises
    ------
    ValueError
        If they cannot.
    """
    kind, path = export_kind(path, kind)
    if kind == "davis":
        check_no_stacks(path, ndim, name)
        check_davis_ids(path, largest_id)
    elif kind == "ctc":
        check_ctc_ids(path, largest_id)


def export(
    path: str | Path,
    labels: Labels | npt.ArrayLike,
    lineage: Lineage,
    clip: Clip | None = None,
    *,
    kind: str | None = None,
    scale: Sequence[float] | None = None,
    seconds_per_frame: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Path:
    """Write a linked movie in one of the kinds of `EXPORTS`, whole or not at all.

    Parameters
    ----------
    path : str or Path
        As for `export_kind`.
    labels : Labels or array_like
        Frames whose labels are track ids: `TrackedMovie.labels`, whose frames are read one at a time, or integers of
        shape (T, Y, X) or (T, Z, Y, X).
    lineage : Lineage
        The tracks.
    clip : Clip, optional
        The movie: measurements then have intensities; an overlay needs it.
    kind : str, optional
        A name of `EXPORTS`; by default what the path tells.
    scale : sequence of float, optional
        Size of a pixel in micrometres, (Z, Y, X) or, without depth, (Y, X).
    seconds_per_frame : float, optional
        Time between frames of consecutive numbers.
    overwrite : bool
        Whether to replace what is there, if it is of the same kind.
    progress : callable, optional
        Told the frames done and their number, after each frame.
    **options
        Further parameters of `write_overlay_movie`, for overlay movies only.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    FileExistsError
        If it exists and `overwrite` is False.
    ValueError
        If labels, lineage and clip do not fit each other, or as `check_export`.
    TypeError
        If there is no such option.
    OSError
        If a frame cannot be read, or the disk has too little space or cannot be written.
    """
    kind, path = check_export(path, kind=kind, has_clip=clip is not None, overwrite=overwrite)
    labels = labels if isinstance(labels, Labels) else Labels(labels)
    if options and kind not in ("mp4", "gif"):
        raise TypeError(
            f"export() of {kind} has no option {next(iter(options))!r}; only overlay movies have further ones."
        )
    Units.of(labels, scale, seconds_per_frame)
    if clip is not None:
        Beside(clip, labels)
    how: dict[str, Any] = {"overwrite": overwrite, "progress": progress}
    units: dict[str, Any] = {"scale": scale, "seconds_per_frame": seconds_per_frame}
    if kind == "ctc":
        write_ctc_folder(path, labels, lineage, **how)
    elif kind == "davis":
        write_davis_folder(path, labels, lineage, **how)
    elif kind == "geff":
        write_geff(path, labels, lineage, **how, **units)
    elif kind == "measurements":
        write_measurements(path, labels, lineage, clip, **how, **units)
    elif kind == "tracks":
        write_tracks(path, labels, lineage, **how, **units)
    elif kind in ("mp4", "gif"):
        assert clip is not None
        write_overlay_movie(path, labels, lineage, clip, **how, **options)
    else:
        _write_labels(path, labels, lineage, **how)
    return path


def _write_labels(path: Path, labels: Labels, lineage: Lineage, *, overwrite: bool, progress: Progress | None) -> None:
    def frames() -> Iterator[npt.NDArray[np.int64]]:
        for frame in linked_frames(labels, lineage, progress):
            yield np.concatenate([[0], frame.ids])[frame.places]

    write_labels(
        path,
        frames(),
        shape=labels.shape,
        frame_numbers=labels.frame_numbers if labels.has_numbers else None,
        dtype=np.uint32 if max(lineage, default=0) > np.iinfo(np.uint16).max else np.uint16,
        overwrite=overwrite,
    )
