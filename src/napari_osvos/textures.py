"""Random fields of which simulated images are made: textures, illumination, blur and noise.

All functions take a ``numpy.random.Generator`` and a shape (Y, X), and return float32 (Y, X) arrays.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Shape = tuple[int, int]


def blur(image: NDArray[Any], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of standard deviation `sigma` px, cut at three sigmas, mirrored at the edge; float32."""
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(np.asarray(image, np.float32), sigma, truncate=3.0)
    return blurred


@lru_cache(maxsize=8)
def _frequencies(shape: Shape) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Row and column frequencies in cycles per pixel of the real Fourier transform."""
    rows = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    columns = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    return rows, columns


def band_noise(
    rng: np.random.Generator,
    shape: Shape,
    scale: float,
    *,
    angle: float = 0.0,
    stretch: float = 1.0,
    width: float = 0.35,
) -> NDArray[np.float32]:
    """Band-limited Gaussian noise of mean 0 and standard deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        (Y, X).
    scale : float
        Wavelength in pixels at the middle of the band.
    angle : float
        Direction, in radians from the X axis, along which the texture is drawn out when `stretch` > 1.
    stretch : float
        How many times longer the texture is along `angle` than across it.
    width : float
        Half-width of the band in natural log units of frequency; small values give regular ripples.

    Returns
    -------
    numpy.ndarray
        float32 (Y, X).
    """
    rows, columns = _frequencies(shape)
    along = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    across = rows * np.float32(np.cos(angle)) - columns * np.float32(np.sin(angle))
    frequency = np.sqrt((along * np.float32(stretch)) ** 2 + across**2) + np.float32(1e-6)
    gain = np.exp(-((np.log(frequency * np.float32(scale)) / np.float32(width)) ** 2) / 2)
    gain[0, 0] = 0
    spectrum = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * gain
    noise = np.fft.irfft2(spectrum, s=shape).astype(np.float32)
    spread = float(noise.std())
    return noise / spread if spread > 1e-6 else np.zeros(shape, np.float32)


def illumination(rng: np.random.Generator, shape: Shape, strength: float) -> NDArray[np.float32]:
    """Smooth light field around 1: a tilt, a broad bright spot and a slow ripple, each of about `strength`."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij", sparse=True)
    tilt, centre = rng.normal(0, 0.5, 2), rng.uniform(-0.8, 0.8, 2)
    spot = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / rng.uniform(0.4, 1.5))
    ripple = 0.3 * np.cos(rng.uniform(1, 3) * y + rng.uniform(0, 6)) * np.cos(rng.uniform(1, 3) * x + rng.uniform(0, 6))
    field = tilt[0] * y + tilt[1] * x + spot + ripple
    light: NDArray[np.float32] = np.maximum(1 + strength * (field - field.mean()), 0.05).astype(np.float32)
    return light


def lines(rng: np.random.Generator, shape: Shape, scale: float, thickness: float = 1.5) -> NDArray[np.float32]:
    """Thin wavy lines (the zero crossings of band noise), 1 on a line and 0 far from it; membranes, cristae, fibres."""
    noise = band_noise(rng, shape, scale, angle=rng.uniform(0, np.pi), stretch=rng.uniform(1, 2.5))
    gradient = 6.3 / scale  # mean slope of noise of this wavelength, so that `thickness` is in pixels
    drawn: NDArray[np.float32] = np.exp(-((noise / np.float32(gradient * thickness * 0.6)) ** 2))
    return drawn


def spots(rng: np.random.Generator, shape: Shape, density: float, sigma: float) -> NDArray[np.float32]:
    """Round spots of random strength (peak about 1), `density` of them per pixel, Gaussian of `sigma` px."""
    field = np.zeros(shape, np.float32)
    count = rng.poisson(density * shape[0] * shape[1])
    if count == 0:
        return field
    at = rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)
    field[at] = rng.uniform(0.4, 1.0, count)
    return blur(field, sigma) * np.float32(max(1.0, 2 * np.pi * sigma**2))


def stripes(rng: np.random.Generator, shape: Shape, period: float) -> NDArray[np.float32]:
    """Straight stripes in a random direction, a cosine of `period` px; mean 0, standard deviation 1."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    y, x = np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None, :]
    path = y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle))
    wave: NDArray[np.float32] = np.cos(path * np.float32(2 * np.pi / period) + np.float32(phase))
    return wave * np.float32(np.sqrt(2))


def shading(height: NDArray[np.float32], angle: float) -> NDArray[np.float32]:
    """Slope of a `height` map towards `angle` (radians from the X axis): relief as in DIC."""
    slope: NDArray[np.float32] = np.zeros_like(height)
    slope[1:-1] += np.float32(np.sin(angle) / 2) * (height[2:] - height[:-2])
    slope[:, 1:-1] += np.float32(np.cos(angle) / 2) * (height[:, 2:] - height[:, :-2])
    return slope


def sign(rng: np.random.Generator) -> float:
    """Draw -1 or 1: the polarity of whatever is multiplied by it."""
    return 1.0 if rng.random() < 0.5 else -1.0


def camera_noise(
    rng: np.random.Generator,
    light: NDArray[np.float32],
    *,
    shot: float = 0.0,
    read: float = 0.0,
    correlated: float = 0.0,
) -> NDArray[np.float32]:
    """Add noise to an image whose intensities lie around [0, 1].

    `shot` is the standard deviation of the photon noise at intensity 1 (it grows with the square root of the light),
    `read` of white Gaussian noise, `correlated` of noise smoothed over one pixel, as interpolating cameras make it.
    """
    sigma = np.sqrt(np.float32(shot) ** 2 * np.maximum(light, 0) + np.float32(read) ** 2)
    noisy: NDArray[np.float32] = light + sigma * rng.standard_normal(light.shape, dtype=np.float32)
    if correlated > 0:
        smooth = blur(rng.standard_normal(light.shape, dtype=np.float32), 1.0)
        noisy += np.float32(correlated * 3.5) * smooth  # a blur of 1 px leaves 0.28 of the standard deviation
    return noisy
