"""The accuracy that can be expected on frames that nobody painted, with a range.

The confidence in the unpainted frames says what J would be if probabilities were right. How far they are wrong is
measured twice: on paint that was held out from the first part of training (`napari_osvos.held_out`), and, since the
network learned on after that, on the paint that it was fitted to in the end. What J differed there from the confidence,
as a logit, corrects the confidence in the unpainted frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from napari_osvos.held_out import HeldOutScore

HELD_OUT, LEARNED = 0.25, 0.75
"""How much of the difference, as logits, between J and confidence on held-out and on learned paint is to be expected on
unpainted frames; from the development movies, see ``docs/tried.md``."""
SPREAD = 0.3
"""Standard deviation of the error of the estimate, as a logit, beside that of drawing blocks; see ``docs/tried.md``."""
QUANTILE = 1.28
"""Standard deviations to either side that hold four in five."""
BOOTSTRAPS = 200


def logit(probability: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the logarithm of the odds; probabilities are kept within 0.02 and 0.995."""
    p = np.clip(probability, 0.02, 0.995)
    return np.asarray(np.log(p / (1 - p)))


@dataclass(frozen=True)
class PaintFit:
    """How well the network finds the paint that it was fitted to.

    Attributes
    ----------
    j : float
        Region similarity (J) of mask and paint, in [0, 1].
    confidence : float
        The same if the probabilities were right, see `napari_osvos.segmenter.confidence`.
    """

    j: float
    confidence: float

    def to_dict(self) -> dict[str, float]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> PaintFit | None:
        """Return what the provenance of a segmenter says; None where it says nothing."""
        plain = provenance.get("paint_fit")
        return None if plain is None else cls(**plain)


def expected_logit(held_out: HeldOutScore, fit: PaintFit | None, confidence: float) -> float:
    """Return the logit of the J to expect.

    Parameters
    ----------
    held_out : HeldOutScore
        What was measured on held-out paint.
    fit : PaintFit or None
        What was measured on learned paint.
    confidence : float
        Mean logit of the confidence in the frames that nobody painted.
    """
    measured = logit(sum(held_out.overlap) / max(sum(held_out.union), 1.0))
    there = logit(sum(held_out.expected_overlap) / max(sum(held_out.expected_union), 1.0))
    shift = HELD_OUT * (measured - there)
    if fit is not None:
        shift += LEARNED * (logit(fit.j) - logit(fit.confidence))
    return float(confidence + shift)


def expected_accuracy(held_out: HeldOutScore, frames: NDArray[np.float64]) -> ExpectedAccuracy:
    """Return what can be expected on unpainted frames.

    As a logit, F1 of objects is expected to differ from the measured one by as much as J does.

    Parameters
    ----------
    held_out : HeldOutScore
        What was measured on held-out paint.
    frames : (n,) array
        J to expect of each frame, from `expected_logit` and their confidence.
    """
    pixels = np.array([held_out.overlap, held_out.union], float)
    low, high = _range(frames, HELD_OUT * _spread(pixels[0], pixels[1]))
    accuracy = ExpectedAccuracy(float(frames.mean()), low, high, source=held_out.source)
    if not sum(held_out.wanted):
        return accuracy
    pairs, counts = 2.0 * np.array(held_out.matched), np.add(held_out.found, held_out.wanted).astype(float)
    # half an object more on either side: of three objects found, all three say less than of three hundred
    measured = logit((pairs.sum() + 0.5) / (counts.sum() + 1))
    shift = logit(accuracy.j) - logit(pixels[0].sum() / max(pixels[1].sum(), 1.0))
    f1 = float(expit(measured + shift))
    f1_low, f1_high = _range(np.array([f1]), _spread(pairs, counts))
    return ExpectedAccuracy(accuracy.j, low, high, f1, f1_low, f1_high, held_out.source)


def _spread(above: NDArray[np.float64], below: NDArray[np.float64]) -> float:
    """Return the standard deviation of the logit of sum(above) / sum(below), blocks drawn with replacement."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(above), size=(BOOTSTRAPS, len(above)))
    return float(logit((above[drawn].sum(1) + 0.5) / (below[drawn].sum(1) + 1)).std())


def _range(values: NDArray[np.float64], sampling: float) -> tuple[float, float]:
    reach = QUANTILE * float(np.hypot(sampling, SPREAD))
    return float(expit(logit(values) - reach).mean()), float(max(expit(logit(values) + reach).mean(), values.mean()))


@dataclass(frozen=True)
class ExpectedAccuracy:
    """What can be expected on unpainted frames.

    Attributes
    ----------
    j, j_low, j_high : float
        Region similarity (J) in [0, 1], and the range in which it lies most likely.
    f1, f1_low, f1_high : float or None
        The same of F1 of objects at an IoU of 0.5; None where objects are not told apart.
    source : str
        On what paint it was measured: ``8 blocks of frame 0``, or ``frame 12``.
    """

    j: float
    j_low: float
    j_high: float
    f1: float | None = None
    f1_low: float | None = None
    f1_high: float | None = None
    source: str = ""

    @property
    def in_words(self) -> str:
        """In words: ``J 0.93 (0.90 to 0.95), F1 0.96 (0.93 to 0.98), from 8 blocks of frame 0``."""
        words = f"J {self.j:.2f} ({self.j_low:.2f} to {self.j_high:.2f})"
        if self.f1 is not None:
            words += f", F1 {self.f1:.2f} ({self.f1_low:.2f} to {self.f1_high:.2f})"
        return f"{words}, from {self.source}" if self.source else words

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ExpectedAccuracy:
        """Read what `to_dict` returned.

        Raises
        ------
        TypeError
            If it is none.
        """
        return cls(**plain)
