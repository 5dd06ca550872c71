"""Where the frames of a movie lie on a strip beside its time slider, and how doubtful each column of pixels is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The expected J at which a frame is as conspicuous as can be.
WORST = 0.5


@dataclass(frozen=True)
class StripScale:
    """Frames side by side, each of the same width.

    Attributes
    ----------
    first : float
        Centre of frame 0, in pixels from the left edge of the strip.
    pitch : float
        Pixels from one frame to the next, above 0.
    n_frames : int
        At least 1.
    """

    first: float
    pitch: float
    n_frames: int

    def centre(self, frame: int) -> float:
        """The middle of a frame, in pixels."""
        return self.first + frame * self.pitch

    def span(self, frame: int) -> tuple[float, float]:
        """The left and right edge of a frame, in pixels."""
        return self.centre(frame) - self.pitch / 2, self.centre(frame) + self.pitch / 2

    def frame_at(self, x: float) -> int:
        """The frame at a pixel, or the nearest one."""
        return min(max(math.floor((x - self.first) / self.pitch + 0.5), 0), self.n_frames - 1)

    def columns(self, values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
        """Return a value for each column of pixels; where several frames share one, the largest.

        Parameters
        ----------
        values : (n_frames,) float array
            NaN where nothing is known.
        width : int
            Columns.

        Returns
        -------
        (width,) float array
            NaN beside the frames, and where nothing is known.
        """
        left = np.arange(width, dtype=np.float64) - self.first
        if self.pitch >= 1:
            low = high = np.floor((left + 0.5) / self.pitch + 0.5).astype(np.int64)
        else:  # all whose middle lies in the column
            low = np.ceil(left / self.pitch).astype(np.int64)
            high = np.ceil((left + 1) / self.pitch).astype(np.int64) - 1
        inside = (high >= 0) & (low < self.n_frames)
        low, high = np.clip(low, 0, self.n_frames - 1), np.clip(high, 0, self.n_frames - 1)
        found = np.full(width, np.nan)
        for step in range(int((high - low)[inside].max(initial=0)) + 1):
            here = inside & (low + step <= high)
            found[here] = np.fmax(found[here], values[low[here] + step])
        return found


def doubts(confidences: Mapping[int, float], n_frames: int) -> npt.NDArray[np.float64]:
    """Return how conspicuous each frame is to be.

    Proportional to what is expected to be wrong, 1 - J: 0 at J = 1, 0.2 at 0.9, 0.4 at 0.8 and 1 from `WORST` down.

    Parameters
    ----------
    confidences : mapping
        {frame: expected J in [0, 1]}.
    n_frames : int

    Returns
    -------
    (n_frames,) float array
        In [0, 1]; NaN where nothing is known.
    """
    found = np.full(n_frames, np.nan)
    for frame, confidence in confidences.items():
        if 0 <= frame < n_frames:
            found[frame] = min(max(1.0 - confidence, 0.0) / (1.0 - WORST), 1.0)
    return found
