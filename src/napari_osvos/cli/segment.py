"""The verb ``segment``: a movie segmented from its painted frames."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_osvos.cli.clusters import add_cluster, on_cluster
from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.evaluate import add_scoring, check_truth, score
from napari_osvos.cli.exports import check_fit
from napari_osvos.cli.fine_tune import add_tuning
from napari_osvos.cli.options import (
    add_machine,
    add_movie,
    add_reporting,
    add_settings,
    add_start,
    settings_of,
    tuning_of,
)
from napari_osvos.cli.outputs import add_output, add_tracks, check_label_outputs, finish, job_of
from napari_osvos.cli.paint import add_accepted, add_annotations, read_paint
from napari_osvos.cli.predicting import label_frames
from napari_osvos.cli.report import Report, check_ending
from napari_osvos.cli.stages import (
    check_disk,
    choose_device,
    learn,
    load_start,
    positions_of,
    read_movie,
)
from napari_osvos.cli.suggest import conclude
from napari_osvos.cli.unfinished_run import going_on, keep_learned, learned_before
from napari_osvos.config import FineTuneConfig, LinkConfig, PredictConfig

_SEGMENT_EXAMPLES = f"""\
examples:
  {PROGRAM} segment movie.tif -a painted.tif -o labels.tif
  {PROGRAM} segment movie.tif -a painted.tif -o labels.ome.zarr --quality best --save cells.osvos
  {PROGRAM} segment 02 -a 02_ST/SEG --frames 0,40 -o labels.tif     # a Cell Tracking Challenge folder as it is
  {PROGRAM} segment movie.tif -a painted.tif -o tracks.tif --export cells.csv --export 02_RES --pixel-size 0.65,0.65
  {PROGRAM} segment movie.tif -a more.tif --continue cells.osvos --corrected 12 --accepted 0 -o labels.tif --force
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
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
    add_output(parser)
    parser.add_argument("--save", metavar="FILE.osvos", type=Path, help="keep the fine-tuned segmenter")
    add_start(parser)
    add_tuning(parser)
    add_settings(parser.add_argument_group("prediction"), PredictConfig)
    add_tracks(parser)
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument("--truth", metavar="TRUTH", type=Path, help="score the labels, without the annotated frames")
    add_scoring(scoring)
    add_machine(parser)
    add_reporting(parser)
    add_cluster(parser)
    parser.set_defaults(run=on_cluster(segment))


def segment(given: argparse.Namespace, console: Console) -> None:
    """Fine-tune on the painted frames, then segment every frame."""
    report = Report("segment", given.words)
    check_ending("--save", given.save, [".osvos"])
    for option in ("border", "per_frame", "stable_ids"):
        if getattr(given, option) and not given.truth:
            raise ValueError(f"--{option.replace('_', '-')} goes with --truth; add it.")
    inputs = [path for path in (given.movie, given.annotations, given.truth, given.continued) if path]
    outputs = check_label_outputs(given, {"--save": given.save}, inputs)
    tuning = tuning_of(given)
    for config in (PredictConfig, LinkConfig):
        settings_of(given, config)  # what is wrong there is said before training
    with report.timing("read"):
        from napari_osvos.suggest import FrameReview

        clip = read_movie(given, report)
        paint = read_paint(given, clip, report)
        positions = positions_of(clip, given.only)
        annotated = [clip.frame_numbers[t] for t in paint.annotations.frames]
        if given.truth:
            check_truth(given, clip, positions, annotated)
        check_disk(given, clip, positions)
        check_fit(given, clip.labels_shape, clip.name, paint.annotations)
        device = choose_device(given, console, report)
        start = load_start(given)
        settings_of(given, PredictConfig).check(start.net.config, tuning)
        job = job_of(given, learned=_what_it_learns_from(given, tuning))
    with going_on(given, console, job, clip, positions, outputs) as store:
        report.add(settings=tuning.to_dict(), quality=tuning.quality, seed=tuning.seed)
        learned = learned_before(store, report, job, device)
        if learned is None:
            annotations = paint.annotations
            learned = learn(given, console, report, clip, annotations, tuning, start, device, keep=given.save)
            keep_learned(store, report, *learned)
        segmenter, remarks = learned
        segmenter.config = settings_of(given, PredictConfig, segmenter.config)
        if given.save:
            segmenter.save(given.save)
        review = FrameReview.of(segmenter, clip, paint.annotations.frames)
        tracked = label_frames(
            given, console, report, job, clip, segmenter, positions, store, paint=paint, review=review
        )
        if given.truth:
            lineage = tracked.lineage if tracked else None
            score(given, console, report, labels=given.output, skip=annotated, lineage=lineage)
        conclude(console, report, clip, review, remarks=remarks)
        finish(given, console, report)


def _what_it_learns_from(given: argparse.Namespace, tuning: FineTuneConfig) -> dict[str, Any]:
    """Return what tells what is learned from what another command would learn."""
    from napari_osvos.path_facts import file_digest, path_facts

    options = ("frames", "partial", "corrected", "accepted", "background_label", "void_label")
    start = given.continued or given.parent
    return {
        "paint": {**path_facts(given.annotations), **{name: getattr(given, name) for name in options}},
        "parent": file_digest(start) if Path(start).is_file() else str(start),
        "fine-tuning": tuning.to_dict(),
    }
