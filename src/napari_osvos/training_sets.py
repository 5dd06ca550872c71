"""What a parent is trained on, found in folders as they come: stills, videos with masks, cell movies with truth.

=======================  ==================================================================================
kind                     is told by
=======================  ==================================================================================
DAVIS                    ``JPEGImages/480p/bear/00000.jpg``, ``Annotations/480p/bear/00000.png``, ``ImageSets``
YouTube-VOS              ``JPEGImages/0a1b/00005.jpg``, ``Annotations/0a1b/00005.png``
YouTube-Objects          folders ``images`` and ``labels`` side by side, at any depth
Cell Tracking Challenge  ``01/t000.tif``, ``01_ST/SEG/man_seg000.tif``, or else ``01_GT/SEG``
stills                   ``images/a.png``, ``labels/a.png``, or a folder of such sets
=======================  ==================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from natsort import natsorted

from napari_osvos.formats import PICTURE_ENDINGS

_LABEL_ENDINGS = (".png", ".bmp", ".pgm")


@dataclass(frozen=True)
class TrainingSet:
    """Images that count together as one set.

    Attributes
    ----------
    name : str
        For messages and the card of the parent.
    stills : tuple of Path
        Folders with ``images`` and ``labels``.
    movies : tuple of (Path, Path)
        Movies, and their labels.
    pictures : tuple of (Path, Path)
        Pictures, and their labels.
    """

    name: str
    stills: tuple[Path, ...] = ()
    movies: tuple[tuple[Path, Path], ...] = ()
    pictures: tuple[tuple[Path, Path], ...] = ()


def find_training_sets(folder: str | Path, split: str | None = None) -> list[TrainingSet]:
    """Tell what a folder holds.

    Parameters
    ----------
    folder : path
        See the table of this module. In a folder with both resolutions of DAVIS the smaller one, ``480p``, is taken.
    split : str, optional
        A list in the ``ImageSets`` of DAVIS, such as ``val`` or ``2016/train``; by default ``train``, of the latest
        year, and everything where there are no lists.

    Raises
    ------
    ValueError
        If there is nothing to train on, or no list of this name.
    """
    folder = Path(folder)
    if (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
        return [_video_objects(folder, split)]
    if split is not None:
        raise ValueError(f"{folder} has no lists of images to choose {split!r} from; only folders of DAVIS do.")
    inside = natsorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    movies = tuple(_cell_movies(inside))
    if movies:
        return [TrainingSet(folder.name, movies=movies)]
    stills = [path for path in (folder, *inside) if (path / "images").is_dir() and (path / "labels").is_dir()]
    if stills:
        return [TrainingSet(path.name, stills=(path,)) for path in stills]
    pictures = tuple(
        pair
        for labels in natsorted(folder.rglob("labels"))
        if labels.is_dir()
        for pair in _same_names(labels.with_name("images"), labels)
    )
    if pictures:
        return [TrainingSet(folder.name, pictures=pictures)]
    raise ValueError(
        f"{folder} holds nothing to train on: a set is a folder with the folders 'images' and 'labels', or one as "
        "DAVIS, YouTube-VOS or the Cell Tracking Challenge have it."
    )


def _video_objects(folder: Path, split: str | None) -> TrainingSet:
    """Return the pictures of DAVIS or YouTube-VOS."""
    images, labels = folder / "JPEGImages", folder / "Annotations"
    if (labels / "480p").is_dir():
        images, labels = images / "480p", labels / "480p"
    pairs = [
        pair
        for path in natsorted(p for p in (labels, *labels.rglob("*")) if p.is_dir())
        for pair in _same_names(images / path.relative_to(labels), path)
    ]
    name = folder.name
    listed = _list_of(folder / "ImageSets", split)
    if listed is not None:
        wanted = _names_in(listed)
        pairs = [(i, m) for i, m in pairs if {"/".join(m.parts[-2:]), m.parent.name} & wanted]
        name = f"{name} {listed.relative_to(folder / 'ImageSets').with_suffix('').as_posix()}"
    if not pairs:
        raise ValueError(f"{folder} holds no labels with images of the same names in JPEGImages and Annotations.")
    return TrainingSet(name, pictures=tuple(pairs))


def _list_of(folder: Path, split: str | None) -> Path | None:
    """Return the list of images of this name, of the latest year; None where there are no lists."""
    lists = natsorted(folder.rglob("*.txt")) if folder.is_dir() else []
    found = [path for path in lists if f"/{path.relative_to(folder).as_posix()}".endswith(f"/{split or 'train'}.txt")]
    if found:
        return found[-1] if re.fullmatch("20[0-9]{2}", found[-1].parent.name) else found[0]
    if split is None:
        return None
    there = ", ".join(path.relative_to(folder).with_suffix("").as_posix() for path in lists) or "none"
    raise ValueError(f"{folder} has no list {split!r}; there are {there}.")


def _names_in(listed: Path) -> set[str]:
    """Return the sequences in a list, or its labels as ``sequence/00000.png``: DAVIS has had both."""
    names: set[str] = set()
    for line in listed.read_text(encoding="utf-8").split("\n"):
        *_, last = line.split() or [""]
        if last:
            names.add("/".join(Path(last).parts[-2:]) if "/" in last else last)
    return names


def _same_names(images: Path, labels: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the pictures of two folders that have the same names, but for the endings (``a.png`` or ``a.jpg.png``)."""
    if not images.is_dir():
        return
    named = {path.stem: path for path in images.iterdir() if path.suffix.lower() in PICTURE_ENDINGS}
    for path in natsorted(p for p in labels.iterdir() if p.suffix.lower() in _LABEL_ENDINGS):
        image = named.get(path.stem) or named.get(Path(path.stem).stem)
        if image is not None:
            yield image, path


def _cell_movies(folders: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield the movies of the Cell Tracking Challenge with the truth that is complete: silver, or else gold."""
    for movie in folders:
        if not re.fullmatch("[0-9]{2}", movie.name):
            continue
        for truth in ("ST", "GT"):
            labels = movie.with_name(f"{movie.name}_{truth}") / "SEG"
            if labels.is_dir():
                yield movie, labels
                break
