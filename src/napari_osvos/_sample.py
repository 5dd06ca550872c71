"""What napari's File > Open Sample shows."""

from __future__ import annotations

from typing import Any

from .sample_data import simulate_movie

LayerData = tuple[Any, dict[str, Any], str]


def simulated() -> list[LayerData]:
    """Simulate a fluorescence movie of dividing cells, with an annotation of its first frame.

    Returns
    -------
    list of LayerData
        An image layer (T, Y, X) and a labels layer of the same shape in which only frame 0 is
        painted: what the user of a real movie starts from.
    """
    movie = simulate_movie("fluorescence")
    painted = movie.labels.copy()
    painted[1:] = 0
    return [
        (movie.frames, {"name": "simulated cells"}, "image"),
        (painted, {"name": "annotations"}, "labels"),
    ]
