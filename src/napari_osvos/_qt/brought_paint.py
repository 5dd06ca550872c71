"""Paint of an earlier session or round, brought back in a layer of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_osvos._qt.movie_layer import MovieLayer, ready_the_brush
from napari_osvos._qt.paint_desk import PaintDesk


def bring_paint(
    viewer: Any, desk: PaintDesk, movie: MovieLayer, frames: Mapping[int, Any], name: str
) -> tuple[Any, list[str]]:
    """Put paint into a new layer, choose it to paint on, and go to its first frame.

    Parameters
    ----------
    viewer : napari.Viewer
    desk : PaintDesk
        Makes the layer.
    movie : MovieLayer
        The one it is painted over.
    frames : mapping
        {frame: labels (Y, X) or (Z, Y, X)}.
    name : str
        Of the layer.

    Returns
    -------
    layer : napari.layers.Labels or None
        None where no frame fits the movie.
    complaints : list of str
        One sentence for each frame that does not fit.
    """
    shape = movie.axes.labels_shape
    fitting = {t: labels for t, labels in frames.items() if t < shape[0] and labels.shape == shape[1:]}
    complaints = [f"Frame {t} is of another size." for t in sorted(frames.keys() - fitting.keys())]
    if not fitting:
        return None, complaints
    array = desk.new_array(movie)
    for t, labels in fitting.items():
        movie.axes.write_frame(array, t, labels)
    layer = desk.new_annotations(np.asanyarray(array))
    layer.name = name
    movie.go_to(viewer, min(fitting))
    ready_the_brush(layer, movie.axes)
    return layer, complaints
