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

from napari_osvos.appearance import Appearance, grid_tokens
from napari_osvos.checkpoint import load_network, save_tensors
from napari_osvos.clip import Clip
from napari_osvos.config import PredictConfig
from napari_osvos.device import autocast, resolve_device
from napari_osvos.intensity import PERCENTILES, IntensityScale, raw_tensor
from napari_osvos.labelling import LabelMeaning, PlaneMaps, foreground_of
from napari_osvos.losses import class_probabilities
from napari_osvos.network import OSVOSNet


@dataclass(frozen=True)
class FramePrediction:
    """The prediction of one frame.

    Attributes
    ----------
    frame : int
        Position in the clip.
    labels : array
        (Y, X) or (Z, Y, X) uint16; 0 is background. Of look-alike objects each has a number of its own, 1 to n in
        this frame; distinct ones have the labels they were painted with.
    probability : array
        The same shape, float32 in [0, 1].
    confidence : float
        In [0, 1]: the region similarity (J) to expect if the probabilities are right (see `confidence`).
    seconds : float
        Time it took.
    novelty : float or None
        How unlike the annotated frames it looks to the network, see `napari_osvos.appearance.Appearance.novelty`; None
        where the segmenter does not know how those look.
    """

    frame: int
    labels: np.ndarray
    probability: np.ndarray
    confidence: float
    seconds: float
    novelty: float | None = None


@dataclass(frozen=True)
class FrameMaps:
    """What the network says of a frame, before labels are made of it.

    Attributes
    ----------
    frame : int
        Position in the clip.
    planes : list of PlaneMaps
        One for each slice.
    has_depth : bool
        Whether the frame is a stack, even of one slice.
    novelty : float or None
        As of `FramePrediction`.
    seconds : float
        Time it took.
    """

    frame: int
    planes: list[PlaneMaps]
    has_depth: bool
    novelty: float | None
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


def pixel_uncertainty(probability: np.ndarray) -> np.ndarray:
    """Return how undecided each pixel is: 1 - |2 p - 1|.

    Parameters
    ----------
    probability : array
        Of foreground, float in [0, 1].

    Returns
    -------
    float16 array
        Of the same shape, in [0, 1]: 0 where the probability is 0 or 1, and 1 where it is a half.
    """
    return np.asarray(1 - np.abs(2 * probability.astype(np.float32) - 1), np.float16)


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
    meaning : LabelMeaning, optional
        What its labels mean; by default 1 is foreground.
    appearance : Appearance, optional
        What the annotated frames look like to the network.

    Raises
    ------
    ValueError
        If the network has not one foreground head for each label.
    """

    def __init__(
        self,
        net: OSVOSNet,
        zoom: float = 1.0,
        threshold: float = 0.5,
        config: PredictConfig | None = None,
        provenance: dict[str, Any] | None = None,
        device: str | torch.device = "auto",
        meaning: LabelMeaning | None = None,
        appearance: Appearance | None = None,
    ) -> None:
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.net = net.to(self.device).to(memory_format=torch.channels_last).eval()
        self.zoom, self.threshold = float(zoom), float(threshold)
        self.config = config or PredictConfig()
        self.provenance = dict(provenance or {})
        self.meaning = meaning or LabelMeaning()
        self.appearance = appearance
        if len(net.config.foreground) != len(self.meaning.values):
            raise ValueError(
                f"The network has {len(net.config.foreground)} heads for foreground, "
                f"but there are {len(self.meaning.values)} labels."
            )

    # -- one plane ---------------------------------------------------------------------------

    def plane_probability(self, plane: np.ndarray, intensity: IntensityScale) -> np.ndarray:
        """Return the probability of foreground of one plane, of all classes together.

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
        return foreground_of(self.plane_maps(plane, intensity, contours=False))

    @torch.no_grad()
    def plane_maps(
        self, plane: np.ndarray, intensity: IntensityScale, contours: bool = True, seen: list[Tensor] | None = None
    ) -> PlaneMaps:
        """Return everything the network says of one plane.

        Parameters
        ----------
        plane, intensity
            As for `plane_probability`.
        contours : bool
            Whether contour and distance are wanted, too, where the network has such heads.
        seen : list of Tensor, optional
            Is given the features (C, n) of a regular grid of positions, for `napari_osvos.appearance`.
        """
        heads = self.net.config.heads
        extra = [heads.index(name) for name in ("contour", "distance") if contours and name in heads]
        pick = [*self.net.config.foreground, *extra]
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
        k = len(self.meaning.values)
        total: Tensor | None = None
        for axes in turns:
            logits = self._logits(torch.flip(x, axes) if axes else x, pick, None if axes else seen).float()
            p = torch.cat([class_probabilities(logits[:, :k]), torch.sigmoid(logits[:, k:])], 1)
            p = torch.flip(p, axes) if axes else p
            total = p if total is None else total + p
        assert total is not None
        maps = total[..., : size[0], : size[1]] / len(turns)
        if size != (height, width):
            maps = F.interpolate(maps, size=(height, width), mode="bilinear", antialias=self.zoom > 1)
        found = maps[0].clamp_(0, 1).cpu().numpy()  # resampling rounds to just above 1
        named = {heads[i]: found[k + n] for n, i in enumerate(extra)}
        return PlaneMaps(found[:k], named.get("contour"), named.get("distance"))

    def _logits(self, x: Tensor, pick: list[int], seen: list[Tensor] | None = None) -> Tensor:
        """Return the logits (1, n, H, W) of some heads for a padded input, in tiles when it is large."""
        net, halo = self.net, self.net.halo
        tile = max(net.stride, self.config.tile // net.stride * net.stride)
        height, width = x.shape[-2:]
        if height <= tile + 2 * halo and width <= tile + 2 * halo:
            tile, halo = max(height, width), 0
        out: Tensor | None = None
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                rows = slice(max(0, top - halo), min(height, top + tile + halo))
                columns = slice(max(0, left - halo), min(width, left + tile + halo))
                part = x[..., rows, columns]
                with autocast(self.device):
                    features = net.features(part)
                    logits = net.fused(net.side_outputs(features), (part.shape[-2], part.shape[-1]))[:, pick]
                bottom, right = min(height, top + tile), min(width, left + tile)
                down = slice(top - rows.start, bottom - rows.start)
                across = slice(left - columns.start, right - columns.start)
                if seen is not None:
                    tokens = features[-2:][0][0]  # coarse enough to know an object, fine enough to find it
                    origin, scale = (rows.start, columns.start), net.stride // min(len(features), 2)
                    seen.append(grid_tokens(tokens, origin, (down, across), (height, width), scale))
                if part.shape == x.shape:
                    return logits
                if out is None:
                    out = torch.empty(1, len(pick), height, width, device=x.device)
                out[..., top:bottom, left:right] = logits[..., down, across]
        assert out is not None
        return out

    @property
    def _wants_contours(self) -> bool:
        return self.meaning.task == "look-alike" or self.config.snap

    def labels_of(self, planes: Sequence[PlaneMaps]) -> np.ndarray:
        """Return the labels (Z, Y, X) int32 of a frame from what the network says of its slices."""
        threshold = self.threshold if self.config.threshold is None else self.config.threshold
        return self.meaning.labels(planes, threshold, self.config.snap)

    def plane_labels(self, plane: np.ndarray, intensity: IntensityScale) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (Y, X) uint16 and probability of foreground (Y, X) float32 of one plane by itself."""
        maps = self.plane_maps(plane, intensity, self._wants_contours)
        return _compact(self.labels_of([maps])[0]), foreground_of(maps)

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

    def iter_maps(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[FrameMaps]:
        """Yield what the network says of each frame; all frames in order by default."""
        intensity = movie_intensity(clip, self.net.config.intensities)
        for t in range(clip.n_frames) if frames is None else frames:
            yield self._frame_maps(clip, t, intensity)

    def _frame_maps(self, clip: Clip, t: int, intensity: IntensityScale) -> FrameMaps:
        began = time.perf_counter()
        planes = range(t * clip.depth, (t + 1) * clip.depth)
        seen: list[Tensor] | None = None if self.appearance is None else []
        maps = [self.plane_maps(clip.plane(p), intensity, self._wants_contours, seen) for p in planes]
        novelty = None if self.appearance is None else self.appearance.novelty(seen or [])
        return FrameMaps(t, maps, clip.has_depth, novelty, time.perf_counter() - began)

    def frame_prediction(self, maps: FrameMaps) -> FramePrediction:
        """Return the prediction of a frame from what the network says of it. Needs no GPU, and any thread will do."""
        began = time.perf_counter()
        labels = _compact(self.labels_of(maps.planes))
        probability = np.stack([foreground_of(m) for m in maps.planes])
        if not maps.has_depth:
            labels, probability = labels[0], probability[0]
        threshold = self.threshold if self.config.threshold is None else self.config.threshold
        sure = confidence(probability, threshold)
        seconds = maps.seconds + time.perf_counter() - began
        return FramePrediction(maps.frame, labels, probability, sure, seconds, maps.novelty)

    def iter_frames(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[FramePrediction]:
        """Yield the prediction of each frame; all frames in order by default."""
        for maps in self.iter_maps(clip, frames):
            yield self.frame_prediction(maps)

    def iter_labels(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield frame and labels, (Y, X) or (Z, Y, X); see `FramePrediction`."""
        for prediction in self.iter_frames(clip, frames):
            yield prediction.frame, prediction.labels

    def predict(self, clip: Clip) -> np.ndarray:
        """Return the labels of all frames, (T, Y, X) or (T, Z, Y, X)."""
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
            "meaning": self.meaning.to_dict(),
        }
        tensors = dict(self.net.state_dict())
        if self.appearance is not None:
            tensors |= self.appearance.tensors()
        save_tensors(path, tensors, header, "segmenter")

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> Segmenter:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing, damaged, or does not hold a segmenter.
        """
        net, header, others = load_network(path, "segmenter", Appearance.NAMES)
        try:
            config = PredictConfig.from_dict(header["predict"])
            # Segmenters of before labels had a meaning: 1 is foreground.
            meaning = LabelMeaning.from_dict(header["meaning"]) if "meaning" in header else None
            appearance = Appearance.from_tensors(others) if others else None
            parts = (config, header["provenance"], device, meaning, appearance)
            return cls(net, header["zoom"], header["threshold"], *parts)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: its header lacks what a segmenter needs ({error}).") from error


def _compact(labels: np.ndarray) -> np.ndarray:
    """Return labels as uint16, or uint32 where they need it."""
    return labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.uint32)
