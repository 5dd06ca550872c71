"""Renew the tables of a page from tables of `napari-osvos benchmark`: ``python benchmarks/comparison_page.py --help``.

A table of the page stands below a comment that says what is in it::

    <!-- table: J of frames=1 methods=otsu,balanced,balanced@vgg16,balanced*0 movies=GOWT1,HeLa -->

A measure, or ``cost`` (seconds and memory of each method); the number of annotated frames; methods, with ``@parent``
where it is not lite, and ``*seeds`` where only those are meant (``*0+1``); by default all movies. Several numbers of
annotated frames of one method (``frames=1,2,3``) are columns side by side.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev

from napari_osvos.benchmark_table import Row, n_predicted, parent_name, read_table
from napari_osvos.machine import replacing

TABLE = re.compile(r"(<!-- table: (.+?) -->\n\n)((?:\|.*\n)*)")
HEADINGS = {
    "nearest-mask": "nearest mask copied",
    "otsu": "Otsu",
    "optical-flow": "optical flow",
    "random-forest": "random forest",
    "convpaint": "Convpaint",
    "unet-same-seconds": "U-Net, same seconds",
    "parent-alone": "parent alone",
    "neither": "neither",
}
MEASURES = ("J", "F", "F2px", "SEG", "DET", "TRA", "F1_50", "F1_75")


@dataclass(frozen=True)
class Column:
    """Measurements of one method, from one parent, of some seeds (of all if none are named), of so many frames."""

    method: str
    parent: str
    seeds: tuple[str, ...]
    frames: str
    frames_differ: bool = False

    @classmethod
    def of(cls, words: str, frames: str, frames_differ: bool = False) -> Column:
        """Read ``method@parent*seed+seed``."""
        words, _, seeds = words.partition("*")
        method, _, parent = words.partition("@")
        return cls(method, parent or "lite", tuple(seeds.split("+")) if seeds else (), frames, frames_differ)

    @property
    def heading(self) -> str:
        """How it is called above a column."""
        if self.frames_differ:
            return f"{_in_words(int(self.frames))} frame{'s' * (self.frames != '1')}"
        if self.method in HEADINGS:
            return HEADINGS[self.method]
        quality = self.method.removesuffix("-no-parent").removesuffix("-snapped")
        network = "" if self.parent == "lite" else f", {self.parent}"
        how = {"-no-parent": ", random weights", "-snapped": ", snapped"}.get(self.method.removeprefix(quality), "")
        return f"`{quality}`{network}{how}"

    def holds(self, row: Row) -> bool:
        """Whether a measurement is one of these."""
        ours = not row["parent"] or parent_name(row["parent"]) == self.parent
        of_these = row["method"] == self.method and row["n_annotated"] == self.frames
        return of_these and ours and (not self.seeds or row["seed"] in self.seeds)


def scores(rows: Sequence[Row], measure: str, columns: Sequence[Column]) -> list[str]:
    """Return a Markdown table: movies, the mean of each group of several, the mean of groups; the highest bold."""
    found: dict[str, list[list[float]]] = {}
    groups: dict[str, list[str]] = {}
    for movie in dict.fromkeys(row["movie"] for row in rows if row[measure]):
        of = [row for row in rows if row["movie"] == movie and row[measure]]
        found[movie] = [[float(row[measure]) for row in of if column.holds(row)] for column in columns]
        if any(found[movie]):
            groups.setdefault(of[0]["group"] or movie, []).append(movie)
    lines = ["| | " + " | ".join(column.heading for column in columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for several in groups.values():
        lines += [_line(movie, found[movie]) for movie in several]
    of_groups = [
        [_mean_of([found[movie][i] for movie in several]) for i in range(len(columns))] for several in groups.values()
    ]
    for (group, several), means in zip(groups.items(), of_groups, strict=True):
        if len(several) > 1:
            lines.append(_line(f"mean of the {_in_words(len(several))} of {group}", [_if_there(m) for m in means]))
    if len(groups) > 2 and measure == "J":
        means = [_mean_of([_if_there(of[i]) for of in of_groups]) for i in range(len(columns))]
        lines.append(_line(f"mean of the {_in_words(len(groups))} groups", [_if_there(m) for m in means]))
    return lines


def cost(rows: Sequence[Row], columns: Sequence[Column], frames: str) -> list[str]:
    """Return a Markdown table: the median over measurements, and their range, of seconds and memory."""
    painted = "one painted frame" if frames == "1" else f"{_in_words(int(frames))} painted frames"
    lines = [f"| {painted} | learn, s | predict, s/frame | peak memory, MB |", "|---|---|---|---|"]
    for column in columns:
        of = [row for row in rows if column.holds(row)]
        cells = (
            _range([float(row["adapt_s"]) for row in of]),
            _range([float(row["predict_s"]) / n_predicted(row) for row in of], 2),
            _range([float(row["peak_memory_mb"]) for row in of], 0),
        )
        lines.append(f"| {column.heading} | " + " | ".join(cells) + " |")
    return lines


def rows_of(tables: Sequence[Path]) -> list[Row]:
    """Return the rows of several tables; what is in two of them, as where one went on with another, counts once."""
    return list({tuple(row.values()): row for path in tables for row in read_table(path)}.values())


def renewed(page: str, rows: Sequence[Row]) -> str:
    """Return the page with its tables as the measurements have them.

    Raises
    ------
    ValueError
        If a comment asks for what there is not.
    """

    def table(match: re.Match[str]) -> str:
        what, _, rest = match[2].partition(" of ")
        given = dict(word.split("=", 1) for word in rest.split())
        if not {"frames", "methods"} <= given.keys():
            raise ValueError(f"The comment is {match[2]!r}; it must have ' of frames=N methods=A,B'.")
        if what not in (*MEASURES, "cost"):
            raise ValueError(f"The comment asks for {what!r}; allowed are {', '.join(MEASURES)} and cost.")
        counts, methods = given["frames"].split(","), given["methods"].split(",")
        if len(counts) > 1 and (len(methods) > 1 or what == "cost"):
            raise ValueError(
                f"The comment is {match[2]!r}; several numbers of frames go with one method and a measure."
            )
        columns = [Column.of(words, n, len(counts) > 1) for n in counts for words in methods]
        of = [row for row in rows if row["n_annotated"] in counts]
        if "movies" in given:
            of = [row for row in of if row["movie"] in given["movies"].split(",")]
        lacking = [column for column in columns if not any(column.holds(row) for row in of)]
        if lacking:
            raise ValueError(f"No measurement of {lacking[0].method} from {lacking[0].parent} is in the table.")
        lines = cost(of, columns, given["frames"]) if what == "cost" else scores(of, what, columns)
        return match[1] + "\n".join(lines) + "\n"

    return TABLE.sub(table, page)


def _line(name: str, cells: Sequence[Sequence[float]]) -> str:
    """Return a row of means +- standard deviation, the highest mean as shown bold."""
    means = [f"{mean(values):.3f}" if values else "" for values in cells]
    words = [
        (f"**{shown}**" if shown and shown == max(means) else shown)
        + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
        for shown, values in zip(means, cells, strict=True)
    ]
    return f"| {name} | " + " | ".join(words) + " |"


def _mean_of(several: Sequence[Sequence[float]]) -> float | None:
    """Return the mean of means; None where one is missing."""
    return mean(mean(values) for values in several) if all(several) else None


def _if_there(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _range(values: Sequence[float], digits: int | None = None) -> str:
    """Return the median, and the least and the most in brackets; seconds below ten with a digit after the point."""

    def shown(value: float) -> str:
        return f"{value:.{(1 if value < 9.95 else 0) if digits is None else digits}f}"

    return f"{shown(median(values))} ({shown(min(values))} to {shown(max(values))})"


def _in_words(n: int) -> str:
    return {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}.get(n, str(n))


def main() -> None:
    """Renew the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="Markdown, whose tables are renewed")
    parser.add_argument("tables", type=Path, nargs="+", help="of the benchmark, CSV")
    given = parser.parse_args()
    try:
        lacking = [path for path in given.tables if not path.is_file()]
        if lacking:
            raise ValueError(f"There is no table {lacking[0]}.")
        page = renewed(given.page.read_text(encoding="utf-8"), rows_of(given.tables))
        with replacing(given.page) as partial:
            partial.write_text(page, encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"comparison_page.py: error: {error}")


if __name__ == "__main__":
    main()
