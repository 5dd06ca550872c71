"""The objects of a run: what its labels mean, linked through time, and in which units they are measured."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from napari_osvos._qt.run import Run
from napari_osvos.labels import Labels
from napari_osvos.linked_movie import Progress
from napari_osvos.linking import Linking
from napari_osvos.painted_frames import annotations_of
from napari_osvos.tracking import TrackedMovie, track

LOOK_ALIKE, DISTINCT = "look-alike", "distinct"
# Held while labels are written or saved: a file has all frames from before linking, or all from after.
RELABELLING = threading.Lock()


def can_be_linked(run: Run) -> bool:
    """Whether there are frames to link, of objects that may be alike; a run that was cancelled does not say."""
    return task_of(run) != DISTINCT and run.wish.movie.axes.n_frames > 1


def is_followed(run: Run) -> bool:
    """Whether a label of its masks is the same object in all frames: linked, or there is nothing to link."""
    return run.tracked is not None or not can_be_linked(run)


def task_of(run: Run) -> str:
    """What its labels mean, as it said at its end or the user before; ``auto`` where nobody did."""
    return run.task or run.wish.tuning.task


def masks_of(run: Run) -> Labels:
    """Return the masks of a run as they are now, read a frame at a time."""
    letters = "TZYX" if run.wish.movie.axes.has_depth else "TYX"
    return Labels(_Frames(run), letters, name="the masks")


def link_masks(run: Run, previous: Linking | None, progress: Progress) -> TrackedMovie:
    """Link the objects of a run, and write their track ids into its masks.

    Parameters
    ----------
    run : Run
    previous : Linking or None
        Whose ids are kept where they can be.
    progress : callable
        Told the frames read and their number.

    Raises
    ------
    ValueError
        If there are more objects than the masks hold labels.
    OSError
        If a frame cannot be read or written.
    """
    axes, array, found = run.wish.movie.axes, run.layers.present_labels, masks_of(run)
    painted = None
    if run.wish.frames:
        painted = annotations_of(
            run.wish.frames, axes, partial=run.wish.partial, background_label=run.wish.background_label
        )
    tracked = track(found, painted, scale=scale_of(run), previous=previous, progress=progress)
    assert tracked.linking is not None
    largest = max(tracked.lineage, default=0)
    if largest > np.iinfo(array.dtype).max:
        raise ValueError(f"There are {largest} objects; the masks hold {np.iinfo(array.dtype).max} labels at most.")
    run.tracked = None  # from the first frame to the last that is written, the masks are neither one nor the other
    with RELABELLING:
        for t in range(axes.n_frames):
            # What was painted since it was read is of no track, and stays so until it is linked again.
            axes.write_frame(array, t, tracked.linking.relabel(t, axes.read_frame(array, t), strangers=True))
    # From here on the masks are the ids: reading them again is all that relabelling would do.
    return TrackedMovie(found, tracked.lineage, tracked.linking)


class _Frames:
    """Masks of a run as an array (T, Y, X) or (T, Z, Y, X), a frame at a time."""

    def __init__(self, run: Run) -> None:
        self._axes, self._array = run.wish.movie.axes, run.layers.present_labels
        self.shape: tuple[int, ...] = tuple(self._axes.labels_shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(self._array.dtype)

    def __getitem__(self, index: Any) -> Any:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(first, slice):
            return np.stack([self[(t, *rest)] for t in range(*first.indices(self.shape[0]))])
        frame = self._axes.read_frame(self._array, int(first))
        return frame[tuple(rest)] if rest else frame


def scale_of(run: Run) -> tuple[float, ...] | None:
    """Return the size of a voxel of a stack, (Z, Y, X), for linking; None where only ratios of 1 matter."""
    movie = run.wish.movie
    scale = tuple(map(float, movie.axes.frame_entries(movie.layer.scale)))
    return scale if len(scale) == 3 and len(set(scale)) > 1 else None


def micrometres_of(run: Run) -> tuple[float, ...] | None:
    """Return the size of a pixel of the masks in micrometres, on the axes of a frame; None if the units are pixels."""
    axes, layer = run.wish.movie.axes, run.wish.movie.layer
    units = getattr(layer, "units", None)
    if units is None:
        return None
    pairs = zip(axes.frame_entries(layer.scale), axes.frame_entries(units), strict=True)
    sizes = [_in(size, unit, "micrometer") for size, unit in pairs]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


def seconds_of(run: Run) -> float | None:
    """Return the time between two frames in seconds; None if the units of their axis are none of time."""
    axis, layer = run.wish.movie.axes.time_axis, run.wish.movie.layer
    units = getattr(layer, "units", None)
    return None if axis is None or units is None else _in(layer.scale[axis], units[axis], "second")


def _in(size: float, unit: Any, wanted: str) -> float | None:
    try:
        return float((float(size) * unit).to(wanted).magnitude)
    except (AttributeError, ValueError, TypeError):  # pixels have no length, and pint's error is a TypeError
        return None
