"""Linked movies small enough to check by hand, which the tests of exports share."""

from __future__ import annotations

import numpy as np

from napari_osvos.clip import Clip
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track

# Track 1 is hidden in frame 2; track 2 divides after frame 1 into 3 and 4; 9 is one pixel of the last frame.
FRAMES = """
11...22...  .11..22...  .....33...  ...11.33..  ....11.33.
11...22...  .11..22...  ..........  ...11.....  ....11....
.....22...  .....22...  .......44.  .......44.  .......44.
..........  ..........  .......44.  .......44.  9......44.
"""
LINEAGE = Lineage([Track(1, 0, 4), Track(2, 0, 1), Track(3, 2, 4, 2), Track(4, 2, 4, 2), Track(9, 4, 4)])


def toy_frames() -> np.ndarray:
    """(5, 4, 10) labels."""
    rows = [line.split() for line in FRAMES.split("\n") if line]
    return np.array([[[int(c.replace(".", "0")) for c in row[t]] for row in rows] for t in range(5)], np.uint16)


def toy_clip(channels: int = 1) -> Clip:
    """Background 10, an object 10 times its id; channel 1 is a ramp along X, from 0."""
    frames = np.where(toy_frames() > 0, 10 * toy_frames(), 10)[..., None]
    ramp = np.broadcast_to(np.arange(10)[:, None], (5, 4, 10, 1))
    return Clip(np.concatenate([frames, ramp], -1)[..., :channels].astype(np.uint16), "TYXC")


def toy_labels(**options: object) -> Labels:
    return Labels(toy_frames(), name="toy", **options)  # type: ignore[arg-type]


def toy_stack() -> tuple[Labels, Lineage, Clip]:
    """(2, 3, 4, 5): one box of 2 x 2 x 3 pixels that moves one slice down and one pixel to the right."""
    frames = np.zeros((2, 3, 4, 5), np.uint16)
    frames[0, 0:2, 1:3, 0:3] = 5
    frames[1, 1:3, 1:3, 1:4] = 5
    return Labels(frames, name="stack"), Lineage([Track(5, 0, 1)]), Clip(frames * 100 + 1, "TZYX")
