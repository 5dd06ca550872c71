"""Whether the objects of a movie are all shaded from one side, as in differential interference contrast."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from skimage.measure import label, regionprops

# Shortest mean vector, and Rayleigh statistic n |mean|^2 / mean |vector|^2 (p = exp(-4.6) = 0.01), that count.
SHORTEST, SIGNIFICANT = 0.2, 4.6
_SMALLEST = 12  # px; what is smaller has no sides


def shading_direction(images: Iterable[np.ndarray], labels: Iterable[np.ndarray]) -> tuple[float, float] | None:
    """Return the direction from which all objects are shaded, or None if there is none.

    Within each object the intensities are regressed on a plane; the vector points towards its brighter side and is
    as long as the multiple correlation. Where the image formation has a direction the vectors agree and
    their mean is long; otherwise they cancel.

    Parameters
    ----------
    images : iterable of (Y, X, C) arrays
        Any real dtype; the channels are averaged, pixels that are not finite left out.
    labels : iterable of (Y, X) int arrays
        0 is background. Each connected component of each label is an object.

    Returns
    -------
    tuple of float, or None
        (y, x), the mean vector, of length 0.2 to 1. None where it is shorter, or may be so by chance (Rayleigh test at
        1 %), and with fewer than five objects.

    References
    ----------
    Mardia & Jupp, "Directional Statistics", 2000, section 6.3 (Rayleigh test).
    """
    vectors = []
    for image, frame in zip(images, labels, strict=True):
        with np.errstate(invalid="ignore"):
            grey = image.astype(np.float64).mean(-1)
        for region in regionprops(label(frame, connectivity=1)):
            y, x = region.coords[np.isfinite(grey[tuple(region.coords.T)])].T
            if len(y) < _SMALLEST:
                continue
            values = grey[y, x]
            spread = values.std()
            if spread == 0:
                continue
            plane = np.stack([y - y.mean(), x - x.mean()], 1)
            slope, *_ = np.linalg.lstsq(plane, values - values.mean(), rcond=None)
            length = float(np.linalg.norm(slope))
            correlation = float((plane @ slope).std() / spread)
            if length > 0:
                vectors.append(slope / length * correlation)
    if len(vectors) < 5:
        return None
    y_mean, x_mean = np.mean(vectors, axis=0)
    squared = y_mean**2 + x_mean**2
    statistic = len(vectors) * squared / np.mean(np.square(vectors).sum(1))
    if squared < SHORTEST**2 or statistic < SIGNIFICANT:
        return None
    return float(y_mean), float(x_mean)
