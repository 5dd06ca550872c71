"""The losses against loops that can be checked by eye, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_osvos.losses import (
    balanced_cross_entropy,
    class_cross_entropy,
    class_probabilities,
    deep_supervision_loss,
    dice_loss,
    segmentation_loss,
    threshold_shift,
)
from napari_osvos.sampling import Batch

HEADS = ("foreground", "contour")


def _crops(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets (half of them soft) and known pixels, (3, 6, 7) each."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (3, 6, 7))
    target = rng.random((3, 6, 7)) < 0.3
    target = np.where(rng.random(target.shape) < 0.5, target, rng.random(target.shape))
    known = rng.random((3, 6, 7)) < 0.7
    return torch.from_numpy(logits), torch.from_numpy(target), torch.from_numpy(known.astype(float))


def _batch(seed: int = 0) -> tuple[Tensor, Batch]:
    logits, mask, known = _crops(seed)
    other, contour, _ = _crops(seed + 1)
    share = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64).view(3, 1, 1)
    x = torch.zeros(3, 3, 6, 7)
    return torch.stack([logits, other], 1).float(), Batch(x, mask, contour, known, share)


def _cross_entropy_by_hand(
    logits: Tensor, target: Tensor, known: Tensor, shares: tuple[float, float, float], balance: float
) -> float:
    total, count = 0.0, 0
    for n, share in enumerate(shares):
        positive, negative = share**-balance, (1 - share) ** -balance
        mean = share * positive + (1 - share) * negative
        for y in range(logits.shape[1]):
            for x in range(logits.shape[2]):
                if known[n, y, x] == 0:
                    continue
                p = 1 / (1 + math.exp(-float(logits[n, y, x])))
                t = float(target[n, y, x])
                weight = (t * positive + (1 - t) * negative) / mean
                total -= weight * (t * math.log(p) + (1 - t) * math.log(1 - p))
                count += 1
    return total / count


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_balanced_cross_entropy_is_the_weighted_mean_over_known_pixels(balance: float) -> None:
    logits, target, known = _crops()
    found = balanced_cross_entropy(logits, target, known, 0.2, balance)
    assert float(found) == pytest.approx(_cross_entropy_by_hand(logits, target, known, (0.2,) * 3, balance), rel=1e-12)


def test_each_crop_may_have_a_share_of_its_own() -> None:
    logits, target, known = _crops()
    share = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64).view(3, 1, 1)
    found = balanced_cross_entropy(logits, target, known, share, 0.5)
    assert float(found) == pytest.approx(_cross_entropy_by_hand(logits, target, known, (0.1, 0.3, 0.6), 0.5), rel=1e-12)


def test_full_balance_is_the_published_weighting_with_mean_weight_one() -> None:
    """Published: foreground weighs N-/N, background N+/N, summed over the frame."""
    rng = np.random.default_rng(3)
    logits, target = torch.from_numpy(rng.normal(0, 2, (1, 20, 20))), torch.zeros(1, 20, 20, dtype=torch.float64)
    target[:, 4:9, 3:17] = 1
    n, positive = target.numel(), float(target.sum())
    negative = n - positive
    p = torch.sigmoid(logits)
    published = -(negative / n) * p[target > 0].log().sum() - (positive / n) * (1 - p[target == 0]).log().sum()
    ours = balanced_cross_entropy(logits, target, torch.ones_like(target), positive / n)
    mean_weight = 2 * positive * negative / n**2
    assert float(ours) == pytest.approx(float(published) / n / mean_weight, rel=1e-12)


def test_dice_is_one_minus_twice_the_overlap_over_the_sum() -> None:
    logits, target, known = _crops()
    overlap = both = 0.0
    for logit, t, k in zip(logits.flatten(), target.flatten(), known.flatten(), strict=True):
        if k:
            p = 1 / (1 + math.exp(-float(logit)))
            overlap += p * float(t)
            both += p + float(t)
    assert float(dice_loss(logits, target, known)) == pytest.approx(1 - (2 * overlap + 1) / (both + 1), rel=1e-12)


def test_dice_of_nothing_is_zero() -> None:
    nothing = torch.zeros(1, 4, 4)
    assert float(dice_loss(torch.full((1, 4, 4), -50.0), nothing, torch.ones(1, 4, 4))) == 0
    assert float(dice_loss(torch.zeros(1, 4, 4), nothing, nothing)) == 0  # nothing is known


def test_the_loss_of_all_heads_is_the_sum_of_its_terms() -> None:
    logits, batch = _batch()
    both = logits.double()
    shares = (0.1, 0.3, 0.6)
    expected = (
        _cross_entropy_by_hand(both[:, 0], batch.mask, batch.known, shares, 0.4)
        + 0.7 * float(dice_loss(both[:, 0], batch.mask, batch.known))
        + 0.2 * _cross_entropy_by_hand(both[:, 1], batch.contour, batch.known, (0.1,) * 3, 0.5)
    )
    found = segmentation_loss(logits, batch, HEADS, balance=0.4, dice_weight=0.7, contour_weight=0.2)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    shared = segmentation_loss(logits, batch, HEADS, balance=0.4, dice_weight=0, contour_weight=0, positive_share=0.2)
    by_hand = _cross_entropy_by_hand(both[:, 0], batch.mask, batch.known, (0.2,) * 3, 0.4)
    assert float(shared) == pytest.approx(by_hand, rel=1e-5)


def test_heads_are_found_by_name() -> None:
    logits, batch = _batch()
    weights = {"balance": 0.4, "dice_weight": 0.7, "contour_weight": 0.2}
    swapped = segmentation_loss(logits.flip(1), batch, HEADS[::-1], **weights)
    assert float(swapped) == pytest.approx(float(segmentation_loss(logits, batch, HEADS, **weights)), rel=1e-6)
    alone = segmentation_loss(logits[:, :1], batch, HEADS[:1], **weights)
    both = segmentation_loss(logits, batch, HEADS, **(weights | {"contour_weight": 0.0}))
    assert float(alone) == pytest.approx(float(both), rel=1e-6)


def test_unknown_pixels_have_no_gradient_and_known_ones_have() -> None:
    logits, batch = _batch()
    logits.requires_grad_(True)
    segmentation_loss(logits, batch, HEADS, balance=0.3, dice_weight=0.5, contour_weight=0.5).backward()
    assert logits.grad is not None
    unknown = (batch.known == 0)[:, None].expand_as(logits.grad)
    assert (logits.grad[unknown] == 0).all()
    assert (logits.grad[~unknown] != 0).all()


def test_what_is_painted_on_unknown_pixels_does_not_matter() -> None:
    logits, batch = _batch()
    flipped = torch.where(batch.known > 0, batch.mask, 1 - batch.mask)
    other = Batch(batch.x, flipped, batch.contour, batch.known, batch.positive_share)
    weights = {"balance": 0.3, "dice_weight": 0.5, "contour_weight": 0.5}
    assert float(segmentation_loss(logits, batch, HEADS, **weights)) == pytest.approx(
        float(segmentation_loss(logits, other, HEADS, **weights)), rel=1e-7
    )


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    nothing = torch.zeros(2, 4, 4)
    batch = Batch(torch.zeros(2, 3, 4, 4), nothing, nothing, nothing, torch.zeros(2, 1, 1))
    loss = segmentation_loss(logits, batch, HEADS, balance=1.0, dice_weight=0.5, contour_weight=0.5)
    loss.backward()
    assert logits.grad is not None
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()


def test_a_crop_without_foreground_still_has_a_loss() -> None:
    """The published balance, counted in the crop, would give it none: false positives would go unpunished."""
    logits = torch.full((1, 8, 8), 2.0, requires_grad=True)
    empty, known = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    loss = balanced_cross_entropy(logits, empty, known, 0.05)
    loss.backward()
    assert logits.grad is not None
    # balanced to half a weight: 1 / (2 * 0.95) of log(1 + e^2)
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(2)) / 1.9, rel=1e-6)
    assert (logits.grad > 0).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_none_or_all_gives_finite_weights(share: float) -> None:
    logits, target, known = _crops()
    assert math.isfinite(float(balanced_cross_entropy(logits, target, known, share)))


def test_large_logits_give_finite_losses_and_gradients() -> None:
    logits = torch.tensor([[[-1e4, 1e4, -1e4, 1e4]]], requires_grad=True)
    target = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]])
    loss = balanced_cross_entropy(logits, target, torch.ones_like(target), 0.5) + dice_loss(
        logits, target, torch.ones_like(target)
    )
    loss.backward()
    assert logits.grad is not None
    assert float(loss.detach()) == pytest.approx(5000.4, abs=0.1)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("share", "balance"), [(0.1, 1.0), (0.1, 0.3), (0.7, 1.0), (0.2, 0.0)])
def test_the_threshold_shift_undoes_the_balance(share: float, balance: float) -> None:
    """Among pixels of which a share q is foreground, the best logit is log(q / (1 - q)) plus the shift."""
    q = 0.35
    logit = torch.tensor(math.log(q / (1 - q)) + threshold_shift(share, balance), dtype=torch.float64)
    logit.requires_grad_(True)
    ones = torch.ones(1, 1, 1, dtype=torch.float64)
    loss = q * balanced_cross_entropy(logit * ones, ones, ones, share, balance)
    loss = loss + (1 - q) * balanced_cross_entropy(logit * ones, 0 * ones, ones, share, balance)
    loss.backward()
    assert logit.grad is not None
    assert float(logit.grad) == pytest.approx(0, abs=1e-6)


def test_deep_supervision_compares_each_side_with_targets_of_its_size() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[:, :4, :4] = 1  # a quarter; at a stride of 4 one position of four
    ones = torch.ones(1, 8, 8)
    batch = Batch(torch.zeros(1, 3, 8, 8), mask, 0 * mask, ones, torch.full((1, 1, 1), 0.25))
    scores = [torch.full((1, 1, 4, 4), 1.0), torch.full((1, 1, 2, 2), -1.0)]
    loss = deep_supervision_loss(scores, batch, ("foreground",), 0.0, 0.5)
    by_hand = [math.log1p(math.exp(s)) - 0.25 * s for s in (1.0, -1.0)]
    assert float(loss) == pytest.approx(sum(by_hand) / 2, rel=1e-6)


def test_deep_supervision_leaves_unknown_pixels_out() -> None:
    """Where part of a cell is unknown, its target is the mean of what is known."""
    mask, known = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    mask[:, :, :1] = known[:, :, :1] = 1  # a quarter is known, and all of it is foreground
    batch = Batch(torch.zeros(1, 3, 4, 4), mask, 0 * mask, known, torch.full((1, 1, 1), 0.5))
    sure = torch.full((1, 1, 1, 1), 20.0)
    assert float(deep_supervision_loss([sure], batch, ("foreground",), 0.0, 0.0)) < 1e-6


# -- several classes ---------------------------------------------------------------------------


def _classes(seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of three classes, which of them (or none) a pixel is, and known pixels."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (2, 3, 5, 4)))
    which = rng.integers(0, 4, (2, 5, 4))
    classes = torch.from_numpy(np.stack([which == k for k in (1, 2, 3)], 1).astype(float))
    return logits, classes, torch.from_numpy((rng.random((2, 5, 4)) < 0.7).astype(float))


def test_cross_entropy_of_classes_is_that_of_a_softmax_with_a_background_of_zero() -> None:
    logits, classes, known = _classes()
    total = 0.0
    for n, y, x in np.argwhere(known.numpy() > 0):
        z = [0.0, *logits[n, :, y, x].tolist()]
        t = classes[n, :, y, x].tolist()
        k = t.index(1.0) + 1 if 1.0 in t else 0
        total -= z[k] - math.log(sum(map(math.exp, z)))
    loss = class_cross_entropy(logits, classes, known, 0.3)
    assert float(loss) == pytest.approx(total / float(known.sum()))


def test_one_class_is_what_foreground_is() -> None:
    logits, target, known = _crops()
    several = class_cross_entropy(logits[:, None], target[:, None], known, 0.2, 0.4)
    torch.testing.assert_close(several, balanced_cross_entropy(logits, target, known, 0.2, 0.4))
    torch.testing.assert_close(class_probabilities(logits[:, None])[:, 0], torch.sigmoid(logits))


def test_probabilities_of_classes_and_background_add_up_to_one() -> None:
    logits, _, _ = _classes()
    p = class_probabilities(logits)
    background = 1 / (1 + torch.exp(logits).sum(1))
    torch.testing.assert_close(p.sum(1) + background, torch.ones_like(background))


def test_the_loss_falls_where_each_class_gets_its_own_head_and_the_depth_is_right() -> None:
    _, classes, known = _classes()
    heads = ("foreground-1", "foreground-2", "foreground-3", "contour", "distance")
    depth = torch.rand(2, 5, 4, dtype=torch.float64)
    share = torch.full((2, 1, 1), 0.5, dtype=torch.float64)
    batch = Batch(torch.zeros(2, 3, 5, 4), classes.sum(1), 0 * known, known, share, depth, classes)

    def loss(classes_as: Tensor, depth_as: Tensor) -> float:
        x = torch.cat([8 * (2 * classes_as - 1), 0 * depth[:, None], torch.logit(depth_as)[:, None]], 1)
        weights = {"balance": 0.0, "dice_weight": 0.5, "contour_weight": 0.0, "distance_weight": 1.0}
        return float(segmentation_loss(x, batch, heads, **weights))

    assert loss(classes, depth) < loss(classes.roll(1, 1), depth)
    assert loss(classes, depth) < loss(classes, (depth + 0.3).clamp(max=0.99))
