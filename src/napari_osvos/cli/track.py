"""The verbs for labels that are there already: ``track`` links them, ``export`` turns tracks into other files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.exports import (
    EXPORT_HELP,
    add_exports,
    add_linking,
    add_units,
    check_exports,
    check_fit,
    export_paths,
    label_dtype,
    link_labels,
    write_exports,
)
from napari_osvos.cli.options import add_reading, add_reporting, settings_of
from napari_osvos.cli.paint import add_annotations
from napari_osvos.cli.report import Report, check_ending, check_outputs
from napari_osvos.config import LinkConfig

if TYPE_CHECKING:
    from napari_osvos.clip import Clip
    from napari_osvos.labels import Labels

_TRACK_EXAMPLES = f"""\
examples:
  {PROGRAM} track labels.tif -o tracked.tif
  {PROGRAM} track labels.tif -o tracked.tif -a painted.tif --export 01_RES --export cells.csv --movie movie.tif
"""
_EXPORT_EXAMPLES = f"""\
examples:
  {PROGRAM} export tracked.tif cells.csv cells.tracks.csv --movie movie.tif --pixel-size 0.65,0.65 --frame-interval 300
  {PROGRAM} export 01_RES tracks.geff cells.mp4 --movie 01     # mothers are read from 01_RES/res_track.txt
"""


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser = verbs.add_parser(
        "track",
        usage=f"{PROGRAM} track LABELS -o OUT [options]",
        help="link the objects of labels from anywhere through time",
        description="Link the objects of labels through time, over gaps and divisions. In each frame, each label is\n"
        "one object; the same number in two frames means nothing. OUT has one label a track.",
        epilog=_TRACK_EXAMPLES,
    )
    parser.add_argument("labels", metavar="LABELS", type=Path, help="labels of each frame: a stack or a folder")
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path,
        help="labels that are track ids, uint16 (uint32 above 65,535): a TIFF stack (.tif) or OME-Zarr (.zarr)",
    )  # fmt: skip
    add_annotations(parser, needed=False)
    group = parser.add_argument_group("exports")
    add_exports(group)
    _add_units_and_movie(parser, group)
    add_linking(parser.add_argument_group("linking"))
    add_reporting(parser)
    parser.set_defaults(run=track)

    parser = verbs.add_parser(
        "export",
        usage=f"{PROGRAM} export LABELS PATH [PATH ...] [options]",
        help="turn labels that are track ids into tables, graphs, movies",
        description="Turn labels that are track ids into other files. Each label is a track; which came from which is\n"
        "known of folders of the Cell Tracking Challenge.",
        epilog=_EXPORT_EXAMPLES,
    )
    parser.add_argument("labels", metavar="LABELS", type=Path, help="labels that are track ids: a stack or a folder")
    parser.add_argument("exports", metavar="PATH", nargs="+", help=f"what to write: {EXPORT_HELP}")
    _add_units_and_movie(parser, parser)
    add_reporting(parser)
    parser.set_defaults(run=export)


def _add_units_and_movie(parser: argparse.ArgumentParser, group: argparse._ActionsContainer) -> None:
    add_units(group)
    group.add_argument("--movie", metavar="MOVIE", type=Path, help="for intensities and for pictures of the movie")
    add_reading(parser)


def track(given: argparse.Namespace, console: Console) -> None:
    """Link labels, and write and export what comes of it."""
    from napari_osvos.io import write_labels

    report = Report("track", given.words)
    if not given.output and not given.exports:
        raise ValueError("Nothing is to be written; give -o or --export.")
    check_ending("-o", given.output, [".tif", ".tiff", ".zarr"])
    outputs = {"-o": given.output, "--export": export_paths(given), "--json": given.json}
    _check(given, outputs, [given.annotations])
    settings_of(given, LinkConfig)
    with report.timing("read"):
        from napari_osvos.io import read_labels
        from napari_osvos.tracking import aligned_to_labels

        labels = read_labels(given.labels)
        clip = _open(given, labels, report)
        painted = None
        if given.annotations:
            painted = aligned_to_labels(_painted(given), labels)
    tracked = link_labels(given, console, report, labels, painted)
    lineage = tracked.lineage
    console.say(f"{tracked.in_words}.")
    report.add(n_tracks=len(lineage), n_divisions=len(lineage.divisions), outputs=[])
    if given.output:
        with report.timing("write"):
            dtype = label_dtype(max(lineage, default=0))
            write_labels(given.output, tracked.labels, dtype=dtype, overwrite=given.force)
        report.add(outputs=[str(given.output)])
    write_exports(given, console, report, tracked, clip)
    _finish(given, console, report)


def export(given: argparse.Namespace, console: Console) -> None:
    """Export labels that are track ids."""
    from napari_osvos.ctc_folder import TRACK_FILES, read_ctc_folder
    from napari_osvos.io import read_labels
    from napari_osvos.tracking import TrackedMovie, as_tracks

    report = Report("export", given.words)
    _check(given, {"PATH": export_paths(given), "--json": given.json}, [])
    with report.timing("read"):
        if any((folder / name).is_file() for folder in (given.labels, given.labels / "TRA") for name in TRACK_FILES):
            tracked = TrackedMovie(*read_ctc_folder(given.labels))
            clip = _open(given, tracked.labels, report)
        else:
            labels = read_labels(given.labels)
            clip = _open(given, labels, report)
            with console.progress("reading", labels.n_frames) as advance:
                tracked = as_tracks(labels, advance)
    report.add(n_tracks=len(tracked.lineage), n_divisions=len(tracked.lineage.divisions))
    console.say(f"{tracked.in_words}.")
    write_exports(given, console, report, tracked, clip)
    _finish(given, console, report)


def _check(given: argparse.Namespace, outputs: dict[str, Any], others: Sequence[Path | None]) -> None:
    from napari_osvos.writing import check_output

    inputs = [path for path in (given.labels, given.movie, *others) if path]
    check_outputs(outputs, inputs=inputs, force=given.force)
    if outputs.get("-o"):
        check_output(outputs["-o"], overwrite=True)
    check_exports(given, has_clip=given.movie is not None)


def _open(given: argparse.Namespace, labels: Labels, report: Report) -> Clip | None:
    """Open the movie, if there is one, and make sure that it and the scale fit the labels."""
    from napari_osvos.io import read_clip
    from napari_osvos.linked_movie import Beside

    report.add(labels=str(given.labels), shape=list(labels.shape))
    check_fit(given, labels.shape, labels.name)
    if given.movie is None:
        return None
    clip = read_clip(given.movie, axes=given.axes, channels=given.channels)
    Beside(clip, labels)
    report.add(movie=str(given.movie))
    return clip


def _painted(given: argparse.Namespace) -> Any:
    from napari_osvos.annotations import Annotations
    from napari_osvos.io import read_labels

    return Annotations.from_labels(
        read_labels(given.annotations),
        frames=given.frames,
        background_label=given.background_label,
        void_label=given.void_label,
    )


def _finish(given: argparse.Namespace, console: Console, report: Report) -> None:
    report.write(given.json)
    console.say(f"{', '.join(report.facts['outputs'])}: {report.in_words()}.")
