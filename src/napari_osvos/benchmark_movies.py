"""The movies of the benchmark: where they and their truth are, and how they are to be scored."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_osvos.benchmark_table import told_apart


@dataclass(frozen=True)
class BenchmarkMovie:
    """A movie with truth.

    Attributes
    ----------
    name
        What the tables call it.
    movie, truth
        Stack or folder of frames.
    border
        Pixels along each edge that are not scored, where the truth is not annotated.
    skip_frames
        Numbers of frames whose truth is missing or wrong, neither painted nor scored.
    instances
        Whether each label of the truth is one of many objects that look alike: they are to be told apart.
    tracks
        Whether the labels of the truth name the same object in every frame: objects are to be followed.
    void_label
        Label of the pixels of the truth that do not count, neither painted nor scored.
    group
        Movies of one group, such as the sequences of one data set, count as one in the mean over movies. Empty for a
        group of its own.
    """

    name: str
    movie: Path
    truth: Path
    border: int = 0
    skip_frames: tuple[int, ...] = ()
    instances: bool = False
    tracks: bool = False
    void_label: int | None = None
    group: str = ""

    def __post_init__(self) -> None:
        for path in (self.movie, self.truth):
            if not path.exists():
                raise FileNotFoundError(f"The benchmark movie {self.name!r} names {path}, which does not exist.")
        if self.border < 0:
            raise ValueError(f"The border of the benchmark movie {self.name!r} is {self.border}; it must be 0 or more.")
        if self.void_label is not None and self.void_label < 1:
            raise ValueError(
                f"The void label of the benchmark movie {self.name!r} is {self.void_label}; it must be 1 or more."
            )
        if self.tracks and not self.instances:
            raise ValueError(f"The benchmark movie {self.name!r} has tracks but no instances; it needs both.")


def split_pair(pair: str) -> tuple[Path, Path]:
    """Read ``MOVIE:LABELS``.

    Raises
    ------
    ValueError
        If there are not two paths.
    """
    # the colon of a Windows drive, as in C:\\movie.tif:C:\\truth.tif, parts nothing
    parts = re.fullmatch(r"((?:[A-Za-z]:[\\/])?[^:]+):((?:[A-Za-z]:[\\/])?[^:]+)", pair)
    if parts is None:
        raise ValueError(f"{pair!r} is no pair of a movie and its labels; write MOVIE:LABELS.")
    return Path(parts[1]), Path(parts[2])


def read_pairs(
    pairs: Sequence[str],
    border: int = 0,
    instances: bool = False,
    tracks: bool = False,
    void_label: int | None = None,
) -> list[BenchmarkMovie]:
    """Read each ``MOVIE:TRUTH``; tracks go with instances.

    A movie is named after its file, without the ending, or its folder, and where that is the name of several, after as
    many of the folders that it is in as tell them apart: ``GOWT1-02`` and ``HeLa-02``. Files of one folder that differ
    in their endings alone keep these.

    Raises
    ------
    ValueError
        If there are not two paths.
    FileNotFoundError
        If a path does not exist.
    """
    paths = [split_pair(pair) for pair in pairs]
    places = [Path(os.path.abspath(movie)) for movie, _ in paths]  # of a link its own name, whatever it leads to
    own = zip(places, _own_names(places), strict=True)
    names = told_apart([[*place.parent.parts[1:], name] for place, name in own])
    return [
        BenchmarkMovie(name, movie, truth, border, instances=instances or tracks, tracks=tracks, void_label=void_label)
        for name, (movie, truth) in zip(names, paths, strict=True)
    ]


def _own_names(places: Sequence[Path]) -> list[str]:
    """Return the name of each file or folder; without the ending of its format, unless that tells it from another."""

    def is_folder(place: Path) -> bool:  # whose name has no ending, only a point
        return place.is_dir() and place.suffix.lower() != ".zarr"

    short = {place: place.name if is_folder(place) else place.stem for place in places}
    times = Counter((place.parent, name) for place, name in short.items())
    return [place.name if times[place.parent, short[place]] > 1 else short[place] for place in places]


def check_names(movies: Sequence[BenchmarkMovie], where: str) -> None:
    """Make sure that no two movies have the same name: the rows of one would take the place of the other's.

    Parameters
    ----------
    movies
        All that go into one table.
    where
        What names them, for the message.

    Raises
    ------
    ValueError
        If two have.
    """
    named: dict[str, BenchmarkMovie] = {}
    for movie in movies:
        other = named.setdefault(movie.name, movie)
        if other is not movie:
            raise ValueError(
                f"{where} has two movies named {movie.name!r}, {other.movie} and {movie.movie}; names must differ."
            )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_whole(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


_NEEDED = ("name", "movie", "truth")
_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys((*_NEEDED, "group"), (_is_text, "a text")),
    **dict.fromkeys(("border", "void_label"), (_is_whole, "a whole number")),
    "skip_frames": (_are_whole, "a list of whole numbers"),
    **dict.fromkeys(("instances", "tracks", "optional"), (_is_switch, "true or false")),
}
"""What a list may say of a movie: what it has to be, and in words."""


def read_movies(path: str | Path, root: str | Path | None = None) -> list[BenchmarkMovie]:
    """Read a list of movies from a TOML file.

    Parameters
    ----------
    path
        Has a table ``[[movie]]`` for each movie, with ``name``, ``movie``, ``truth`` and, if wanted, ``border`` (px),
        ``void_label``, ``skip_frames``, ``group``, ``instances`` and ``tracks`` (true or false, see `BenchmarkMovie`)
        and ``optional`` (true: left out where its files are missing).
    root
        Folder that the paths in the file start from; by default the folder of the file.

    Raises
    ------
    ValueError
        If the file is no TOML, lacks or misnames an entry or has one of the wrong kind, or two movies have one name.
    FileNotFoundError
        If the file, or a movie that is not optional, does not exist.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("movie", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}.") from None
    if not isinstance(tables, list) or not tables:
        raise ValueError(f"{path} lists no movie; it needs a table [[movie]] for each.")
    movies = []
    for number, table in enumerate(tables, start=1):
        _check_entries(table, f"[[movie]] number {number} of {path}")
        frames, truth = base / table["movie"], base / table["truth"]
        if table.get("optional") and not (frames.exists() and truth.exists()):
            continue
        facts = {key: table[key] for key in ("border", "group", "instances", "tracks", "void_label") if key in table}
        skipped = tuple(table.get("skip_frames", ()))
        movies.append(BenchmarkMovie(table["name"], frames, truth, skip_frames=skipped, **facts))
    check_names(movies, str(path))
    return movies


def _check_entries(table: Any, where: str) -> None:
    """Raise ValueError if a movie of a list lacks an entry, or has an unknown one or one of the wrong kind."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} is {table!r}; it must be a table.")
    missing = [key for key in _NEEDED if key not in table]
    unknown = sorted(set(table) - set(_ENTRIES))
    if missing or unknown:
        what = f"needs a text {missing[0]!r}" if missing else f"has an unknown entry {unknown[0]!r}"
        raise ValueError(f"{where} {what}.")
    for key, value in table.items():
        fits, words = _ENTRIES[key]
        if not fits(value):
            raise ValueError(f"{where} has {key} = {value!r}; it must be {words}.")
