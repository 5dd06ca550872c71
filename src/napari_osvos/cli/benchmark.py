"""The verb ``benchmark``: methods against each other over movies with truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import PROGRAM, Console, duration
from napari_osvos.cli.options import add_machine, add_reporting, at_least, names, whole_numbers
from napari_osvos.cli.report import Report, check_ending, check_outputs
from napari_osvos.config import QUALITIES
from napari_osvos.machine import default_threads

if TYPE_CHECKING:
    from napari_osvos.benchmark_cell import Cell

_METHODS = ("nearest-mask", "random-forest", "unet", "fast", "balanced", "best", "balanced-no-parent")
_EXAMPLES = f"""\
examples:
  {PROGRAM} benchmark movie.tif:truth.tif 02:02_ST/SEG -o table.csv
  {PROGRAM} benchmark --list benchmarks/development.toml --root DATA -o table.csv --methods fast,random-forest
  {PROGRAM} benchmark 02:02_ST/SEG --border 50 --stable-ids -o table.csv --frames 1 --seeds 0,1,2

methods:
  {", ".join(QUALITIES)}     ours, from a parent network, by the quality
  balanced-no-parent (and so on)               ours, from random weights
  unet                                         a U-Net from random weights, trained as balanced is
  random-forest                                a random forest on multiscale features
  nearest-mask                                 the annotated labels that are nearest in time, copied

J and F are of the foreground. Where each label of the truth is one object (--instances; instances = true in the list),
F1 and SEG are scored, too, and DET; where labels name the same object in every frame (--stable-ids; tracks = true),
the objects are linked and TRA is scored. The forest cuts its foreground by a watershed of the distance transform.

The table is written after each measurement, with a summary beside it (.md). The same command goes on where an earlier
one ended. Each measurement runs in a process of its own, whose peak memory is reported.
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
        "--border", metavar="PIXELS", type=at_least(0), default=0,
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
        "-o", "--output", metavar="TABLE.csv", type=Path, required=True, help="table to write or go on with"
    )
    group = parser.add_argument_group("what to measure")
    group.add_argument(
        "--methods", metavar="METHODS", type=names, default=_METHODS, help=f"default: {','.join(_METHODS)}"
    )
    group.add_argument(
        "--parents",
        metavar="lite,FILE",
        type=names,
        default=("lite",),
        help="parents that ours starts from (default: lite)",
    )
    group.add_argument(
        "--frames", metavar="1,2,4", type=whole_numbers, default=(1, 2, 4),
        help="numbers of annotated frames, spread over those with truth; 1 is the first (default: 1,2,4)",
    )  # fmt: skip
    group.add_argument("--seeds", metavar="0,1,2", type=whole_numbers, default=(0,), help="default: 0")
    group.add_argument("--steps", metavar="N", type=at_least(1), help="fine-tuning steps in place of the quality's own")
    add_machine(parser)
    add_reporting(parser, force="start over instead of going on with the table, and overwrite the --json file")
    parser.set_defaults(run=benchmark)


def benchmark(given: argparse.Namespace, console: Console) -> int:
    """Measure what the table lacks, then print the summary; 1 if a measurement failed."""
    from napari_osvos.benchmark import BenchmarkMovie, plan, read_movies
    from napari_osvos.benchmark_table import read_table, to_markdown, write_markdown

    check_ending("-o", given.output, [".csv"])
    summary = given.output.with_suffix(".md")
    check_outputs({"-o": given.output, "the summary": summary}, force=True)
    check_outputs({"--json": given.json}, inputs=[given.output, summary], force=given.force)
    report = Report("benchmark", given.words)
    movies = read_movies(given.list, given.root) if given.list else []
    movies += [BenchmarkMovie.from_pair(pair, given.border, given.instances, given.stable_ids) for pair in given.pairs]
    if not movies:
        raise ValueError("There is nothing to measure; name pairs MOVIE:TRUTH or a --list (see benchmark --help).")
    cells = plan(
        movies,
        methods=given.methods,
        parents=given.parents,
        counts=given.frames,
        seeds=given.seeds,
        device=given.device,
        threads=given.threads or default_threads(),
        steps=given.steps,
    )
    if given.force:
        given.output.unlink(missing_ok=True)
    try:
        failed = _measure(cells, given.output, summary, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{given.output} keeps what was measured; the same command goes on from there."
        ) from None
    rows = read_table(given.output)
    write_markdown(summary, rows)
    report.add(table=str(given.output), failed=failed, rows=rows)
    report.write(given.json)
    console.show(to_markdown(rows))
    return 1 if failed else 0


def _measure(cells: Sequence[Cell], table: Path, summary: Path, console: Console) -> int:
    """Measure what the table lacks, keeping table and summary up to date, and return how many measurements failed."""
    from napari_osvos.benchmark import describe, pending, run
    from napari_osvos.benchmark_table import read_table, write_markdown

    began = time.perf_counter()
    total, failed = len(pending(cells, read_table(table))), 0
    for done, (cell, row) in enumerate(run(cells, table), start=1):
        if isinstance(row, RuntimeError):
            failed += 1
            console.error(str(row))
            continue
        seconds = f"{float(row['adapt_s']):.1f} s + {float(row['predict_s']):.1f} s"
        left = (time.perf_counter() - began) / done * (total - done)
        scores = ", ".join(f"{name} {float(row[name]):.3f}" for name in ("J", "SEG", "TRA") if row[name])
        measured = f"{scores}, {seconds}, {row['peak_memory_mb']} MB"
        console.say(f"{done}/{total} {describe(cell)}: {measured}; about {duration(left)} left")
        write_markdown(summary, read_table(table))
    return failed
