"""The benchmark: methods x movies x numbers of annotated frames x seeds, kept cell by cell.

Each cell runs in a process of its own (`benchmark_cell`), so that peak memory is that of one method alone and a cell
that dies takes no other with it. The table is written after every cell; a second run with the same table goes on
where the first ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from napari_osvos.benchmark_cell import Cell
from napari_osvos.benchmark_methods import TIMED
from napari_osvos.benchmark_plan import (
    Seen,
    cell_of,
    describe,
    fingerprint,
    identify,
    lacks_seconds,
    may_hold,
    timer,
)
from napari_osvos.benchmark_table import COLUMNS, KEY, Row, key_of, key_without, read_table, text, write_table


def run_cell(cell: Cell) -> tuple[Row, str]:
    """Measure one cell in a process of its own.

    Returns
    -------
    The row of the table, and what the process warns of; nothing where all went well.

    Raises
    ------
    RuntimeError
        If the process fails; the message is its last word.
    """
    try:
        held = fingerprint(cell)  # of the files as they are before they are read
    except OSError as error:
        raise RuntimeError(f"{describe(cell)} failed: {error}") from None
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
    warning = f"{describe(cell)}: {facts['warning']}" if facts["warning"] else ""
    values = {**asdict(cell), **facts, "fingerprint": held}
    return {name: text(values.get(name)) for name in COLUMNS}, warning


def pending(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Cell]:
    """Return the cells that are in none of the rows."""
    finished, seen = {key_of(row) for row in rows}, Seen()
    return [cell for cell in cells if identify(cell, seen) not in finished]


def outdated(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Cell]:
    """Return the cells that take the place of a row which no longer holds (see `benchmark_plan.fingerprint`)."""
    measured = {_cell_of(row) for row in rows}
    return [cell for cell in pending(cells, rows) if _named(cell) in measured]


def out_of_place(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Row]:
    """Return the rows of planned movies that do not hold beside what is planned: they were measured in another way.

    That is with another border, void label, device and so on (see `benchmark_plan.fingerprint`). Rows of other movies
    are not judged.
    """
    seen, of_movie = Seen(), {cell.movie: cell for cell in cells}
    planned = {identify(cell, seen) for cell in cells}
    lenders = [row["parent"] for row in rows if row["method"] == TIMED]
    lenders += [cell.timed_by for cell in cells if cell.timed_by]
    return [
        row
        for row in rows
        if row["movie"] in of_movie
        and key_of(row) not in planned
        and not may_hold(row, of_movie[row["movie"]], list(dict.fromkeys(lenders)), seen)
    ]


def left_over(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Cell]:
    """Return, as cells, the rows that are `out_of_place` and that no planned cell takes the place of."""
    of_movie = {cell.movie: cell for cell in cells}
    replaced = set(map(_named, cells))
    left = [row for row in out_of_place(cells, rows) if _cell_of(row) not in replaced]
    return [cell_of(row, of_movie[row["movie"]]) for row in left]


def run(cells: Sequence[Cell], table: str | Path) -> Iterator[tuple[Cell, Row | RuntimeError]]:
    """Measure the cells that the table does not hold yet, writing it after each.

    A row that no longer holds (see `benchmark_plan.fingerprint`) is replaced, or left out where measuring it fails.

    Yields
    ------
    Each cell that was measured now, with its row; or with what went wrong, in which case the next run tries it again.

    Warns
    -----
    UserWarning
        If a picture could not be drawn; the row is kept.
    """
    before = read_table(table)
    rows = renamed(before, cells)
    if rows != before:
        write_table(table, rows)
    for cell in pending(cells, rows):
        found: Row | RuntimeError
        warning = ""
        try:
            found, warning = run_cell(_timed(cell, rows))
        except RuntimeError as error:
            found = error
        others = [row for row in rows if _cell_of(row) != _named(cell)]
        new = [found] if isinstance(found, dict) else []
        if others + new != rows:
            rows = others + new
            write_table(table, rows)
        if warning:
            warnings.warn(warning, stacklevel=2)
        yield cell, found


def renamed(rows: Sequence[Row], cells: Sequence[Cell]) -> list[Row]:
    """Return the rows with the names and groups that their movies have now.

    A movie that has another name is known by those rows of it that are planned, since a fingerprint knows the files.
    Its other rows follow, unless there is such a row under the new name. Beside a row that holds, those of the same
    cell that do not are left out.
    """
    seen = Seen()
    planned = dict.fromkeys(identify(cell, seen) for cell in cells)
    names = _new_names(rows, list(planned))
    stay = [row for row in rows if row["movie"] not in names or key_of(row) in planned]
    keys, taken = set(map(key_of, stay)), set(map(_cell_of, stay))
    groups = {cell.movie: cell.group for cell in cells}
    found = []
    for row in rows:
        new = row | {"movie": names.get(row["movie"], row["movie"])}
        free = key_of(new) not in keys if key_of(new) in planned else _cell_of(new) not in taken
        if key_of(row) in planned or not free:
            new = row
        keys.add(key_of(new))
        taken.add(_cell_of(new))
        found.append(new | {"group": groups.get(new["movie"], new["group"])})
    held = {_cell_of(row) for row in found if key_of(row) in planned}
    return [row for row in found if key_of(row) in planned or _cell_of(row) not in held]


def _new_names(rows: Sequence[Row], planned: Sequence[tuple[str, ...]]) -> dict[str, str]:
    """Return by their old names what movies are called now that were called otherwise when they were measured."""
    now = {key_without(key, "movie"): key[KEY.index("movie")] for key in planned}
    names: dict[str, str] = {}
    for row in rows:
        name = now.get(key_without(key_of(row), "movie"))
        if name is not None and key_of(row) not in planned:
            names.setdefault(row["movie"], name)
    return names


def _timed(cell: Cell, rows: Sequence[Row]) -> Cell:
    """Return a cell with the seconds that another was measured to take, if it is to have them."""
    lender = timer(cell)
    if lender is None:
        return cell
    wanted = identify(lender)
    for row in rows:
        if key_of(row) == wanted:
            return replace(cell, seconds=float(row["train_s"] or row["adapt_s"]))
    raise RuntimeError(lacks_seconds(cell))


def _cell_of(row: Row) -> tuple[str, ...]:
    return key_without(key_of(row), "fingerprint")


def _named(cell: Cell) -> tuple[str, ...]:
    """Return what names a cell, whether or not its row still holds."""
    return tuple(text(getattr(cell, name)) for name in KEY if name != "fingerprint")
