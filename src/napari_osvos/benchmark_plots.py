"""The plots of a benchmark: J against annotated frames, against seconds, and over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from napari_osvos.benchmark_table import Row, method_names, n_predicted, seconds
from napari_osvos.config import QUALITIES
from napari_osvos.machine import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, without the yellow that is hard to see on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vPX"
_ANNOTATED = "#E69F00"

Draw = Callable[["Axes", "dict[str, list[Row]]", "dict[str, dict[str, Any]]"], None]


PLOTS = ("frames", "seconds", "time")
"""What the names of the plots end in."""


def plots_of(table: str | Path) -> list[Path]:
    """Return where the plots of a table lie: ``table_frames.png`` and so on, beside it."""
    return [_plot_of(Path(table), kind) for kind in PLOTS]


def _plot_of(table: Path, kind: str) -> Path:
    return table.with_name(f"{table.stem}_{kind}.png")


def write_plots(table: str | Path, rows: Sequence[Row]) -> list[Path]:
    """Write the plots beside a table, each whole or not at all; what has too little to show is left out, and removed.

    A panel for each movie; means over the seeds, and where points are joined over those that all of them have.

    Parameters
    ----------
    table
        The plots are named after it: ``table_frames.png`` (J against annotated frames), ``table_seconds.png`` (J
        against seconds a frame, of the fewest annotated frames) and ``table_time.png`` (J of each frame, likewise, with
        the first seed).
    rows
        Of the table.

    Returns
    -------
    The files that were written.
    """
    written = _write_plots(Path(table), rows) if rows else []
    for path in set(plots_of(table)) - set(written):
        path.unlink(missing_ok=True)  # of an earlier table: it would show what is no more
    return written


def _write_plots(table: Path, rows: Sequence[Row]) -> list[Path]:
    by_movie: dict[str, dict[str, list[Row]]] = {}
    for name, row in zip(method_names(rows), rows, strict=True):
        by_movie.setdefault(row["movie"], {}).setdefault(name, []).append(row)
    styles = _styles(name for methods in by_movie.values() for name in methods)
    fewest = {movie: _with_fewest(methods) for movie, methods in by_movie.items()}
    counts = {movie: _frames_in_words(methods) for movie, methods in fewest.items()}
    if len(set(counts.values())) == 1:
        at = f"; {next(iter(counts.values()))}"
    else:  # each panel says its own
        at, fewest = "", {f"{movie}, {counts[movie]}": methods for movie, methods in fewest.items()}
    drawn: list[tuple[str, Draw, dict[str, dict[str, list[Row]]], str]] = []
    if len({row["n_annotated"] for row in rows}) > 1:
        drawn.append(("frames", _against_frames, by_movie, "J against annotated frames"))
    drawn.append(("seconds", _against_seconds, fewest, f"J against seconds a frame, adapting included{at}"))
    if any(row["J_frames"] for row in rows):
        drawn.append(("time", _over_time, fewest, f"J of each frame{at}"))
    written = []
    for kind, draw, panels, title in drawn:
        path = _plot_of(table, kind)
        figure = _figure(panels, draw, styles, title)
        with replacing(path) as partial:
            figure.savefig(partial, dpi=130, format="png")
        written.append(path)
    return written


def _frames_in_words(methods: dict[str, list[Row]]) -> str:
    """Return how many frames were annotated, which is the same in all rows."""
    n = int(next(iter(methods.values()))[0]["n_annotated"])
    return "1 annotated frame" if n == 1 else f"{n} annotated frames"


def _with_fewest(methods: dict[str, list[Row]]) -> dict[str, list[Row]]:
    fewest = min(int(row["n_annotated"]) for rows in methods.values() for row in rows)
    kept = {name: [row for row in rows if int(row["n_annotated"]) == fewest] for name, rows in methods.items()}
    return {name: rows for name, rows in kept.items() if rows}


def _styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return how each method is drawn: ours with full lines, the others with dashes."""
    styles: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(dict.fromkeys(names)):
        ours = name.startswith((*QUALITIES, "parent-alone", "neither"))
        colour, marker = _COLOURS[i % len(_COLOURS)], _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)]
        face = colour if ours else "white"
        line = {"linestyle": "-" if ours else "--", "linewidth": 1.2}
        styles[name] = {"color": colour, "marker": marker, "markerfacecolor": face, "markersize": 5, **line}
    return styles


def _figure(
    panels: dict[str, dict[str, list[Row]]], draw: Draw, styles: dict[str, dict[str, Any]], title: str
) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns + 2.4, 2.9 * lines + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, (movie, methods) in zip(
        figure.subplots(lines, columns, squeeze=False).flat, panels.items(), strict=False
    ):
        draw(axes, methods, styles)
        axes.set_title(movie, fontsize=10)
        axes.set_ylabel("J")
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], **style, label=name) for name, style in styles.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _against_frames(axes: Axes, methods: dict[str, list[Row]], styles: dict[str, dict[str, Any]]) -> None:
    counts: set[int] = set()
    for name, rows in methods.items():
        x = sorted({int(row["n_annotated"]) for row in rows})
        points = _of_common_seeds([[row for row in rows if int(row["n_annotated"]) == n] for n in x])
        counts |= set(x)
        axes.plot(x, [mean(float(row["J"]) for row in point) for point in points], **styles[name])
    _spread_the_best(axes)
    axes.set_xlabel("annotated frames")
    axes.set_xticks(sorted(counts))


def _of_common_seeds(points: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
    """Return the rows of each point whose seeds all points have, so that a line shows no change of seeds.

    All rows where there is no such seed.
    """
    common = set.intersection(*({row["seed"] for row in rows} for rows in points))
    return [[row for row in rows if row["seed"] in common] if common else rows for rows in points]


def _against_seconds(axes: Axes, methods: dict[str, list[Row]], styles: dict[str, dict[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    dials: dict[str, list[str]] = {}  # what differs in the quality alone is joined
    for name, rows in methods.items():
        quality = rows[0]["method"]
        dial = name.removeprefix(quality) if quality in QUALITIES else name
        dials.setdefault(dial, []).append(name)
    for names in dials.values():
        points = []
        for name, point in zip(names, _of_common_seeds([methods[name] for name in names]), strict=True):
            # a copy may take less than a millisecond, which a logarithmic axis cannot show
            x = mean(max(seconds(row) / n_predicted(row), 1e-3) for row in point)
            points.append((x, mean(float(row["J"]) for row in point)))
            axes.plot(*points[-1], **styles[name] | {"linestyle": ""})
        if len(points) > 1:
            axes.plot(*zip(*sorted(points), strict=True), color="0.6", linewidth=0.8, zorder=0)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # 0.2, 0.5, 1, 2 ...; over many decades these would run into each other
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _spread_the_best(axes)
    axes.set_xlabel("seconds a frame")


def _spread_the_best(axes: Axes) -> None:
    """Give 0.9 to 0.95 as much room as 0.5 to 0.75: what is left to 1 is what differs."""
    import numpy as np

    ends = 0.02  # J is 1 at times

    def stretch(j: Any) -> Any:
        return -np.log2(np.maximum(1 + ends - np.asarray(j, float), 1e-6))

    def back(y: Any) -> Any:
        return 1 + ends - np.exp2(-np.asarray(y, float))

    axes.set_yscale("function", functions=(stretch, back))
    shown = [line.get_ydata() for line in axes.lines]
    lowest, highest = min(float(np.min(y)) for y in shown), max(float(np.max(y)) for y in shown)
    room = max(0.08 * (float(stretch(highest)) - float(stretch(lowest))), 0.05)
    axes.set_ylim(float(back(stretch(lowest) - room)), float(back(stretch(highest) + room)))
    ticks = (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 1)
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in ticks if low <= tick <= high] or [lowest], minor=False)


def _over_time(axes: Axes, methods: dict[str, list[Row]], styles: dict[str, dict[str, Any]]) -> None:
    annotated: set[int] = set()
    for name, rows in methods.items():
        first = min(rows, key=lambda row: int(row["seed"]))
        pairs = [pair.split(":") for pair in first["J_frames"].split()]
        x, y = [int(number) for number, _ in pairs], [float(j) for _, j in pairs]
        axes.plot(x, y, **styles[name] | {"markersize": 0 if len(x) > 30 else 3})
        annotated |= {int(number) for number in first["annotated_frames"].split()}
    for number in annotated:
        axes.axvline(number, color=_ANNOTATED, linewidth=1, zorder=0)
    axes.set_xlabel("frame (orange: annotated)")
