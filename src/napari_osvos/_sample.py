"""What napari's File > Open Sample shows."""

from __future__ import annotations

import sys
from typing import Any

from .real_movies import REAL_MOVIES, TERMS, fetch, read_archive
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


def stem_cells() -> list[LayerData]:
    """Fetch Fluo-N2DH-GOWT1 of the Cell Tracking Challenge: nuclei, fluorescence; see `real`."""
    return real("Fluo-N2DH-GOWT1")


def glioblastoma() -> list[LayerData]:
    """Fetch PhC-C2DH-U373 of the Cell Tracking Challenge: whole cells, phase contrast; see `real`."""
    return real("PhC-C2DH-U373")


def real(name: str) -> list[LayerData]:
    """Fetch a movie from its publisher, or take it from the cache, and paint one frame by its truth.

    Progress and the publisher's terms are shown in napari where it runs; the terms are in the layers' metadata as well.

    Parameters
    ----------
    name : str
        One of `REAL_MOVIES`.

    Returns
    -------
    list of LayerData
        An image layer (T, Y, X), and a labels layer of the same shape in which one frame is painted.

    Raises
    ------
    OSError
        If it cannot be fetched; one sentence.
    """
    movie = REAL_MOVIES[name]
    # napari is looked for, not imported: a script may ask for a sample as well
    progress = getattr(sys.modules.get("napari.utils"), "progress", None)
    if progress is None:
        path = fetch(movie)
    else:
        with progress(total=movie.n_bytes, desc=f"fetching {name}") as bar:
            path = fetch(movie, advance=lambda done, _: bar.update(done - bar.n))
    frames, painted, _ = read_archive(path, movie.sequence)
    say = getattr(sys.modules.get("napari.utils.notifications"), "show_info", None)
    if say is not None:
        say(f"{movie.title} ({movie.provider}). {TERMS}")
    about = {
        "metadata": {"title": movie.title, "provider": movie.provider, "source": movie.address, "terms": TERMS},
        "scale": (1.0, movie.pixel_size, movie.pixel_size),
        "units": ("pixel", "micrometer", "micrometer"),
    }
    return [
        (frames, {"name": name, **about}, "image"),
        (painted, {"name": "annotations", **about}, "labels"),
    ]
