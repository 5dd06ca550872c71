"""The table of a run over many movies: what came of each, written as it goes."""

from __future__ import annotations

import csv
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
        Rows that are there are kept, for movies that are not predicted this time, or are by another process.

    Raises
    ------
    ValueError
        If the file is another table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = self._read()

    def is_done(self, output: Path, run: str) -> bool:
        """Whether the run was done for the movie of this output, and its labels are still there."""
        row = self.rows.get(output.name)
        return row is not None and row.status == DONE and row.run == run and output.exists()

    def add(self, row: SummaryRow) -> None:
        """Add a row, or replace that of the same output."""
        self.rows |= self._read()  # another process may have added some
        self.rows[row.output] = row
        with replacing(self.path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(astuple(row) for row in self.rows.values())

    def _read(self) -> dict[str, SummaryRow]:
        if not self.path.is_file():
            return {}
        with open(self.path, newline="", encoding="utf-8") as stream:
            table = csv.reader(stream)
            if tuple(next(table, ())) != COLUMNS:
                raise ValueError(f"{self.path} is not a summary of napari-osvos; move it away, or choose another -o.")
            rows = [SummaryRow(*cells) for cells in table if len(cells) == len(COLUMNS)]
        return {row.output: row for row in rows}
