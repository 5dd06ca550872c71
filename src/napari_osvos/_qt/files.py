"""What the panel writes on demand: labels, segmenters, and the command that does the same."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_objects import RELABELLING, is_followed, masks_of, micrometres_of, seconds_of
from napari_osvos.command_line import (
    frame_numbers_of,
    predict_command,
    reading_of,
    segment_command,
    write_annotations,
    write_movie,
)
from napari_osvos.exporting import EXPORTS, export
from napari_osvos.io import write_labels
from napari_osvos.linked_movie import Progress
from napari_osvos.tracking import as_tracks


def save_labels(path: Path, layers: RoundLayers) -> str:
    """Write the masks of a round, as they are in their layer now; return a sentence that says so.

    Raises
    ------
    OSError, ValueError
        If they cannot be written.
    """
    axes, array = layers.movie.axes, layers.present_labels
    frames = (axes.read_frame(array, t) for t in range(axes.n_frames))
    with RELABELLING:
        write_labels(path, frames, shape=axes.labels_shape, overwrite=True)
    return f"The labels of {round_in_words(layers)} are in {path}."


def round_in_words(layers: RoundLayers) -> str:
    """Return which round it is, of which movie: ``round 2 of 'cells'``."""
    return f"round {layers.number} of {layers.movie.name!r}"


def refusal_of(run: Run, kind: str) -> str:
    """Say why a kind of export cannot be written of a run; empty if it can.

    Where nobody followed the objects, equal numbers in two frames would be taken for one object.
    """
    if not EXPORTS[kind].tells_tracks or is_followed(run):
        return ""
    return (
        f"The objects of {round_in_words(run.layers)} are numbered anew in each frame, "
        "so there are no tracks to export; press Link again first."
    )


def export_masks(path: Path, run: Run, kind: str, progress: Progress) -> str:
    """Write the objects of a run, as they are in its masks now; return a sentence that says so.

    Raises
    ------
    OSError, ValueError
        As `napari_osvos.export`.
    """
    labels, tracked = masks_of(run), run.tracked
    written = export(
        path,
        labels,
        as_tracks(labels).lineage if tracked is None else tracked.lineage,
        run.wish.movie.clip(),
        kind=kind,
        scale=micrometres_of(run),
        seconds_per_frame=seconds_of(run),
        overwrite=True,
        progress=progress,
    )
    return f"Exported {round_in_words(run.layers)} to {written}."


def copy_file(source: Path, target: Path) -> str:
    """Copy a segmenter, atomically; return a sentence that says so.

    Raises
    ------
    OSError
        If it cannot be copied.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, beside)
        os.replace(beside, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
    return f"The segmenter is in {target}."


def command_of(run: Run) -> str:
    """Return the command that gives the labels of a run, and write the files that it needs.

    Raises
    ------
    OSError, ValueError
        If they cannot be written.
    """
    wish = run.wish
    folder = wish.session.command_folder
    movie, chosen = _movie_file(run, folder)
    output = folder / f"labels{run.number}.tif"
    settings: dict[str, Any] = {
        **chosen,
        "prediction": wish.prediction,
        "device": wish.device,
        "threads": wish.threads,
        "probabilities": folder / f"probabilities{run.number}.tif" if wish.probabilities else None,
        "track": False if run.task == "look-alike" and not run.follows else None,
    }
    repeats = wish.frames is not None and not run.cut_short and wish.tuning.seconds is None
    if not repeats or wish.frames is None:
        segmenter = run.segmenter or wish.segmenter
        if segmenter is None:
            raise ValueError("This run left no segmenter, so no command can repeat it.")
        return predict_command(segmenter, movie, output, **settings)
    numbers = frame_numbers_of(movie) or range(wish.movie.axes.n_frames)
    painted = write_annotations(folder / f"annotations{run.number}.tif", wish.frames, numbers=tuple(numbers))
    return segment_command(
        movie,
        painted,
        output,
        tuning=wish.tuning,
        partial=[numbers[frame] for frame in wish.partial if frame in wish.frames],
        corrected=[numbers[frame] for frame in wish.corrected if frame in wish.frames],
        accepted=[numbers[frame] for frame in wish.accepted],
        background_label=wish.background_label,
        parent=wish.parent,
        start=wish.segmenter,
        **settings,
    )


def _movie_file(run: Run, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return a file of the movie, and what of axes and channels has to be said of it."""
    movie = run.wish.movie
    clip = movie.clip()
    source = movie.facts.source
    if source is not None and Path(source).exists():
        reading = reading_of(Path(source), clip, movie.axes.letters, movie.channels)
        if reading is not None:
            return Path(source), reading
    return write_movie(folder / f"movie{run.number}.zarr", clip), {}
