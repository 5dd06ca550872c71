"""Training as published: whole frames, one at a time, SGD, class-balanced cross-entropy alone.

References
----------
Caelles et al., "One-Shot Video Object Segmentation", CVPR 2017, section 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from napari_osvos.augment import reflect
from napari_osvos.config import PUBLISHED_SCALES
from napari_osvos.device import to_device
from napari_osvos.losses import balanced_cross_entropy
from napari_osvos.network import OSVOSNet
from napari_osvos.sampling import CONTOUR, KNOWN, MASK, Batch, Source

PIXELS = 480 * 854
"""Of a frame of DAVIS."""
SUMMED_RATE = 1e-8
"""The published learning rate, of a loss that is a sum over pixels."""
LEARNING_RATE = SUMMED_RATE * PIXELS
"""The same for a mean over a frame of DAVIS, or for a sum over this number of pixels."""
MOMENTUM, WEIGHT_DECAY = 0.9, 2e-4
# What frames are turned and zoomed by, at most.
ROTATION, SMALLEST, LARGEST = 30.0, 0.75, 1.25
# Standard deviation of the weights that the base network does not have.
NEW_WEIGHTS = 1e-3


def published_optimiser(net: OSVOSNet) -> torch.optim.Optimizer:
    """Return SGD with the published groups.

    Biases have twice the rate and no decay; scores of side outputs a tenth of the rate, the fuse a hundredth.

    Parameters
    ----------
    net : OSVOSNet
        All of its weights are trained.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        rate = {"fuse": 0.01, "score_dsn": 0.1}.get(name.split(".")[0], 1.0)
        bias = parameter.ndim == 1
        # The published decay is beside the gradient of a sum, not of one that was divided by the pixels.
        decay = 0.0 if bias else WEIGHT_DECAY / PIXELS
        groups.setdefault((rate * (2 if bias else 1), decay), []).append(parameter)
    return torch.optim.SGD(
        [{"params": p, "lr": LEARNING_RATE * k, "weight_decay": decay} for (k, decay), p in groups.items()],
        momentum=MOMENTUM,
    )


def begin_as_published(net: OSVOSNet) -> None:
    """Set the weights that a base network does not have, at random and small: side outputs, their scores, the fuse."""
    for name, parameter in net.named_parameters():
        if not name.startswith("stages."):
            nn.init.zeros_(parameter) if parameter.ndim == 1 else nn.init.normal_(parameter, std=NEW_WEIGHTS)


def whole_frame(source: Source, device: torch.device) -> Batch:
    """Return a whole annotated image as a batch of one."""
    pixels, targets = source.whole()
    x = pixels[None].to(device)
    mask, contour, known = (targets[i][None].to(device) for i in (MASK, CONTOUR, KNOWN))
    return Batch(x, mask, contour, known, torch.tensor(source.positive_share, device=device))


def published_cross_entropy(logits: Tensor, mask: Tensor, known: Tensor, share: Tensor) -> Tensor:
    """Return the published loss of one frame, as a mean over its known pixels.

    Foreground weighs N-/N, background N+/N.

    Parameters
    ----------
    logits, mask, known : Tensor
        (1, H, W).
    share : Tensor
        N+/N.
    """
    share = share.clamp(1e-4, 1 - 1e-4)
    # `balanced_cross_entropy` has mean weight 1; the published weights N-/N and N+/N have 2 (N+/N) (N-/N).
    return balanced_cross_entropy(logits, mask, known, share) * (2 * share * (1 - share))


def published_loss(
    net: OSVOSNet, frames: Sequence[Batch], seed: int, varied: bool = False, reduction: str = "mean"
) -> Callable[[int, float], Tensor]:
    """Return the loss of a pass of fine-tuning, which takes its number and sees one frame.

    No frame comes again before all others were seen.

    Parameters
    ----------
    net : OSVOSNet
        To be trained.
    frames : sequence of Batch
        Each a batch of one, on the device where it is to be varied or reduced (`crops_on`).
    seed : int
        Of their order.
    varied : bool
        Whether each is varied by `varied_frame`, as in the authors' code for 2000 x 5 passes. Otherwise it is seen at
        each of `PUBLISHED_SCALES`, as it is and mirrored, as in their code for 500 updates; a reduced frame then counts
        less, by its number of pixels.
    reduction : str
        Over the pixels of a frame. ``mean``: its size has no say; ``sum``, as in their code: a frame counts by its
        number of known pixels. On a frame of DAVIS at full size both are the same.
    """
    complete = [bool(frame.known.all()) for frame in frames]
    views = list(itertools.product((False, True), range(len(frames)), PUBLISHED_SCALES))
    count = len(frames) if varied else len(views)

    def loss_of_pass(number: int, progress: float) -> Tensor:
        turn, place = divmod(number, count)
        which = int(np.random.default_rng([seed, turn]).permutation(count)[place])
        if varied:
            frame = varied_frame(frames[which], np.random.default_rng([seed, turn, place]))
            x, mask, known = frame.x, frame.mask, frame.known
            whole = known.numel()
        else:
            mirror, n, scale = views[which]
            x, mask, known = _reduced(frames[n], scale, complete[n])
            whole = frames[n].known.numel()
            if mirror:
                x, mask, known = (torch.flip(part, (-1,)) for part in (x, mask, known))
        x, mask, known = (to_device(part, net.input_mean.device) for part in (x, mask, known))
        foreground = net(x)[:, net.config.heads.index("foreground")].float()
        weight = _weight(known) if reduction == "sum" else known.numel() / whole
        return published_cross_entropy(foreground, mask, known, _share(mask, known)) * weight

    return loss_of_pass


def _weight(known: Tensor) -> Tensor:
    """Return what makes the mean over the known pixels a sum, in units of a frame of DAVIS, as the rate is."""
    return known.sum() / PIXELS


def _share(mask: Tensor, known: Tensor) -> Tensor:
    """Return the share of foreground in what is known of a frame."""
    return (mask * known).sum() / known.sum().clamp_min(1)


def _reduced(frame: Batch, scale: float, complete: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return input, mask and what is known of a frame at a scale; of partial paint thin strokes stay."""
    if scale == 1:
        return frame.x, frame.mask, frame.known
    height, width = frame.x.shape[-2:]
    size = max(1, int(height * scale)), max(1, int(width * scale))
    x = nn.functional.interpolate(frame.x, size, mode="bilinear", antialias=True)
    if complete:
        mask = nn.functional.interpolate(frame.mask[:, None], size, mode="nearest-exact")[:, 0]
        return x, mask, torch.ones_like(mask)
    known = nn.functional.adaptive_avg_pool2d(frame.known, size)
    mask = nn.functional.adaptive_avg_pool2d(frame.mask * frame.known, size)
    return x, ((mask >= 0.5 * known) & (known > 0)).to(x.dtype), (known > 0).to(x.dtype)


def published_parent_loss(net: OSVOSNet, frame: Batch, deep_weight: float, reduction: str = "mean") -> Tensor:
    """Return the loss of a pass of a parent: of the fuse, and of each side output by itself.

    Parameters
    ----------
    net : OSVOSNet
        With deep supervision.
    frame : Batch
        A batch of one.
    deep_weight : float
        Of each side output's loss; the paper has 1 at first, then 0.
    reduction : str
        As for `published_loss`.
    """
    height, width = frame.x.shape[-2:]
    x = net.pad(frame.x)
    size = (x.shape[-2], x.shape[-1])
    head = net.config.heads.index("foreground")
    sides = net.side_outputs(net.features(x))
    logits = [net.fused(sides, size)]
    if deep_weight > 0:
        logits += [net.upsampled(score, i, size) for i, score in enumerate(net.deep_scores(sides))]
    share = _share(frame.mask, frame.known)
    losses = [
        published_cross_entropy(one[:, head, :height, :width].float(), frame.mask, frame.known, share) for one in logits
    ]
    loss = losses[0] + deep_weight * torch.stack(losses[1:]).sum() if losses[1:] else losses[0]
    return loss * _weight(frame.known) if reduction == "sum" else loss


def varied_frame(frame: Batch, rng: np.random.Generator) -> Batch:
    """Return a whole frame mirrored half of the time, turned by up to 30 degrees, zoomed by 0.75 to 1.25.

    It keeps its size. What comes in from outside is the mirror image, and is not known.
    """
    height, width = frame.x.shape[-2:]
    angle, zoom = math.radians(rng.uniform(-ROTATION, ROTATION)), rng.uniform(SMALLEST, LARGEST)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32) - (height - 1) / 2,
        torch.arange(width, dtype=torch.float32) - (width - 1) / 2,
        indexing="ij",
    )
    from_y = (math.cos(angle) * y - math.sin(angle) * x) / zoom + (height - 1) / 2
    from_x = mirror * (math.sin(angle) * y + math.cos(angle) * x) / zoom + (width - 1) / 2
    outside = (from_y < -0.5) | (from_y > height - 0.5) | (from_x < -0.5) | (from_x > width - 0.5)
    from_y, from_x = reflect(from_y, height), reflect(from_x, width)
    grid = torch.stack([from_x * (2 / max(width - 1, 1)) - 1, from_y * (2 / max(height - 1, 1)) - 1], -1)
    grid, outside = grid[None].to(frame.x.device), outside.to(frame.x.device)

    def moved(pixels: Tensor, mode: str) -> Tensor:
        return nn.functional.grid_sample(pixels, grid, mode=mode, padding_mode="border", align_corners=True)

    targets = moved(torch.stack([frame.mask, frame.contour, frame.known], 1), "nearest")
    known = targets[:, 2] * ~outside
    return Batch(moved(frame.x, "bilinear"), targets[:, 0], targets[:, 1], known, frame.positive_share)
