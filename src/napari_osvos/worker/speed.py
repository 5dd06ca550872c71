"""How fast this machine learns and predicts, by a short try."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.intensity import movie_intensity
from napari_osvos.parent import ParentNetwork
from napari_osvos.worker.calibration import CALIBRATION_CROP_SIZE, CALIBRATION_CROPS, Calibration

STEPS = 4
EDGE = 512


def calibrate(parent: ParentNetwork, device: torch.device, is_wanted: Callable[[], bool]) -> Calibration | None:
    """Measure some steps of learning and one prediction of random pixels; the best time of each counts.

    Parameters
    ----------
    parent : ParentNetwork
        Which is not changed.
    device : torch.device
        Where to measure.
    is_wanted : callable
        Asked between the steps; on False it ends.

    Returns
    -------
    Calibration or None
        None if it was ended before there was something to tell.
    """
    pixels = np.random.default_rng(0).integers(0, 255, (1, EDGE, EDGE), np.uint8)
    labels = np.zeros((1, EDGE, EDGE), np.uint8)
    labels[0, 200:264, 200:264] = 1
    clip = Clip(pixels)
    config = FineTuneConfig(
        steps=STEPS, crops=CALIBRATION_CROPS, crop_size=CALIBRATION_CROP_SIZE, object_diameter=64.0, largest_zoom=1.0
    )
    tuner = FineTuner(parent, config, device)
    times = []
    began = time.perf_counter()
    for _ in tuner.steps(clip, Annotations.from_labels(labels)):
        _wait_for(device)
        times.append(time.perf_counter() - began)
        if not is_wanted():
            return None
        began = time.perf_counter()
    segmenter = tuner.segmenter
    segmenter.zoom = 1.0
    intensity = movie_intensity(clip, segmenter.net.config.intensities)
    began = time.perf_counter()
    segmenter.plane_probability(clip.plane(0), intensity)
    _wait_for(device)
    prediction = time.perf_counter() - began
    return Calibration(str(device), min(times), prediction / (EDGE**2 / 1e6))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
