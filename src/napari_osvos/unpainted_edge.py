"""Frames whose objects at the edge were left unpainted, as in many reference annotations."""

from __future__ import annotations

import numpy as np
from skimage.measure import label

from napari_osvos.annotations import Annotations

# Objects that chance would have put across the edge, from which on their absence is no chance:
# at three, a Poisson count is 0 in one case of twenty.
EXPECTED_AT_EDGE = 3.0


def unpainted_edge(labels: np.ndarray, diameter: float) -> int:
    """Return the width of the band along the edge that says nothing, in pixels; 0 where there is none.

    Annotators often leave out objects that the edge cuts (the Cell Tracking Challenge does by rule). Learned as
    background, these teach a network to miss just what it is to find. Of n objects of diameter d spread
    over a frame of H x W pixels, some 2 n d (1 / H + 1 / W) lie across its edge. Where at least three are to be
    expected, none is there, and the paint comes as close as one and a half diameters, the band up to the nearest
    paint is taken as not annotated.

    Parameters
    ----------
    labels : (Y, X) int array
        0 is background.
    diameter : float
        Of typical objects, in pixels.

    Returns
    -------
    int
        Width in pixels, 0 to 1.5 diameters.
    """
    height, width = labels.shape
    rows, columns = np.flatnonzero(labels.any(1)), np.flatnonzero(labels.any(0))
    if not len(rows):
        return 0
    margin = int(min(rows[0], columns[0], height - 1 - rows[-1], width - 1 - columns[-1]))
    if not 0 < margin <= 1.5 * diameter:
        return 0
    objects = int(label(labels, connectivity=1).max())
    expected = 2 * objects * diameter * (1 / height + 1 / width)
    return margin if expected >= EXPECTED_AT_EDGE else 0


def supervised(annotations: Annotations, p: int, diameter: float) -> np.ndarray:
    """Return where a plane says anything: what is known of it, without the band along the edge that was left unpainted.

    Parameters
    ----------
    annotations : Annotations
    p : int
        Plane.
    diameter : float
        Of typical objects, in pixels.

    Returns
    -------
    (Y, X) bool array
    """
    known = annotations.known(p)
    band = 0 if annotations.is_partial(p) else unpainted_edge(annotations.labels(p), diameter)
    if band:
        known[:band] = known[-band:] = False
        known[:, :band] = known[:, -band:] = False
    return known
