"""Annotated images as sources of crops, and batches of crops drawn from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_osvos.augment import paste_objects, reflect, sampling_grid, vary_intensities
from napari_osvos.config import AugmentConfig
from napari_osvos.device import to_device
from napari_osvos.intensity import IntensityScale, raw_tensor
from napari_osvos.resampling import rescaled

# Channels of the targets; the mask of each class follows where there are several.
MASK, CONTOUR, KNOWN, DISTANCE, CLASSES = 0, 1, 2, 3, 4
FOREGROUND, BORDER, ANYWHERE, ERROR = 0, 1, 2, 3
NORMALISED_AT_ONCE = 2**24
"""Images of more pixels are normalised crop by crop: not all of them is kept in float32."""


@dataclass
class Batch:
    """Crops ready for the network.

    Attributes
    ----------
    x : Tensor
        (N, 3, S, S) float32, normalised intensities; (N, 1, S, S) where all images are grey.
    mask, contour, known : Tensor
        (N, S, S) float32 in [0, 1].
    positive_share : Tensor
        (N, 1, 1), foreground share of the image that each crop comes from.
    distance : Tensor or None
        (N, S, S) float32 in [0, 1], see `inner_distance`.
    classes : Tensor or None
        (N, K, S, S) float32 in [0, 1], the mask of each of several classes.
    """

    x: Tensor
    mask: Tensor
    contour: Tensor
    known: Tensor
    positive_share: Tensor
    distance: Tensor | None = None
    classes: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(**{name: to_device(part, device) for name, part in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return what there is, by name."""
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: part for name, part in parts.items() if part is not None}


def inner_boundary(labels: np.ndarray) -> np.ndarray:
    """Return where a labelled pixel has a 4-neighbour of another label, (Y, X) bool."""
    boundary = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    boundary[1:] |= down
    boundary[:-1] |= down
    boundary[:, 1:] |= right
    boundary[:, :-1] |= right
    return boundary & (labels > 0)


def inner_distance(labels: np.ndarray) -> np.ndarray:
    """Return how deep each pixel lies in its object: 0 at its border and outside, 1 where it is thickest.

    Parameters
    ----------
    labels : (Y, X) int array
        0 is background.

    Returns
    -------
    (Y, X) float32 array in [0, 1]
        Distance to the border of the object, divided by the largest one in it.
    """
    distance = ndimage.distance_transform_edt((labels > 0) & ~inner_boundary(labels))
    ids, places = np.unique(labels, return_inverse=True)
    places = places.reshape(labels.shape)
    largest = np.zeros(len(ids))
    np.maximum.at(largest, places.ravel(), distance.ravel())
    # One pixel more than to the border: an object of a single row has a middle, too.
    return np.where(labels > 0, (distance + 1) / (largest[places] + 1), 0).astype(np.float32)


class Source:
    """One annotated image.

    Parameters
    ----------
    image : (Y, X, C) array
        Raw intensities.
    labels : (Y, X) int array
        0 is background.
    known : (Y, X) bool array or None
        Where the labels say anything; None is everywhere.
    intensity : IntensityScale
        Of the movie, or of the still.
    zoom : float
        Network pixels per image pixel.
    weight : float
        How often crops are drawn from this source, relative to others.
    classes : tuple of int
        Labels that are to be told apart from each other; fewer than two make all labels one class.
    distance : bool
        Whether the network learns how deep in its object a pixel lies.

    Attributes
    ----------
    grey : bool
        Whether its three channels of intensities are one and the same.
    """

    def __init__(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        known: np.ndarray | None,
        intensity: IntensityScale,
        zoom: float,
        weight: float = 1.0,
        classes: tuple[int, ...] = (),
        distance: bool = False,
    ) -> None:
        mask = labels > 0
        contour = inner_boundary(labels)
        if known is None:
            known = np.ones(mask.shape, bool)
        self.weight, self.intensity, self.zoom = weight, intensity, zoom
        self.positive_share = float(mask[known].mean()) if known.any() else 0.0
        self.image = raw_tensor(image)  # (C, Y, X)
        self.grey = len(self.image) == 1
        self._normalised = False
        depth = np.round(255 * inner_distance(labels)) if distance else np.zeros(mask.shape)
        each = [labels == label for label in classes] if len(classes) > 1 else []
        # (4 + K, Y, X); the distance counts in 255ths
        self.targets = torch.from_numpy(np.stack([mask, contour, known, depth, *each]).astype(np.uint8))
        if zoom < 0.75:
            # Resampling by one step per crop pixel would alias; reduce once, by averaging.
            self._reduce(max(zoom, 4 / max(min(mask.shape), 4)))
        edge = (self.targets[CONTOUR] > 0) & (self.targets[KNOWN] > 0)
        inside = (self.targets[MASK] > 0) & (self.targets[KNOWN] > 0)
        self._places = [self._coordinates(where) for where in (inside, edge, self.targets[KNOWN] > 0)]
        self._places.append(self._places[ANYWHERE])  # no error is known yet
        if mask.size <= NORMALISED_AT_ONCE and not self._normalised:
            self.image, self._normalised = intensity.normalise(self.image)[: 1 if self.grey else 3], True

    def to(self, device: torch.device) -> None:
        """Have crops made on a device; those of an image of more than `NORMALISED_AT_ONCE` pixels are on the CPU."""
        if self.targets[0].numel() <= NORMALISED_AT_ONCE:
            self.image, self.targets = to_device(self.image, device), to_device(self.targets, device)

    def _reduce(self, factor: float) -> None:
        # Prediction resamples what the network would see, not raw intensities: so does this.
        image = self.intensity.normalise(self.image)
        targets = self.targets.float()
        known = targets[KNOWN].clone()
        # Targets are averaged over what is known; a thin stroke stays.
        stacked = torch.cat([image, targets * known])[None]
        height, width = (max(1, round(s * factor)) for s in stacked.shape[-2:])
        stacked = F.interpolate(stacked, size=(height, width), mode="bilinear", antialias=True)[0]
        self.image, self._normalised = stacked[:3], True
        targets = stacked[3:]
        known = targets[KNOWN].clone()
        targets[CONTOUR] *= 2  # thin lines fade when averaged
        depth = (targets[DISTANCE] / known.clamp_min(1e-6)).round()
        targets = targets > 0.5 * known + 1e-4  # rounding must not decide a draw
        # What is covered by a quarter or more is known, and the ridge of a thinner stroke.
        ridge = F.max_pool2d(known[None], 3, 1, 1)[0]
        targets[KNOWN] = (known > 0) & (known >= torch.minimum(torch.full_like(known, 0.25), ridge / 2))
        self.targets = targets.to(torch.uint8)
        self.targets[DISTANCE] = depth.to(torch.uint8)
        self.zoom /= factor

    def _intensities(self, window: tuple[slice, slice, slice]) -> Tensor:
        """Return network input (3, y, x) of a window."""
        part = self.image[window] if self._normalised else self.intensity.normalise(self.image[window])
        return part.expand(3, -1, -1)

    def _targets(self, window: tuple[slice, slice, slice]) -> Tensor:
        """Return targets (4 + K, y, x) of a window, float32 in [0, 1]."""
        targets = self.targets[window].float()
        targets[DISTANCE] /= 255
        return targets

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return network input (3, Y, X) and targets (4 + K, Y, X) of the image, float32."""
        everything = (slice(None), slice(None), slice(None))
        return self._intensities(everything), self._targets(everything)

    @staticmethod
    def _coordinates(where: Tensor) -> np.ndarray:
        flat = np.flatnonzero(where.numpy())
        if len(flat) > 50_000:
            flat = flat[:: len(flat) // 50_000]
        return np.stack(np.unravel_index(flat, where.shape), 1).astype(np.float32)

    def place(self, kind: int, rng: np.random.Generator) -> tuple[float, float]:
        """Return a random position (y, x) of a kind: `FOREGROUND`, `BORDER`, `ANYWHERE` known, or `ERROR`."""
        spots = self._places[kind]
        if not len(spots):
            spots = self._places[ANYWHERE]
        if not len(spots):
            height, width = self.targets.shape[-2:]
            return float(rng.random() * height), float(rng.random() * width)
        y, x = spots[rng.integers(len(spots))]
        return float(y), float(x)

    def look_for_errors(
        self, probability: Callable[[Tensor], Tensor], rng: np.random.Generator, most_pixels: int = 2_000_000
    ) -> None:
        """Predict the image, or a window of it, and remember where the prediction is wrong.

        Parameters
        ----------
        probability : callable
            Takes intensities (1, 3, H, W) at the network's scale; returns foreground probabilities (1, 1, H, W).
        most_pixels : int
            Largest window, in network pixels.
        """
        height, width = self.targets.shape[-2:]
        edge = max(16, int(np.sqrt(most_pixels) / self.zoom))
        top = int(rng.integers(max(height - edge, 0) + 1))
        left = int(rng.integers(max(width - edge, 0) + 1))
        window = (slice(None), slice(top, top + edge), slice(left, left + edge))
        x, targets = self._intensities(window)[None], self._targets(window)
        size = tuple(max(1, round(n * self.zoom)) for n in x.shape[-2:])
        p = probability(F.interpolate(x, size=size, mode="bilinear"))
        height, width = targets.shape[-2:]
        p = rescaled(p, (height, width), antialias=True)[0, 0].to(targets.device)
        error = ((p - targets[MASK]).abs() * (targets[KNOWN] > 0)).cpu().double().numpy().ravel()
        if error.sum() > 0:
            places = rng.choice(error.size, 4096, p=error / error.sum())
            self._places[ERROR] = np.stack(np.unravel_index(places, p.shape), 1).astype(np.float32) + (top, left)

    def take_errors_of(self, other: Source) -> None:
        """Take over where another source of the same image was wrong."""
        self._places[ERROR] = other._places[ERROR]

    @property
    def looks(self) -> Any:
        """What tells it from other images: its size and share of foreground."""
        return tuple(self.image.shape), round(self.positive_share, 6)

    def crop(self, centre: tuple[float, float], size: int, augment: AugmentConfig, rng: np.random.Generator) -> Tensor:
        """Return one crop (7 + K, size, size): intensities, then the targets.

        What lies outside of the image is its mirror image, and not known.
        """
        grid = sampling_grid(centre, size, self.zoom, augment, rng, self.targets.device)
        height, width = self.targets.shape[-2:]
        y, x = grid[..., 0], grid[..., 1]
        outside = (y < -0.5) | (y > height - 0.5) | (x < -0.5) | (x > width - 0.5)
        y, x = reflect(y, height), reflect(x, width)
        top, left = int(y.min()), int(x.min())
        bottom, right = min(int(y.max()) + 2, height), min(int(x.max()) + 2, width)
        inside = (slice(None), slice(top, bottom), slice(left, right))
        channels = 1 if self.grey else 3
        window = torch.cat([self._intensities(inside)[:channels], self._targets(inside)])
        # grid_sample wants x, y in [-1, 1] from the first to the last pixel centre
        scaled = torch.stack(
            [(x - left) * (2 / max(right - left - 1, 1)) - 1, (y - top) * (2 / max(bottom - top - 1, 1)) - 1], -1
        )
        crop = F.grid_sample(window[None], scaled[None], mode="bilinear", padding_mode="border", align_corners=True)[0]
        crop[channels + KNOWN] = ((crop[channels + KNOWN] > 0.99) & ~outside).float()
        return torch.cat([crop[:1], crop[:1], crop]) if self.grey else crop


class CropSource(Protocol):
    """What crops are drawn from: a `Source`, or what reads one when it is drawn from."""

    weight: float

    @property
    def grey(self) -> bool:
        """See `Source`."""

    @property
    def positive_share(self) -> float:
        """Share of foreground in what is known."""

    def place(self, kind: int, rng: np.random.Generator) -> tuple[float, float]:
        """See `Source.place`."""

    def crop(self, centre: tuple[float, float], size: int, augment: AugmentConfig, rng: np.random.Generator) -> Tensor:
        """See `Source.crop`."""


def draw_batch(
    sources: Sequence[CropSource],
    crops: int,
    size: int,
    augment: AugmentConfig,
    rng: np.random.Generator,
    shares: Sequence[float] = (0.5, 0.25, 0.25),
) -> Batch:
    """Draw crops: by default half centred on foreground, a quarter on borders, a quarter anywhere.

    Parameters
    ----------
    sources : sequence of CropSource
        Drawn from in proportion to their weights.
    crops, size : int
        Number of crops and their edge in network pixels.
    shares : sequence of float
        Shares of crops centred on foreground, on borders, anywhere, and where errors were found.
    """
    weights = np.array([source.weight for source in sources], float)
    picks = rng.choice(len(sources), crops, p=weights / weights.sum())
    kinds = rng.choice(len(shares), crops, p=shares)
    stack = torch.stack(
        [sources[i].crop(sources[i].place(int(k), rng), size, augment, rng) for i, k in zip(picks, kinds, strict=True)]
    )
    x, targets = stack[:, :3], stack[:, 3:]
    if augment.composite:
        x, targets = paste_objects(x, targets, augment, rng)
    if all(sources[i].grey for i in picks):
        x = vary_intensities(x[:, :1], augment, rng)  # the network takes one for three alike
    else:
        x = vary_intensities(x, augment, rng)
    share = torch.tensor([sources[i].positive_share for i in picks], dtype=torch.float32).view(-1, 1, 1)
    x = x.contiguous(memory_format=torch.channels_last)
    classes = targets[:, CLASSES:] if targets.shape[1] > CLASSES else None
    return Batch(x, targets[:, MASK], targets[:, CONTOUR], targets[:, KNOWN], share, targets[:, DISTANCE], classes)
