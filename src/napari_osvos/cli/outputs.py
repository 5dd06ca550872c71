"""What ``segment`` and ``predict`` write: its options, the checks on it, and the job that it comes from."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import Console
from napari_osvos.cli.exports import add_exports, add_linking, add_units, check_exports, export_paths
from napari_osvos.cli.options import frame_numbers, settings_given
from napari_osvos.cli.report import Report, check_ending, check_outputs
from napari_osvos.config import PredictConfig

if TYPE_CHECKING:
    from napari_osvos.predict_job import PredictJob

LABEL_ENDINGS = (".tif", ".tiff", ".zarr")


class _Output(argparse.Action):
    """Keeps the path, and whether it was written as that of a folder, which a `Path` does not tell."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        namespace.output, namespace.output_is_folder = Path(values), values.endswith(("/", os.sep))


def add_output(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add what is written; `more` is a further sentence on the labels."""
    parser.add_argument(
        "-o", "--output", metavar="OUT", action=_Output, required=True,
        help=f"labels, uint16 (uint32 above 65,535): a TIFF stack (.tif) or OME-Zarr (.zarr){more}",
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


def add_tracks(parser: argparse.ArgumentParser) -> None:
    """Add whether and how objects are linked, and what is exported."""
    group = parser.add_argument_group("tracks and exports")
    group.add_argument(
        "--track", action=argparse.BooleanOptionalAction,
        help="link objects that look alike: labels are track ids (default: if there is more than one frame)",
    )  # fmt: skip
    add_exports(group)
    add_units(group)
    add_linking(parser.add_argument_group("linking, seldom needed"))


def check_label_outputs(
    given: argparse.Namespace, others: dict[str, Path | None], inputs: Sequence[Path]
) -> tuple[Path, ...]:
    """Make sure, before anything is computed, that all can be written where it is to go.

    What an earlier run of the command wrote before it was broken off may be written again: ``given.ours``.

    Parameters
    ----------
    others
        What further outputs are called, and their paths.
    inputs
        Files and folders that no output may replace.

    Returns
    -------
    tuple of Path
        All outputs.

    Raises
    ------
    ValueError, OSError
        As `check_outputs`, `check_exports`, and if an ending is not known.
    """
    from napari_osvos.unfinished import own_outputs, unfinished_path
    from napari_osvos.writing import check_output

    labels = {"-o": given.output, "--probabilities": given.probabilities, "--uncertainty": given.uncertainty}
    for name, path in labels.items():
        check_ending(name, path, LABEL_ENDINGS)
    if given.exports and given.track is False:
        raise ValueError("--export needs to know which objects are the same, so it does not go with --no-track.")
    given.ours = own_outputs(unfinished_path(given.output))
    outputs = {**labels, "--json": given.json, **others}
    exports = export_paths(given)
    check_outputs({**outputs, "--export": exports}, inputs=inputs, force=given.force, ours=given.ours)
    for path in filter(None, labels.values()):
        check_output(path, overwrite=True)  # that it may be replaced is known by now, but not that it is of its kind
    check_exports(given)
    return (*(path for path in outputs.values() if path), *exports)


def job_of(given: argparse.Namespace, learned: dict[str, Any] | None = None) -> PredictJob:
    """Return the prediction that the command line asks for, as plain data.

    Parameters
    ----------
    learned
        What the segmenter is learned from, where it is not in a file yet.
    """
    from napari_osvos.cli.unfinished_run import SEGMENTER
    from napari_osvos.predict_job import PredictJob
    from napari_osvos.unfinished import unfinished_path

    segmenter = unfinished_path(given.output) / SEGMENTER if learned else given.segmenter
    return PredictJob(
        movie=str(given.movie.absolute()),
        segmenter=str(segmenter.absolute()),
        output=str(given.output.absolute()),
        axes=given.axes,
        channels=given.channels,
        settings=settings_given(given, PredictConfig),
        probabilities=given.probabilities is not None,
        uncertainty=given.uncertainty is not None,
        learned=learned,
    )


def finish(given: argparse.Namespace, console: Console, report: Report) -> None:
    """Write the report, and say what came of the run."""
    report.write(given.json)
    console.say(f"{given.output}: {report.in_words()}.")
