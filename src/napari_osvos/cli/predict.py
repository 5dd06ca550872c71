"""The verb ``predict``: movies segmented with a saved segmenter."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from napari_osvos.cli.clusters import add_cluster, on_cluster
from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.exports import check_fit
from napari_osvos.cli.movies import FORMATS, is_folder_of_outputs, predict_movies
from napari_osvos.cli.options import add_machine, add_reading, add_reporting, add_settings, settings_of
from napari_osvos.cli.outputs import add_output, add_tracks, check_label_outputs, finish, job_of
from napari_osvos.cli.predicting import label_frames
from napari_osvos.cli.report import Report
from napari_osvos.cli.stages import check_disk, choose_device, positions_of, read_movie
from napari_osvos.cli.unfinished_run import going_on
from napari_osvos.config import LinkConfig, PredictConfig

_EXAMPLES = f"""\
examples:
  {PROGRAM} predict cells.osvos movie.tif -o labels.tif
  {PROGRAM} predict cells.osvos movie.tif -o labels.tif --probabilities probabilities.tif
  {PROGRAM} predict cells.osvos movie.tif -o tracks.tif --export tracks.geff --export cells.gif
  {PROGRAM} predict cells.osvos plate/ -o labels/                   # every movie in a folder
  {PROGRAM} predict cells.osvos well_A1.tif well_A2.tif -o labels/ --format tif --export csv
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "predict",
        usage=f"{PROGRAM} predict FILE.osvos MOVIE [MOVIE ...] -o OUT [options]",
        help="segment movies with a saved segmenter",
        description="Segment every frame of a movie, or of many, with a segmenter that was fine-tuned before, here or\n"
        "elsewhere. Broken off, the same command goes on with what is not finished.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("segmenter", metavar="FILE.osvos", type=Path, help="segmenter to use")
    parser.add_argument(
        "movies", metavar="MOVIE", nargs="+", type=Path,
        help="stack (TIFF, OME-Zarr, npy), folder of frames, or folder of movies",
    )  # fmt: skip
    add_reading(parser)
    add_output(parser, "; or a folder (OUT/), where each movie gets labels of its name, and summary.csv a line")
    parser.add_argument(
        "--format", choices=tuple(FORMATS), default="ome-zarr", help="of labels in a folder (default: ome-zarr)"
    )
    add_settings(parser.add_argument_group("prediction"), PredictConfig)
    add_tracks(parser)
    add_machine(parser)
    add_reporting(parser)
    add_cluster(parser)
    parser.set_defaults(run=on_cluster(predict))


def predict(given: argparse.Namespace, console: Console) -> int | None:
    """Segment every frame of a movie, or of many, with a saved segmenter."""
    report = Report("predict", given.words)
    for config in (PredictConfig, LinkConfig):
        settings_of(given, config)  # what is wrong there is said before anything is read
    if is_folder_of_outputs(given):
        return predict_movies(given, console, report)
    if len(given.movies) > 1:
        raise ValueError(
            f"-o {given.output} is one file, but there are {len(given.movies)} movies; "
            f"give a folder, such as -o {given.output.with_suffix('')}{os.sep}."
        )
    given.movie = given.movies[0]
    outputs = check_label_outputs(given, {}, [given.segmenter, given.movie])
    with report.timing("read"):
        clip = read_movie(given, report)
        positions = positions_of(clip, given.only)
        check_disk(given, clip, positions)
        check_fit(given, clip.labels_shape, clip.name)
        device = choose_device(given, console, report, learns=False)
        job = job_of(given)
        segmenter = job.open_segmenter(device)
    with going_on(given, console, job, clip, positions, outputs) as store:
        label_frames(given, console, report, job, clip, segmenter, positions, store)
        finish(given, console, report)
    return None
