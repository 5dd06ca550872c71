"""How fast an engine is, and how long a run will take on it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from napari_osvos.config import PUBLISHED_SCALES, FineTuneConfig

CALIBRATION_CROPS = 2
CALIBRATION_CROP_SIZE = 256


@dataclass(frozen=True)
class Calibration:
    """How fast an engine is.

    Attributes
    ----------
    device : str
        Where it was measured.
    seconds_per_step : float
        One update of the weights from two crops of 256 x 256 network pixels.
    seconds_per_megapixel : float
        Prediction of a million network pixels.
    """

    device: str
    seconds_per_step: float
    seconds_per_megapixel: float


def estimated_seconds(
    calibration: Calibration,
    tuning: FineTuneConfig | None,
    *,
    n_planes: int,
    plane_shape: tuple[int, int],
    zoom: float = 1.0,
    flips: bool | None = None,
    n_annotated: int = 1,
) -> tuple[float, float]:
    """Return how long a run will take: seconds of learning, and of filling the movie.

    Parameters
    ----------
    calibration : Calibration
        Of the engine.
    tuning : FineTuneConfig or None
        Settings of the learning; None where a segmenter is only applied.
    n_planes : int
        Planes to fill, T * Z.
    plane_shape : (int, int)
        Y, X of a plane in pixels.
    zoom : float
        Network pixels per movie pixel, above 0: `FineTuneConfig.zoom`, or that of the segmenter.
    flips : bool, optional
        Whether mirror images are averaged; by default as `tuning` has it (quality ``best``).
    n_annotated : int
        Planes that are learned from; 1 where an earlier fine-tuning is continued.

    Returns
    -------
    learning, filling : float
        Seconds; both estimates.
    """
    learning = 0.0
    megapixels = plane_shape[0] * plane_shape[1] * zoom**2 / 1e6
    if tuning is not None:
        learning = tuning.planned_steps(n_annotated) * _seconds_per_step(calibration, tuning, megapixels)
        if tuning.seconds is not None:
            learning = tuning.seconds
        if flips is None:
            flips = tuning.quality == "best"
    filling = n_planes * megapixels * calibration.seconds_per_megapixel * (4 if flips else 1)
    return learning, filling


def _seconds_per_step(calibration: Calibration, tuning: FineTuneConfig, megapixels: float) -> float:
    if tuning.quality == "published":  # whole frames; forward, backward and update are some three predictions
        reduced = sum(scale**2 for scale in PUBLISHED_SCALES) / len(PUBLISHED_SCALES)
        frames = reduced if tuning.passes == 1 else tuning.passes
        return 3 * frames * megapixels * calibration.seconds_per_megapixel
    pixels = tuning.crops * tuning.crop_size**2
    return calibration.seconds_per_step * pixels / (CALIBRATION_CROPS * CALIBRATION_CROP_SIZE**2)
