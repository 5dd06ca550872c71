"""Labels of single frames become a linked movie, labels whose numbers are track ids and their lineage: `track`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import LinkConfig
from napari_osvos.labels import FrameStack, Labels, values_in
from napari_osvos.lineage import Lineage, Track
from napari_osvos.linked_movie import Progress
from napari_osvos.linking import Linking, link
from napari_osvos.objects import MovieObjects


@dataclass(frozen=True, eq=False)
class TrackedMovie:
    """Labels whose numbers are track ids, and the tracks.

    Attributes
    ----------
    labels : Labels
        (T, Y, X) or (T, Z, Y, X); a frame is made when it is read.
    lineage : Lineage
        The tracks, in frame numbers.
    linking : Linking or None
        How the objects were linked; None where the labels were ids already.
    """

    labels: Labels
    lineage: Lineage
    linking: Linking | None = None

    @property
    def in_words(self) -> str:
        """Number of tracks and divisions: ``23 tracks, 4 divisions``."""
        tracks, divisions = len(self.lineage), len(self.lineage.divisions)
        return f"{tracks} track{'s' * (tracks != 1)}, {divisions} division{'s' * (divisions != 1)}"


def track(
    labels: Any,
    annotations: Annotations | None = None,
    config: LinkConfig | None = None,
    *,
    scale: Sequence[float] | None = None,
    previous: Linking | None = None,
    progress: Progress | None = None,
) -> TrackedMovie:
    """Link the objects of labels through time.

    Frames are read one at a time, now and whenever one of the linked labels is; only tables of their objects stay in
    memory. Neighbours in `labels` are neighbours in time, whatever their frame numbers.

    Parameters
    ----------
    labels : Labels or array
        (T, Y, X) or (T, Z, Y, X). In each frame, each label is one object; the same number in two frames means nothing.
    annotations : Annotations, optional
        What the user painted, with the planes of `labels` (`aligned_to_labels`). What was painted keeps its id, unless
        the paint tells no objects apart (`painted_ids`).
    config : LinkConfig, optional
        How to link.
    scale : sequence of float, optional
        Size of a pixel on each axis of a frame, (Y, X) or (Z, Y, X); only ratios matter.
    previous : Linking, optional
        An earlier linking of these frames, whose ids are kept where they can be.
    progress : callable, optional
        Told the frames read and their number.

    Raises
    ------
    ValueError
        If a frame holds no labels, the frame numbers do not rise, or the paint is not as large as the frames.
    OSError
        If a frame cannot be read.
    """
    labels = labels if isinstance(labels, Labels) else Labels(labels)
    objects = MovieObjects(scale)
    for t, frame in enumerate(labels):
        objects.add(t, frame)
        if progress is not None:
            progress(t + 1, labels.n_frames)
    painted = None if annotations is None else painted_ids(annotations)
    linking = link(objects, painted, config, frame_numbers=labels.frame_numbers, previous=previous)
    return TrackedMovie(relabelled(labels, linking), linking.lineage, linking)


def relabelled(labels: Labels, linking: Linking) -> Labels:
    """Return labels as track ids; a frame is relabelled when it is read.

    Parameters
    ----------
    labels : Labels
        As they were linked.
    linking : Linking
        Of all of their frames.
    """
    last: list[tuple[int, npt.NDArray[np.int32]]] = []  # the slices of a stack are read one by one

    def at(t: int) -> npt.NDArray[np.int32]:
        if not last or last[0][0] != t:
            last[:] = [(t, linking.relabel(t, labels.at(t)))]
        return last[0][1]

    stack = FrameStack(at, range(labels.n_frames), labels.shape[1:])
    numbers = labels.frame_numbers if labels.has_numbers else None
    return Labels(stack, frame_numbers=numbers, name=labels.name)


def as_tracks(labels: Any, progress: Progress | None = None) -> TrackedMovie:
    """Take labels that are ids already: each is a track, from the first frame that shows it to the last.

    Parameters
    ----------
    labels : Labels or array
        (T, Y, X) or (T, Z, Y, X).
    progress : callable, optional
        Told the frames read and their number.

    Raises
    ------
    ValueError, OSError
        If a frame holds no labels or cannot be read.
    """
    labels = labels if isinstance(labels, Labels) else Labels(labels)
    lives: dict[int, list[int]] = {}
    for t, frame in enumerate(labels):
        number = labels.frame_numbers[t]
        for id in filter(None, values_in(frame).tolist()):
            first, last = lives.setdefault(id, [number, number])
            lives[id] = [min(first, number), max(last, number)]
        if progress is not None:
            progress(t + 1, labels.n_frames)
    return TrackedMovie(labels, Lineage(Track(id, *life) for id, life in lives.items()))


def painted_ids(annotations: Annotations) -> Annotations | None:
    """Return the paint where its labels are ids of objects; None where one label stands for several objects.

    That is so if there is no other label and, in some frame, it falls into several parts: then the painter told
    objects from background, not from each other.
    """
    from scipy import ndimage

    frames: dict[int, list[int]] = {}
    values: set[int] = set()
    for p in annotations.planes:
        frames.setdefault(p // annotations.depth, []).append(p)
        values.update(np.unique(annotations.labels(p)).tolist())
    if len(values - {0}) > 1:
        return annotations
    for t, planes in frames.items():
        frame = np.zeros((annotations.depth, *annotations.plane_shape), bool)
        for p in planes:
            frame[p - t * annotations.depth] = annotations.mask(p)
        if ndimage.label(frame)[1] > 1:
            return None
    return annotations


def painted_on(annotations: Annotations, positions: Sequence[int]) -> Annotations:
    """Return the paint of a movie for labels of some of its frames.

    Parameters
    ----------
    annotations : Annotations
        With the planes of the movie.
    positions : sequence of int
        Of the frames that there are labels of.
    """
    depth = annotations.depth
    # Frames without labels go behind the others: their ids are taken, though they name no object here.
    order = [*positions, *(t for t in annotations.frames if t not in set(positions))]
    places = {t: place for place, t in enumerate(order)}
    planes = {places[p // depth] * depth + p % depth: paint for p, paint in annotations.items()}
    numbers = [annotations.frame_numbers[t] for t in order] if annotations.has_numbers else None
    return Annotations(planes, n_frames=len(order), depth=depth, frame_numbers=numbers, name=annotations.name)


def aligned_to_labels(annotations: Annotations, labels: Labels) -> Annotations:
    """Return the paint with the planes of labels, paired by frame number, as `Annotations.aligned_to` does of a movie.

    Raises
    ------
    ValueError
        If nothing is painted, the size or depth is another, or a painted frame has no labels.
    """
    axes = "TZYX" if labels.ndim == 4 else "TYX"
    numbers = labels.frame_numbers if labels.has_numbers else None
    blank = np.broadcast_to(np.uint8(0), labels.shape)  # takes no memory
    return annotations.aligned_to(Clip(blank, axes, frame_numbers=numbers, name=labels.name))
