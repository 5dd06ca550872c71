"""The verb ``evaluate``: labels against truth."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.options import add_reporting, at_least, frame_numbers
from napari_osvos.cli.report import Report, check_outputs
from napari_osvos.cli.stages import numbers_of

if TYPE_CHECKING:
    from napari_osvos.clip import Clip
    from napari_osvos.evaluation import Scores
    from napari_osvos.lineage import Lineage

_EXAMPLES = f"""\
examples:
  {PROGRAM} evaluate labels.tif truth.tif --skip-frames 0
  {PROGRAM} evaluate labels.tif 02_ST/SEG --skip-frames 0,40 --border 50 --json scores.json
  {PROGRAM} evaluate 01_RES 01_GT --border 25     # folders of the Cell Tracking Challenge, tracks too

Of the foreground: J is the region similarity (intersection over union), F the contour accuracy within 0.8 % of the
frame's diagonal, as in DAVIS, and within 2 px. Recall is the share of frames above 0.5, decay the mean of the first
quarter minus that of the last.

Of the objects, where both hold more than one in a frame: F1 = 2 TP / (2 TP + FP + FN) over the objects of all frames,
which match one to one at an IoU (intersection over union) of at least 0.5 or 0.75 (not to be taken for F); SEG is the
mean IoU of the objects of the truth with the object that covers more than half of each. Truth that shows only some of
the objects, such as 02_GT/SEG, is fit for SEG alone.

Of the tracks, where man_track.txt is in TRUTH or beside it (01_GT/TRA), or with --stable-ids: DET and TRA of the Cell
Tracking Challenge, 1 less the cost of mending objects, or objects and their links, by hand. They count all frames,
those that are skipped above, too. TRA needs consecutive frames. Mothers of OUT are read from its res_track.txt.
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "evaluate",
        usage=f"{PROGRAM} evaluate OUT TRUTH [options]",
        help="score labels against truth",
        description="Score labels against truth. Frames are matched by number; frames without truth are left out.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("labels", metavar="OUT", type=Path, help="labels to score: a stack or a folder")
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="truth: a stack or a folder")
    parser.add_argument(
        "--skip-frames", metavar="0,40", type=frame_numbers, default=(),
        help="numbers of frames to leave out: the annotated ones",
    )  # fmt: skip
    add_scoring(parser)
    parser.add_argument(
        "--void-label", metavar="N", type=at_least(1), help="label of pixels of TRUTH that do not count, such as 255"
    )
    add_reporting(parser, force="overwrite the --json file if it exists")
    parser.set_defaults(run=evaluate)


def add_scoring(parser: argparse._ActionsContainer) -> None:
    """Add how to score."""
    parser.add_argument(
        "--border", metavar="PIXELS", type=at_least(0), default=0,
        help="width of the band along the edges to leave out, where the truth is not annotated; "
        "objects that lie in it entirely do not count (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--stable-ids", action="store_true",
        help="the labels of TRUTH name the same object in every frame: score tracks (DET, TRA), too",
    )  # fmt: skip
    parser.add_argument("--per-frame", action="store_true", help="print the scores of each frame, too")


def evaluate(given: argparse.Namespace, console: Console) -> None:
    """Score labels against truth."""
    report = Report("evaluate", given.words)
    check_outputs({"--json": given.json}, inputs=[given.labels, given.truth], force=given.force)
    report.add(labels=str(given.labels), truth=str(given.truth))
    score(given, console, report, labels=given.labels, skip=given.skip_frames)
    report.write(given.json)


def check_truth(given: argparse.Namespace, clip: Clip, positions: Sequence[int], skip: Collection[int]) -> None:
    """Make sure, before anything is learned, that labels of these frames can be scored against ``given.truth``.

    Raises
    ------
    ValueError, OSError
        As `evaluation.frames_to_score`, and if the truth cannot be read.
    """
    import numpy as np

    from napari_osvos.evaluation import frames_to_score
    from napari_osvos.io import read_labels
    from napari_osvos.labels import Labels

    blank = np.broadcast_to(np.zeros((), np.uint8), (len(positions), *clip.labels_shape[1:]))
    labels = Labels(blank, frame_numbers=numbers_of(clip, positions), name="the labels")
    frames_to_score(labels, read_labels(given.truth), skip, given.border)


def score(
    given: argparse.Namespace,
    console: Console,
    report: Report,
    *,
    labels: Path,
    skip: Collection[int],
    lineage: Lineage | None = None,
) -> Scores:
    """Score a file of labels against ``given.truth``, print the table and keep the scores.

    `lineage` is that of the labels, where they do not bring it.
    """
    from napari_osvos.evaluation import evaluate as evaluate_labels
    from napari_osvos.io import read_labels
    from napari_osvos.tracking_scores import find_track_truth, read_tracked_labels

    with report.timing("evaluate"):
        found, own = read_tracked_labels(labels)
        tracks = find_track_truth(given.truth)
        scores = evaluate_labels(
            found,
            read_labels(given.truth),
            skip_frames=skip,
            border=given.border,
            instances=True if given.stable_ids else None,
            tracks=tracks or given.stable_ids,
            lineage=lineage or own,
            void_label=given.void_label,
        )
    report.add(scores=scores.to_dict())
    if tracks and scores.tracks:
        report.add(track_truth=tracks.labels.name)
        console.say(f"Tracks are scored against {tracks.labels.name}.")
    elif tracks:
        console.say(
            f"No frame holds several objects in labels and truth, so neither they nor tracks are scored against"
            f" {tracks.labels.name}; --stable-ids scores them."
        )
    console.show(scores.to_markdown(per_frame=given.per_frame))
    return scores
