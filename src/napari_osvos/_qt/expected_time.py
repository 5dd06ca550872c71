"""How long runs will take on this machine, by its calibration and by what earlier runs took."""

from __future__ import annotations

import math

from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig
from napari_osvos.worker.calibration import Calibration, estimated_seconds

# How much the last run counts against those before it.
_NEWEST = 0.6
_USUAL_DIAMETER = 32.0  # px, until something is painted


class ExpectedTime:
    """Estimates in seconds; None until the engine is calibrated."""

    def __init__(self) -> None:
        self.calibration: Calibration | None = None
        self.diameter = _USUAL_DIAMETER
        self._corrections = [1.0, 1.0]  # of learning and filling

    def of(self, clip: Clip, tuning: FineTuneConfig | None, n_annotated: int = 1) -> tuple[float, float] | None:
        """Return seconds of learning from so many planes (0 where `tuning` is None) and of filling the movie."""
        if self.calibration is None:
            return None
        zoom = 1.0 if tuning is None else tuning.zoom(self.diameter)
        learning, filling = estimated_seconds(
            self.calibration,
            tuning,
            n_planes=clip.n_planes,
            plane_shape=clip.plane_shape,
            zoom=zoom,
            n_annotated=n_annotated,
        )
        if tuning is None or tuning.seconds is None:
            learning *= self._corrections[0]
        return learning, filling * self._corrections[1]

    def correct(self, expected: tuple[float, float], learning: float | None, filling: float | None) -> None:
        """Take what a run took, in seconds; None for what was not finished."""
        for i, (thought, took) in enumerate(zip(expected, (learning, filling), strict=True)):
            if took and thought > 0:
                ratio = took / thought * self._corrections[i]
                self._corrections[i] = math.exp(
                    _NEWEST * math.log(ratio) + (1 - _NEWEST) * math.log(self._corrections[i])
                )
