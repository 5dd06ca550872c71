"""The verbs that make labels: ``predict``, and ``segment``, which fine-tunes before."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_osvos.cli import fine_tune
from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.evaluate import add_scoring, score
from napari_osvos.cli.exports import add_exports, add_linking, add_units, check_exports, export_paths, scale_of
from napari_osvos.cli.options import (
    add_machine,
    add_movie,
    add_reporting,
    add_settings,
    add_start,
    frame_numbers,
    settings_of,
)
from napari_osvos.cli.paint import add_accepted, add_annotations, read_paint
from napari_osvos.cli.predicting import label_frames
from napari_osvos.cli.report import Report, check_ending, check_outputs
from napari_osvos.cli.stages import (
    check_disk,
    choose_device,
    learn,
    load_start,
    positions_of,
    read_movie,
)
from napari_osvos.cli.suggest import conclude
from napari_osvos.config import FineTuneConfig, LinkConfig, PredictConfig

_SEGMENT_EXAMPLES = f"""\
examples:
  {PROGRAM} segment movie.tif -a painted.tif -o labels.tif
  {PROGRAM} segment movie.tif -a painted.tif -o labels.ome.zarr --quality best --save cells.osvos
  {PROGRAM} segment 02 -a 02_ST/SEG --frames 0,40 -o labels.tif     # a Cell Tracking Challenge folder as it is
  {PROGRAM} segment movie.tif -a painted.tif -o tracks.tif --export cells.csv --export 02_RES --pixel-size 0.65,0.65
  {PROGRAM} segment movie.tif -a more.tif --continue cells.osvos --corrected 12 --accepted 0 -o labels.tif --force
"""
_PREDICT_EXAMPLES = f"""\
examples:
  {PROGRAM} predict cells.osvos movie.tif -o labels.tif
  {PROGRAM} predict cells.osvos movie.tif -o labels.tif --probabilities probabilities.tif
  {PROGRAM} predict cells.osvos movie.tif -o tracks.tif --export tracks.geff --export cells.gif
"""


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser = verbs.add_parser(
        "segment",
        usage=f"{PROGRAM} segment MOVIE -a LABELS -o OUT [options]",
        help="segment a movie from its painted frames",
        description="Fine-tune a network on the painted frames of a movie and segment every frame with it.",
        epilog=_SEGMENT_EXAMPLES,
    )
    add_movie(parser)
    add_annotations(parser)
    add_accepted(parser)
    _add_output(parser)
    parser.add_argument("--save", metavar="FILE.osvos", type=Path, help="keep the fine-tuned segmenter")
    add_start(parser)
    fine_tune.add_tuning(parser)
    add_settings(parser.add_argument_group("prediction"), PredictConfig)
    _add_tracks(parser)
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument("--truth", metavar="TRUTH", type=Path, help="score the labels, without the annotated frames")
    add_scoring(scoring)
    add_machine(parser)
    add_reporting(parser)
    parser.set_defaults(run=segment)

    fine_tune.add_verb(verbs)

    parser = verbs.add_parser(
        "predict",
        usage=f"{PROGRAM} predict FILE.osvos MOVIE -o OUT [options]",
        help="segment a movie with a saved segmenter",
        description="Segment every frame of a movie with a segmenter that was fine-tuned before, here or elsewhere.",
        epilog=_PREDICT_EXAMPLES,
    )
    parser.add_argument("segmenter", metavar="FILE.osvos", type=Path, help="segmenter to use")
    add_movie(parser)
    _add_output(parser)
    add_settings(parser.add_argument_group("prediction"), PredictConfig)
    _add_tracks(parser)
    add_machine(parser)
    add_reporting(parser)
    parser.set_defaults(run=predict)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True,
        help="labels, uint16 (uint32 above 65,535): a TIFF stack (.tif) or OME-Zarr (.zarr)",
    )  # fmt: skip
    parser.add_argument(
        "--probabilities", metavar="FILE", type=Path, help="also write the probability of each pixel (.tif or .zarr)"
    )
    parser.add_argument(
        "--uncertainty", metavar="FILE", type=Path,
        help="also write how undecided each pixel is, 0 to 1 (.tif or .zarr)",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="0,10-14", type=frame_numbers, help="numbers of the frames to segment (default: all)"
    )


def _add_tracks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tracks and exports")
    group.add_argument(
        "--track", action=argparse.BooleanOptionalAction,
        help="link objects that look alike: labels are track ids (default: if there is more than one frame)",
    )  # fmt: skip
    add_exports(group)
    add_units(group)
    add_linking(parser.add_argument_group("linking, seldom needed"))


def segment(given: argparse.Namespace, console: Console) -> None:
    """Fine-tune on the painted frames, then segment every frame."""
    report = Report("segment", given.words)
    check_ending("--save", given.save, [".osvos"])
    inputs = [path for path in (given.movie, given.annotations, given.truth, given.continued) if path]
    _check_outputs(given, {"--save": given.save}, inputs)
    tuning = settings_of(given, FineTuneConfig)
    for config in (PredictConfig, LinkConfig):
        settings_of(given, config)  # what is wrong there is said before training
    with report.timing("read"):
        from napari_osvos.suggest import FrameReview

        clip = read_movie(given, report)
        paint = read_paint(given, clip, report)
        positions = positions_of(clip, given.only)
        check_disk(given, clip, positions)
        scale_of(given, clip.labels_shape, clip.name)
        device = choose_device(given, console, report)
        start = load_start(given)
    segmenter, remarks = learn(given, console, report, clip, paint.annotations, tuning, start, device, keep=given.save)
    segmenter.config = settings_of(given, PredictConfig, segmenter.config)
    if given.save:
        segmenter.save(given.save)
    review = FrameReview.of(segmenter, clip, paint.annotations.frames)
    tracked = label_frames(given, console, report, clip, segmenter, positions, paint, review)
    if given.truth:
        skip = [clip.frame_numbers[t] for t in paint.annotations.frames]
        score(given, console, report, labels=given.output, skip=skip, lineage=tracked.lineage if tracked else None)
    conclude(console, report, clip, review, remarks=remarks)
    _finish(given, console, report)


def predict(given: argparse.Namespace, console: Console) -> None:
    """Segment every frame with a saved segmenter."""
    report = Report("predict", given.words)
    _check_outputs(given, {}, [given.segmenter, given.movie])
    settings_of(given, LinkConfig)
    with report.timing("read"):
        from napari_osvos.segmenter import Segmenter

        clip = read_movie(given, report)
        positions = positions_of(clip, given.only)
        check_disk(given, clip, positions)
        scale_of(given, clip.labels_shape, clip.name)
        device = choose_device(given, console, report)
        segmenter = Segmenter.load(given.segmenter, device)
        segmenter.config = settings_of(given, PredictConfig, segmenter.config)
    label_frames(given, console, report, clip, segmenter, positions)
    _finish(given, console, report)


def _check_outputs(given: argparse.Namespace, others: dict[str, Path | None], inputs: list[Path]) -> None:
    labels = {"-o": given.output, "--probabilities": given.probabilities, "--uncertainty": given.uncertainty}
    for name, path in labels.items():
        check_ending(name, path, [".tif", ".tiff", ".zarr"])
    if given.exports and given.track is False:
        raise ValueError("--export needs to know which objects are the same, so it does not go with --no-track.")
    outputs = {**labels, "--json": given.json, **others}
    check_outputs({**outputs, "--export": export_paths(given)}, inputs=inputs, force=given.force)
    check_exports(given)


def _finish(given: argparse.Namespace, console: Console, report: Report) -> None:
    report.write(given.json)
    console.say(f"{given.output}: {report.in_words()}.")
