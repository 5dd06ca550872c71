"""Rescaling of a part of an image that gives what rescaling the whole would give there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_osvos.device import crops_on


@dataclass(frozen=True, eq=False)
class Taps:
    """Which pixels along an axis make up each resampled one.

    Attributes
    ----------
    places : (n, k) int64 array
        Positions along the axis before.
    weights : (n, k) float32 array
        They add up to 1 over k.
    """

    places: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def bilinear(cls, before: int, after: int, wanted: NDArray[np.int64]) -> Taps:
        """Return what some pixels of an axis resampled from `before` to `after` pixels are made of.

        The weights are those of `torch.nn.functional.interpolate` in mode ``bilinear`` with pixel centres at halves,
        and with antialiasing where the axis gets shorter: a triangle as wide as two pixels of the coarser grid.

        Parameters
        ----------
        before, after : int
            Length of the whole axis.
        wanted : (n,) int array
            Positions along it afterwards, 0 to ``after - 1``.
        """
        # in single precision, as `interpolate` works out where a pixel is: both round alike
        scale = np.float32(before / after)
        centres = (scale * (wanted[:, None].astype(np.float32) + np.float32(0.5)) - np.float32(0.5)).astype(np.float64)
        reach = max(before / after, 1.0)
        places = np.floor(centres - reach).astype(np.int64) + np.arange(int(np.ceil(2 * reach)) + 2)
        weights = np.maximum(0, 1 - np.abs(places - centres) / reach)
        weights[(places < 0) | (places >= before)] = 0
        weights /= weights.sum(1, keepdims=True)
        used = weights.any(0)
        return cls(places[:, used].clip(0, before - 1), weights[:, used].astype(np.float32))

    @property
    def span(self) -> slice:
        """The pixels before that are looked at."""
        return slice(int(self.places.min()), int(self.places.max()) + 1)

    def part(self, rows: slice) -> Taps:
        """Return the taps of some of the resampled pixels."""
        return Taps(self.places[rows], self.weights[rows])

    def apply(self, x: Tensor, axis: int, first: int) -> Tensor:
        """Resample an axis of a tensor that begins with the pixel `first` of the whole axis."""
        shape = [1] * x.ndim
        shape[axis] = len(self.places)
        places = torch.from_numpy(self.places - first).to(x.device)
        if self.places.shape[1] == 1:
            return x.index_select(axis, places[:, 0])
        weights = torch.from_numpy(self.weights).to(x.device, x.dtype)
        total = x.index_select(axis, places[:, 0]) * weights[:, 0].view(shape)
        for k in range(1, self.places.shape[1]):
            total.addcmul_(x.index_select(axis, places[:, k]), weights[:, k].view(shape))
        return total


def rescaled(x: Tensor, size: tuple[int, int], *, antialias: bool) -> Tensor:
    """Return (N, C, H, W) rescaled linearly to a size, on the device that it is on.

    Apple's GPU cannot antialias before torch 2.7: for it the CPU does.
    """
    beside = x.to(crops_on(x.device)) if antialias else x
    return F.interpolate(beside, size=size, mode="bilinear", antialias=antialias).to(x.device)


def resample(x: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Return (..., n, m) of (..., H, W), which holds the pixels of ``rows.span`` and ``columns.span``."""
    # the axis first that leaves less to do for the other
    if len(rows.places) * x.shape[-1] <= len(columns.places) * x.shape[-2]:
        return columns.apply(rows.apply(x, x.ndim - 2, rows.span.start), x.ndim - 1, columns.span.start)
    return rows.apply(columns.apply(x, x.ndim - 1, columns.span.start), x.ndim - 2, rows.span.start)
