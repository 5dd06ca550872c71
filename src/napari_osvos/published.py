"""Fine-tuning as published: whole frames, one at a time, SGD, class-balanced cross-entropy alone.

References
----------
Caelles et al., "One-Shot Video Object Segmentation", CVPR 2017, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from napari_osvos.losses import balanced_cross_entropy
from napari_osvos.network import OSVOSNet
from napari_osvos.sampling import CONTOUR, KNOWN, MASK, Batch, Source

LEARNING_RATE = 1e-8 * 480 * 854
"""The published loss is a sum over pixels with a rate of 1e-8; this is the same as a mean over a frame of DAVIS."""
MOMENTUM, WEIGHT_DECAY = 0.9, 2e-4


def published_optimiser(net: OSVOSNet) -> torch.optim.Optimizer:
    """Return SGD with the published groups: biases at twice the rate and without decay, the fuse at a hundredth."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        rate = 0.01 if name.startswith("fuse") else 1.0
        bias = parameter.ndim == 1
        groups.setdefault((rate * (2 if bias else 1), 0.0 if bias else WEIGHT_DECAY), []).append(parameter)
    return torch.optim.SGD(
        [{"params": p, "lr": LEARNING_RATE * k, "weight_decay": decay} for (k, decay), p in groups.items()],
        momentum=MOMENTUM,
    )


def whole_frame(source: Source, device: torch.device) -> Batch:
    """Return a whole annotated image as a batch of one."""
    x = source.intensity.normalise(source.image)[None].to(device)
    mask, contour, known = (source.targets[i][None].float().to(device) for i in (MASK, CONTOUR, KNOWN))
    return Batch(x, mask, contour, known, torch.tensor(source.positive_share, device=device))


def published_loss(net: OSVOSNet, frames: Sequence[Batch], seed: int) -> Callable[[int, float], Tensor]:
    """Return the loss of a step: of one frame drawn at random, mirrored half of the time."""

    def loss_of_step(step: int, progress: float) -> Tensor:
        rng = np.random.default_rng([seed, step])
        frame = frames[int(rng.integers(len(frames)))]
        turn = (lambda t: torch.flip(t, (-1,))) if rng.random() < 0.5 else (lambda t: t)
        foreground = net(turn(frame.x))[:, net.config.heads.index("foreground")].float()
        share = frame.positive_share.clamp(1e-4, 1 - 1e-4)
        loss = balanced_cross_entropy(foreground, turn(frame.mask), turn(frame.known), share)
        # `balanced_cross_entropy` has mean weight 1; the published weights N-/N and N+/N have 2 (N+/N) (N-/N).
        return loss * (2 * share * (1 - share))

    return loss_of_step
