"""Simulated time-lapse movies with truth: moving, dividing cells on an uneven, noisy background, in several looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_osvos.colony import Colony, Scene
from napari_osvos.shapes import Shape, edges
from napari_osvos.textures import band_noise, blur, camera_noise, illumination, shading, spots

Image = NDArray[np.float32]


@dataclass(frozen=True)
class SimulatedMovie:
    """A movie and its truth.

    Attributes
    ----------
    frames
        (T, Y, X); uint16 with values of 0..4095 for ``"fluorescence"``, uint8 for the other looks.
    labels
        (T, Y, X) uint16, 0 = background. A cell keeps its label for as long as it lives, its daughters get new ones,
        and labels count up from 1 in the order in which cells are first seen.
    look
        One of `LOOKS`.
    mothers
        {label of a daughter: label of its mother}, for mothers that were seen.
    """

    frames: NDArray[Any]
    labels: NDArray[np.uint16]
    look: str
    mothers: dict[int, int]


@dataclass(frozen=True)
class Stage:
    """What stays the same from frame to frame: the light, the dirt, the slide."""

    rng: np.random.Generator
    diameter: float
    light: Image  # about 1
    grain: tuple[Image, Image]  # two textures of the medium, blended by time, standard deviation 1
    dirt: Image  # dust and debris, 0..1

    def medium(self, t: float) -> Image:
        """Texture of the medium at frame `t`: it changes slowly."""
        turn = 0.25 * t
        return self.grain[0] * np.float32(np.cos(turn)) + self.grain[1] * np.float32(np.sin(turn))


def _fluorescence(stage: Stage, scene: Scene, t: int) -> Image:
    """Nuclei with mottled chromatin, bright when they divide; haze of light out of focus; bleaching."""
    condensed = 1 + 0.65 * scene.rounding
    chromatin = (1 + 0.2 * scene.texture * (1 - 0.7 * scene.rounding)).clip(0.3, 1.7)
    nuclei = scene.brightness * condensed * chromatin * (0.55 + 0.45 * scene.height) * (scene.labels > 0)
    sharp = blur(nuclei, 0.035 * stage.diameter + 0.2)
    haze = blur(nuclei, 0.4 * stage.diameter)
    medium = 0.18 * stage.light**2 + 0.025 * stage.medium(t) + 0.25 * stage.dirt
    light = (0.42 * sharp + 0.14 * haze) * (0.5 + 0.5 * stage.light) * np.exp(-0.006 * t) + medium
    return camera_noise(stage.rng, light, shot=0.07, read=0.012)


def _phase(stage: Stage, scene: Scene, t: int) -> Image:
    """Dark bodies in bright halos, granular inside; dividing cells round up and shine."""
    nucleus = np.clip((scene.depth - 0.5) * 8, 0, 1) * (1 - 0.5 * np.clip((scene.depth - 0.75) * 8, 0, 1))
    path = np.sqrt(scene.height) * (1 + 0.13 * scene.texture) * (0.75 + 0.25 * scene.brightness) + 0.22 * nucleus
    path = blur(path, 0.8)
    contrast = path - 1.25 * blur(path, 0.16 * stage.diameter)
    shine = blur(scene.rounding * scene.height, 1.0)
    light = (
        0.45 * stage.light - 0.5 * contrast - 0.16 * path + 0.6 * shine**2 + 0.02 * stage.medium(t) - 0.2 * stage.dirt
    )
    return camera_noise(stage.rng, light, read=0.018, correlated=0.012)


def _dic(stage: Stage, scene: Scene, t: int) -> Image:
    """Relief: one flank of each cell is bright and the other dark."""
    relief = scene.height * (1 + 0.5 * scene.rounding) * 0.35 * stage.diameter + 0.9 * scene.texture * scene.depth**0.5
    relief = relief + 1.6 * np.clip((scene.depth - 0.5) * 6, 0, 1) * (scene.labels > 0)
    slope = shading(blur(relief, 1.1), 0.75 * np.pi)
    light = (
        0.47 * stage.light + 0.17 * np.tanh(slope) + 0.018 * stage.medium(t) + 0.15 * shading(stage.dirt, 0.75 * np.pi)
    )
    return camera_noise(stage.rng, light, read=0.022, correlated=0.01)


def _brightfield(stage: Stage, scene: Scene, t: int) -> Image:
    """Weak absorption, a dark outline with a bright fringe, granules; dust on the lens."""
    body = (scene.labels > 0).astype(np.float32)
    thick = blur(scene.height, 1.0)
    fringe = blur(thick, 1.0) - blur(thick, 3.2)
    rim = blur(edges(scene.labels), 0.9)
    granules = blur(np.maximum(scene.texture - 0.9, 0) * body, 0.7)
    light = (
        0.68 * stage.light * (1 - 0.13 * thick * (0.7 + 0.3 * scene.brightness) - 0.1 * blur(scene.rounding * body, 1))
    )
    light = light + 0.35 * fringe - 0.3 * rim - 0.16 * granules + 0.012 * stage.medium(t) - 0.3 * blur(stage.dirt, 1.5)
    return camera_noise(stage.rng, light, shot=0.022, read=0.008)


def _em(stage: Stage, scene: Scene, t: int) -> Image:
    """Mitochondria-like bodies with dark membranes and cristae among the membranes of other cells."""
    inside = scene.labels > 0
    medium = stage.medium(0.6 * t)
    membranes = np.exp(-((medium / 0.14) ** 2)) * ~inside
    cristae = np.exp(-((scene.texture / 0.3) ** 2)) * inside
    rim = blur(edges(scene.labels), 0.9)
    light = 0.68 * stage.light + 0.07 * stage.grain[1] * ~inside - 0.42 * blur(membranes, 0.7)
    light = light - (0.2 + 0.06 * scene.brightness) * blur(inside, 0.8) - 0.22 * blur(cristae, 0.6) - 0.3 * rim
    return camera_noise(stage.rng, light - 0.25 * stage.dirt, read=0.035, correlated=0.03)


_RENDERERS: dict[str, Callable[[Stage, Scene, int], Image]] = {
    "fluorescence": _fluorescence,
    "phase": _phase,
    "dic": _dic,
    "brightfield": _brightfield,
    "em": _em,
}
LOOKS: tuple[str, ...] = tuple(_RENDERERS)
"""The looks that `simulate_movie` knows."""


def check_look(look: str) -> None:
    """Raise ValueError if a look is none of `LOOKS`."""
    if look not in _RENDERERS:
        raise ValueError(f"Unknown look {look!r}: choose one of {', '.join(LOOKS)}.")


def simulate_movie(
    look: str = "fluorescence",
    n_frames: int = 24,
    shape: Shape = (256, 256),
    n_objects: int | None = None,
    seed: int = 0,
) -> SimulatedMovie:
    """Simulate a time-lapse of cells that move, grow, divide, enter and leave, with its truth.

    Parameters
    ----------
    look : str, optional
        ``"fluorescence"`` (nuclei), ``"phase"`` (phase contrast), ``"dic"`` (differential interference contrast),
        ``"brightfield"`` or ``"em"`` (electron microscopy: mitochondria through a stack of slices; none divides).
    n_frames : int, optional
        1 or more.
    shape : tuple of int, optional
        (Y, X) in pixels, 16 or more each.
    n_objects : int, optional
        How many cells lie in the field of view at the start; by default as many as cover about a fifth of it.
    seed : int, optional
        The same seed gives the same movie.

    Returns
    -------
    SimulatedMovie

    Raises
    ------
    ValueError
        If `look` is unknown or a number is out of its range.

    Examples
    --------
    >>> from napari_osvos import simulate_movie
    >>> movie = simulate_movie("phase", n_frames=3, shape=(64, 96))
    >>> movie.frames.shape, movie.frames.dtype, movie.labels.dtype
    ((3, 64, 96), dtype('uint8'), dtype('uint16'))
    """
    check_look(look)
    if n_frames < 1:
        raise ValueError(f"A simulated movie has at least 1 frame, not {n_frames}.")
    if len(shape) != 2 or min(shape) < 16:
        raise ValueError(f"The shape of a simulated movie is (Y, X) with at least 16 pixels each, not {tuple(shape)}.")
    if n_objects is not None and n_objects < 1:
        raise ValueError(f"A simulated movie starts with at least 1 object, not {n_objects}.")
    height, width = int(shape[0]), int(shape[1])
    diameter = float(np.clip(0.12 * np.sqrt(height * width), 7, 32))
    if n_objects is None:
        n_objects = max(round(0.2 * height * width / (0.785 * diameter**2)), 2)
    elif n_objects * diameter**2 > 0.5 * height * width:  # so many fit only if they are small
        diameter = max(float(np.sqrt(0.5 * height * width / n_objects)), 4.0)
    rng = np.random.default_rng(seed)
    colony = Colony(
        rng, (height, width), n_objects, diameter, divides=look != "em", elongation=0.2 if look == "em" else 0.11
    )
    stage = Stage(
        rng,
        diameter,
        light=illumination(rng, (height, width), 0.5 if look == "fluorescence" else 0.16),
        grain=_grain(rng, (height, width), diameter, look),
        dirt=spots(rng, (height, width), 2.5e-4, 1.0).clip(0, 1),
    )
    labels = np.zeros((n_frames, height, width), np.uint16)
    lights = np.zeros((n_frames, height, width), np.float32)
    for t in range(n_frames):
        if t:
            colony.step()
        scene = colony.scene()
        labels[t] = scene.labels
        lights[t] = _RENDERERS[look](stage, scene, t)
    labels, mothers = _renumbered(labels, colony.mothers)
    return SimulatedMovie(_stored(lights, look), labels, look, mothers)


def _grain(rng: np.random.Generator, shape: Shape, diameter: float, look: str) -> tuple[Image, Image]:
    scale = 1.6 * diameter if look == "em" else 0.9 * diameter
    width = 0.3 if look == "em" else 0.9
    return band_noise(rng, shape, scale, width=width), band_noise(rng, shape, scale, width=width)


def _stored(lights: Image, look: str) -> NDArray[Any]:
    """Intensities of 0..1 in the numbers of a camera."""
    offset, span, dtype = (100, 3600, np.uint16) if look == "fluorescence" else (0, 255, np.uint8)
    frames: NDArray[Any] = np.rint(offset + span * lights.clip(0, 1)).astype(dtype)
    return frames


def _renumbered(labels: NDArray[np.uint16], mothers: dict[int, int]) -> tuple[NDArray[np.uint16], dict[int, int]]:
    """Count labels up from 1 in the order in which they are first seen."""
    order: dict[int, int] = {}
    for frame in labels:
        for label in np.unique(frame[frame > 0]).tolist():
            order.setdefault(label, len(order) + 1)
    table = np.zeros(max(order, default=0) + 1, np.uint16)
    table[list(order)] = list(order.values())
    seen = {order[child]: order[mother] for child, mother in mothers.items() if child in order and mother in order}
    renumbered: NDArray[np.uint16] = table[labels]
    return renumbered, seen
