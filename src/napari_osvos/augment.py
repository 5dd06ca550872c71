"""Crops from images and their labels: geometry in one resampling, then intensities.

Image, mask, contour and known region are stacked and go through the same `grid_sample`, so that they
move together by construction. Targets are resampled linearly: where an image is enlarged their
borders become ramps whose half-way line lies between the pixels, instead of stairs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_osvos.config import AugmentConfig


def sampling_grid(
    centre: tuple[float, float],
    size: int,
    zoom: float,
    augment: AugmentConfig,
    rng: np.random.Generator,
    device: torch.device | None = None,
) -> Tensor:
    """Return the source coordinates of each pixel of a crop, varied at random.

    Parameters
    ----------
    centre : (y, x)
        Centre of the crop in source pixels; pixel centres are at integers.
    size : int
        Edge of the crop in crop pixels.
    zoom : float
        Crop pixels per source pixel.
    device : torch.device, optional
        Where they are to be, the CPU by default; what is drawn is the same.

    Returns
    -------
    Tensor
        (size, size, 2) float32, y and x in source pixels; may lie outside of the source.
    """
    angle = math.radians(rng.uniform(-augment.rotation, augment.rotation))
    stretch = math.exp(rng.uniform(-augment.shear, augment.shear) / 2)
    zoom = zoom * math.exp(rng.uniform(-augment.zoom, augment.zoom))
    mirror = -1.0 if augment.flip and rng.random() < 0.5 else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    affine = turn @ np.diag([mirror * stretch, 1 / stretch]) / zoom
    matrix = torch.from_numpy(affine.astype(np.float32)).to(device)
    axis = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
    along_y, along_x = matrix[:, :1] * axis, matrix[:, 1:] * axis  # (2, S) each
    grid = along_y[:, :, None] + along_x[:, None, :] + torch.tensor(centre, device=device)[:, None, None]
    if augment.elastic > 0:
        field = smooth_field(
            rng.normal(0, augment.elastic / zoom, (1, 2, max(4, size // 32), max(4, size // 32))), size, device
        )
        grid = grid + field[0]
    return grid.permute(1, 2, 0)


def smooth_field(nodes: np.ndarray, size: int, device: torch.device | None = None) -> Tensor:
    """Return values at a few nodes (N, C, n, n) as smooth fields (N, C, size, size), on the CPU by default."""
    field = torch.from_numpy(nodes.astype(np.float32))
    between = max(nodes.shape[-1], size // 8)
    field = F.interpolate(field, size=(between, between), mode="bicubic")
    return F.interpolate(field.to(device), size=(size, size), mode="bilinear")


def reflect(coordinates: Tensor, length: int) -> Tensor:
    """Return coordinates mirrored into 0 .. length - 1 at the outermost pixel centres."""
    if length == 1:
        return torch.zeros_like(coordinates)
    if coordinates.min() >= 0 and coordinates.max() <= length - 1:
        return coordinates
    period = 2 * (length - 1)
    folded = torch.remainder(coordinates, period)
    return torch.minimum(folded, period - folded)


def vary_intensities(x: Tensor, augment: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Return crops (N, 3, S, S) of normalised intensities with polarity, contrast ... varied."""
    n, size = len(x), x.shape[-1]

    def draw(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(x.device).view(n, 1, 1, 1)

    if augment.colour:
        mix = torch.from_numpy(rng.dirichlet((1.0, 1.0, 1.0), n).astype(np.float32)).to(x.device)
        grey = (x * mix.view(n, 3, 1, 1)).sum(1, keepdim=True)
        x = torch.where(draw(rng.random(n) < augment.colour) > 0, grey, x)
    if augment.gamma:
        x = x.sign() * x.abs().clamp_min(1e-6).pow(draw(np.exp(rng.normal(0, augment.gamma, n))))
    if augment.polarity:
        x = x * draw(np.where(rng.random(n) < augment.polarity, -1.0, 1.0))
    if augment.contrast or augment.brightness:
        contrast = draw(np.exp(rng.normal(0, augment.contrast, n)))
        x = x * contrast + draw(rng.normal(0, augment.brightness, n))
    if augment.illumination:
        field = rng.normal(0, 1, (n, 1, 3, 3)) * np.abs(rng.normal(0, augment.illumination, (n, 1, 1, 1)))
        x = x + smooth_field(field, size, x.device)
    if augment.blur:
        x = _blur(x, rng.uniform(0, augment.blur, n) * (rng.random(n) < 0.5))
    if augment.noise:
        generator = torch.Generator(device=x.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(n, 1, size, size, generator=generator, device=x.device)
        x = x + noise * draw(np.abs(rng.normal(0, augment.noise / 2, n)).clip(max=augment.noise))
    return x


def _blur(x: Tensor, sigmas: np.ndarray) -> Tensor:
    radius = math.ceil(2.5 * max(float(sigmas.max()), 0.4))
    offsets = np.arange(-radius, radius + 1)
    kernels = np.exp(-0.5 * (offsets / np.maximum(sigmas, 0.05)[:, None]) ** 2)
    kernels /= kernels.sum(1, keepdims=True)
    n, channels = x.shape[:2]
    weight = torch.from_numpy(np.repeat(kernels, channels, 0).astype(np.float32)).to(x.device)
    flat = x.reshape(1, n * channels, *x.shape[-2:])
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="reflect"), weight[:, None, None, :], groups=n * channels)
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="reflect"), weight[:, None, :, None], groups=n * channels)
    return flat.view(x.shape)


def paste_objects(
    x: Tensor, targets: Tensor, augment: AugmentConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Paste the objects of one crop over another one, so that more of them touch.

    Parameters
    ----------
    x, targets : Tensor
        (N, 3, S, S) intensities and (N, 4 + K, S, S) mask, contour, known region, distance, and the masks of K classes.

    Returns
    -------
    tuple of Tensor
        Varied copies. Pasted foreground brings its targets along.
    """
    chosen = np.flatnonzero(rng.random(len(x)) < augment.composite)
    if not len(chosen) or len(x) < 2:
        return x, targets
    x, targets = x.clone(), targets.clone()
    size = x.shape[-1]
    for i in chosen:
        j = int((i + rng.integers(1, len(x))) % len(x))
        shift = tuple(int(s) for s in rng.integers(-size // 3, size // 3 + 1, 2))
        patch, mark = torch.roll(x[j], shift, (1, 2)), torch.roll(targets[j], shift, (1, 2))
        known = mark[2:3]
        mask = mark[:1] * (known > 0.5)  # only what is known to be foreground
        # One pixel of the source's surroundings comes along, as a soft rim.
        alpha = F.avg_pool2d(F.max_pool2d(mask[None], 3, 1, 1), 3, 1, 1, count_include_pad=False)[0]
        x[i] = alpha * patch + (1 - alpha) * x[i]
        inside = mask > 0.5
        unsure = (alpha > 0) & (known < 0.5)  # a rim of what nobody has labelled
        below = targets[i].clone()
        # What is covered loses its foreground, also where the rim of the other covers it half.
        targets[i] = torch.where(inside, mark, torch.minimum(below, 1 - alpha * (1 - mask)))
        targets[i, 1:2] = torch.where(alpha > 0.5, torch.maximum(mark[1:2], below[1:2] * (1 - alpha)), below[1:2])
        targets[i, 2:3] = torch.where(inside, known, below[2:3] * ~unsure)
    return x, targets
