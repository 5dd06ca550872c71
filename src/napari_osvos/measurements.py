"""Measurements of the objects of a linked movie, frame by frame, and of its tracks, as tables in CSV.

Columns are named with their unit; docs/exports.md says what each one is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import Clip
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage
from napari_osvos.linked_movie import Beside, LinkedFrame, Progress, Units, linked_frames
from napari_osvos.machine import replacing

Columns = dict[str, npt.NDArray[Any]]
"""Columns of a table by name, all of one length; NaN is what cannot be measured."""


def check_table(path: str | Path, *, overwrite: bool = False) -> Path:
    """Check, before any work is done, that a table may be written under this name.

    Raises
    ------
    FileExistsError
        If it exists and `overwrite` is False.
    ValueError
        If the ending is not ``.csv``, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{path} cannot be written as a table; the name must end in .csv.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, which a file never replaces; choose another name.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or allow overwriting it.")
    return path


def measure_objects(
    labels: Labels,
    lineage: Lineage,
    clip: Clip | None = None,
    *,
    scale: Sequence[float] | None = None,
    seconds_per_frame: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Columns]:
    """Measure the objects of a linked movie, a frame at a time.

    Parameters
    ----------
    labels, lineage
        A linked movie.
    clip : Clip, optional
        The movie, for intensities; pixels that are not finite do not count.
    scale, seconds_per_frame
        See `Units.of`; without them lengths are in pixels (px) and times in frames.
    progress : callable, optional
        Told the frames done and their number.

    Yields
    ------
    Columns
        A row for each object of the frame, in rising order of ids; every frame has the same columns.

    Raises
    ------
    ValueError
        If labels, lineage and clip do not fit each other, or a number is out of its range.
    OSError
        If a frame cannot be read.
    """
    units = Units.of(labels, scale, seconds_per_frame)
    beside = Beside(clip, labels) if clip is not None else None
    steps = _Steps(units)
    for frame in linked_frames(labels, lineage, progress):
        columns: Columns = {
            "track_id": frame.ids,
            "mother_id": np.array([lineage[id].mother for id in frame.ids.tolist()], np.int64),
            "frame": np.full(len(frame.ids), frame.number, np.int64),
        }
        if units.time == "s":
            columns["time_s"] = columns["frame"] * units.frame
        columns |= _shape(frame, units)
        columns |= steps.columns(frame)
        if beside is not None:
            columns |= _intensities(frame, beside.at(frame.position))
        yield columns


def write_measurements(
    path: str | Path,
    labels: Labels,
    lineage: Lineage,
    clip: Clip | None = None,
    *,
    scale: Sequence[float] | None = None,
    seconds_per_frame: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write `measure_objects` as CSV: a row per object and frame; what cannot be measured is an empty cell.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    ValueError, OSError
        As `measure_objects`, and ValueError if `path` does not end in ``.csv``.
    """
    path = check_table(path, overwrite=overwrite)
    tables = measure_objects(labels, lineage, clip, scale=scale, seconds_per_frame=seconds_per_frame, progress=progress)
    _write(path, tables)


def measure_tracks(
    labels: Labels,
    lineage: Lineage,
    *,
    scale: Sequence[float] | None = None,
    seconds_per_frame: float | None = None,
    progress: Progress | None = None,
) -> Columns:
    """Measure the tracks of a linked movie, a row for each, in rising order of ids.

    Parameters and errors are those of `measure_objects`.
    """
    units = Units.of(labels, scale, seconds_per_frame)
    shown = dict.fromkeys(lineage, 0)
    path = dict.fromkeys(lineage, 0.0)
    start: dict[int, npt.NDArray[np.float64]] = {}
    end: dict[int, npt.NDArray[np.float64]] = {}
    for frame in linked_frames(labels, lineage, progress):
        for id, centroid in zip(frame.ids.tolist(), frame.centroids * units.pixel, strict=True):
            shown[id] += 1
            path[id] += float(np.linalg.norm(centroid - end.get(id, centroid)))
            start.setdefault(id, centroid)
            end[id] = centroid
    tracks = list(lineage.values())
    displacement = [float(np.linalg.norm(end[track.id] - start[track.id])) for track in tracks]
    durations = np.array([(track.last - track.first) * units.frame for track in tracks], np.float64)
    paths = np.array([path[track.id] for track in tracks], np.float64)
    divisions = lineage.divisions
    return {
        "track_id": np.array([track.id for track in tracks], np.int64),
        "mother_id": np.array([track.mother for track in tracks], np.int64),
        "daughter_ids": np.array([" ".join(map(str, divisions.get(track.id, ()))) for track in tracks], np.str_),
        "first_frame": np.array([track.first for track in tracks], np.int64),
        "last_frame": np.array([track.last for track in tracks], np.int64),
        "frames_shown": np.array([shown[track.id] for track in tracks], np.int64),
        f"duration_{'s' if units.time == 's' else 'frames'}": durations,
        f"path_{units.length}": paths,
        f"displacement_{units.length}": np.array(displacement, np.float64),
        f"mean_speed_{units.length}_per_{units.time}": _divided(paths, durations),
    }


def write_tracks(
    path: str | Path,
    labels: Labels,
    lineage: Lineage,
    *,
    scale: Sequence[float] | None = None,
    seconds_per_frame: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write `measure_tracks` as CSV: a row per track; what cannot be measured is an empty cell.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    ValueError, OSError
        As `measure_tracks`, and ValueError if `path` does not end in ``.csv``.
    """
    path = check_table(path, overwrite=overwrite)
    _write(path, [measure_tracks(labels, lineage, scale=scale, seconds_per_frame=seconds_per_frame, progress=progress)])


def _shape(frame: LinkedFrame, units: Units) -> Columns:
    """Where each object is, its size and its form."""
    from skimage.measure import perimeter, regionprops_table

    def perimeter_px(mask: npt.NDArray[np.bool_]) -> float:
        return float(perimeter(mask))

    flat = frame.places.ndim == 2
    axes = ("z", "y", "x")[-frame.places.ndim :]
    form = ("axis_major_length", "axis_minor_length", "eccentricity", "orientation", "solidity")
    square = len(set(units.pixel)) == 1  # scikit-image knows no perimeter of oblong pixels: that stays in px
    with np.errstate(all="ignore"):
        table = regionprops_table(
            frame.places,
            properties=["bbox", *((*form, *(["perimeter"] if square else [])) if flat else ["inertia_tensor_eigvals"])],
            spacing=units.pixel,
            extra_properties=(perimeter_px,) if flat and not square else None,
        )
    columns: Columns = {}
    for axis, where in zip(axes, frame.centroids.T, strict=True):
        columns[f"centroid_{axis}_px"] = where
    if units.length == "um":
        for axis, where, size in zip(axes, frame.centroids.T, units.pixel, strict=True):
            columns[f"centroid_{axis}_um"] = where * size
    for k, bound in enumerate(("min", "max")):
        for j, axis in enumerate(axes):
            columns[f"bbox_{bound}_{axis}_px"] = table[f"bbox-{k * len(axes) + j}"]
    columns["area_px" if flat else "volume_px"] = frame.sizes
    if units.length == "um":
        columns["area_um2" if flat else "volume_um3"] = frame.sizes * float(np.prod(units.pixel))
    if not flat:
        eigenvalues = [table[f"inertia_tensor_eigvals-{k}"] for k in range(3)]
        total = sum(eigenvalues)
        for k, name in enumerate(("major", "middle", "minor")):  # of the ellipsoid with the same second moments
            # rounding can leave a flat object a little less than nothing
            squared = np.maximum(10 * (total - 2 * eigenvalues[2 - k]), 0)
            columns[f"axis_{name}_{units.length}"] = np.sqrt(squared)
        return columns
    major, minor = table["axis_major_length"], table["axis_minor_length"]
    columns[f"axis_major_{units.length}"] = major
    columns[f"axis_minor_{units.length}"] = minor
    columns["eccentricity"] = table["eccentricity"]
    # what is as long as it is wide points nowhere
    columns["orientation_deg"] = np.where(major > minor, np.degrees(table["orientation"]), np.nan)
    columns["solidity"] = table["solidity"]
    columns[f"perimeter_{units.length if square else 'px'}"] = table["perimeter" if square else "perimeter_px"]
    return columns


class _Steps:
    """How far each object came since its track was last seen, and how fast."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._last: dict[int, tuple[int, npt.NDArray[np.float64]]] = {}

    def columns(self, frame: LinkedFrame) -> Columns:
        units = self._units
        here = frame.centroids * units.pixel
        steps = np.full(here.shape, np.nan)
        times = np.full(len(here), np.nan)
        for k, id in enumerate(frame.ids.tolist()):
            if id in self._last:
                number, before = self._last[id]
                steps[k], times[k] = here[k] - before, (frame.number - number) * units.frame
            self._last[id] = (frame.number, here[k])
        speed = f"{units.length}_per_{units.time}"
        lengths = np.linalg.norm(steps, axis=1)
        columns: Columns = {f"displacement_{units.length}": lengths}
        for axis, step in zip(("z", "y", "x")[-here.shape[1] :], steps.T, strict=True):
            columns[f"velocity_{axis}_{speed}"] = step / times
        columns[f"speed_{speed}"] = lengths / times
        return columns


def _intensities(frame: LinkedFrame, pixels: npt.NDArray[Any]) -> Columns:
    """Intensities (..., C) of each object and channel, of the pixels that are finite."""
    from scipy import ndimage

    columns: Columns = {}
    index = np.arange(1, len(frame.ids) + 1)
    for c in range(pixels.shape[-1]):
        values = pixels[..., c].astype(np.float64)
        finite = np.isfinite(values)
        places = np.where(finite, frame.places, 0)
        count = np.bincount(places.ravel(), minlength=len(index) + 1)[1:]
        total = np.bincount(places.ravel(), np.where(finite, values, 0).ravel(), minlength=len(index) + 1)[1:]
        seen = count > 0
        least, most = (np.full(len(index), np.nan) for _ in range(2))
        if seen.any():
            least[seen] = ndimage.minimum(values, places, index[seen])
            most[seen] = ndimage.maximum(values, places, index[seen])
        columns[f"intensity_mean_c{c}"] = _divided(total, count)
        columns[f"intensity_min_c{c}"] = least
        columns[f"intensity_max_c{c}"] = most
        columns[f"intensity_sum_c{c}"] = np.where(seen, total, np.nan)
    return columns


def _divided(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Quotients, NaN where they are by 0."""
    quotients = np.full(len(above), np.nan)
    np.divide(above, below, out=quotients, where=np.asarray(below) > 0)
    return quotients


def _write(path: Path, tables: Iterable[Columns]) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for count, columns in enumerate(tables):
            if count == 0:
                writer.writerow(columns)
            writer.writerows(zip(*(_cells(column) for column in columns.values()), strict=True))


def _cells(column: npt.NDArray[Any]) -> list[Any]:
    if column.dtype.kind != "f":
        return list(column.tolist())
    return ["" if math.isnan(value) else f"{value:.9g}" for value in column.tolist()]
