"""A fine-tuned network with all it needs to segment a movie: scale, threshold, provenance."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_osvos.checkpoint import load_network, save_tensors
from napari_osvos.clip import Clip
from napari_osvos.config import PredictConfig
from napari_osvos.device import autocast, resolve_device
from napari_osvos.intensity import PERCENTILES, IntensityScale, raw_tensor
from napari_osvos.network import OSVOSNet


@dataclass(frozen=True)
class FramePrediction:
    """The prediction of one frame.

    Attributes
    ----------
    frame : int
        Position in the clip.
    labels : array
        (Y, X) or (Z, Y, X) uint16; 0 is background, 1 foreground.
    probability : array
        The same shape, float32 in [0, 1].
    confidence : float
        In [0, 1]: the region similarity (J) to expect if the probabilities are right (see `confidence`).
    seconds : float
        Time it took.
    """

    frame: int
    labels: np.ndarray
    probability: np.ndarray
    confidence: float
    seconds: float


def confidence(probability: np.ndarray, threshold: float = 0.5) -> float:
    """Return the overlap to expect of a mask with the truth if the probabilities are right.

    With m the mask ``probability >= threshold`` it is the ratio of expectations
    sum(p m) / (sum(m) + sum(p (1 - m))); an empty mask has the mean probability of background instead.

    Parameters
    ----------
    probability : array
        Float in [0, 1].

    Returns
    -------
    float
        In [0, 1].
    """
    mask = probability >= threshold
    inside = float(probability[mask].sum(dtype=np.float64))
    outside = float(probability.sum(dtype=np.float64)) - inside
    count = float(mask.sum())
    if count == 0:
        return 1.0 - outside / max(probability.size, 1)
    return inside / (count + outside)


def movie_intensity(clip: Clip, kind: str) -> IntensityScale:
    """Return the intensity scale of a movie, from percentiles over its frames."""
    return IntensityScale.from_percentiles(clip.percentiles(PERCENTILES), kind, clip.dtype)


class Segmenter:
    """Segments movies with a fine-tuned network.

    Parameters
    ----------
    net : OSVOSNet
        Without BatchNorm.
    zoom : float
        Network pixels per movie pixel.
    threshold : float
        Probability from which a pixel is foreground.
    config : PredictConfig, optional
        How to predict.
    provenance : dict, optional
        Parent, settings, movie and annotated frames; plain data.
    device : str or torch.device
        See `napari_osvos.device.resolve_device`.
    """

    def __init__(
        self,
        net: OSVOSNet,
        zoom: float = 1.0,
        threshold: float = 0.5,
        config: PredictConfig | None = None,
        provenance: dict[str, Any] | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.net = net.to(self.device).to(memory_format=torch.channels_last).eval()
        self.zoom, self.threshold = float(zoom), float(threshold)
        self.config = config or PredictConfig()
        self.provenance = dict(provenance or {})
        self._foreground = net.config.heads.index("foreground")

    # -- one plane ---------------------------------------------------------------------------

    @torch.no_grad()
    def plane_probability(self, plane: np.ndarray, intensity: IntensityScale) -> np.ndarray:
        """Return the probability of foreground of one plane.

        Parameters
        ----------
        plane : (Y, X, C) array
            Raw intensities.
        intensity : IntensityScale
            Of the movie.

        Returns
        -------
        (Y, X) float32 array in [0, 1]
        """
        height, width = plane.shape[:2]
        raw = raw_tensor(plane)
        if raw.dtype != torch.float64:  # which Apple's GPU does not have
            raw = raw.to(self.device)
        x = intensity.normalise(raw)[None].to(self.device)  # (1, 3, Y, X)
        size = (max(1, round(height * self.zoom)), max(1, round(width * self.zoom)))
        if size != (height, width):
            x = F.interpolate(x, size=size, mode="bilinear", antialias=self.zoom < 1)
        x = self.net.pad(x)
        turns: Sequence[tuple[int, ...]] = ((), (2,), (3,), (2, 3)) if self.config.flips else ((),)
        total: Tensor | None = None
        for axes in turns:
            p = torch.sigmoid(self._logits(torch.flip(x, axes) if axes else x).float())
            p = torch.flip(p, axes) if axes else p
            total = p if total is None else total + p
        assert total is not None
        probability = total[..., : size[0], : size[1]] / len(turns)
        if size != (height, width):
            probability = F.interpolate(probability, size=(height, width), mode="bilinear", antialias=self.zoom > 1)
        return probability[0, 0].cpu().numpy()

    def _logits(self, x: Tensor) -> Tensor:
        """Return foreground logits (1, 1, H, W) of a padded input, in tiles when it is large."""
        tile, halo = self.config.tile, self.net.halo
        stride = self.net.stride
        tile = max(stride, tile // stride * stride)
        height, width = x.shape[-2:]
        pick = slice(self._foreground, self._foreground + 1)
        if height <= tile + 2 * halo and width <= tile + 2 * halo:
            with autocast(self.device):
                whole: Tensor = self.net(x)[:, pick]
            return whole
        out = torch.empty(1, 1, height, width, device=x.device)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                rows = slice(max(0, top - halo), min(height, top + tile + halo))
                columns = slice(max(0, left - halo), min(width, left + tile + halo))
                with autocast(self.device):
                    part = self.net(x[..., rows, columns])[:, pick]
                bottom, right = min(height, top + tile), min(width, left + tile)
                inner = part[..., top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
                out[..., top:bottom, left:right] = inner
        return out

    # -- movies ------------------------------------------------------------------------------

    def iter_probabilities(self, clip: Clip, planes: Iterable[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield plane number and probability of foreground, (Y, X) float32 in [0, 1].

        Parameters
        ----------
        clip : Clip
            Any movie; its own percentiles set the scale of its intensities.
        planes : iterable of int, optional
            Planes to predict, in this order; all by default.
        """
        intensity = movie_intensity(clip, self.net.config.intensities)
        for p in range(clip.n_planes) if planes is None else planes:
            yield p, self.plane_probability(clip.plane(p), intensity)

    def iter_frames(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[FramePrediction]:
        """Yield the prediction of each frame; all frames in order by default."""
        threshold = self.threshold if self.config.threshold is None else self.config.threshold
        for t in range(clip.n_frames) if frames is None else frames:
            began = time.perf_counter()
            planes = range(t * clip.depth, (t + 1) * clip.depth)
            stack = np.stack([probability for _, probability in self.iter_probabilities(clip, planes)])
            probability = stack if clip.has_depth else stack[0]
            labels = (probability >= threshold).astype(np.uint16)
            seconds = time.perf_counter() - began
            yield FramePrediction(t, labels, probability, confidence(probability, threshold), seconds)

    def iter_labels(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield frame and labels: (Y, X) or (Z, Y, X) uint16, 0 background, 1 foreground."""
        for prediction in self.iter_frames(clip, frames):
            yield prediction.frame, prediction.labels

    def predict(self, clip: Clip) -> np.ndarray:
        """Return the labels of all frames, (T, Y, X) or (T, Z, Y, X) uint16."""
        return np.stack([labels for _, labels in self.iter_labels(clip)])

    # -- files -------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write network, settings and provenance to one safetensors file, atomically.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        header = {
            "network": self.net.config.to_dict(),
            "zoom": self.zoom,
            "threshold": self.threshold,
            "predict": self.config.to_dict(),
            "provenance": self.provenance,
        }
        save_tensors(path, self.net.state_dict(), header, "segmenter")

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> Segmenter:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing, damaged, or does not hold a segmenter.
        """
        net, header = load_network(path, "segmenter")
        try:
            config = PredictConfig.from_dict(header["predict"])
            return cls(net, header["zoom"], header["threshold"], config, header["provenance"], device)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: its header lacks what a segmenter needs ({error}).") from error
