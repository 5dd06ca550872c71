"""The verb ``benchmark``: methods against each other over movies with truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from napari_osvos.cli import ablation_parents
from napari_osvos.cli.console import PROGRAM, Console, duration
from napari_osvos.cli.options import add_machine, add_reporting, at_least, names, whole_numbers
from napari_osvos.cli.report import Report, check_ending, check_outputs, check_report
from napari_osvos.config import QUALITIES
from napari_osvos.machine import default_threads

if TYPE_CHECKING:
    from napari_osvos.benchmark_cell import Cell
    from napari_osvos.benchmark_movies import BenchmarkMovie
    from napari_osvos.benchmark_table import Row

_METHODS = (
    "nearest-mask", "otsu", "optical-flow", "random-forest", "fast", "balanced", "best", "balanced-no-parent",
    "unet-same-seconds",
)  # fmt: skip
_ALL = "all"
_EXAMPLES = f"""\
examples:
  {PROGRAM} benchmark movie.tif:truth.tif 02:02_ST/SEG -o table.csv
  {PROGRAM} benchmark --list benchmarks/development.toml --root DATA -o table.csv --methods fast,random-forest
  {PROGRAM} benchmark 02:02_ST/SEG --border 50 --stable-ids -o table.csv --frames 1 --seeds 0,1,2
  {PROGRAM} benchmark 02:02_ST/SEG --ablations -o table.csv --train-on stills/*

methods:
  {", ".join(QUALITIES)}     ours, from a parent network, by the quality; published is OSVOS as published
  balanced-no-parent (and so on)               ours, from random weights
  balanced-snapped (and so on)                 ours, masks of one object or class snapped to contours
  published-2000x5                             OSVOS as published, with the paper's longest schedule
  parent-alone, neither                        the parent as it is, without fine-tuning; random weights as they are
  unet                                         a U-Net from random weights, with as many updates as balanced
  unet-same-seconds                            the same, with the seconds that balanced took on the same frames
  random-forest                                a random forest on multiscale features
  convpaint                                    napari-convpaint, where it is installed
  otsu                                         Otsu's threshold, fitted to the annotated frames
  optical-flow                                 the nearest annotated labels, carried along by optical flow
  nearest-mask                                 the annotated labels that are nearest in time, copied
  all                                          all of these but published-2000x5, -snapped, parent-alone,
                                               neither and most of -no-parent

J and F are of the foreground. Where each label of the truth is one object (--instances; instances = true in the list),
F1 and SEG are scored, too, and DET; where labels name the same object in every frame (--stable-ids; tracks = true),
the objects are linked and TRA is scored. What decides on pixels (forest, Convpaint, Otsu) has its foreground cut by a
watershed of the distance transform.

The table is written after each measurement, with a summary beside it (.md), and at the end plots (J against annotated
frames, against seconds, and over time). The same command goes on where an earlier one ended. Each measurement runs in a
process of its own, whose peak memory is reported.
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "benchmark",
        usage=f"{PROGRAM} benchmark [MOVIE:TRUTH ...] -o TABLE.csv [options]",
        help="compare methods over movies with truth",
        description="Annotate frames of movies by their truth, segment the others by several methods, and score them.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("pairs", metavar="MOVIE:TRUTH", nargs="*", help="a movie and its truth, stacks or folders")
    parser.add_argument("--list", metavar="FILE.toml", type=Path, help="list of movies: name, movie, truth, border ...")
    parser.add_argument("--root", metavar="DIR", type=Path, help="folder that the paths of the list start from")
    parser.add_argument(
        "--border", metavar="PIXELS", type=at_least(0),
        help="of the pairs: width of the band along the edges that is not scored (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--instances", action="store_true", help="of the pairs: each label of TRUTH is one of many objects: score them"
    )
    parser.add_argument(
        "--stable-ids", action="store_true",
        help="of the pairs: the labels of TRUTH name the same object in every frame: score objects and tracks",
    )  # fmt: skip
    parser.add_argument(
        "--void-label", metavar="N", type=at_least(1), help="of the pairs: label of pixels of TRUTH that do not count"
    )
    parser.add_argument(
        "-o", "--output", metavar="TABLE.csv", type=Path, required=True, help="table to write or go on with"
    )
    group = parser.add_argument_group("what to measure")
    group.add_argument("--methods", metavar="METHODS", type=names, help=f"or 'all' (default: {','.join(_METHODS)})")
    group.add_argument(
        "--ablations", action="store_true",
        help="take ours apart, as the paper does: every quality; and balanced (or the qualities of --methods) from each"
        " of --parents, without a parent, without fine-tuning, with snapping, and with 1 to 5 annotated frames",
    )  # fmt: skip
    group.add_argument(
        "--parents",
        metavar="lite,FILE",
        type=names,
        default=("lite",),
        help="parents that ours starts from (default: lite)",
    )
    group.add_argument(
        "--frames", metavar="1,2,4", type=whole_numbers,
        help="numbers of annotated frames, spread over those with truth; 1 is the first (default: 1,2,4;"
        " of --ablations: 1,2,3,4,5)",
    )  # fmt: skip
    group.add_argument("--seeds", metavar="0,1,2", type=whole_numbers, default=(0,), help="default: 0")
    group.add_argument("--steps", metavar="N", type=at_least(1), help="fine-tuning steps in place of the quality's own")
    group.add_argument(
        "--pictures", metavar="DIR", type=Path,
        help="draw the frames of lowest J of each measurement made now; mind whether the movies may be shown",
    )  # fmt: skip
    ablation_parents.add_options(parser)
    add_machine(parser)
    add_reporting(parser, force="start over instead of going on with the table, and overwrite the --json file")
    parser.set_defaults(run=benchmark)


def benchmark(given: argparse.Namespace, console: Console) -> int:
    """Measure what the table lacks, then print the summary; 1 if a measurement failed."""
    from napari_osvos.benchmark import out_of_place
    from napari_osvos.benchmark_movies import check_names, read_movies, read_pairs
    from napari_osvos.benchmark_plots import plots_of, write_plots
    from napari_osvos.benchmark_table import read_table, to_markdown, write_markdown

    ablation_parents.check(given)
    _check_idle(given)
    check_ending("-o", given.output, [".csv"])
    summary = given.output.with_suffix(".md")
    goes_on = given.output.exists()
    check_outputs({"-o": given.output}, force=True)
    beside = [summary, *plots_of(given.output)]
    check_outputs({"-o": beside}, force=given.force or goes_on)
    report = Report("benchmark", given.words)
    report.add(table=str(given.output))
    check_report(given, report, [given.output, *beside])
    movies = read_movies(given.list, given.root) if given.list else []
    movies += read_pairs(given.pairs, given.border or 0, given.instances, given.stable_ids, given.void_label)
    check_names(movies, "The command")
    if not movies:
        raise ValueError("There is nothing to measure; name pairs MOVIE:TRUTH or a --list (see benchmark --help).")
    cells = _planned(given, movies, console)  # what is wrong is said before parents are trained
    _check_pictures(given, cells)
    trained = ablation_parents.train(given, console)
    if trained:
        given.parents += trained
        cells = _planned(given, movies, console)
    if given.force:
        for path in (given.output, *beside):
            path.unlink(missing_ok=True)
    try:
        failed = _measure(cells, given.output, summary, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{given.output} keeps what was measured; the same command goes on from there."
        ) from None
    rows = read_table(given.output)
    shown = _without(rows, out_of_place(cells, rows))
    plots = []
    if given.output.exists():  # otherwise all failed: what lies beside no table would be taken for a file of others
        write_markdown(summary, shown)
        plots = write_plots(given.output, shown)
    report.add(failed=failed, rows=rows, plots=[str(path) for path in plots])
    report.write(given.json)
    console.show(to_markdown(shown))
    if plots:
        console.say(f"plots: {', '.join(str(path) for path in plots)}")
    return 1 if failed else 0


def _planned(given: argparse.Namespace, movies: Sequence[BenchmarkMovie], console: Console) -> list[Cell]:
    from napari_osvos.baseline_convpaint import missing_convpaint
    from napari_osvos.benchmark_methods import available_methods
    from napari_osvos.benchmark_plan import ABLATION_COUNTS, plan, plan_ablations
    from napari_osvos.benchmark_table import read_table

    settings = {
        "parents": given.parents,
        "seeds": given.seeds,
        "device": given.device,
        "threads": given.threads or default_threads(),
        "steps": given.steps,
        "pictures": "" if given.pictures is None else str(given.pictures),
        "finished": [] if given.force else read_table(given.output),
    }
    if given.ablations:
        qualities = given.methods or ("balanced",)
        return plan_ablations(movies, qualities=qualities, counts=given.frames or ABLATION_COUNTS, **settings)
    methods = given.methods or _METHODS
    if _ALL in methods:
        methods = available_methods()
        if missing_convpaint():
            console.say(f"{PROGRAM}: warning: {missing_convpaint()}")
    return plan(movies, methods=methods, counts=given.frames or (1, 2, 4), **settings)


def _measure(cells: Sequence[Cell], table: Path, summary: Path, console: Console) -> int:
    """Measure what the table lacks, keeping table and summary up to date, and return how many measurements failed."""
    from napari_osvos.benchmark import out_of_place, pending, renamed, run
    from napari_osvos.benchmark_plan import describe
    from napari_osvos.benchmark_table import read_table, write_markdown

    rows = renamed(read_table(table), cells)
    todo, strange = pending(cells, rows), out_of_place(cells, rows)
    _say_what_no_longer_holds(cells, rows, table, console)
    clock, failed, total = _Clock(), 0, len(todo)
    for done, (cell, row) in enumerate(run(cells, table), start=1):
        left = clock.left(cell, todo[done:])
        if isinstance(row, RuntimeError):
            failed += 1
            console.error(str(row))
            continue
        seconds = f"{float(row['adapt_s']):.1f} s + {float(row['predict_s']):.1f} s"
        scores = ", ".join(f"{name} {float(row[name]):.3f}" for name in ("J", "SEG", "TRA") if row[name])
        measured = f"{scores}, {seconds}, {row['peak_memory_mb']} MB"
        console.say(f"{done}/{total} {describe(cell)}: {measured}; about {duration(left)} left")
        write_markdown(summary, _without(read_table(table), strange))
    return failed


def _say_what_no_longer_holds(cells: Sequence[Cell], rows: Sequence[Row], table: Path, console: Console) -> None:
    """Say which rows will be replaced, and which stay in the table but hold no more."""
    from napari_osvos.benchmark import left_over, outdated
    from napari_osvos.benchmark_plan import describe

    old, left = outdated(cells, rows), left_over(cells, rows)
    if old:
        console.say(
            f"{len(old)} of the rows in {table} will be replaced, the first of them {describe(old[0])}: movie, truth,"
            " border, what is scored, weights of the parent, device or version were other ones."
        )
    if left:
        console.say(
            f"{PROGRAM}: warning: {len(left)} of the rows in {table}, the first of them {describe(left[0])}, were"
            " measured under other conditions and are left out of summary and plots; --methods with them measures them"
            " anew."
        )


def _without(rows: Sequence[Row], strange: Sequence[Row]) -> list[Row]:
    """Return the rows that are not among those that do not hold beside the others."""
    from napari_osvos.benchmark_table import key_of

    keys = set(map(key_of, strange))
    return [row for row in rows if key_of(row) not in keys]


def _check_idle(given: argparse.Namespace) -> None:
    """Raise ValueError where options are given that have no say without others."""
    of_pairs = {
        "--border": given.border is not None,
        "--instances": given.instances,
        "--stable-ids": given.stable_ids,
        "--void-label": given.void_label is not None,
    }
    named = [option for option, is_given in of_pairs.items() if is_given]
    if named and not given.pairs:
        raise ValueError(f"{named[0]} has a say only with pairs MOVIE:TRUTH; a --list says such things of each movie.")
    if given.root is not None and given.list is None:
        raise ValueError(f"--root {given.root} has a say only with --list; name that, too.")


def _check_pictures(given: argparse.Namespace, cells: Sequence[Cell]) -> None:
    """Make sure, before anything is learned, that pictures can be written where they are to go.

    Raises
    ------
    ValueError, NotADirectoryError, PermissionError
        As `check_outputs`.
    """
    from napari_osvos.benchmark_pictures import picture_name

    if given.pictures is not None and cells:
        inputs = [Path(path) for cell in cells for path in (cell.clip, cell.truth)]
        picture = given.pictures / picture_name(cells[0])
        check_outputs({"--pictures": picture}, inputs=list(dict.fromkeys(inputs)), force=True)


class _Clock:
    """Tells how long the rest will take: as long as the same method took so far, or the mean of all."""

    def __init__(self) -> None:
        self._mark = time.perf_counter()
        self._took: dict[str, list[float]] = {}

    def left(self, measured: Cell, rest: Sequence[Cell]) -> float:
        """Return the seconds left, now that a cell has been measured."""
        now = time.perf_counter()
        self._took.setdefault(measured.method, []).append(now - self._mark)
        self._mark = now
        overall = mean(seconds for took in self._took.values() for seconds in took)
        return sum(mean(self._took.get(cell.method, [overall])) for cell in rest)
