"""The benchmark: methods x movies x numbers of annotated frames x seeds, kept cell by cell.

Each cell runs in a process of its own (`benchmark_cell`), so that peak memory is that of one method alone and a cell
that dies takes no other with it. The table is written after every cell; a second run with the same table goes on
where the first ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from napari_osvos.benchmark_cell import BASELINES, METHODS, NO_PARENT, UNTRAINED, Cell
from napari_osvos.benchmark_table import COLUMNS, KEY, Row, read_table, text, write_table
from napari_osvos.machine import versions

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
    """

    name: str
    movie: Path
    truth: Path
    border: int = 0
    skip_frames: tuple[int, ...] = ()
    instances: bool = False
    tracks: bool = False

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
        ``skip_frames``, ``instances`` and ``tracks`` (true or false, see `BenchmarkMovie`) and ``optional`` (true: left
        out where its files are missing).
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
        unknown = sorted(set(table) - {"name", "movie", "truth", "border", "skip_frames", *_SWITCHES})
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
        movies.append(BenchmarkMovie(table["name"], frames, truth, int(table.get("border", 0)), skipped, **objects))
    twice = {movie.name for movie in movies if [other.name for other in movies].count(movie.name) > 1}
    if twice:
        raise ValueError(f"{path} has two movies named {min(twice)!r}; names must differ.")
    return movies


def plan(
    movies: Sequence[BenchmarkMovie],
    *,
    methods: Sequence[str],
    parents: Sequence[str] = ("lite",),
    counts: Sequence[int] = (1, 2, 4),
    seeds: Sequence[int] = (0,),
    device: str = "auto",
    threads: int = 1,
    steps: int | None = None,
) -> list[Cell]:
    """Return every cell to measure, movie by movie, the cheapest first.

    Raises
    ------
    ValueError
        If a method is unknown or a count is below 1.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ValueError(f"There is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    if min(counts, default=1) < 1:
        raise ValueError(f"{min(counts)} annotated frames are not possible; at least 1 is needed.")
    cells = []
    for movie in movies:
        for n in counts:
            for method in methods:
                for parent in ("",) if method in BASELINES else parents:
                    # copying has nothing random in it
                    for seed in seeds[:1] if method == "nearest-mask" else seeds:
                        cells.append(
                            Cell(
                                movie=movie.name,
                                clip=str(movie.movie),
                                truth=str(movie.truth),
                                border=movie.border,
                                skip_frames=movie.skip_frames,
                                instances=movie.instances,
                                tracks=movie.tracks,
                                method=method,
                                parent=parent,
                                n_annotated=n,
                                seed=seed,
                                device=device,
                                threads=threads,
                                steps=None if method in UNTRAINED else steps,
                            )
                        )
    return cells


def fingerprint(cell: Cell) -> str:
    """Return 12 hexadecimal digits that change when a finished cell no longer holds.

    That is when the weights of the parent, the program's version, border, skipped frames, device or paths change, or
    objects or tracks are scored that were not before.
    """
    digest = hashlib.sha256()
    digest.update(
        repr(
            (versions()["napari-osvos"], cell.border, tuple(cell.skip_frames), cell.device, cell.clip, cell.truth)
        ).encode()
    )
    if cell.instances:  # cells without are those of tables that knew none
        digest.update(f"instances, tracks {cell.tracks}".encode())
    if cell.parent and not cell.method.endswith(NO_PARENT):
        file = Path(cell.parent)
        if not file.is_file():
            file = Path(str(resources.files("napari_osvos") / "parents" / f"{cell.parent}.safetensors"))
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def identify(cell: Cell) -> tuple[str, ...]:
    """Return the `KEY` of a cell as the table holds it."""
    values = {**asdict(cell), "fingerprint": fingerprint(cell)}
    return tuple(text(values[name]) for name in KEY)


def run_cell(cell: Cell) -> Row:
    """Measure one cell in a process of its own.

    Returns
    -------
    The row of the table.

    Raises
    ------
    RuntimeError
        If the process fails; the message is its last word.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(cell.threads)}
    with tempfile.TemporaryDirectory(prefix="napari-osvos-") as folder:
        measured = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "napari_osvos.benchmark_cell", str(measured)]
        done = subprocess.run(
            command, input=json.dumps(asdict(cell)), env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not measured.exists():
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
            ended = f"was killed by signal {-done.returncode}" if done.returncode < 0 else "failed"
            raise RuntimeError(f"{describe(cell)} {ended}: {last.strip()}")
        facts = json.loads(measured.read_text(encoding="utf-8"))
    values = {**asdict(cell), **facts, "fingerprint": fingerprint(cell)}
    return {name: text(values.get(name)) for name in COLUMNS}


def describe(cell: Cell) -> str:
    """Return a cell in words."""
    start = f" from {cell.parent}" if cell.parent and not cell.method.endswith(NO_PARENT) else ""
    frames = "1 frame" if cell.n_annotated == 1 else f"{cell.n_annotated} frames"
    return f"{cell.movie}, {cell.method}{start}, {frames}, seed {cell.seed}"


def pending(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Cell]:
    """Return the cells that are in none of the rows."""
    finished = {tuple(row[name] for name in KEY) for row in rows}
    return [cell for cell in cells if identify(cell) not in finished]


def run(cells: Sequence[Cell], table: str | Path) -> Iterator[tuple[Cell, Row | RuntimeError]]:
    """Measure the cells that the table does not hold yet, writing it after each.

    A row that no longer holds (see `fingerprint`) is replaced.

    Yields
    ------
    Each cell that was measured now, with its row; or with what went wrong, in which case the next run tries it again.
    """
    rows = read_table(table)
    for cell in pending(cells, rows):
        try:
            row = run_cell(cell)
        except RuntimeError as error:
            yield cell, error
            continue
        rows = [other for other in rows if _cell_of(other) != _cell_of(row)] + [row]
        write_table(table, rows)
        yield cell, row


def _cell_of(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY if name != "fingerprint")
