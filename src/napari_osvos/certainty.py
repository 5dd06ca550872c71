"""How sure a prediction is, from its probabilities."""

from __future__ import annotations

import numpy as np

PART = 2**24
"""Pixels that are looked at at a time."""


def confidence(probability: np.ndarray, threshold: float = 0.5) -> float:
    """Return the overlap to expect of a mask with the truth if the probabilities are right.

    With m the mask ``probability >= threshold`` it is the ratio of expectations
    sum(p m) / (sum(m) + sum(p (1 - m))); an empty mask has the mean probability of background instead.

    Parameters
    ----------
    probability : array
        Float in [0, 1].

    Returns
    -------
    float
        In [0, 1].
    """
    inside = total = 0.0
    count = 0
    flat = probability.reshape(-1)
    for begin in range(0, flat.size, PART):
        part = flat[begin : begin + PART]
        mask = part >= threshold
        inside += float(part[mask].sum(dtype=np.float64))
        total += float(part.sum(dtype=np.float64))
        count += int(mask.sum())
    outside = total - inside
    if count == 0:
        return 1.0 - outside / max(probability.size, 1)
    return inside / (count + outside)


def pixel_uncertainty(probability: np.ndarray) -> np.ndarray:
    """Return how undecided each pixel is: 1 - |2 p - 1|.

    Parameters
    ----------
    probability : array
        Of foreground, float in [0, 1].

    Returns
    -------
    float16 array
        Of the same shape, in [0, 1]: 0 where the probability is 0 or 1, and 1 where it is a half.
    """
    uncertainty = np.empty(probability.shape, np.float16)
    for part, target in (
        zip(probability, uncertainty, strict=True) if probability.ndim > 1 else [(probability, uncertainty)]
    ):
        target[...] = 1 - np.abs(2 * part.astype(np.float32) - 1)
    return uncertainty
