"""The movies of the benchmark: where they and their truth are, and how they are to be scored."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

_SWITCHES = ("instances", "tracks", "optional")


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
    group: str = ""

    def __post_init__(self) -> None:
        for path in (self.movie, self.truth):
            if not path.exists():
                raise FileNotFoundError(f"The benchmark movie {self.name!r} names {path}, which does not exist.")
        if self.border < 0:
            raise ValueError(f"The border of the benchmark movie {self.name!r} is {self.border}; it must be 0 or more.")
        if self.tracks and not self.instances:
            raise ValueError(f"The benchmark movie {self.name!r} has tracks but no instances; it needs both.")

    @classmethod
    def from_pair(cls, pair: str, border: int = 0, instances: bool = False, tracks: bool = False) -> BenchmarkMovie:
        """Read ``MOVIE:TRUTH``; the movie is named after its file or folder, tracks go with instances.

        Raises
        ------
        ValueError
            If there are not two paths.
        FileNotFoundError
            If a path does not exist.
        """
        movie, truth = split_pair(pair)
        return cls(movie.stem or movie.name, movie, truth, border, instances=instances or tracks, tracks=tracks)


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


def read_movies(path: str | Path, root: str | Path | None = None) -> list[BenchmarkMovie]:
    """Read a list of movies from a TOML file.

    Parameters
    ----------
    path
        Has a table ``[[movie]]`` for each movie, with ``name``, ``movie``, ``truth`` and, if wanted, ``border`` (px),
        ``skip_frames``, ``group``, ``instances`` and ``tracks`` (true or false, see `BenchmarkMovie`) and ``optional``
        (true: left out where its files are missing).
    root
        Folder that the paths in the file start from; by default the folder of the file.

    Raises
    ------
    ValueError
        If the file is no TOML, or lacks or misnames an entry.
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
        missing = [key for key in ("name", "movie", "truth") if not isinstance(table.get(key), str)]
        unknown = sorted(set(table) - {"name", "movie", "truth", "border", "skip_frames", "group", *_SWITCHES})
        if missing or unknown:
            what = f"needs a text {missing[0]!r}" if missing else f"has an unknown entry {unknown[0]!r}"
            raise ValueError(f"[[movie]] number {number} of {path} {what}.")
        odd = [name for name in _SWITCHES if not isinstance(table.get(name, False), bool)]
        if odd:
            what = f"has {odd[0]} = {table[odd[0]]!r}; it must be true or false"
            raise ValueError(f"[[movie]] number {number} of {path} {what}.")
        frames, truth = base / table["movie"], base / table["truth"]
        if table.get("optional") and not (frames.exists() and truth.exists()):
            continue
        skipped = tuple(int(number) for number in table.get("skip_frames", ()))
        objects = {name: table.get(name, False) for name in ("instances", "tracks")}
        facts = {"group": str(table.get("group", "")), **objects}
        movies.append(BenchmarkMovie(table["name"], frames, truth, int(table.get("border", 0)), skipped, **facts))
    twice = {movie.name for movie in movies if [other.name for other in movies].count(movie.name) > 1}
    if twice:
        raise ValueError(f"{path} has two movies named {min(twice)!r}; names must differ.")
    return movies
