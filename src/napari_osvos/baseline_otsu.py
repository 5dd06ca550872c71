"""Otsu's threshold: what one click in any program gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.baselines import PixelBaseline
from napari_osvos.metrics import region_similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .clip import Clip

SMOOTHINGS = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations in px that are tried."""
MOST_PLANES = 8
"""So many planes, evenly spread, give the threshold of a movie."""


@dataclass(frozen=True)
class OtsuSettings:
    """What is chosen on the annotated planes.

    Attributes
    ----------
    channel : int or None
        The channel that is looked at; None is the mean of all.
    smoothing : float
        Standard deviation of a Gaussian, px.
    bright : bool
        Whether objects are brighter than the threshold, or darker.
    threshold : float or None
        That of the movie, in units of its intensity range; None for one of each plane's own.
    """

    channel: int | None = None
    smoothing: float = 0.0
    bright: bool = True
    threshold: float | None = None


class Otsu(PixelBaseline):
    """Otsu's threshold of the smoothed intensities [1]_.

    Channel, smoothing, whether objects are bright or dark, and whether the threshold is that of the movie or of each
    plane by itself are those at which the masks of the annotated planes overlap best with the paint (mean J).

    References
    ----------
    .. [1] N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. Syst. Man Cybern. 1979.
    """

    name = "Otsu's threshold"

    def learn(self, clip: Clip, planes: Sequence[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]) -> None:
        """Try all settings."""
        sampled = np.unique(np.linspace(0, clip.n_planes - 1, min(MOST_PLANES, clip.n_planes)).round().astype(int))
        sample = [self.stretched(clip.plane(int(p))) for p in sampled]
        painted = [(self.stretched(clip.plane(p)), mask, known) for p, mask, known in planes]
        best = -1.0
        for settings in _candidates(clip.n_channels, sample):
            overlap = np.mean([region_similarity(_above(x, settings), mask, ~known) for x, mask, known in painted])
            if overlap > best:  # the first of equals: the plainer
                best, self.settings = float(overlap), settings

    def decide(self, plane: NDArray[Any]) -> NDArray[np.bool_]:
        """Return what lies on the side of the threshold where objects are."""
        return _above(self.stretched(plane), self.settings)


def _candidates(n_channels: int, sample: Sequence[NDArray[np.float32]]) -> Iterator[OtsuSettings]:
    for channel in (None, *range(n_channels)) if n_channels > 1 else (None,):
        for smoothing in SMOOTHINGS:
            of_movie = _threshold(np.stack([_smooth(plane, channel, smoothing) for plane in sample]))
            for threshold in (of_movie, None):
                for bright in (True, False):
                    yield OtsuSettings(channel, smoothing, bright, threshold)


def _above(plane: NDArray[np.float32], settings: OtsuSettings) -> NDArray[np.bool_]:
    grey = _smooth(plane, settings.channel, settings.smoothing)
    threshold = _threshold(grey) if settings.threshold is None else settings.threshold
    return np.asarray(grey > threshold if settings.bright else grey <= threshold)


def _smooth(plane: NDArray[np.float32], channel: int | None, smoothing: float) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    grey = plane.mean(-1) if channel is None else plane[..., channel]
    smoothed: NDArray[np.float32] = gaussian_filter(grey, smoothing) if smoothing else grey
    return smoothed


def _threshold(grey: NDArray[np.float32]) -> float:
    from skimage.filters import threshold_otsu

    # without what is beyond the range of the movie, a few hot pixels would stretch the histogram
    return float(threshold_otsu(np.clip(grey, 0, 1)))
