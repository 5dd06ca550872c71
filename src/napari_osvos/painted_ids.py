"""The ids that the user painted: which objects they name, and how the chains of objects are made to keep them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from napari_osvos.annotations import Annotations
from napari_osvos.chains import Chains
from napari_osvos.objects import FrameObjects, Ints, largest_first, objects_of, overlaps


def painted_objects(
    objects: FrameObjects, annotations: Annotations, position: int, smallest_overlap: float
) -> tuple[Ints, Ints]:
    """Find the objects of a frame that the user painted.

    Paint and object belong together if they share more than `smallest_overlap` of the smaller of both, so that a
    stroke within an object names it; among several, those that share most.

    Parameters
    ----------
    objects : FrameObjects
        Of the frame at `position`.
    annotations : Annotations
        Planes of the movie, see `Annotations.aligned_to`.
    position : int
    smallest_overlap : float
        0 to 1.

    Returns
    -------
    ids : (N,) int64 array
        Painted id of each object, 0 if it has none. No id is there twice.
    missing : (M,) int64 array
        Painted ids that no object has, rising.

    Raises
    ------
    ValueError
        If the paint is not as large as the frame.
    """
    paint = objects_of(_painted_frame(annotations, position, len(objects.shape)))
    if paint.shape != objects.shape:
        raise ValueError(
            f"{annotations.name} is {paint.shape} pixels in frame {position} of the movie, its objects "
            f"{objects.shape}; both must be of one size."
        )
    p, o, shared = overlaps(paint, objects)
    part = shared / np.minimum(paint.pixels[p], objects.pixels[o])
    union = paint.pixels[p] + objects.pixels[o] - shared
    enough = part > smallest_overlap
    chosen = largest_first(p[enough], o[enough], (shared / union + part)[enough])
    ids = np.zeros(len(objects), np.int64)
    ids[o[enough][chosen]] = paint.labels[p[enough][chosen]]
    return ids, paint.labels[~np.isin(paint.labels, ids)]


def _painted_frame(annotations: Annotations, position: int, axes: int) -> np.ndarray:
    depth = annotations.depth
    frame = np.zeros((depth, *annotations.plane_shape), np.int32)
    for z in range(depth):
        if position * depth + z in annotations:
            frame[z] = annotations.labels(position * depth + z)
    return frame if axes == 3 else frame[0]


def names_of(chains: Chains, painted: Ints) -> Ints:
    """Painted id of the chain of each node, 0 where none of it was painted: (N,) int64."""
    heads = chains.heads()
    names = np.zeros(len(chains), np.int64)
    np.maximum.at(names, heads, painted)
    return names[heads]


def cut_conflicts(chains: Chains, painted: Ints) -> None:
    """Cut each chain that holds several painted ids, between each two, at its least certain link; in place."""
    heads = chains.heads()
    named = np.flatnonzero(painted)
    order = named[np.argsort(heads[named], kind="stable")]  # by chain, in the order of time
    for a, b in pairwise(order.tolist()):
        if heads[a] != heads[b] or painted[a] == painted[b]:
            continue
        between = [node for node in chains.forward(a) if node < b]
        chains.cut_after(max(between, key=lambda node: chains.doubt[node]))


def join_painted(chains: Chains, painted: Ints) -> None:
    """String all objects that were painted with the same id to one chain; in place.

    Each chain holds one painted id at most, see `cut_conflicts`. Where two chains of an id overlap in time, the earlier
    is cut where the later begins; what is cut off becomes a chain of its own.
    """
    for name in np.unique(painted[painted > 0]).tolist():
        anchors = np.flatnonzero(painted == name).tolist()
        for a, b in pairwise(anchors):
            if b in chains.forward(a):
                continue
            begin = max(int(chains.times[chains.head(b)]), int(chains.times[a]) + 1)
            earlier = [node for node in chains.forward(a) if chains.times[node] < begin][-1]
            later = [node for node in chains.backward(b) if chains.times[node] >= begin][-1]
            chains.cut_after(earlier)
            if chains.before[later] >= 0:
                chains.cut_after(int(chains.before[later]))
            chains.mother[later] = -1
            chains.join(earlier, later)
