"""Tracks as a layer of napari, with their divisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Tracks

from napari_osvos._qt.layer_combo import FILLED_BY_A_RUN
from napari_osvos._qt.run import Run
from napari_osvos.tracking import TrackedMovie


def track_rows(tracked: TrackedMovie, scale: Sequence[float] | None = None) -> np.ndarray:
    """Return the rows of a Tracks layer, (N, 2 + D): id, frame, and centre (Y, X) or (Z, Y, X) in pixels.

    Parameters
    ----------
    tracked : TrackedMovie
        Linked.
    scale : sequence of float, optional
        By which the centres were multiplied.
    """
    linking = tracked.linking
    if linking is None or not linking.ids:
        return np.zeros((0, 1 + tracked.labels.ndim))
    pixel = np.ones(tracked.labels.ndim - 1) if scale is None else np.asarray(scale, float)
    rows = np.concatenate(
        [
            np.column_stack([ids, np.full(len(ids), t), linking.objects[t].centroids / pixel])
            for t, ids in linking.ids.items()
        ]
    )
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def can_be_drawn(run: Run) -> bool:
    """Whether napari can draw tracks over the masks of a run: time comes first, then two or three other axes."""
    axes = run.wish.movie.axes
    return axes.begins_with_time and len(axes.labels_layer_shape) in (3, 4)


def show_tracks(viewer: Any, run: Run, scale: Sequence[float] | None, layer: Any = None) -> Any:
    """Add a Tracks layer over the masks of a run, in place of the one it had.

    Returns
    -------
    napari.layers.Tracks or None
        None where there is nothing to draw: no object is seen twice, or napari cannot draw it.
    """
    tracked = run.tracked
    if layer is not None and layer in viewer.layers:
        viewer.layers.remove(layer)  # tracks and divisions cannot be exchanged together
    if tracked is None or not can_be_drawn(run):
        return None
    rows = track_rows(tracked, scale)
    ids = set(rows[:, 0].astype(int).tolist())
    if len(ids) == len(rows):
        return None
    axes = run.wish.movie.axes
    selected = set(viewer.layers.selection)
    made = Tracks(
        np.column_stack([rows[:, 0], axes.labels_positions(rows[:, 1], rows[:, 2:])]),
        graph={id: mothers for id, mothers in tracked.lineage.graph.items() if id in ids and ids.issuperset(mothers)},
        features={"mother": [tracked.lineage[int(id)].mother for id in rows[:, 0]]},
        name=f"{run.wish.movie.name} tracks {run.number}",
        tail_length=max(5, min(30, axes.n_frames // 3)),
        metadata={FILLED_BY_A_RUN: run.number},
        **run.wish.movie.placement(),
    )
    viewer.add_layer(made)
    viewer.layers.selection = selected & set(viewer.layers)
    return made
