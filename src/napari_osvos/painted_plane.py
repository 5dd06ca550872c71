"""An annotated plane as training sees it: its pixels, its paint, and where the paint says anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.labels import spell
from napari_osvos.task import instances_of
from napari_osvos.unpainted_edge import supervised


@dataclass(frozen=True, eq=False)
class PaintedPlane:
    """One annotated plane.

    Attributes
    ----------
    image : (Y, X, C) array
        Raw intensities.
    labels : (Y, X) int array
        0 is background.
    known : (Y, X) bool array
        Where it supervises.
    partial : bool
        Whether what is not painted is unknown.
    frame : int
        Position of its frame in the movie.
    weight : float
        How often crops are drawn from it, relative to others.
    """

    image: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    partial: bool = False
    frame: int = 0
    weight: float = 1.0


def painted_planes(clip: Clip, annotations: Annotations, *, alike: bool) -> list[PaintedPlane]:
    """Return every annotated plane of a movie.

    Parameters
    ----------
    clip : Clip
        The movie.
    annotations : Annotations
        Aligned to it.
    alike : bool
        Whether labels are objects that look alike: where the whole paint has one label only, each of its connected
        parts gets one of its own.
    """
    diameter = annotations.object_diameter()
    return [
        PaintedPlane(
            image=clip.plane(p),
            labels=instances_of(annotations, p) if alike else annotations.labels(p),
            known=supervised(annotations, p, diameter),
            partial=annotations.is_partial(p),
            frame=p // annotations.depth,
            weight=annotations.weight(p),
        )
        for p in annotations.planes
    ]


def check_contrast(clip: Clip, planes: Sequence[PaintedPlane]) -> None:
    """Make sure that there is something to see in annotated planes.

    Raises
    ------
    ValueError
        If all of their pixels have one value, or none is finite.
    """
    finite = [plane.image[np.isfinite(plane.image)] for plane in planes]
    values = {float(v) for pixels in finite if pixels.size for v in (pixels.min(), pixels.max())}
    if len(values) < 2:
        numbers = spell(sorted({clip.frame_numbers[plane.frame] for plane in planes}))
        what = f"has the value {values.pop():g}" if values else "is NaN or infinite"
        raise ValueError(f"{clip.name} shows nothing where it is painted: every pixel of frame {numbers} {what}.")
