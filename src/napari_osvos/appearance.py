"""What annotated frames look like to a network, and how unlike them another frame is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

MOST_TOKENS = 2048
"""Features of the annotated frames that are remembered."""
FRAME_TOKENS = 1024
"""Features of a frame that are compared with them: their mean distance needs no more."""
QUIET = 0.1
"""Smallest spread of a channel, as a share of the mean spread of all."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """Features of annotated frames.

    A token is the vector of features at one position of a stage of the network. The distance of two is the root mean
    square of their differences, each channel in units of its spread over the annotated frames.

    Attributes
    ----------
    tokens : (n, C) float32 tensor
        Features of the annotated frames, some of the positions drawn at random, in units of `spread`.
    spread : (C,) float32 tensor
        Standard deviation of each channel, at least `QUIET` times their mean.
    usual : float
        Mean distance of other positions of the annotated frames to the nearest token.
    """

    tokens: Tensor
    spread: Tensor
    usual: float

    NAMES: ClassVar = ("appearance.tokens", "appearance.spread", "appearance.usual")

    def tensors(self) -> dict[str, Tensor]:
        """Return it as tensors for a file, named as in `NAMES`; tokens in half precision."""
        return dict(zip(self.NAMES, (self.tokens.half(), self.spread, torch.tensor([self.usual])), strict=True))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Appearance:
        """Read what `tensors` returned.

        Raises
        ------
        KeyError, ValueError
            If it is none.
        """
        tokens, spread, usual = (tensors[name].float() for name in cls.NAMES)
        fits = tokens.ndim == 2 and spread.shape == tokens.shape[1:] and usual.shape == (1,)
        if not fits or not len(tokens) or not all(torch.isfinite(part).all() for part in (tokens, spread, usual)):
            raise ValueError("the features of the annotated frames are none")
        return cls(tokens, spread.clamp_min(1e-6), max(float(usual), 1e-6))

    @classmethod
    def of(cls, features: Sequence[Tensor], seed: int = 0) -> Appearance | None:
        """Remember the features of annotated frames.

        Parameters
        ----------
        features : sequence of (C, n) tensors
            At any positions.
        seed : int
            Draws among positions.

        Returns
        -------
        Appearance or None
            None where there are fewer than two positions.
        """
        tokens = _tokens(features) if features else torch.zeros(0, 1)
        if len(tokens) < 2:
            return None
        tokens = _draw(tokens, 2 * MOST_TOKENS, seed)
        spread = tokens.std(0)
        # a channel that is silent in the annotated frames would otherwise drown all others where it speaks
        spread = spread.clamp_min(max(QUIET * float(spread.mean()), 1e-6))
        tokens = tokens / spread
        half = (len(tokens) + 1) // 2
        return cls(tokens[:half].clone(), spread, max(_distance(tokens[half:], tokens[:half]), 1e-6))

    def novelty(self, features: Sequence[Tensor], seed: int = 0) -> float:
        """Return how unlike the annotated frames a frame is: 0 as they are among themselves, 1 e times as far.

        Parameters
        ----------
        features, seed
            As for `of`, of one frame.

        Returns
        -------
        float
            Logarithm of the mean distance to the nearest token, relative to `usual`.
        """
        tokens = _draw(_tokens(features), FRAME_TOKENS, seed)
        # a segmenter out of a file remembers on the CPU, and one that ran out of a GPU goes on there
        tokens = tokens / self.spread.to(tokens.device)
        return math.log(max(_distance(tokens, self.tokens.to(tokens.device)), 1e-6) / self.usual)


def grid_tokens(
    features: Tensor,
    origin: tuple[int, int],
    inner: tuple[slice, slice],
    size: tuple[int, int],
    scale: int,
) -> Tensor:
    """Return the features of a tile at a regular grid of positions that is that of the whole frame.

    Parameters
    ----------
    features : (C, h, w) tensor
        Of the tile.
    origin : (int, int)
        First row and column of the tile in the frame.
    inner : (slice, slice)
        Rows and columns of the tile that are its own, without halo.
    size : (int, int)
        Of the frame.
    scale : int
        Pixels per feature.

    Returns
    -------
    (C, n) float32 tensor
        About `2 * MOST_TOKENS` in a whole frame.
    """
    step = max(1, round(math.sqrt(size[0] * size[1] / scale**2 / (2 * MOST_TOKENS))))
    picks = []
    for first, own, length in zip(origin, inner, features.shape[1:], strict=True):
        begin, end = (first + own.start) // scale, -(-(first + own.stop) // scale)
        places = torch.arange(begin + (step // 2 - begin) % step, end, step, device=features.device) - first // scale
        picks.append(places.clamp(max=length - 1))  # frames that are not padded have features that reach beyond them
    # Channels of a position lie side by side: gathered as they lie, they take a third of the time.
    return features.permute(1, 2, 0)[picks[0]][:, picks[1]].flatten(0, 1).T.float()


def _tokens(features: Sequence[Tensor]) -> Tensor:
    """Return features as rows, where the first are: between two frames a GPU may have been given up."""
    return torch.cat([part.T.to(features[0].device) for part in features])


def _draw(tokens: Tensor, most: int, seed: int) -> Tensor:
    """Return some rows in random order."""
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
    return tokens[order[:most].to(tokens.device)]


def _distance(tokens: Tensor, others: Tensor) -> float:
    """Return the mean distance from each token to the nearest of the others."""
    # (a - b)^2 = a^2 + b^2 - 2 a b, a product of matrices, is many times quicker than the differences
    products = torch.mm(tokens, others.T).mul_(-2).add_(others.square().sum(1))
    nearest = (products.amin(1) + tokens.square().sum(1)).clamp_min(0).sqrt()
    return float(nearest.mean()) / math.sqrt(tokens.shape[1])
