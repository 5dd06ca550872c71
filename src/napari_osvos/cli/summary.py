"""The table of a run over many movies: what came of each, written as it goes."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from napari_osvos.machine import replacing

DONE = "done"


@dataclass(frozen=True)
class SummaryRow:
    """What came of a movie; all as text.

    Attributes
    ----------
    movie, output : str
        Paths.
    frames : str
        How many were labelled.
    objects : str
        Tracks; where they are not linked, objects of all frames together.
    mean_confidence : str
        Over the frames, in [0, 1].
    seconds : str
        That it took, without those of runs that were broken off.
    status : str
        ``done``, or why not.
    run : str
        What tells a run from one with another segmenter, settings or movie.
    """

    movie: str
    output: str
    frames: str = ""
    objects: str = ""
    mean_confidence: str = ""
    seconds: str = ""
    status: str = DONE
    run: str = ""


COLUMNS = tuple(column.name for column in fields(SummaryRow))


class Summary:
    """A CSV file with a row a movie, whole at any time.

    Parameters
    ----------
    path : Path
        Rows that are there are kept, for movies that are not predicted this time.

    Raises
    ------
    ValueError
        If the file is another table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, SummaryRow] = {}
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as stream:
                table = csv.reader(stream)
                if tuple(next(table, ())) != COLUMNS:
                    raise ValueError(f"{path} is not a summary of napari-osvos; move it away, or choose another -o.")
                for cells in table:
                    if len(cells) == len(COLUMNS):
                        row = SummaryRow(*cells)
                        self.rows[row.output] = row

    def is_done(self, output: Path, run: str, others: Iterable[Path] = ()) -> bool:
        """Whether the run was done for the movie of this output, and its files are still there."""
        row = self.rows.get(output.name)
        done = row is not None and row.status == DONE and row.run == run
        return done and all(path.exists() for path in (output, *others))

    def add(self, row: SummaryRow) -> None:
        """Add a row, or replace that of the same output."""
        self.rows[row.output] = row
        with replacing(self.path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(astuple(row) for row in self.rows.values())
