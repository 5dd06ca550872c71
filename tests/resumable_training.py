"""Trains a tiny parent in a process of its own, which a test kills: ``python resumable_training.py FOLDER STEP``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from toy_clip import toy_frames

from napari_osvos.config import ParentConfig
from napari_osvos.intensity import IntensityScale
from napari_osvos.parent_training import train_parent
from napari_osvos.sampling import Source
from napari_osvos.training import TrainingStep

RECIPE = ParentConfig(network="tiny", steps=110, crops=2, crop_size=32, checkpoint_every=30, simulated_share=0.25)


def toy_stills() -> list[Source]:
    """Four small annotated images."""
    frames, truth = toy_frames(4)
    return [
        Source(frame[..., None], labels, None, IntensityScale.from_image(frame[..., None]), zoom)
        for frame, labels, zoom in zip(frames, truth.astype(np.int32), (1.0, 0.7, 1.5, 1.0), strict=True)
    ]


def training(folder: Path) -> Iterator[TrainingStep]:
    """Train in `folder`, going on from what is there."""
    stills = toy_stills()
    return train_parent(RECIPE, stills[:2], folder, stills[2:], card={"data": "toy"})


if __name__ == "__main__":
    for step in training(Path(sys.argv[1])):
        if step.step == int(sys.argv[2]):
            print("here", flush=True)
            sys.stdin.read()  # until killed
