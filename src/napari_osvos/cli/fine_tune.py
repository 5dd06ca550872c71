"""The verb ``fine-tune``: one movie, or a list of them, one after the other or on a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_osvos.cli.clusters import add_cluster, on_cluster
from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.failures import DONE
from napari_osvos.cli.options import add_machine, add_reading, add_reporting, add_settings, add_start, tuning_of
from napari_osvos.cli.outputs import finish
from napari_osvos.cli.paint import add_annotations, read_paint
from napari_osvos.cli.report import Report, check_ending, check_outputs
from napari_osvos.cli.stages import choose_device, learn, load_start, read_movie
from napari_osvos.config import FineTuneConfig

FREQUENT = ("quality", "task", "seed", "steps", "seconds")
_EXAMPLES = f"""\
examples:
  {PROGRAM} fine-tune movie.tif -a painted.tif -o cells.osvos
  {PROGRAM} fine-tune movie.tif -a scribbles.tif --partial 0 --background-label 2 -o cells.osvos --seconds 10
  {PROGRAM} fine-tune --batch plate.csv -o segmenters
  {PROGRAM} fine-tune --batch plate.csv -o segmenters --scheduler tcp://node7:8786

LIST.csv has a line for each movie, under a first line such as movie,annotations. Other columns are options of this
command by their names, such as frames, partial, axes, channels or seed, and output, the name of the segmenter; an empty
cell leaves an option out. Paths are relative to the folder of the list. The same command goes on with the movies whose
segmenter is not there yet; --force learns all of them again.
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "fine-tune",
        usage=f"{PROGRAM} fine-tune MOVIE -a LABELS -o FILE.osvos [options]\n"
        f"       {PROGRAM} fine-tune --batch LIST.csv -o FOLDER [options]",
        help="learn from the painted frames and keep the segmenter",
        description="Fine-tune a network on the painted frames of a movie, or of each of many movies.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--batch", metavar="LIST.csv", type=Path, help="fine-tune on each movie of a list")
    add_options(parser)
    add_cluster(parser)
    add_reporting(parser)
    parser.set_defaults(run=on_cluster(fine_tune))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a movie is learned with: the options that a list may have as columns."""
    parser.add_argument(
        "movie", metavar="MOVIE", type=Path, nargs="?", help="stack (TIFF, OME-Zarr, npy) or folder of frames"
    )
    add_reading(parser)
    add_annotations(parser, listed=True)
    parser.add_argument(
        "-o", "--output", metavar="FILE.osvos", type=Path, required=True,
        help="where to keep the segmenter; with --batch, the folder for those without a name in the list",
    )  # fmt: skip
    add_start(parser)
    add_tuning(parser)
    add_machine(parser)


def add_tuning(parser: argparse.ArgumentParser) -> None:
    """Add how to learn."""
    add_settings(parser.add_argument_group("fine-tuning"), FineTuneConfig, only=FREQUENT)
    add_settings(parser.add_argument_group("fine-tuning, seldom needed"), FineTuneConfig, leave_out=FREQUENT)


def fine_tune(given: argparse.Namespace, console: Console) -> int:
    """Fine-tune on the painted frames and keep the segmenter, or those of many movies."""
    if given.batch:
        from napari_osvos.cli.batch import fine_tune_all

        return fine_tune_all(given, console)
    if given.movie is None or given.annotations is None:
        raise ValueError(f"Give MOVIE and -a LABELS, or --batch LIST.csv (see {PROGRAM} fine-tune --help).")
    if given.cluster is not None:
        raise ValueError("One movie is learned by one machine; --workers and --scheduler go with --batch.")
    report = fine_tune_one(given, console, keep=given.output)
    finish(given, console, report)
    return DONE


def fine_tune_one(given: argparse.Namespace, console: Console, *, keep: Path | None) -> Report:
    """Fine-tune on one movie, save the segmenter, and return what it took.

    Parameters
    ----------
    given
        With the options of `add_options` and of reporting.
    keep
        See `stages.learn`.
    """
    report = Report("fine-tune", given.words)
    check_ending("-o", given.output, [".osvos"])
    inputs = [path for path in (given.movie, given.annotations, given.continued) if path]
    check_outputs({"-o": given.output, "--json": given.json}, inputs=inputs, force=given.force)
    tuning = tuning_of(given)
    with report.timing("read"):
        clip = read_movie(given, report)
        paint = read_paint(given, clip, report)
        device = choose_device(given, console, report)
        start = load_start(given)
    segmenter, remarks = learn(given, console, report, clip, paint.annotations, tuning, start, device, keep=keep)
    with report.timing("write"):
        segmenter.save(given.output)
    report.add(task=segmenter.meaning.task, outputs=[str(given.output)])
    for remark in remarks:
        console.say(remark)
    return report
