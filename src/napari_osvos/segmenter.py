"""A fine-tuned network with all it needs to segment a movie: scale, threshold, provenance."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_osvos.appearance import Appearance
from napari_osvos.certainty import confidence
from napari_osvos.checkpoint import load_network, save_tensors
from napari_osvos.clip import Clip, checked_clip
from napari_osvos.config import PredictConfig
from napari_osvos.intensity import IntensityScale, movie_intensity
from napari_osvos.labelling import LabelMeaning, PlaneMaps, checked_number, foreground_of
from napari_osvos.network import OSVOSNet
from napari_osvos.parallel_frames import each_frame
from napari_osvos.plane_prediction import PlanePredictor
from napari_osvos.tiling import FINE

ZOOMS = (1e-4, 64.0)
"""Least and most network pixels per movie pixel of a segmenter that is read."""


@dataclass(frozen=True)
class FramePrediction:
    """The prediction of one frame.

    Attributes
    ----------
    frame : int
        Position in the clip.
    labels : array
        (Y, X) or (Z, Y, X) uint16, or uint32 for labels above 65,535; 0 is background. Of look-alike objects each has a
        number of its own, 1 to n in this frame; distinct ones have the labels they were painted with.
    probability : array
        The same shape, float32 in [0, 1]; float16 where a frame has more than 2**25 pixels.
    confidence : float
        In [0, 1]: the region similarity (J) to expect if the probabilities are right, see
        `napari_osvos.certainty.confidence`.
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


class Segmenter(PlanePredictor):
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
        super().__init__(net, zoom, config, device)
        self.threshold = float(threshold)
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

    @property
    def _wants_contours(self) -> bool:
        return self.meaning.task == "look-alike" or self.config.snap

    def labels_of(self, planes: Sequence[PlaneMaps]) -> np.ndarray:
        """Return the labels (Z, Y, X) int32 of a frame from what the network says of its slices."""
        threshold = self.threshold if self.config.threshold is None else self.config.threshold
        return self.meaning.labels(planes, threshold, self.config.snap)

    def plane_labels(self, plane: np.ndarray, intensity: IntensityScale) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, as of `FramePrediction`, and probability of foreground (Y, X) of one plane by itself."""
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

        Raises
        ------
        TypeError
            If the movie is no `Clip`.
        """
        intensity = movie_intensity(checked_clip(clip), self.net.config.intensities)
        for p in range(clip.n_planes) if planes is None else planes:
            yield p, self.plane_probability(clip.plane(p), intensity)

    def iter_maps(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[FrameMaps]:
        """Yield what the network says of each frame; all frames in order by default."""
        coming = iter(range(checked_clip(clip).n_frames) if frames is None else frames)
        while group := list(itertools.islice(coming, max(1, self.planes_at_once(clip) // clip.depth))):
            yield from self._group_maps(clip, group, clip.plane)

    def frame_maps(self, clip: Clip, frame: int, planes: Sequence[np.ndarray]) -> FrameMaps:
        """Return what the network says of a frame whose slices (Y, X, C) were read; the intensities of the movie too.

        Any thread will do, and several at once.
        """
        coming = iter(planes)
        (maps,) = self._group_maps(clip, [frame], lambda p: next(coming))
        return maps

    def _group_maps(self, clip: Clip, frames: Sequence[int], read: Callable[[int], np.ndarray]) -> Iterator[FrameMaps]:
        began = time.perf_counter()
        intensity = movie_intensity(clip, self.net.config.intensities)  # the clip knows its percentiles
        planes = [p for t in frames for p in range(t * clip.depth, (t + 1) * clip.depth)]
        seen: list[list[Tensor]] | None = None if self.appearance is None else [[] for _ in planes]
        fine = bool(np.prod(clip.labels_shape[1:], dtype=np.int64) <= FINE)
        maps: list[PlaneMaps] = []
        while len(maps) < len(planes):
            part = slice(len(maps), len(maps) + self.planes_at_once(clip))
            pixels = [read(p) for p in planes[part]]
            features = None if seen is None else seen[part]
            maps += self.maps(pixels, intensity, self._wants_contours, features, fine, self.meaning.relief)
            del pixels  # a huge plane is not kept while its labels are made
        seconds = (time.perf_counter() - began) / len(frames)
        for i, t in enumerate(frames):
            own, maps = maps[: clip.depth], maps[clip.depth :]  # the caller uses them up
            novelty = None
            if self.appearance is not None and seen is not None:
                slices = seen[i * clip.depth : (i + 1) * clip.depth]
                novelty = self.appearance.novelty([tokens for plane in slices for tokens in plane])
            yield FrameMaps(t, own, clip.has_depth, novelty, seconds)

    def frame_prediction(self, maps: FrameMaps) -> FramePrediction:
        """Return the prediction of a frame from what the network says of it, which is used up.

        Needs no GPU, and any thread will do.
        """
        began = time.perf_counter()
        labels = self.labels_of(maps.planes)
        foreground = [foreground_of(m) for m in maps.planes]
        maps.planes.clear()  # contours of a huge frame take as much as its labels
        labels = _compact(labels)
        probability = np.stack(foreground) if len(foreground) > 1 else foreground[0][None]
        if not maps.has_depth:
            labels, probability = labels[0], probability[0]
        threshold = self.threshold if self.config.threshold is None else self.config.threshold
        sure = confidence(probability, threshold)
        seconds = maps.seconds + time.perf_counter() - began
        return FramePrediction(maps.frame, labels, probability, sure, seconds, maps.novelty)

    def iter_frames(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[FramePrediction]:
        """Yield the prediction of each frame; all frames in order by default.

        Some frames after it are under way meanwhile, see `napari_osvos.parallel_frames`.
        """
        frames = range(checked_clip(clip).n_frames) if frames is None else frames
        yield from each_frame(self, clip, frames, lambda found: found)

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
            zoom, threshold = checked_number("zoom", header["zoom"], *ZOOMS), header["threshold"]
            return cls(net, zoom, checked_number("threshold", threshold, 0, 1), *parts)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: its header lacks what a segmenter needs ({error}).") from error


def _compact(labels: np.ndarray) -> np.ndarray:
    """Return int32 labels, none of them negative, as uint16, or as uint32 where they need it."""
    return labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels.view(np.uint32)
