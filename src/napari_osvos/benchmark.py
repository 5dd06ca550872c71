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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from napari_osvos.benchmark_cell import Cell
from napari_osvos.benchmark_plan import describe, fingerprint, identify, lacks_seconds, timer
from napari_osvos.benchmark_table import COLUMNS, KEY, Row, key_of, read_table, text, write_table


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


def pending(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Cell]:
    """Return the cells that are in none of the rows."""
    finished = {key_of(row) for row in rows}
    return [cell for cell in cells if identify(cell) not in finished]


def outdated(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Cell]:
    """Return the cells that take the place of a row which no longer holds (see `benchmark_plan.fingerprint`)."""
    measured = {_cell_of(row) for row in rows}
    return [cell for cell in pending(cells, rows) if _named(identify(cell)) in measured]


def run(cells: Sequence[Cell], table: str | Path) -> Iterator[tuple[Cell, Row | RuntimeError]]:
    """Measure the cells that the table does not hold yet, writing it after each.

    A row that no longer holds (see `benchmark_plan.fingerprint`) is replaced.

    Yields
    ------
    Each cell that was measured now, with its row; or with what went wrong, in which case the next run tries it again.
    """
    before = read_table(table)
    rows = _grouped(before, cells)
    if rows != before:
        write_table(table, rows)
    for cell in pending(cells, rows):
        try:
            row = run_cell(_timed(cell, rows))
        except RuntimeError as error:
            yield cell, error
            continue
        rows = [other for other in rows if _cell_of(other) != _cell_of(row)] + [row]
        write_table(table, rows)
        yield cell, row


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


def _grouped(rows: Sequence[Row], cells: Sequence[Cell]) -> list[Row]:
    """Return the rows with the names and groups that their movies have now."""
    at = KEY.index("movie")
    names = {key[:at] + key[at + 1 :]: key[at] for key in map(identify, cells)}  # a fingerprint knows the paths
    there = set(map(key_of, rows))
    groups = {cell.movie: cell.group for cell in cells}
    now = []
    for row in rows:
        key = key_of(row)
        name = names.get(key[:at] + key[at + 1 :], row["movie"])
        if (*key[:at], name, *key[at + 1 :]) in there:
            name = row["movie"]
        now.append(row | {"movie": name, "group": groups.get(name, row["group"])})
    return now


def _cell_of(row: Row) -> tuple[str, ...]:
    return _named(key_of(row))


def _named(key: tuple[str, ...]) -> tuple[str, ...]:
    """Return a key without what tells whether it still holds."""
    at = KEY.index("fingerprint")
    return key[:at] + key[at + 1 :]
