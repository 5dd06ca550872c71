"""Raw intensities to network input: robust, per movie, the same in training and prediction.

Microscopes deliver a few grey levels above zero or all of 16 bits, and cells that differ a
hundredfold in brightness. Each channel is centred on the median of the movie and divided by a robust
spread, then compressed by asinh: linear within a few spreads of the median, logarithmic beyond,
so that dim objects stay visible beside bright ones, and inverting the contrast is a change of sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from napari_osvos.clip import Clip

PERCENTILES = (0.5, 25.0, 50.0, 75.0, 99.5)
EXTREMES = (0.0, 100.0)


def raw_tensor(plane: np.ndarray) -> Tensor:
    """Return a plane (Y, X, C) as a tensor (C, Y, X), in a dtype that torch has and without loss.

    8-bit numbers stay as they are, those of 16 bits become float32, longer integers float64.
    """
    size, kind = plane.dtype.itemsize, plane.dtype.kind
    if kind == "b":
        plane = plane.astype(np.uint8)
    elif kind == "f":
        plane = plane.astype(np.float64 if size > 4 else np.float32, copy=False)
    elif size > 1:
        plane = plane.astype(np.float64 if size > 2 else np.float32)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(plane, -1, 0)))


@dataclass(frozen=True)
class IntensityScale:
    """How raw intensities of one movie become network input, for each channel.

    Attributes
    ----------
    kind : str
        ``robust``: asinh((x - centre) / spread). ``display``: 2 (x - low) / (high - low) - 1,
        where ``centre`` is (low + high) / 2 and ``spread`` is (high - low) / 2.
    centre, spread : tuple of float
        One per channel, in units of the movie's intensities.
    """

    kind: str
    centre: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def from_percentiles(
        cls, percentiles: np.ndarray, kind: str = "robust", dtype: Any = None, extremes: np.ndarray | None = None
    ) -> IntensityScale:
        """Work out the scale from percentiles of a movie.

        Parameters
        ----------
        percentiles : (C, 5) array
            The 0.5th, 25th, 50th, 75th and 99.5th percentile of each channel.
        kind : str
            ``robust``, or one of the ``imagenet`` conventions, which want the display range: 0..255
            for 8-bit movies, the outer percentiles otherwise.
        dtype : dtype, optional
            Of the movie.
        extremes : (C, 2) array, optional
            The least and the greatest intensity of each channel. They are the range where the outer percentiles
            coincide: less than half a percent of the pixels differ from a blank background.
        """
        p = np.asarray(percentiles, np.float64)
        low, q1, median, q3, high = p.T
        if extremes is not None:
            low, high = np.where(low == high, np.asarray(extremes, np.float64).T, (low, high))
        if kind == "robust":
            # A twentieth of the range is the floor: the background of many fluorescence movies is
            # constant, and its quartiles coincide.
            spread = np.maximum((q3 - q1) / 1.349, (high - low) / 20)
            spread = np.where(spread > 0, spread, np.maximum(np.abs(median) * 1e-3, 1e-6))
            return cls("robust", tuple(map(float, median)), tuple(map(float, spread)))
        if dtype == np.uint8:
            low, high = np.zeros_like(low), np.full_like(high, 255.0)
        half = np.where(high > low, (high - low) / 2, 1.0)
        return cls("display", tuple(map(float, (low + high) / 2)), tuple(map(float, half)))

    @classmethod
    def from_image(cls, image: np.ndarray, kind: str = "robust") -> IntensityScale:
        """Work out the scale of one still image, (Y, X, C); pixels that are NaN or infinite do not count.

        Raises
        ------
        ValueError
            If a channel has no finite pixel.
        """
        flat = image.reshape(-1, image.shape[-1])
        channels = flat[:: max(1, len(flat) // 100_000)].astype(np.float64).T
        finite = [channel[np.isfinite(channel)] for channel in channels]
        if not all(map(len, finite)):
            raise ValueError("The image has a channel without a finite pixel: every one is NaN or infinite.")
        percentiles = np.array([np.percentile(c, PERCENTILES) for c in finite])
        extremes = np.array([np.percentile(c, EXTREMES) for c in finite])
        return cls.from_percentiles(percentiles, kind, image.dtype, extremes)

    def normalise(self, raw: Tensor) -> Tensor:
        """Return network input (3, Y, X) float32 from raw intensities (C, Y, X).

        NaN becomes the centre, infinity a value far out. One channel is repeated; of two, the third is
        their mean; of more than three, the first three count.
        """
        # Large integers lose digits in float32 unless the centre is taken off before.
        exact = torch.float64 if raw.dtype.itemsize > 2 and raw.dtype != torch.float32 else torch.float32
        centre = torch.tensor(self.centre, dtype=exact, device=raw.device).view(-1, 1, 1)
        spread = torch.tensor(self.spread, dtype=torch.float32, device=raw.device).view(-1, 1, 1)
        z = (raw.to(exact) - centre).float() / spread
        z = torch.nan_to_num(z, nan=0.0, posinf=1e4, neginf=-1e4)
        z = torch.asinh(z) if self.kind == "robust" else z.clamp(-1, 1)
        if len(z) == 1:
            return z.expand(3, -1, -1)
        if len(z) == 2:
            return torch.cat([z, z.mean(0, keepdim=True)])
        return z[:3]


def movie_intensity(clip: Clip, kind: str) -> IntensityScale:
    """Return the intensity scale of a movie, from percentiles over its frames."""
    percentiles = clip.percentiles(PERCENTILES)
    flat = bool((percentiles[:, 0] == percentiles[:, -1]).any())  # seldom so, and measuring takes a while
    return IntensityScale.from_percentiles(percentiles, kind, clip.dtype, clip.percentiles(EXTREMES) if flat else None)
