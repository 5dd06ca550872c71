"""Outlines of simulated objects, each rasterised in a small window, and their placement on a canvas of labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_osvos.textures import band_noise

Shape = tuple[int, int]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint16]
FAMILIES = ("blob", "ellipse", "rod", "filament", "branched", "polygon", "crescent")


def _grid(radius: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sparse coordinates (y, x) of a square window centred on 0 that reaches `radius` px (and 2 more)."""
    half = int(np.ceil(radius)) + 2
    axis = np.arange(-half, half + 1, dtype=np.float32)
    return axis[:, None], axis[None, :]


def outline(
    angles: NDArray[np.float32], amplitudes: NDArray[np.float64], phases: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Radius of a star-shaped outline, relative to its mean: 1 + sum_k a_k cos(k angle + phase_k), k from 2 upwards."""
    radius = np.ones_like(angles)
    for order, (amplitude, phase) in enumerate(zip(amplitudes, phases, strict=True), start=2):
        radius += np.float32(amplitude) * np.cos(order * angles + np.float32(phase))
    return np.maximum(radius, 0.15).astype(np.float32)


def blob(rng: np.random.Generator, diameter: float, wobble: float, aspect: float) -> Mask:
    """Draw a smooth cell, an ellipse of the given `aspect` whose outline carries Fourier terms of size `wobble`."""
    y, x = _grid(diameter * 0.5 * np.sqrt(aspect) * (1 + 2.5 * wobble))
    turn = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = (x * c + y * s) / np.float32(np.sqrt(aspect)), (y * c - x * s) * np.float32(np.sqrt(aspect))
    orders = np.arange(2, 7)
    amplitudes, phases = wobble * rng.normal(0, 1, orders.size) * (2 / orders), rng.uniform(0, 2 * np.pi, orders.size)
    limit: NDArray[np.float32] | float = 1.0
    if wobble > 0:
        limit = outline(np.arctan2(v, u), amplitudes, phases)
    mask: Mask = np.hypot(u, v) <= limit * np.float32(diameter / 2)
    return mask


def _path(rng: np.random.Generator, length: float, bend: float, heading: float) -> NDArray[np.float64]:
    """Points (y, x), half a pixel apart, of a curve that starts at 0 and turns smoothly by about `bend` radians."""
    count = max(int(length * 2), 2)
    turning = np.cumsum(rng.normal(0, 1, count))
    turning = ndimage.uniform_filter1d(turning, max(count // 3, 1))
    turning *= bend / max(float(np.ptp(turning)), 1e-3)
    angle = heading + turning
    points: NDArray[np.float64] = 0.5 * np.cumsum(np.stack([np.sin(angle), np.cos(angle)], 1), 0)
    return points


def tube(points: NDArray[np.float64], width: float) -> Mask:
    """All pixels within half a `width` of the curve through `points` (n, 2), in a window around them."""
    margin = int(np.ceil(width)) + 2
    at = np.rint(points - points.min(0)).astype(int) + margin
    canvas = np.ones(at.max(0) + margin + 1, bool)
    canvas[at[:, 0], at[:, 1]] = False
    mask: Mask = ndimage.distance_transform_edt(canvas) <= width / 2
    return mask


def rod(rng: np.random.Generator, diameter: float, aspect: float, bend: float) -> Mask:
    """Draw a bacterium: a capsule, straight or bent."""
    width = max(diameter / np.sqrt(aspect), 3.0)
    return tube(_path(rng, width * (aspect - 1), bend, rng.uniform(0, 2 * np.pi)), width)


def filament(rng: np.random.Generator, diameter: float) -> Mask:
    """Draw a long thin curve: a fibre, a neurite, a worm."""
    width = np.clip(diameter * rng.uniform(0.08, 0.2), 2.5, 10)
    return tube(_path(rng, diameter * rng.uniform(1.5, 2.5), rng.uniform(0.5, 3), rng.uniform(0, 2 * np.pi)), width)


def branched(rng: np.random.Generator, diameter: float) -> Mask:
    """Draw three to six thin arms, often from a round body: a neuron, a star-shaped cell, a piece of a vessel tree."""
    arms = rng.integers(3, 7)
    start = rng.uniform(0, 2 * np.pi)
    paths = [
        _path(
            rng,
            diameter * rng.uniform(0.4, 0.9),
            rng.uniform(0.2, 1.5),
            start + 2 * np.pi * (k + rng.uniform(-0.3, 0.3)) / arms,
        )
        for k in range(arms)
    ]
    joined = np.concatenate(paths)
    width = np.clip(diameter * rng.uniform(0.06, 0.16), 2.5, 9)
    mask = tube(joined, width)
    if rng.random() < 0.6:
        centre = np.rint(-joined.min(0)).astype(int) + int(np.ceil(width)) + 2
        y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        mask |= np.hypot(y - centre[0], x - centre[1]) <= diameter * rng.uniform(0.1, 0.25)
    return mask


def polygon(rng: np.random.Generator, diameter: float) -> Mask:
    """Draw a convex polygon of three to eight sides: a grain, a crystal."""
    y, x = _grid(diameter * 0.75)
    sides = rng.integers(3, 9)
    angles = (np.arange(sides) + rng.uniform(-0.25, 0.25, sides)) * 2 * np.pi / sides + rng.uniform(0, 2 * np.pi)
    mask = np.hypot(y, x) <= 0.75 * diameter  # the tips of sharp corners are blunt
    for angle, reach in zip(angles, diameter * rng.uniform(0.36, 0.5, sides), strict=True):
        mask &= x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)) <= np.float32(reach)
    return np.asarray(mask, bool)


def crescent(rng: np.random.Generator, diameter: float) -> Mask:
    """Draw a disc that has lost a smaller disc at its side."""
    y, x = _grid(diameter / 2)
    angle, bite = rng.uniform(0, 2 * np.pi), diameter * rng.uniform(0.28, 0.45)
    shift = diameter * rng.uniform(0.25, 0.4)
    lost = np.hypot(y - shift * np.sin(angle), x - shift * np.cos(angle)) < bite
    mask: Mask = (np.hypot(y, x) <= diameter / 2) & ~lost
    return mask


def family_of_shapes(rng: np.random.Generator, family: str) -> Callable[[float], Mask]:
    """Make a function diameter -> bool window; what objects of one image have in common is drawn here, once.

    `family` is one of `FAMILIES`; the diameter, in pixels, is that of a disc of about the same area, except for
    filaments and branched objects, where it is about half of the length and the reach of an arm.
    """
    wobble, aspect, bend = rng.uniform(0.03, 0.16), rng.uniform(1.0, 2.2), rng.uniform(0, 1.2)
    length = rng.uniform(2.0, 6.0)
    if family == "blob":
        return lambda diameter: blob(rng, diameter, wobble, aspect * rng.uniform(0.85, 1.15))
    if family == "ellipse":
        return lambda diameter: blob(rng, diameter, 0.0, max(aspect * rng.uniform(0.85, 1.15), 1.0))
    if family == "rod":
        return lambda diameter: rod(rng, diameter, max(length * rng.uniform(0.6, 1.3), 1.5), bend * rng.uniform(0.3, 1))
    windows = {"filament": filament, "branched": branched, "polygon": polygon, "crescent": crescent}
    if family not in windows:
        raise ValueError(f"Unknown family of shapes {family!r}: choose one of {', '.join(FAMILIES)}.")
    return lambda diameter: windows[family](rng, diameter)


def stamp(
    labels: Labels, window: Mask, centre: tuple[float, float], label: int, *, gap: int = 0, whole: float = 0.7
) -> bool:
    """Write `label` where `window` lies on background, or write nothing and return False.

    Nothing is written when less than a share `whole` of the object falls on background of the canvas, or when `gap` is
    positive and another object comes nearer than that many pixels.
    """
    top, left = int(centre[0]) - window.shape[0] // 2, int(centre[1]) - window.shape[1] // 2
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + window.shape[0], labels.shape[0]), min(left + window.shape[1], labels.shape[1])
    if y1 <= y0 or x1 <= x0:
        return False
    part = window[y0 - top : y1 - top, x0 - left : x1 - left]
    view = labels[y0:y1, x0:x1]
    free = part & (view == 0)
    count = int(np.count_nonzero(free))
    if count < max(whole * np.count_nonzero(part), 12):
        return False
    if gap > 0:
        around = labels[max(y0 - gap, 0) : y1 + gap, max(x0 - gap, 0) : x1 + gap] > 0
        if around.any():
            grown = np.zeros(around.shape, bool)
            oy, ox = y0 - max(y0 - gap, 0), x0 - max(x0 - gap, 0)
            grown[oy : oy + part.shape[0], ox : ox + part.shape[1]] = part
            if (ndimage.maximum_filter(grown.view(np.uint8), 2 * gap + 1).view(bool) & around).any():
                return False
    view[free] = label
    return True


def tessellate(rng: np.random.Generator, shape: Shape, diameter: float, gap: int, kept: float) -> Labels:
    """Draw a sheet of cells that fill the plane, wavy ones, `gap` px apart, and keep a share `kept` of them.

    Returns uint16 (Y, X) labels; cells that are left out lie together, as at the edge of a colony.
    """
    rows, columns = (max(round(length / diameter) + 2, 2) for length in shape)
    seeds = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2).astype(float)
    seeds[:, 1] += 0.5 * (seeds[:, 0] % 2)
    seeds = (seeds - 0.75 + rng.uniform(-0.33, 0.33, seeds.shape)) * diameter
    inside = ((seeds >= 0) & (seeds < shape)).all(1)
    seeds = seeds[inside] if inside.any() else np.array([[shape[0] / 2, shape[1] / 2]])
    canvas = np.ones(shape, bool)
    at = seeds.astype(int)
    canvas[at[:, 0], at[:, 1]] = False
    nearest = ndimage.distance_transform_edt(canvas, return_distances=False, return_indices=True)
    bend = rng.uniform(0.02, 0.1) * diameter
    y, x = np.indices(shape, sparse=True)
    ys = np.rint(y + bend * band_noise(rng, shape, diameter * 0.7, width=0.5)).astype(int).clip(0, shape[0] - 1)
    xs = np.rint(x + bend * band_noise(rng, shape, diameter * 0.7, width=0.5)).astype(int).clip(0, shape[1] - 1)
    order = np.zeros(shape, np.uint16)
    to_heart = np.hypot(*(at - rng.uniform(0, 1, 2) * shape).T)
    chosen = np.argsort(to_heart)[: max(int(np.ceil(kept * len(at))), 1)]
    order[at[chosen, 0], at[chosen, 1]] = np.arange(1, chosen.size + 1)
    labels: Labels = order[nearest[0][ys, xs], nearest[1][ys, xs]]
    if gap:
        labels[ndimage.maximum_filter(edges(labels).view(np.uint8), gap).view(bool)] = 0
    return labels


def edges(labels: NDArray[Any]) -> Mask:
    """Bool (Y, X): pixels whose right or lower neighbour carries another label."""
    found = np.zeros(labels.shape, bool)
    found[:-1] |= labels[:-1] != labels[1:]
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return found
