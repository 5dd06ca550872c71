"""The table of a benchmark: one row for each cell as CSV, and a summary as Markdown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from napari_osvos.machine import replacing

KEY = ("movie", "method", "parent", "n_annotated", "seed", "threads", "steps", "fingerprint")
"""The columns that say which cell a row is."""
COLUMNS = (
    "movie", "method", "parent", "n_annotated", "seed", "J", "F", "F2px", "J_recall", "J_decay", "n_scored",
    "annotated_frames", "adapt_s", "predict_s", "peak_memory_mb", "peak_device_memory_mb", "border", "device_name",
    "threads", "steps", "version", "fingerprint",
)  # fmt: skip
MEASURES = {
    "J": ("J", 3),
    "F": ("F", 3),
    "F2px": ("F at 2 px", 3),
    "adapt_s": ("adapt, s", 1),
    "predict_s": ("predict, s/frame", 2),
    "peak_memory_mb": ("peak memory, MB", 0),
}
"""What the summary shows of a cell: the heading, and how many digits after the point."""

Row = dict[str, str]


def text(value: Any) -> str:
    """Return a value as the table holds it: nothing for None, numbers to four digits after the point."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value)


def read_table(path: str | Path) -> list[Row]:
    """Read the finished rows of a table; none where there is no file.

    Raises
    ------
    ValueError
        If the file is no table of a benchmark.
    """
    path = Path(path)
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} is no table of this version of the benchmark; name another file or use --force.")
        return list(reader)


def write_table(path: str | Path, rows: Sequence[Row]) -> None:
    """Write the table as CSV, whole or not at all."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the summary: J of every method and movie, then all measures of each movie.

    Means over the seeds; with more than one seed, +- their standard deviation. Where there are several parents, the
    name of the parent stands beside the method.
    """
    if not rows:
        return "# Benchmark\n\nNothing has been measured yet.\n"
    several_parents = len({row["parent"] for row in rows} - {""}) > 1
    named = [(_method(row, several_parents), row) for row in rows]
    methods = list(dict.fromkeys(name for name, _ in named))
    movies = list(dict.fromkeys(row["movie"] for row in rows))
    counts = sorted({int(row["n_annotated"]) for row in rows})
    devices = sorted(
        {row["device_name"] for row in rows if not _is_baseline(row)} or {row["device_name"] for row in rows}
    )
    seeds = sorted({int(row["seed"]) for row in rows})
    lines = [
        "# Benchmark",
        "",
        f"napari-osvos {', '.join(sorted({row['version'] for row in rows}))}; {'; '.join(devices)};"
        f" {', '.join(sorted({row['threads'] for row in rows}))} threads; seeds {', '.join(map(str, seeds))}.",
        "J, F and F at 2 px are means over all frames with truth but the annotated, without the border.",
        "Peak memory is that of the whole process, Python and libraries included.",
    ]
    for n in counts:
        frames = "1 annotated frame" if n == 1 else f"{n} annotated frames"
        of_count = [(name, row) for name, row in named if int(row["n_annotated"]) == n]
        table = []
        for method in methods:
            cells = [_summary([r for m, r in of_count if m == method and r["movie"] == movie], "J") for movie in movies]
            if any(cells):
                table.append([method, *cells])
        lines += ["", f"## J, {frames}", "", *_table(["method", *movies], table)]
    for movie in movies:
        lines += ["", f"## {movie}", ""]
        table = []
        for n in counts:
            for method in methods:
                of_cell = [r for m, r in named if m == method and r["movie"] == movie and int(r["n_annotated"]) == n]
                if of_cell:
                    table.append([str(n), method, *(_summary(of_cell, measure) for measure in MEASURES)])
        lines += _table(["frames", "method", *(heading for heading, _ in MEASURES.values())], table)
    return "\n".join(lines) + "\n"


def write_markdown(path: str | Path, rows: Sequence[Row]) -> None:
    """Write the summary, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(to_markdown(rows), encoding="utf-8")


def _is_baseline(row: Row) -> bool:
    return not row["parent"]


def _method(row: Row, several_parents: bool) -> str:
    name = row["method"] if not several_parents or _is_baseline(row) else f"{row['method']} ({row['parent']})"
    return f"{name}, {row['steps']} steps" if row["steps"] else name


def _summary(rows: Iterable[Row], measure: str) -> str:
    """Return the mean over rows, and +- the standard deviation where there are several; nothing of none."""
    values = []
    for row in rows:
        if row[measure]:
            per = int(row["n_scored"]) if measure == "predict_s" else 1
            values.append(float(row[measure]) / per)
    if not values:
        return ""
    digits = MEASURES[measure][1]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
