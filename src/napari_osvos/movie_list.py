"""Which movies a list of files and folders stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from natsort import natsorted

from napari_osvos.formats import PICTURE_ENDINGS, TIFF_ENDINGS, UnreadableFileError, is_zarr, open_tiff
from napari_osvos.unfinished import is_unfinished
from napari_osvos.video import VIDEO_ENDINGS

MOVIE_ENDINGS = (*TIFF_ENDINGS, ".npy", *VIDEO_ENDINGS)


def movies_in(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the movies that files, folders and patterns stand for, in natural order.

    A file, a zarr and a folder of frames (one TIFF file or picture a frame) are a movie each. A folder of anything
    else stands for the movies in it, without those in folders below: it is one if it holds a zarr, an ``.npy`` file or
    a video, or if the first of its TIFF files has a time axis. A path with ``*``, ``?`` or ``[`` that does not exist is
    a pattern, for shells that do not expand those.

    Parameters
    ----------
    paths : sequence of str or Path

    Raises
    ------
    ValueError
        If a movie comes twice, or a pattern fits nothing.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if glob.has_magic(str(path)) and not path.exists():
            fitting = [Path(name) for name in glob.glob(str(path))]
            if not fitting:
                raise ValueError(f"There is no file or folder that fits {path}.")
        else:
            fitting = [path]
        found += [movie for one in fitting for movie in _movies_at(one)]
    seen: dict[Path, Path] = {}
    for path in found:
        place = path.resolve()
        if place in seen:
            raise ValueError(f"The movie {path} is given twice.")
        seen[place] = path
    return tuple(natsorted(found, key=str))


def bare_name(movie: Path) -> str:
    """Return the name of a movie without what only tells its format."""
    name = os.path.basename(os.path.abspath(movie))  # of a link its own name, whatever it leads to
    for ending in (".ome.zarr", ".zarr", ".ome.tiff", ".ome.tif"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name if movie.is_dir() else movie.stem


def _movies_at(path: Path) -> list[Path]:
    if not path.is_dir() or is_zarr(path):
        return [path]
    inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    zarrs = [entry for entry in inside if entry.is_dir() and is_zarr(entry) and not is_unfinished(entry)]
    files = natsorted((entry for entry in inside if entry.is_file()), key=str)
    movies = [entry for entry in files if entry.suffix.lower() in MOVIE_ENDINGS]
    stacks = [entry for entry in movies if entry.suffix.lower() in TIFF_ENDINGS]
    pictures = any(entry.suffix.lower() in PICTURE_ENDINGS for entry in files)
    if zarrs or len(movies) > len(stacks) or (stacks and not pictures and _has_time(stacks[0])):
        return [*zarrs, *movies]
    return [path]


def _has_time(path: Path) -> bool:
    try:
        return "T" in (open_tiff(path).axes or "")
    except UnreadableFileError:
        return False
