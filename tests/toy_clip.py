"""A moving object that the tiny network learns in a second, and the settings it needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import AugmentConfig, FineTuneConfig, NetworkConfig
from napari_osvos.parent import ParentNetwork

# Every setting that has a say in the losses, so that a new default elsewhere changes no test.
QUICK: dict[str, Any] = {
    "steps": 40,
    "crops": 2,
    "shares": (0.4, 0.2, 0.2, 0.2),
    "crop_size": 48,
    "object_diameter": 16.0,
    "largest_zoom": 2.0,
    "learning_rate": 0.02,
    "weight_decay": 1e-4,
    "warm_up": 0.05,
    "average_decay": 0.9,
    "balance": 0.3,
    "dice_weight": 0.5,
    "contour_weight": 0.25,
}
VARIED = AugmentConfig(
    rotation=180.0,
    flip=True,
    zoom=0.2,
    shear=0.1,
    elastic=1.0,
    polarity=0.0,
    contrast=0.2,
    brightness=0.2,
    gamma=0.1,
    blur=0.0,
    noise=0.1,
    illumination=0.2,
    colour=0.0,
    composite=0.0,
)


def quick(**changes: Any) -> FineTuneConfig:
    """Settings with which the tiny network learns a toy movie in a second."""
    return FineTuneConfig(**(QUICK | changes))


def tiny_parent(seed: int = 0) -> ParentNetwork:
    """An untrained network of some 6,000 weights."""
    return ParentNetwork.random(NetworkConfig.tiny(), seed)


def toy_frames(n_frames: int = 3, shape: tuple[int, int] = (40, 56)) -> tuple[np.ndarray, np.ndarray]:
    """Frames and truth (T, Y, X), both uint8: a bright disc moves right over noise; lines as bright are not it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = np.stack([((y - 18) ** 2 + (x - 14 - 6 * t) ** 2 <= 64) for t in range(n_frames)]).astype(np.uint8)
    lines = np.zeros(shape)
    lines[-6, 4:-4] = 1
    light = 60 + 0.3 * x + 110 * np.maximum(truth, lines)
    frames = (light + rng.normal(0, 8, truth.shape)).clip(0, 255).astype(np.uint8)
    return frames, truth


def toy_clip(n_frames: int = 3, shape: tuple[int, int] = (40, 56)) -> tuple[Clip, Annotations, np.ndarray]:
    """A movie, its first frame painted, and its truth (T, Y, X)."""
    frames, truth = toy_frames(n_frames, shape)
    return Clip(frames, name="toy"), first_frame(truth), truth


def first_frame(truth: np.ndarray) -> Annotations:
    """Annotations of frame 0."""
    return Annotations.from_labels(truth, frames=(0,))


def overlap(labels: np.ndarray, truth: np.ndarray) -> float:
    """Region similarity (J) of two masks."""
    return float(((labels > 0) & (truth > 0)).sum() / max(((labels > 0) | (truth > 0)).sum(), 1))
