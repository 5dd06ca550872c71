"""Linking and exports, which ``segment``, ``predict``, ``track`` and ``export`` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_osvos.cli.console import Console
from napari_osvos.cli.options import add_settings, overwrites, pixel_size, positive, settings_of
from napari_osvos.cli.report import Report
from napari_osvos.config import LinkConfig

if TYPE_CHECKING:
    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip
    from napari_osvos.labels import Labels
    from napari_osvos.tracking import TrackedMovie

EXPORT_HELP = (
    ".csv (measurements), .tracks.csv, .geff, .mp4, .gif, .tif, .zarr, or no ending for a folder of the "
    "Cell Tracking Challenge; davis:FOLDER for pictures as the evaluation code of DAVIS reads them"
)


def add_linking(parser: argparse._ActionsContainer) -> None:
    """Add how objects are linked."""
    add_settings(parser, LinkConfig)


def add_exports(parser: argparse._ActionsContainer) -> None:
    """Add what is exported beside the labels."""
    parser.add_argument(
        "--export", metavar="PATH", dest="exports", action="append", default=[],
        help=f"also write, as often as given: {EXPORT_HELP}",
    )  # fmt: skip


def add_units(parser: argparse._ActionsContainer) -> None:
    """Add what a pixel and a frame are worth."""
    parser.add_argument(
        "--pixel-size", metavar="Y,X|Z,Y,X", type=pixel_size, help="micrometres, for exports (default: pixels)"
    )
    parser.add_argument("--frame-interval", metavar="S", type=positive, help="seconds, for exports (default: frames)")


def export_paths(given: argparse.Namespace) -> list[Path]:
    """Return the paths of the exports, without their kinds.

    Raises
    ------
    ValueError
        If a kind or an ending is not known.
    """
    from napari_osvos.exporting import export_kind

    return [export_kind(text)[1] for text in given.exports]


def check_exports(given: argparse.Namespace, *, has_clip: bool = True) -> None:
    """Make sure, before anything is computed, that every export can be made.

    Raises
    ------
    FileExistsError, ValueError
        As `exporting.check_export`, and if a unit is given that nothing is measured in.
    """
    from napari_osvos.exporting import check_export

    if given.frame_interval is not None and not given.exports:
        raise ValueError("--frame-interval has a say only with --export; name that, too, or leave it out.")
    if given.pixel_size is not None and getattr(given, "track", None) is False:
        raise ValueError("--pixel-size has a say only in linking and exports, so it does not go with --no-track.")
    for text in given.exports:
        check_export(text, has_clip=has_clip, overwrite=overwrites(given))


def check_fit(
    given: argparse.Namespace, labels_shape: Sequence[int], name: str, painted: Annotations | None = None
) -> None:
    """Make sure, before anything is computed, that frames of this shape, and ids painted, can be exported.

    Raises
    ------
    ValueError
        As `scale_of` and `exporting.check_export_of`.
    """
    from napari_osvos.exporting import check_export_of
    from napari_osvos.tracking import painted_ids

    scale_of(given, labels_shape, name)
    kept = painted_ids(painted) if painted and given.exports else None
    largest = max(int(kept[p].labels.max()) for p in kept) if kept else 0
    for text in given.exports:
        check_export_of(text, len(labels_shape), name, largest_id=largest)


def scale_of(given: argparse.Namespace, labels_shape: Sequence[int], name: str) -> tuple[float, ...] | None:
    """Return the size of a pixel on each axis of a frame in micrometres; None where it is not given.

    Raises
    ------
    ValueError
        If the frames are stacks, and there is no size for Z.
    """
    size: tuple[float, ...] | None = given.pixel_size
    axes = len(labels_shape) - 1
    if size is not None and len(size) < axes:
        spelled = ",".join(f"{n:g}" for n in size)
        raise ValueError(f"--pixel-size is {spelled}, but {name} has slices; give Z,Y,X.")
    return None if size is None else size[-axes:]


def link_labels(
    given: argparse.Namespace, console: Console, report: Report, labels: Labels, painted: Annotations | None = None
) -> TrackedMovie:
    """Link labels, showing progress, and say what of the paint (with the planes of the labels) was not found."""
    from napari_osvos.labels import spell
    from napari_osvos.tracking import track

    config = settings_of(given, LinkConfig)
    scale = scale_of(given, labels.shape, labels.name)
    with report.timing("link"), console.progress("linking", labels.n_frames) as advance:
        tracked = track(labels, painted, config, scale=scale, progress=advance)
    assert tracked.linking is not None
    for t, ids in list(tracked.linking.missing.items())[:4]:
        console.say(f"In frame {labels.frame_numbers[t]} no object was found where {spell(ids)} was painted.")
    report.add(link=config.to_dict())
    return tracked


def write_exports(
    given: argparse.Namespace, console: Console, report: Report, tracked: TrackedMovie, clip: Clip | None
) -> None:
    """Write the exports, showing progress."""
    from napari_osvos.exporting import export

    labels = tracked.labels
    scale = scale_of(given, labels.shape, labels.name)
    for text in given.exports:
        with report.timing("export"), console.progress(f"exporting {Path(text).name}", labels.n_frames) as advance:
            path = export(
                text,
                labels,
                tracked.lineage,
                clip,
                scale=scale,
                seconds_per_frame=given.frame_interval,
                overwrite=overwrites(given),
                progress=advance,
            )
        report.add(outputs=[*report.facts.get("outputs", []), str(path)])


def label_dtype(largest: int) -> str:
    """Return the dtype of a file of labels up to `largest`: uint16, or uint32 where they need it."""
    return "uint32" if largest >= 2**16 else "uint16"
