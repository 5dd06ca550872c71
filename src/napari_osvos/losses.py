"""What a network is trained on: balanced cross-entropy, Dice, both on labelled pixels only."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_osvos.sampling import Batch


def balanced_cross_entropy(
    logits: Tensor, target: Tensor, known: Tensor, positive_share: Tensor | float, balance: float = 1.0
) -> Tensor:
    """Return the class-balanced cross-entropy, averaged over the labelled pixels.

    The published loss weighs foreground by N-/N and background by N+/N and *sums* over the frame.
    Here N+ and N- are counted over the whole annotation set rather than in the crop: a crop without
    foreground would otherwise have no loss at all, and false positives in it would go unpunished.

    Parameters
    ----------
    logits, target, known : Tensor
        (N, H, W); target in [0, 1]; known is 1 where the pixel is labelled, else 0.
    positive_share : float or Tensor
        N+ / N over the annotation set, in (0, 1); a Tensor broadcasts against (N, 1, 1).
    balance : float
        0 weighs all pixels equally, 1 balances the classes fully; between them the class weights
        are raised to this power. The mean weight over the annotation set is 1.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    Xie & Tu, "Holistically-Nested Edge Detection", ICCV 2015; Caelles et al., CVPR 2017, eq. (1).
    """
    positive, negative = _class_weights(positive_share, balance)
    weight = (target * positive + (1 - target) * negative) * known
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * weight).sum() / known.sum().clamp_min(1)


def _class_weights(positive_share: Tensor | float, balance: float) -> tuple[Tensor | float, Tensor | float]:
    """Return the weights of foreground and background; a number makes numbers, which need no copy to a GPU."""
    share: Any = positive_share.clamp(1e-4, 1 - 1e-4) if isinstance(positive_share, Tensor) else None
    if share is None:
        share = min(max(positive_share, 1e-4), 1 - 1e-4)
    positive, negative = share**-balance, (1 - share) ** -balance
    mean = share * positive + (1 - share) * negative
    return positive / mean, negative / mean


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the probability of each class, (N, K, H, W): a softmax in which background has the logit 0.

    With one class it is the sigmoid.
    """
    if logits.shape[1] == 1:
        return torch.sigmoid(logits)
    return torch.softmax(F.pad(logits, (0, 0, 0, 0, 1, 0)), 1)[:, 1:]


def class_cross_entropy(
    logits: Tensor, classes: Tensor, known: Tensor, positive_share: Tensor | float, balance: float = 0.0
) -> Tensor:
    """Return the cross-entropy of several classes and background, averaged over the labelled pixels.

    Parameters
    ----------
    logits, classes : Tensor
        (N, K, H, W); the classes in [0, 1], what is left to 1 is background, whose logit is 0.
    known : Tensor
        (N, H, W), 1 where the pixel is labelled, else 0.
    positive_share, balance
        As `balanced_cross_entropy`: of all classes together against background.
    """
    positive, negative = _class_weights(positive_share, balance)
    foreground = classes.sum(1).clamp(0, 1)
    weight = (foreground * positive + (1 - foreground) * negative) * known
    targets = torch.cat([1 - foreground[:, None], classes], 1)
    loss = -(targets * F.log_softmax(F.pad(logits, (0, 0, 0, 0, 1, 0)), 1)).sum(1)
    return (loss * weight).sum() / known.sum().clamp_min(1)


def dice_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return 1 - soft Dice over all labelled pixels of the batch together, a scalar.

    Parameters
    ----------
    logits, target, known : Tensor
        (N, H, W), as in `balanced_cross_entropy`.

    References
    ----------
    Milletari et al., "V-Net", 3DV 2016.
    """
    return _dice(torch.sigmoid(logits), target, known)


def _dice(probability: Tensor, target: Tensor, known: Tensor) -> Tensor:
    probability, target = probability * known, target * known
    overlap = 2 * (probability * target).sum() + 1.0
    return 1 - overlap / ((probability + target).sum() + 1.0)


def threshold_shift(positive_share: float, balance: float) -> float:
    """Return the logit by which balanced cross-entropy shifts the posterior; subtract it.

    Weighing foreground and background by w+ and w- moves the optimal logit by log(w+ / w-).
    """
    share = min(max(positive_share, 1e-4), 1 - 1e-4)
    return balance * math.log((1 - share) / share)


def segmentation_loss(
    logits: Tensor,
    batch: Batch,
    heads: tuple[str, ...],
    *,
    balance: float,
    dice_weight: float,
    contour_weight: float,
    distance_weight: float = 0.0,
    positive_share: Tensor | float | None = None,
) -> Tensor:
    """Return the loss of all heads of a network on a batch of crops, a scalar.

    Parameters
    ----------
    logits : Tensor
        (N, heads, S, S).
    heads : tuple of str
        Name of each logit.
    positive_share : float or Tensor, optional
        See `balanced_cross_entropy`; by default that of the image each crop comes from.
    """
    logits = logits.float()
    share = batch.positive_share if positive_share is None else positive_share
    if batch.classes is not None:
        foreground = logits[:, [i for i, head in enumerate(heads) if head.startswith("foreground")]]
        loss = class_cross_entropy(foreground, batch.classes, batch.known, share, balance)
        if dice_weight:
            each = class_probabilities(foreground).unbind(1)
            dice = [_dice(p, t, batch.known) for p, t in zip(each, batch.classes.unbind(1), strict=True)]
            loss = loss + dice_weight * torch.stack(dice).mean()
    else:
        single = logits[:, heads.index("foreground")]
        loss = balanced_cross_entropy(single, batch.mask, batch.known, share, balance)
        if dice_weight:
            loss = loss + dice_weight * dice_loss(single, batch.mask, batch.known)
    if contour_weight and "contour" in heads:
        contour = logits[:, heads.index("contour")]
        loss = loss + contour_weight * balanced_cross_entropy(contour, batch.contour, batch.known, 0.1, 0.5)
    if distance_weight and "distance" in heads and batch.distance is not None:
        distance = logits[:, heads.index("distance")]
        # Cross-entropy with soft targets is least where the sigmoid is the distance itself.
        loss = loss + distance_weight * balanced_cross_entropy(distance, batch.distance, batch.known, 0.5)
    return loss


def deep_supervision_loss(
    scores: list[Tensor], batch: Batch, heads: tuple[str, ...], balance: float, contour_weight: float
) -> Tensor:
    """Return the mean loss of the side outputs, each against the known targets averaged down to its size."""
    losses = []
    for score in scores:
        size = (score.shape[-2], score.shape[-1])
        mask, contour, known = (
            F.adaptive_avg_pool2d(t[:, None], size)[:, 0]
            for t in (batch.mask * batch.known, batch.contour * batch.known, batch.known)
        )
        share = known.clamp_min(1e-6)
        smaller = Batch(batch.x, mask / share, contour / share, known, batch.positive_share)
        losses.append(
            segmentation_loss(score, smaller, heads, balance=balance, dice_weight=0.0, contour_weight=contour_weight)
        )
    return torch.stack(losses).mean()
