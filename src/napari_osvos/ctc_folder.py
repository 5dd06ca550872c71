"""Tracks in a folder as the Cell Tracking Challenge has it: a mask a frame, and ``res_track.txt``.

The challenge wants each track to have a mask in each frame from its first to its last; "if it is clear that the
same object reappears, link its track to its predecessor using a parent link" (its annotation procedure, page 2,
http://public.celltrackingchallenge.net/documents/Annotation%20procedure.pdf). So a track that is hidden for a while
is written as pieces, each the only daughter of the one before, and joined again when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import METADATA_KEY, UnreadableFileError, open_tiff
from napari_osvos.io import read_labels
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.linked_movie import Progress, linked_frames
from napari_osvos.machine import check_space
from napari_osvos.writing import COMPRESSED_LABELS, replacing_folder

TRACK_FILES = ("res_track.txt", "man_track.txt")
LARGEST_ID = 65535


def check_ctc_folder(path: str | Path, *, overwrite: bool = False) -> Path:
    """Check, before any work is done, that a folder may be written under this name.

    Raises
    ------
    FileExistsError
        If it exists, is not empty, and `overwrite` is False.
    ValueError
        If it is a file, or a folder that holds anything but ``mask*.tif`` and ``res_track.txt``.
    """
    path = Path(path)
    if not path.exists():
        return path
    if not path.is_dir():
        raise ValueError(f"{path} is a file, which a folder never replaces; choose another name.")
    inside = sorted(entry.name for entry in path.iterdir())
    strange = [name for name in inside if name != TRACK_FILES[0] and not _is_mask(name)]
    if strange:
        raise ValueError(f"{path} holds {strange[0]}, which no exported folder does; choose another name.")
    if inside and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or allow overwriting it.")
    return path


def check_ctc_ids(path: str | Path, largest: int) -> None:
    """Raise ValueError if a folder cannot hold ids up to `largest`."""
    if largest > LARGEST_ID:
        raise ValueError(
            f"{path} cannot hold the id {largest}: "
            f"a folder of the Cell Tracking Challenge has no ids above {LARGEST_ID}; export to another format."
        )


def write_ctc_folder(
    path: str | Path, labels: Labels, lineage: Lineage, *, overwrite: bool = False, progress: Progress | None = None
) -> None:
    """Write ``mask000.tif``, ``mask001.tif`` ... and ``res_track.txt``, as the Cell Tracking Challenge wants them.

    Masks are uint16, (Y, X) or (Z, Y, X), deflated. ``res_track.txt`` has a line ``L B E P`` a track: label, first and
    last frame, mother or 0. Frames are counted from 0, as the challenge wants it, which is what the frame numbers
    usually are; where they are others, each mask keeps its own in its description, and `read_ctc_folder` restores it.
    A track with gaps becomes pieces; the first piece keeps the id, the others take free ones.

    Parameters
    ----------
    path : str or Path
        The folder; it appears only when it is complete.
    labels, lineage
        A linked movie.
    overwrite : bool
        Whether to replace such a folder that is there.
    progress : callable, optional
        Told the frames done and their number.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    ValueError
        If labels and lineage do not fit, an id or the number of pieces exceeds 65,535, or `path` is something else.
    OSError
        If the disk has too little space or cannot be written.
    """
    import tifffile

    path = check_ctc_folder(path, overwrite=overwrite)
    pieces = _Pieces(lineage, str(path))
    n_bytes = int(np.prod(labels.shape, dtype=np.int64)) * 2
    check_space(path, int(n_bytes * COMPRESSED_LABELS))
    digits = max(3, len(str(labels.n_frames - 1)))
    axes = "ZYX" if labels.ndim == 4 else "YX"
    counted = labels.frame_numbers == tuple(range(labels.n_frames))
    with replacing_folder(path) as partial:
        partial.mkdir()
        for frame in linked_frames(labels, lineage, progress):
            written = np.array([0, *pieces.at(frame.position, frame.ids.tolist())], np.uint16)
            notes = {} if counted else {METADATA_KEY: {"axes": axes, "frame_numbers": [frame.number]}}
            tifffile.imwrite(
                partial / f"mask{frame.position:0{digits}d}.tif",
                written[frame.places],
                photometric="minisblack",
                compression="zlib",
                metadata={"axes": axes, **notes},
            )
        lines = [f"{t.id} {t.first} {t.last} {t.mother}\n" for t in pieces.tracks().values()]
        (partial / TRACK_FILES[0]).write_text("".join(lines), encoding="ascii", newline="\n")


class _Pieces:
    """Tracks cut where they are hidden, in positions of frames rather than their numbers."""

    def __init__(self, lineage: Lineage, path: str) -> None:
        self._path = path
        largest = max(lineage, default=0)
        check_ctc_ids(path, largest)
        self._lineage = lineage
        after = range(largest + 1, LARGEST_ID + 1)
        self._free = (id for id in chain(after, range(1, largest)) if id not in lineage)
        self._current: dict[int, int] = {}  # id of a track -> id of its piece
        self._lives: dict[int, list[int]] = {}  # id of a piece -> first, last, mother

    def at(self, position: int, ids: list[int]) -> list[int]:
        """Ids of the pieces that the tracks of the frame at a position go on as, or begin."""
        return [self._piece(position, id) for id in ids]

    def _piece(self, position: int, id: int) -> int:
        piece = self._current.get(id)
        if piece is None:
            piece = self._current[id] = id
            # the mother has ended, so her last piece is known
            self._lives[piece] = [position, position, self._current.get(self._lineage[id].mother, 0)]
        elif self._lives[piece][1] == position - 1:
            self._lives[piece][1] = position
        else:
            before, piece = piece, next(self._free, 0)
            if not piece:
                raise ValueError(
                    f"{self._path} cannot hold so many tracks: cut at their gaps they are more than {LARGEST_ID}, "
                    "the most that a folder of the Cell Tracking Challenge holds; export to another format."
                )
            self._current[id] = piece
            self._lives[piece] = [position, position, before]
        return piece

    def tracks(self) -> Lineage:
        return Lineage(Track(id, *life) for id, life in self._lives.items())


def read_ctc_tracks(path: str | Path) -> Lineage:
    """Read ``res_track.txt`` or ``man_track.txt``; frames are counted from 0.

    Parameters
    ----------
    path : str or Path
        The file, or its folder, such as ``02_RES`` or ``02_GT`` (whose ``TRA`` has it).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnreadableFileError
        If a line is not four whole numbers.
    ValueError
        If the tracks contradict each other; see `Lineage`.
    """
    file = _track_file(Path(path))
    tracks = []
    for count, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            id, first, last, mother = map(int, words)
        except ValueError:
            raise UnreadableFileError(
                f"Line {count} of {file} is {line.strip()!r}; it must be four whole numbers: id, first, last, mother."
            ) from None
        tracks.append(Track(id, first, last, mother))
    try:
        return Lineage(tracks)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def read_ctc_folder(path: str | Path, *, join_gaps: bool = True) -> tuple[Labels, Lineage]:
    """Read a linked movie from a folder of the Cell Tracking Challenge, its labels frame by frame, later.

    Parameters
    ----------
    path : str or Path
        A folder with masks and ``res_track.txt`` or ``man_track.txt``, or one with such a folder ``TRA``.
    join_gaps : bool
        Whether a track that begins, after a gap, as the only daughter of another is that one again.

    Returns
    -------
    labels, lineage
        Labels are track ids.

    Raises
    ------
    FileNotFoundError, UnreadableFileError, ValueError
        As `read_ctc_tracks` and `read_labels`.
    """
    folder = _track_file(Path(path)).parent
    lineage = read_ctc_tracks(folder)
    labels = read_labels(folder)
    first = labels.frame_numbers[0]
    same = {id: id for id in lineage}
    if join_gaps:
        lineage, same = _joined(lineage)
    numbers = _movie_numbers(folder, labels)
    if numbers is not None:
        place = {first + k: number for k, number in enumerate(numbers)}
        tracks = lineage.values()
        try:
            lineage = Lineage(Track(t.id, place[t.first], place[t.last], t.mother) for t in tracks)
        except KeyError as error:
            raise UnreadableFileError(f"{folder} has tracks in frame {error.args[0]}, but no mask of it.") from None
    elif all(id == other for id, other in same.items()):
        return labels, lineage
    renumbered = _Renumbered(labels, same)
    axes = "TZYX" if labels.ndim == 4 else "TYX"
    return Labels(renumbered, axes, frame_numbers=numbers or labels.frame_numbers, name=labels.name), lineage


def _joined(lineage: Lineage) -> tuple[Lineage, dict[int, int]]:
    """Tracks with their pieces joined, and the new id of each id."""
    same: dict[int, int] = {}
    joined: dict[int, Track] = {}
    divisions = lineage.divisions
    for track in sorted(lineage.values(), key=lambda track: (track.first, track.id)):
        before = lineage.get(track.mother)
        again = before is not None and len(divisions[before.id]) == 1 and track.first > before.last + 1
        id = same[track.id] = same[track.mother] if again else track.id
        if again:
            joined[id] = Track(id, joined[id].first, track.last, joined[id].mother)
        else:
            joined[id] = Track(id, track.first, track.last, same.get(track.mother, 0))
    return Lineage(joined.values()), same


class _Renumbered:
    """Labels with other ids, as an array that is read frame by frame."""

    def __init__(self, labels: Labels, same: dict[int, int]) -> None:
        self._labels = labels
        self.shape, self.dtype = labels.shape, labels.dtype
        self._table = np.arange(max(same, default=0) + 1, dtype=np.int32)
        self._table[list(same)] = list(same.values())

    def __getitem__(self, index: Any) -> npt.NDArray[np.int32]:
        t, *rest = index
        plane = self._labels.plane(t * self._labels.depth + (rest[0] if self._labels.ndim == 4 else 0))
        known = plane < len(self._table)
        renumbered = np.where(known, self._table[np.where(known, plane, 0)], plane)
        return np.asarray(renumbered[tuple(rest[-2:])])


def _movie_numbers(folder: Path, labels: Labels) -> tuple[int, ...] | None:
    """Numbers of the frames in the movie, where the masks tell them."""
    found: list[int] = []
    for path in _masks(folder):
        numbers = open_tiff(path, labels=True).frame_numbers
        if numbers is None or len(numbers) != 1:
            return None
        found += numbers
    return tuple(found) if len(found) == labels.n_frames else None


def _masks(folder: Path) -> Iterator[Path]:
    return iter(sorted((p for p in folder.iterdir() if _is_mask(p.name)), key=lambda p: int(p.stem[4:])))


def _is_mask(name: str) -> bool:
    return name.startswith("mask") and name.endswith(".tif") and name[4:-4].isdecimal()


def _track_file(path: Path) -> Path:
    if path.is_file():
        return path
    for folder in (path, path / "TRA"):
        for name in TRACK_FILES:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"{path} has no {' or '.join(TRACK_FILES)}; a folder of tracks has one of them.")
