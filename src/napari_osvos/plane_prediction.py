"""What a network says of planes of a movie, with the memory that there is: how many at once, and in which tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_osvos.config import PredictConfig
from napari_osvos.device import fast_precision, resolve_device
from napari_osvos.intensity import IntensityScale
from napari_osvos.labelling import PlaneMaps
from napari_osvos.memory import (
    HUGE_TILE,
    OUT_OF_MEMORY,
    SHARE,
    Need,
    Shortage,
    free_bytes,
    free_memory,
    planned_tile,
    prediction_need,
)
from napari_osvos.network import OSVOSNet
from napari_osvos.tiling import FINE, FLIPS, PLAIN, Look, plane_maps, zoomed

if TYPE_CHECKING:
    from napari_osvos.clip import Clip

PLANNED = 2**21
"""Network pixels of a plane from which on it is looked how much memory is free."""
ONE_BY_ONE = ("cpu",)
"""Devices that gain nothing from several planes at once."""
MOST_PLANES = 32
"""That the network sees at once, elsewhere."""
LANE_PIXELS = 2**22
"""Pixels of a plane, and of what the network sees of it, up to which several frames are under way on a CPU."""
MOST_LANES = 4
"""Frames that are."""


class PlanePredictor:
    """A network, the scale it knows, and the device it runs on.

    Parameters
    ----------
    net : OSVOSNet
        Without BatchNorm.
    zoom : float
        Network pixels per movie pixel.
    config : PredictConfig, optional
        How to predict.
    device : str or torch.device
        See `napari_osvos.device.resolve_device`.

    Attributes
    ----------
    shortage : Shortage
        What has been given up because memory ran out.
    """

    def __init__(
        self, net: OSVOSNet, zoom: float = 1.0, config: PredictConfig | None = None, device: str | torch.device = "auto"
    ) -> None:
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.net = net.to(self.device).to(memory_format=torch.channels_last).eval()
        self.zoom = float(zoom)
        self.config = config or PredictConfig()
        self.shortage = Shortage()

    def plane_maps(
        self,
        plane: np.ndarray,
        intensity: IntensityScale,
        contours: bool = True,
        seen: list[Tensor] | None = None,
        fine: bool | None = None,
    ) -> PlaneMaps:
        """Return everything the network says of one plane.

        Where memory runs out tiles are made smaller, then the CPU goes on; `shortage` tells.

        Parameters
        ----------
        plane, intensity
            (Y, X, C), raw intensities, and the scale of those of the movie.
        contours : bool
            Whether contour and distance are wanted, too, where the network has such heads.
        seen : list of Tensor, optional
            Is given the features (C, n) of a regular grid of positions, for `napari_osvos.appearance`.
        fine : bool, optional
            Whether maps are float32 rather than float16; by default so up to 2**25 pixels.
        """
        return self.maps([plane], intensity, contours, None if seen is None else [seen], fine)[0]

    def maps(
        self,
        planes: Sequence[np.ndarray],
        intensity: IntensityScale,
        contours: bool,
        seen: Sequence[list[Tensor]] | None,
        fine: bool | None = None,
        relief: float | None = None,
    ) -> list[PlaneMaps]:
        """Return everything the network says of planes of one shape, in one batch if there is the memory.

        Parameters
        ----------
        planes : sequence of (Y, X, C) arrays
            Raw intensities.
        intensity, contours, fine
            As for `plane_maps`.
        seen : sequence of lists of Tensor, optional
            One for each plane.
        relief : float, optional
            As of `napari_osvos.tiling.Look`.
        """
        heads, plane = self.net.config.heads, planes[0]
        extra = [heads.index(name) for name in ("contour", "distance") if contours and name in heads]
        pick = (*self.net.config.foreground, *extra)
        fine = plane.shape[0] * plane.shape[1] <= FINE if fine is None else fine
        before = [len(tokens) for tokens in seen or ()]
        while True:
            turns = FLIPS if self.config.flips else PLAIN
            look = Look(pick, len(self.net.config.foreground), self.zoom, turns, self.config.tile, fine, relief)
            tile = self._tile(plane, len(pick) - look.blends(heads), fine)
            look = replace(look, tile=tile)
            try:
                maps = plane_maps(self.net, planes, intensity, look, seen)
                if not fine:
                    free_memory()  # for the labels, which need as much
                return maps
            except OUT_OF_MEMORY as error:
                if not self.shortage.smaller(error, len(planes), tile, self.device):
                    self.shortage.to_cpu(error, self.device)
                    self.device = torch.device("cpu")
                    self.net.to(self.device)
            for tokens, n in zip(seen or (), before, strict=True):
                del tokens[n:]
            free_memory()  # only here is the error gone, and with it what it kept alive
            if len(planes) > 1:
                parts = slice(0, len(planes) // 2), slice(len(planes) // 2, None)
                halves = [
                    self.maps(planes[part], intensity, contours, None if seen is None else seen[part], fine, relief)
                    for part in parts
                ]
                return halves[0] + halves[1]

    def _tile(self, plane: np.ndarray, maps: int, fine: bool) -> int:
        """Return the edge of the tiles of a plane, for which there is memory as far as can be known."""
        size = zoomed((plane.shape[0], plane.shape[1]), self.zoom)
        tile = min(self.config.tile, self.shortage.tile or self.config.tile, max(64, *size))

        def need(edge: int) -> Need:
            return self._need((1, *plane.shape), plane.dtype.itemsize, edge, maps, fine)

        if size[0] * size[1] < PLANNED:
            return tile
        if not fine and self.device.type == "cpu":
            tile = min(tile, HUGE_TILE)
        return planned_tile(need, tile, self.device, self.shortage)

    def _need(self, shape: tuple[int, ...], itemsize: int, tile: int, maps: int, fine: bool) -> Need:
        return prediction_need(
            self.net.config,
            shape,
            itemsize,
            zoom=self.zoom,
            tile=tile,
            halo=self.net.halo,
            maps=maps,
            flips=self.config.flips,
            precision=fast_precision(self.device),
            fine=fine,
        )

    def planes_at_once(self, clip: Clip) -> int:
        """Return how many planes of a movie the network is to see at once."""
        if self.device.type in ONE_BY_ONE:
            return 1
        size, shape = zoomed(clip.plane_shape, self.zoom), clip.plane_shape
        # Together they take no more than a tile would; of frames that are made smaller, maps and pixels take most.
        fit = self.config.tile**2 // max(size[0] * size[1], shape[0] * shape[1])
        return max(1, min(fit, self.shortage.batch or MOST_PLANES, MOST_PLANES))

    def frames_at_once(self, clip: Clip) -> int:
        """Return in how many threads frames of a movie are best predicted, each by itself: 1 unless it pays.

        A network on few threads wastes less of them, and whatever else a frame takes, its labels above all, runs on
        one. So a CPU has several frames under way, as long as they are no larger than a tile and there is memory.
        """
        lanes, depth = min(torch.get_num_threads(), MOST_LANES), clip.depth
        size = zoomed(clip.plane_shape, self.zoom)
        if self.device.type != "cpu" or lanes == 1 or max(size[0] * size[1], math.prod(clip.plane_shape)) > LANE_PIXELS:
            return 1
        shape = (depth, *clip.plane_shape, clip.n_channels)
        need = self._need(shape, clip.dtype.itemsize, max(64, *size), len(self.net.config.heads), fine=True)
        return max(1, min(lanes, int(SHARE * free_bytes(self.device) / need.ram(self.device))))
