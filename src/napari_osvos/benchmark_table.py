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
    "movie", "method", "parent", "n_annotated", "seed", "J", "F", "F2px", "SEG", "DET", "TRA", "F1_50", "F1_75",
    "J_recall", "J_decay", "n_scored", "n_predicted", "annotated_frames", "adapt_s", "predict_s", "link_s",
    "peak_memory_mb", "peak_device_memory_mb", "border", "device_name", "threads", "steps", "version", "fingerprint",
)  # fmt: skip
NEWER = {"SEG", "DET", "TRA", "F1_50", "F1_75", "n_predicted", "link_s"}
"""Columns that older tables lack; they read as empty."""
MEASURES = {
    "J": ("J", 3),
    "F": ("F", 3),
    "F2px": ("F at 2 px", 3),
    "SEG": ("SEG", 3),
    "DET": ("DET", 3),
    "TRA": ("TRA", 3),
    "F1_50": ("F1 at IoU 0.5", 3),
    "F1_75": ("F1 at IoU 0.75", 3),
    "adapt_s": ("adapt, s", 1),
    "predict_s": ("predict, s/frame", 2),
    "link_s": ("link, s/frame", 3),
    "peak_memory_mb": ("peak memory, MB", 0),
}
"""What the summary shows of a cell: the heading, and how many digits after the point."""
OVERVIEWS = ("J", "SEG", "TRA")
"""What the summary shows of all movies side by side."""

Row = dict[str, str]


def text(value: Any) -> str:
    """Return a value as the table holds it: nothing for None, numbers to four digits after the point."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value)


def read_table(path: str | Path) -> list[Row]:
    """Read the finished rows of a table; none where there is no file. Columns that it lacks as older are empty.

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
        there = set(reader.fieldnames or ())
        if not set(COLUMNS) - NEWER <= there <= set(COLUMNS):
            raise ValueError(f"{path} is no table of this version of the benchmark; name another file or use --force.")
        return [{name: row.get(name) or "" for name in COLUMNS} for row in reader]


def write_table(path: str | Path, rows: Sequence[Row]) -> None:
    """Write the table as CSV, whole or not at all."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the summary: J, SEG and TRA of every method and movie, then all measures of each movie.

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
        "J, F and F at 2 px are means over all frames with truth but the annotated, without the border;",
        "SEG and F1 are of the objects of the same frames, DET and TRA of all frames with truth.",
        "Peak memory is that of the whole process, Python and libraries included.",
    ]
    for n in counts:
        frames = "1 annotated frame" if n == 1 else f"{n} annotated frames"
        of_count = [(name, row) for name, row in named if int(row["n_annotated"]) == n]
        for measure in OVERVIEWS:
            shown = [movie for movie in movies if any(r[measure] for _, r in of_count if r["movie"] == movie)]
            table = []
            for method in methods:
                of_method = [row for name, row in of_count if name == method]
                cells = [_summary([r for r in of_method if r["movie"] == movie], measure) for movie in shown]
                if any(cells):
                    table.append([method, *cells])
            if table:
                lines += ["", f"## {measure}, {frames}", "", *_table(["method", *shown], table)]
    for movie in movies:
        lines += ["", f"## {movie}", ""]
        of_movie = [(name, row) for name, row in named if row["movie"] == movie]
        measures = [measure for measure in MEASURES if any(row[measure] for _, row in of_movie)]
        table = []
        for n in counts:
            for method in methods:
                of_cell = [row for name, row in of_movie if name == method and int(row["n_annotated"]) == n]
                if of_cell:
                    table.append([str(n), method, *(_summary(of_cell, measure) for measure in measures)])
        lines += _table(["frames", "method", *(MEASURES[measure][0] for measure in measures)], table)
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
            per = int(row["n_predicted"] or row["n_scored"]) if measure in ("predict_s", "link_s") else 1
            values.append(float(row[measure]) / per)
    if not values:
        return ""
    digits = MEASURES[measure][1]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
