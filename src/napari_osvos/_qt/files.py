"""What the panel writes on demand: labels, segmenters, and the command that does the same."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from napari_osvos._qt.run import Run
from napari_osvos.command_line import (
    frame_numbers_of,
    predict_command,
    reading_of,
    segment_command,
    write_annotations,
    write_movie,
)
from napari_osvos.io import write_labels


def save_labels(path: Path, run: Run) -> str:
    """Write the masks of a run, as they are in their layer now; return a sentence that says so.

    Raises
    ------
    OSError, ValueError
        If they cannot be written.
    """
    axes = run.wish.movie.axes
    array = labels_of(run)
    frames = (axes.read_frame(array, t) for t in range(axes.n_frames))
    write_labels(path, frames, shape=axes.labels_shape, overwrite=True)
    return f"The labels are in {path}."


def labels_of(run: Run) -> Any:
    """Return the masks of a run, as they are now."""
    return run.layers.present_labels


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
