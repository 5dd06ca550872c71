"""Simulated still images of widely varied appearance, for training a parent network.

The point is variety, not realism: what an object looks like, what surrounds it and what merely resembles it are drawn
anew for each image, so that a network trained on them learns what an object may differ by, rather than one modality.

Use, one image at a time and reproducible by its seed::

    rng = np.random.default_rng([seed, index])
    image, labels = simulate_still(rng, shape=(256, 256))

An image of 256 x 256 takes some 25 ms on one core, so a data loader may draw them as it goes instead of keeping files.
Objects of the second family and debris are in the image but not in the labels. Some images (4 %) are all background
but for such distractors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_osvos.shapes import FAMILIES, Labels, edges, family_of_shapes, stamp, tessellate
from napari_osvos.textures import band_noise, blur, camera_noise, illumination, lines, shading, sign, spots, stripes

Shape = tuple[int, int]
Canvas = NDArray[np.float32]

TEXTURES = ("none", "band", "streaks", "stripes", "speckle", "vesicles", "cristae")
RELIEFS = ("none", "halo", "shading", "rim", "core")
BACKGROUNDS = ("flat", "flat", "uneven", "coarse", "fine", "membranes", "streaks")


@dataclass(frozen=True)
class Style:
    """What objects of one family look like; intensities are in units of the image's range."""

    brightness: float
    spread: float  # of brightness from object to object
    texture: str
    texture_gain: float
    relief: str
    relief_gain: float
    scale: float  # of the texture, pixels

    @property
    def strength(self) -> float:
        """The strongest cue by which such an object differs from the background."""
        texture = 0.8 * self.texture_gain if self.texture != "none" else 0.0
        relief = 0.5 * abs(self.relief_gain) if self.relief != "none" else 0.0
        return max(abs(self.brightness), texture, relief)


def _style(rng: np.random.Generator, diameter: float) -> Style:
    """Draw a style that differs from the background by at least one clear cue."""
    cues = rng.random(3) < (0.7, 0.5, 0.45)
    if not cues.any():
        cues[rng.integers(3)] = True
    brightness = sign(rng) * float(np.exp(rng.uniform(np.log(0.1), np.log(0.7)))) if cues[0] else 0.0
    alone = 1.6 if cues.sum() == 1 else 1.0
    return Style(
        brightness=brightness * (alone if abs(brightness) < 0.2 else 1.0),
        spread=rng.choice((0.0, 0.15, 0.35)),
        texture=str(rng.choice(TEXTURES[1:])) if cues[1] else "none",
        texture_gain=rng.uniform(0.07, 0.17) * alone,
        relief=str(rng.choice(RELIEFS[1:])) if cues[2] else "none",
        relief_gain=sign(rng) * rng.uniform(0.15, 0.45) * alone,
        scale=float(np.clip(diameter * np.exp(rng.uniform(np.log(0.08), np.log(0.5))), 2.5, 20)),
    )


def _texture(rng: np.random.Generator, shape: Shape, kind: str, scale: float) -> Canvas:
    """Draw a texture of mean about 0 and standard deviation about 1."""
    if kind == "band":
        return band_noise(rng, shape, scale)
    if kind == "streaks":
        return band_noise(rng, shape, scale, angle=rng.uniform(0, np.pi), stretch=rng.uniform(2, 6))
    if kind == "stripes":
        return stripes(rng, shape, scale)
    if kind == "speckle":
        return band_noise(rng, shape, 2.5, width=0.8)
    if kind == "vesicles":
        sigma = max(scale / 5, 0.8)
        return np.float32(3 * sign(rng)) * spots(rng, shape, 0.02 / sigma**2, sigma).clip(0, 1.2)
    return np.float32(2.5 * sign(rng)) * (lines(rng, shape, max(scale, 5)) - np.float32(0.3))


def paint(rng: np.random.Generator, canvas: Canvas, labels: Labels, style: Style, diameter: float) -> Canvas:
    """Draw the objects of `labels` (Y, X) in one `style` over the float32 `canvas` (Y, X); returns a new canvas."""
    mask = labels > 0
    count = int(labels.max()) + 1
    gains = (1 + style.spread * rng.standard_normal(count)).clip(0.45, 1.8).astype(np.float32)[labels]
    inside = mask.astype(np.float32)
    cover = rng.uniform(0.5, 1.0)  # how far the object hides the texture of the background
    base = float(canvas.mean())
    image = np.where(mask, base + (canvas - base) * np.float32(1 - cover), canvas)
    image += np.float32(style.brightness) * gains * inside
    if style.texture != "none":
        image += np.float32(style.texture_gain) * _texture(rng, labels.shape, style.texture, style.scale) * inside
    if style.relief != "none":
        image += np.float32(style.relief_gain) * _relief(rng, labels, inside, style.relief, diameter)
    return image


def _relief(rng: np.random.Generator, labels: Labels, inside: Canvas, kind: str, diameter: float) -> Canvas:
    """Light that follows the outline, about 1 at its strongest."""
    if kind == "halo":  # phase contrast: bright rim outside, dark body
        soft = blur(inside, float(np.clip(diameter * rng.uniform(0.05, 0.12), 1.2, 5)))
        return 2 * soft * (1 - inside) - np.float32(rng.uniform(0.2, 0.8)) * inside * soft
    if kind == "shading":  # differential interference contrast: light from one side
        height = blur(inside, float(np.clip(diameter * rng.uniform(0.04, 0.1), 1, 4)))
        slope = shading(height, rng.uniform(0, 2 * np.pi))
        return slope / np.float32(max(float(np.abs(slope).max()), 1e-6))
    if kind == "rim":  # a membrane
        rim = blur(edges(labels), float(np.clip(diameter * rng.uniform(0.015, 0.05), 0.6, 2.5)))
        return 1.3 * rim / max(float(rim.max()), 1e-6)
    depth = blur(inside, float(np.clip(diameter * 0.16, 1.2, 7))) * inside  # a nucleus, or a body thicker in the middle
    threshold, steepness = np.float32(rng.uniform(0.7, 0.9)), np.float32(rng.choice((4, 25)))
    return ((depth - threshold) * steepness).clip(0, 1)


def _background(rng: np.random.Generator, shape: Shape, style: Style) -> Canvas:
    """Draw a background whose texture is weaker than what tells objects of this `style` from it."""
    kind = str(rng.choice(BACKGROUNDS))
    if style.strength > abs(style.brightness) and rng.random() < 0.6:  # told apart by texture or outline alone
        kind = str(rng.choice(("flat", "uneven")))
    canvas = np.zeros(shape, np.float32)
    gain = np.float32(min(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.5) * style.strength))
    if kind == "uneven":
        canvas += gain * 1.5 * band_noise(rng, shape, rng.uniform(60, 200), width=0.6)
    elif kind == "coarse":
        canvas += gain * band_noise(rng, shape, rng.uniform(12, 60), width=0.7)
    elif kind == "fine":
        canvas += gain * band_noise(rng, shape, rng.uniform(3, 12), width=0.6)
    elif kind == "membranes":  # neuropil-like clutter
        canvas += 3 * sign(rng) * gain * lines(rng, shape, rng.uniform(14, 60), rng.uniform(0.8, 2.5))
    elif kind == "streaks":
        canvas += gain * band_noise(
            rng, shape, rng.uniform(4, 20), angle=rng.uniform(0, np.pi), stretch=rng.uniform(2, 8)
        )
    return canvas


def _place(rng: np.random.Generator, labels: Labels, family: str, diameter: float, coverage: float) -> int:
    """Put objects of one family on the free part of `labels` (in place); returns how many."""
    height, width = labels.shape
    draw = family_of_shapes(rng, family)
    thin = family in ("filament", "branched")
    wanted = int(np.clip(coverage * height * width / (0.8 * diameter**2), 1, 10 if thin else 70))
    manner = rng.choice(("sparse", "anywhere", "clustered", "touching"))
    gap = int(rng.integers(1, 5)) if manner == "sparse" else 0
    spread = rng.uniform(0, 0.25)
    hearts = rng.uniform(0, 1, (max(1, wanted // 12), 2)) * (height, width)
    placed: list[tuple[float, float]] = []
    for _ in range(int(1.6 * wanted) + 2):
        size = diameter * np.exp(rng.normal(0, spread))
        if manner == "clustered":
            centre = hearts[rng.integers(len(hearts))] + rng.normal(0, 2.2 * diameter, 2)
        elif manner == "touching" and placed and rng.random() < 0.75:
            angle = rng.uniform(0, 2 * np.pi)
            centre = np.array(placed[rng.integers(len(placed))]) + 0.95 * size * np.array(
                (np.sin(angle), np.cos(angle))
            )
        else:
            centre = rng.uniform(-0.1, 1.1, 2) * (height, width)
        if not (-size / 3 < centre[0] < height + size / 3 and -size / 3 < centre[1] < width + size / 3):
            continue
        if stamp(labels, draw(size), (centre[0], centre[1]), len(placed) + 1, gap=gap):
            placed.append((centre[0], centre[1]))
        if len(placed) == wanted:
            break
    return len(placed)


def simulate_still(rng: np.random.Generator, shape: Shape = (256, 256)) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Draw one image and its labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same image.
    shape : tuple of int
        (Y, X), at least 16 each.

    Returns
    -------
    image : numpy.ndarray
        uint8 (Y, X).
    labels : numpy.ndarray
        uint16 (Y, X), 0 = background, 1..n = instances, which may touch.

    Raises
    ------
    ValueError
        If `shape` is not two integers of 16 or more.
    """
    if len(shape) != 2 or min(shape) < 16:
        raise ValueError(f"The shape of a simulated image is (Y, X) with at least 16 pixels each, not {tuple(shape)}.")
    shape = (int(shape[0]), int(shape[1]))
    diameter = float(np.exp(rng.uniform(np.log(10), np.log(90))))
    family = str(rng.choice(FAMILIES, p=(0.28, 0.2, 0.14, 0.08, 0.1, 0.12, 0.08)))
    labels = np.zeros(shape, np.uint16)
    kind = rng.random()
    if kind < 0.1:
        kept = float(rng.choice((0.3, 0.7, 1.0)))
        gap = int(rng.integers(2 if kept == 1 else 0, 5))  # some background is left between the cells of a full sheet
        labels = tessellate(rng, shape, max(diameter, 14.0), gap, kept)
    elif kind < 0.96:
        coverage = float(np.exp(rng.uniform(np.log(0.04), np.log(0.6))))
        while not _place(rng, labels, family, diameter, coverage):
            diameter = max(diameter * 0.8, 8.0)
    style = _style(rng, diameter)
    image = _background(rng, shape, style)
    image = _distract(rng, image, labels, family, diameter, style)
    image = paint(rng, image, labels, style, diameter)
    return _develop(rng, image, style.strength), labels


def _distract(
    rng: np.random.Generator, canvas: Canvas, labels: Labels, family: str, diameter: float, style: Style
) -> Canvas:
    """Add what is in the image but not in the labels: objects of another family, debris, fibres."""
    if rng.random() < 0.4:
        other = str(rng.choice([name for name in FAMILIES if name != family]))
        smaller = rng.random() < 0.5
        size = float(np.clip(diameter * (rng.uniform(0.25, 0.6) if smaller else rng.uniform(1.5, 2.5)), 7, 110))
        for _ in range(8):  # a style that nobody could confuse with that of the objects
            unlike = _style(rng, size)
            if unlike.brightness * style.brightness <= 0 and unlike.texture != style.texture:
                break
        taken = np.where(labels > 0, np.uint16(65535), np.uint16(0))
        _place(rng, taken, other, size, rng.uniform(0.02, 0.2))
        taken[taken == 65535] = 0
        canvas = paint(rng, canvas, taken, unlike, size)
    if rng.random() < 0.3:
        debris = spots(rng, canvas.shape, rng.uniform(1, 12) / 1e4, rng.uniform(0.8, 2.0))
        canvas = canvas + sign(rng) * np.float32(rng.uniform(0.1, 0.5)) * debris
    if rng.random() < 0.15 and family in ("blob", "ellipse", "polygon"):
        fibres = np.zeros(canvas.shape, np.uint16)
        _place(rng, fibres, "filament", min(canvas.shape) * 0.4, 0.03)
        canvas = canvas + sign(rng) * np.float32(rng.uniform(0.1, 0.4)) * (fibres > 0) * (labels == 0)
    return canvas.astype(np.float32)


def _develop(rng: np.random.Generator, canvas: Canvas, strength: float) -> NDArray[np.uint8]:
    """Optics and camera: blur, uneven light, noise, gamma, contrast; uint8."""
    image = blur(canvas, rng.uniform(0.5, 1.0) if rng.random() < 0.7 else rng.uniform(1.0, 2.2))
    low, high = float(image.min()), float(image.max())
    image = (image - low) / max(high - low, 0.25)
    if rng.random() < 0.5:
        image = (image + np.float32(0.2)) * illumination(rng, image.shape, rng.uniform(0.05, 0.35))
    noise = min(np.exp(rng.uniform(np.log(0.003), np.log(0.14))), 0.6 * strength / max(high - low, 0.25))
    share = rng.dirichlet((1, 1, 1)) * noise
    image = camera_noise(rng, image, shot=share[0] * 1.5, read=share[1], correlated=share[2])
    low, high = np.percentile(image[::2, ::2], (rng.uniform(0, 0.5), rng.uniform(99.5, 100)))
    image = ((image - low) / max(high - low, 1e-3)).clip(0, 1) ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.2:  # a camera that uses a part of its range
        room = rng.uniform(0.3, 0.9)
        image = rng.uniform(0, 1 - room) + room * image
    stored: NDArray[np.uint8] = np.rint(image * 255).astype(np.uint8)
    return stored
