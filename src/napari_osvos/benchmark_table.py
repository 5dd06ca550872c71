"""The table of a benchmark: one row for each cell as CSV, and a summary as Markdown."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from napari_osvos.machine import replacing

KEY = ("movie", "method", "parent", "n_annotated", "seed", "threads", "steps", "fingerprint")
"""The columns that say which cell a row is."""
COLUMNS = (
    "movie", "group", "method", "parent", "n_annotated", "seed",
    "J", "F", "F2px", "SEG", "DET", "TRA", "F1_50", "F1_75", "J_recall", "J_decay", "F_recall", "F_decay",
    "J_frames", "n_scored", "n_predicted", "annotated_frames", "read_s", "adapt_s", "predict_s",
    "post_s", "link_s", "train_s", "updates", "peak_memory_mb", "peak_device_memory_mb", "border", "device_name",
    "threads", "steps", "version", "fingerprint",
)  # fmt: skip
NEWER = {
    "SEG", "DET", "TRA", "F1_50", "F1_75", "n_predicted", "link_s",
    "group", "J_frames", "read_s", "post_s", "train_s", "updates", "F_recall", "F_decay",
}  # fmt: skip
"""Columns that older tables lack; they read as empty. Without ``read_s`` and ``post_s`` other seconds hold those."""
PARTS = ("read_s", "adapt_s", "predict_s", "post_s", "link_s")
"""The seconds that add up to those of a measurement."""
MEASURES = {
    "J": ("J", 3),
    "J_recall": ("J recall", 3),
    "J_decay": ("J decay", 3),
    "F": ("F", 3),
    "F_recall": ("F recall", 3),
    "F_decay": ("F decay", 3),
    "F2px": ("F at 2 px", 3),
    "SEG": ("SEG", 3),
    "DET": ("DET", 3),
    "TRA": ("TRA", 3),
    "F1_50": ("F1 at IoU 0.5", 3),
    "F1_75": ("F1 at IoU 0.75", 3),
    "read_s": ("read, s", 1),
    "adapt_s": ("adapt, s", 1),
    "updates": ("updates", 0),
    "predict_s": ("predict, s/frame", 2),
    "post_s": ("labels, s/frame", 3),
    "link_s": ("link, s/frame", 3),
    "peak_memory_mb": ("peak memory, MB", 0),
    "peak_device_memory_mb": ("peak GPU memory, MB", 0),
}
"""What the summary shows of a cell: the heading, and how many digits after the point."""
PER_FRAME = ("predict_s", "post_s", "link_s")
OVERVIEWS = ("J", "SEG", "TRA", "adapt_s")
"""What the summary shows of all movies side by side."""

Row = dict[str, str]


def text(value: Any) -> str:
    """Return a value as the table holds it: nothing for None, numbers to four digits after the point."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value)


def key_of(row: Row) -> tuple[str, ...]:
    """Return the `KEY` of a row."""
    return tuple(row[name] for name in KEY)


def key_without(key: tuple[str, ...], column: str) -> tuple[str, ...]:
    """Return a key but for one column: ``fingerprint`` says whether a row still holds, ``movie`` is but a name."""
    at = KEY.index(column)
    return key[:at] + key[at + 1 :]


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
    """Return the summary: J, SEG, TRA and seconds of every method and movie, then all measures of each movie.

    Means over the seeds; with more than one seed, +- their standard deviation. The mean over movies counts each group
    once, and is left out where a movie was not measured. Methods are called as `method_names` has it.
    """
    if not rows:
        return "# Benchmark\n\nNothing has been measured yet.\n"
    named = list(zip(method_names(rows), rows, strict=True))
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
        "recall is the share of these frames above 0.5, decay the mean of their first quarter minus that of the last;",
        "SEG and F1 are of the objects of the same frames, DET and TRA of all frames with truth.",
        "Seconds of reading, adapting, predicting, making labels and linking add up.",
        "Peak memory is that of the whole process, Python and libraries included.",
    ]
    for n in counts:
        frames = "1 annotated frame" if n == 1 else f"{n} annotated frames"
        of_count = [(name, row) for name, row in named if int(row["n_annotated"]) == n]
        for measure in OVERVIEWS:
            lines += _overview(of_count, measure, frames, methods)
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


def _overview(rows: Sequence[tuple[str, Row]], measure: str, frames: str, methods: Sequence[str]) -> list[str]:
    """Return a measure of all methods (rows) and movies (columns), with the means over groups and movies."""
    groups: dict[str, list[str]] = {}
    for movie, group in dict.fromkeys((row["movie"], row["group"] or row["movie"]) for _, row in rows if row[measure]):
        groups.setdefault(group, []).append(movie)
    shown = [movie for movies in groups.values() for movie in movies]
    several = [group for group, movies in groups.items() if len(movies) > 1]
    headings = ["method", *shown, *(f"mean of {group}" for group in several), *(["mean"] if len(groups) > 1 else [])]
    table = []
    for method in methods:
        of_movie = {movie: [r for name, r in rows if name == method and r["movie"] == movie] for movie in shown}
        if not any(_summary(found, measure) for found in of_movie.values()):
            continue
        means = {
            group: _mean([_mean(_values(of_movie[movie], measure)) for movie in movies])
            for group, movies in groups.items()
        }
        ends = [means[group] for group in several] + ([_mean(list(means.values()))] if len(groups) > 1 else [])
        digits = MEASURES[measure][1]
        cells = [_summary(of_movie[movie], measure) for movie in shown]
        table.append([method, *cells, *("" if end is None else f"{end:.{digits}f}" for end in ends)])
    return ["", f"## {MEASURES[measure][0]}, {frames}", "", *_table(headings, table)] if table else []


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where there is nothing, or a value is missing."""
    there = [value for value in values if value is not None]
    return mean(there) if there and len(there) == len(values) else None


def method_names(rows: Sequence[Row]) -> list[str]:
    """Return what each row is called beside the others, so that rows of one name differ in movie, frames or seed alone.

    That is the method, with the parent where there are several, the steps where they were given, and the threads where
    their numbers differ.
    """
    parents = parent_names([row["parent"] for row in rows if not _is_baseline(row)])
    several_threads = len({row["threads"] for row in rows}) > 1

    def name(row: Row) -> str:
        words = row["method"]
        if len(parents) > 1 and not _is_baseline(row):
            words += f" ({parents[row['parent']]})"
        if row["steps"]:
            words += f", {row['steps']} steps"
        if several_threads:
            words += f", {row['threads']} thread{'s' if row['threads'] != '1' else ''}"
        return words

    return [name(row) for row in rows]


def parent_name(parent: str) -> str:
    """Return a short name of a parent: that of its file, or of its folder where the file is ``parent.safetensors``."""
    return _parts_of(parent)[-1]


def parent_names(parents: Iterable[str]) -> dict[str, str]:
    """Return the short name of each parent, lengthened by its folders where others have it, too."""
    different = list(dict.fromkeys(parents))
    names = told_apart([_parts_of(parent) for parent in different])
    times = Counter(names)  # bundled "lite" and a file lite.safetensors have no folder to tell them apart
    return {parent: name if times[name] == 1 else parent for parent, name in zip(different, names, strict=True)}


def told_apart(paths: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each path: its last part, behind as many of its folders as tell it from the others.

    Parts are joined by hyphens, so that a name can be a file's. Paths that are the same have the same name, and so
    may some that differ in hyphens alone.

    Parameters
    ----------
    paths
        Folders and name of each, the outermost folder first.

    Examples
    --------
    >>> told_apart([["data", "GOWT1", "02"], ["data", "HeLa", "02"], ["PSC", "01"]])
    ['GOWT1-02', 'HeLa-02', '01']
    """
    lengths = [1] * len(paths)
    while True:
        names = ["-".join(parts[-length:]) for parts, length in zip(paths, lengths, strict=True)]
        times = Counter(names)
        longer = [i for i, name in enumerate(names) if times[name] > 1 and lengths[i] < len(paths[i])]
        if not longer:
            return names
        for i in longer:
            lengths[i] += 1


def _parts_of(parent: str) -> list[str]:
    """Return the folders of a parent and its short name."""
    path = Path(parent)
    if path.suffix != ".safetensors":
        return [parent]
    parts = [part for part in path.with_suffix("").parts if part != path.anchor]
    return parts[:-1] if parts[-1] == "parent" and len(parts) > 1 else parts


def seconds(row: Row) -> float:
    """Return all seconds of a measurement, without loading libraries and weights."""
    return sum(float(row[part] or 0) for part in PARTS)


def n_predicted(row: Row) -> int:
    """Return how many frames were predicted."""
    return int(row["n_predicted"] or row["n_scored"])


def _is_baseline(row: Row) -> bool:
    return not row["parent"]


def _summary(rows: Iterable[Row], measure: str) -> str:
    """Return the mean over rows, and +- the standard deviation where there are several; nothing of none."""
    values = _values(rows, measure)
    if not values:
        return ""
    digits = MEASURES[measure][1]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _values(rows: Iterable[Row], measure: str) -> list[float]:
    return [float(r[measure]) / (n_predicted(r) if measure in PER_FRAME else 1) for r in rows if r[measure]]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
