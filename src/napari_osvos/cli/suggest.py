"""The verb ``suggest``: which frames to annotate next; and how that and the expected accuracy are said and kept."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.options import add_machine, add_movie, add_reporting, add_settings, at_least, settings_of
from napari_osvos.cli.paint import add_annotated, annotated_positions
from napari_osvos.cli.report import Report, check_ending, check_outputs
from napari_osvos.cli.stages import choose_device, read_movie
from napari_osvos.config import PredictConfig
from napari_osvos.machine import replacing

if TYPE_CHECKING:
    from napari_osvos.clip import Clip
    from napari_osvos.suggest import FrameReview, Suggestion

_COLUMNS = ("rank", "frame", "gain", "expected J", "reason")
_EXAMPLES = f"""\
examples:
  {PROGRAM} suggest cells.osvos movie.tif
  {PROGRAM} suggest cells.osvos movie.tif -a painted.tif --csv ranking.csv
  {PROGRAM} suggest cells.osvos other.tif --frames 0,40 --top 1 --quiet
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "suggest",
        usage=f"{PROGRAM} suggest FILE.osvos MOVIE [-a LABELS] [options]",
        help="say which frames to annotate next",
        description="Predict a movie with a saved segmenter and print the frames whose annotation would help most,\n"
        "best first. Frames that are annotated are left out: those of -a or --frames, else those that the\n"
        "segmenter has learned from, if it was fine-tuned on this movie.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("segmenter", metavar="FILE.osvos", type=Path, help="segmenter to use")
    add_movie(parser)
    add_annotated(parser)
    parser.add_argument("-o", "--csv", metavar="FILE.csv", type=Path, help="write the whole ranking as a table")
    parser.add_argument("--top", metavar="N", type=at_least(1), default=10, help="frames to print (default: 10)")
    add_settings(parser.add_argument_group("prediction"), PredictConfig)
    add_machine(parser)
    add_reporting(parser)
    parser.set_defaults(run=suggest)


def suggest(given: argparse.Namespace, console: Console) -> None:
    """Predict a movie and print which frames to annotate next."""
    report = Report("suggest", given.words)
    check_ending("-o/--csv", given.csv, [".csv"])
    inputs = [path for path in (given.segmenter, given.movie, given.annotations) if path]
    check_outputs({"-o/--csv": given.csv, "--json": given.json}, inputs=inputs, force=given.force)
    settings_of(given, PredictConfig)  # what is wrong there is said before anything is read
    with report.timing("read"):
        from napari_osvos.segmenter import Segmenter
        from napari_osvos.suggest import FrameReview

        clip = read_movie(given, report)
        annotated = annotated_positions(given, clip)
        device = choose_device(given, console, report)
        segmenter = Segmenter.load(given.segmenter, device)
        segmenter.config = settings_of(given, PredictConfig, segmenter.config)
    review = FrameReview.of(segmenter, clip, annotated)
    with report.timing("predict"), console.progress("predicting", clip.n_frames) as advance:
        for done, prediction in enumerate(segmenter.iter_frames(clip), start=1):
            review.add(prediction)
            advance(done, clip.n_frames, "")
    report.add(annotated_frames=[clip.frame_numbers[t] for t in sorted(review.annotated)])
    ranking = conclude(console, report, clip, review, best=0)
    if given.csv:
        _write_csv(given.csv, ranking, clip)
        report.add(outputs=[str(given.csv)])
    console.show("\n".join(_table(ranking[: given.top], clip)))
    if not ranking:
        console.say("Every frame is annotated: there is none to suggest.")
    elif len(ranking) > given.top:
        console.say(f"{len(ranking) - given.top} more frames are ranked; --top prints more of them.")
    report.write(given.json)


def conclude(
    console: Console,
    report: Report,
    clip: Clip,
    review: FrameReview,
    *,
    remarks: Sequence[str] = (),
    best: int = 3,
) -> tuple[Suggestion, ...]:
    """Say which accuracy to expect and which frames to annotate next, and keep both in the report.

    Parameters
    ----------
    review
        Which has seen the predictions.
    remarks
        Sentences on what was learned from.
    best
        How many frames are named.

    Returns
    -------
    tuple of Suggestion
        All frames that were seen and are not annotated, best first.
    """
    expected, ranking = review.expected(), review.ranking()
    if expected is not None:
        console.say(f"Expected on frames that are not annotated: {expected.in_words}.")
    for remark in remarks:
        console.say(remark)
    named = [f"{clip.frame_numbers[s.frame]} ({s.reason})" for s in ranking[:best]]
    if named:
        console.say(f"To annotate next: frame {', '.join(named)}.")
    report.add(
        expected_accuracy=expected and expected.to_dict(),
        suggestions=[
            {"rank": rank, **s.to_dict(), "frame": clip.frame_numbers[s.frame]}
            for rank, s in enumerate(ranking, start=1)
        ],
    )
    return ranking


def _rows(ranking: Sequence[Suggestion], clip: Clip) -> list[tuple[str, ...]]:
    return [
        (str(rank), str(clip.frame_numbers[s.frame]), f"{s.gain:.3f}", f"{s.confidence:.3f}", s.reason)
        for rank, s in enumerate(ranking, start=1)
    ]


def _table(ranking: Sequence[Suggestion], clip: Clip) -> list[str]:
    """Columns of one width each, numbers to the right."""
    rows = [_COLUMNS, *_rows(ranking, clip)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS) - 1)]
    return ["  ".join([*(cell.rjust(n) for cell, n in zip(row, widths, strict=False)), row[-1]]) for row in rows]


def _write_csv(path: Path, ranking: Sequence[Suggestion], clip: Clip) -> None:
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(name.replace(" ", "_") for name in _COLUMNS)
        table.writerows(_rows(ranking, clip))
