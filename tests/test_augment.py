"""Image and targets move together under every augmentation; intensities vary alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_osvos.augment import paste_objects, reflect, sampling_grid, vary_intensities
from napari_osvos.config import AugmentConfig
from napari_osvos.intensity import IntensityScale
from napari_osvos.sampling import CLASSES, CONTOUR, DISTANCE, KNOWN, MASK, Batch, Source, draw_batch

FIELDS = [field.name for field in dataclasses.fields(AugmentConfig)]
NOTHING = AugmentConfig(**{name: False if name == "flip" else 0.0 for name in FIELDS})
STRONG = AugmentConfig.strong().replace(composite=1.0)
GEOMETRY = ("rotation", "flip", "zoom", "shear", "elastic")
INTENSITY = [name for name in FIELDS if name not in (*GEOMETRY, "composite")]
# 0 and 255 become -1 and 1, linearly: what is painted into the image can be read from the crop.
READABLE = IntensityScale("display", (127.5,) * 3, (127.5,) * 3)


def _only(*names: str) -> AugmentConfig:
    """Strong augmentation of the named kinds, and no other."""
    return NOTHING.replace(**{name: getattr(STRONG, name) for name in names})


def _labels() -> np.ndarray:
    """Labels (60, 72): a disc, a bar, and two squares that touch."""
    y, x = np.mgrid[:60, :72]
    labels = np.zeros((60, 72), np.int32)
    labels[(y - 16) ** 2 + (x - 18) ** 2 < 90] = 1
    labels[36:54, 8:13] = 2
    labels[24:40, 40:52] = 3
    labels[24:40, 52:64] = 4
    return labels


def _painted_source(zoom: float = 1.0, known: np.ndarray | None = None) -> Source:
    """A source whose three channels are its own mask, contour and known region."""
    labels = _labels()
    if known is None:
        known = np.ones(labels.shape, bool)
    targets = Source(np.zeros((*labels.shape, 3), np.uint8), labels, known, READABLE, 1.0).targets[:DISTANCE]
    image = np.moveaxis(targets.numpy() * 255, 0, -1).astype(np.uint8)
    return Source(image, labels, known, READABLE, zoom)


def _read(x: Tensor) -> Tensor:
    """Targets (3, ...) that the crop's channels show."""
    return (x + 1) / 2


# -- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [0.8, 1.0, 2.3])
@pytest.mark.parametrize("names", [(), *((name,) for name in GEOMETRY), GEOMETRY], ids=lambda names: "+".join(names))
def test_image_and_targets_move_together(names: tuple[str, ...], zoom: float) -> None:
    known = np.random.default_rng(1).random((60, 72)) < 0.995
    source, augment = _painted_source(zoom, known), _only(*names)
    rng = np.random.default_rng(0)
    for kind in (0, 1, 2):
        crop = source.crop(source.place(kind, rng), 40, augment, rng)
        shown, targets = _read(crop[:3]), crop[3:]
        torch.testing.assert_close(targets[[MASK, CONTOUR]], shown[[MASK, CONTOUR]], atol=1e-5, rtol=0)
        # Known is all or nothing: a pixel that is mixed with an unknown one is unknown.
        assert ((targets[KNOWN] == 0) | (targets[KNOWN] == 1)).all()
        assert (shown[KNOWN][targets[KNOWN] > 0] > 0.98).all()
        assert targets[MASK].max() > 0.5 or kind == 2


def test_image_and_targets_move_together_where_the_image_is_reduced() -> None:
    source = _painted_source(0.5)
    assert source.targets.shape == (4, 30, 36)
    rng = np.random.default_rng(0)
    crops = [source.crop(source.place(0, rng), 24, _only(*GEOMETRY), rng) for _ in range(20)]
    shown = torch.stack([_read(crop[MASK]) for crop in crops]) > 0.5
    painted = torch.stack([crop[3 + MASK] for crop in crops]) > 0.5
    assert (shown & painted).sum() > 0.95 * (shown | painted).sum()


def test_without_augmentation_a_crop_is_a_window() -> None:
    source = _painted_source()
    crop = source.crop((30.0, 30.0), 21, NOTHING, np.random.default_rng(0))
    torch.testing.assert_close(crop[3 + MASK], torch.from_numpy(_labels()[20:41, 20:41] > 0).float(), atol=1e-5, rtol=0)
    assert (crop[3 + KNOWN] == 1).all()


def test_a_zoom_of_two_shows_each_pixel_twice_as_large() -> None:
    source = _painted_source(2.0)
    crop = source.crop((32.0, 52.0), 41, NOTHING, np.random.default_rng(0))
    window = torch.from_numpy(_labels()[22:43, 42:63] > 0).float()
    torch.testing.assert_close(crop[3 + MASK][::2, ::2], window, atol=1e-5, rtol=0)


def test_outside_of_the_image_is_its_mirror_image_and_not_known() -> None:
    source = _painted_source()
    crop = source.crop((0.0, 71.0), 41, NOTHING, np.random.default_rng(0))
    mirrored = np.pad(_labels() > 0, 20, mode="reflect")[:41, 71 : 71 + 41]
    torch.testing.assert_close(crop[3 + MASK], torch.from_numpy(mirrored).float(), atol=1e-5, rtol=0)
    inside = torch.zeros(41, 41)
    inside[20:, :21] = 1
    assert torch.equal(crop[3 + KNOWN], inside)


def test_what_is_known_stays_known_where_a_small_image_is_turned() -> None:
    """A crop larger than the image knows as many pixels as the image has, wherever they lie."""
    labels = np.ones((20, 20), np.int32)
    source = Source(np.zeros((20, 20, 1), np.uint8), labels, None, IntensityScale("display", (0.0,), (1.0,)), 1.0)
    rng = np.random.default_rng(0)
    for _ in range(10):
        crop = source.crop((9.5, 9.5), 64, _only("rotation", "flip"), rng)
        assert float(crop[3 + KNOWN].sum()) == pytest.approx(400, abs=20)


def test_coordinates_are_mirrored_at_the_outermost_pixels() -> None:
    places = torch.tensor([-9.0, -4.0, -1.0, -0.25, 0.0, 2.5, 3.0, 3.5, 6.0, 7.0])
    expected = torch.tensor([3.0, 2.0, 1.0, 0.25, 0.0, 2.5, 3.0, 2.5, 0.0, 1.0])
    torch.testing.assert_close(reflect(places, 4), expected)
    assert torch.equal(reflect(places, 1), torch.zeros(10))


def _matrix(grid: Tensor) -> np.ndarray:
    """The linear map from crop pixels (y, x) to source pixels of a grid without elastic displacement."""
    return torch.stack([grid[1, 0] - grid[0, 0], grid[0, 1] - grid[0, 0]], 1).double().numpy()


def _grids(augment: AugmentConfig, count: int = 60, zoom: float = 1.0) -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [sampling_grid((12.0, 7.0), 33, zoom, augment, rng) for _ in range(count)]


def test_the_centre_of_a_crop_is_where_it_was_asked_for() -> None:
    for grid in _grids(_only("rotation", "flip", "zoom", "shear")):
        torch.testing.assert_close(grid[16, 16], torch.tensor([12.0, 7.0]))


def test_rotation_keeps_its_limits() -> None:
    turns = [_matrix(grid) for grid in _grids(NOTHING.replace(rotation=30.0))]
    angles = [math.degrees(math.atan2(turn[1, 0], turn[0, 0])) for turn in turns]
    assert all(np.linalg.norm(turn @ turn.T - np.eye(2)) < 1e-5 for turn in turns)
    assert -30 <= min(angles) < -20 < 20 < max(angles) <= 30


def test_zoom_and_shear_keep_their_limits() -> None:
    zooms = [1 / np.linalg.det(_matrix(grid)) ** 0.5 for grid in _grids(NOTHING.replace(zoom=0.5), zoom=2.0)]
    assert 2 * math.exp(-0.5) <= min(zooms) < 1.5 < 2.8 < max(zooms) <= 2 * math.exp(0.5)
    stretches = [_matrix(grid) for grid in _grids(NOTHING.replace(shear=0.4))]
    ratios = [m[0, 0] / m[1, 1] for m in stretches]
    assert math.exp(-0.401) <= min(ratios) < 0.8 < 1.25 < max(ratios) <= math.exp(0.401)
    assert all(np.linalg.det(m) == pytest.approx(1, abs=1e-4) for m in stretches)


def test_half_of_the_crops_are_mirrored_if_asked_for() -> None:
    signs = [np.sign(np.linalg.det(_matrix(grid))) for grid in _grids(_only("flip", "rotation"))]
    assert 15 < signs.count(-1) < 45
    assert all(np.linalg.det(_matrix(grid)) > 0 for grid in _grids(_only("rotation")))


def test_elastic_displacement_is_smooth() -> None:
    rest = _grids(NOTHING, 1)[0]
    shifts = torch.stack(_grids(NOTHING.replace(elastic=3.0))) - rest
    assert 1 < float(shifts.std()) < 4
    assert float(shifts.diff(dim=1).abs().max()) < 2  # neighbours stay neighbours


# -- intensities ----------------------------------------------------------------------------------


def _crops() -> Tensor:
    return torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "names", [*((name,) for name in INTENSITY), tuple(INTENSITY)], ids=lambda names: "+".join(names)
)
def test_variation_of_intensities_touches_the_image_alone(names: tuple[str, ...]) -> None:
    def drawn(augment: AugmentConfig) -> Batch:
        return draw_batch([_painted_source()], 6, 24, augment, np.random.default_rng(5))

    # Polarity, colour and blur fall on a part of the crops.
    plain, varied = drawn(_only(*GEOMETRY)), drawn(_only(*GEOMETRY, *names))
    assert not torch.equal(plain.x, varied.x)
    assert varied.x.isfinite().all()
    for name in ("mask", "contour", "known", "positive_share"):
        assert torch.equal(getattr(plain, name), getattr(varied, name))


def test_without_augmentation_intensities_stay() -> None:
    x = _crops()
    before = x.clone()
    assert torch.equal(vary_intensities(x, NOTHING, np.random.default_rng(0)), before)
    vary_intensities(x, STRONG, np.random.default_rng(0))
    assert torch.equal(x, before)  # what is given is not written to


def test_polarity_is_a_change_of_sign() -> None:
    x = _crops()
    assert torch.equal(vary_intensities(x, NOTHING.replace(polarity=1.0), np.random.default_rng(0)), -x)


def test_contrast_and_brightness_are_a_straight_line_for_each_crop() -> None:
    x = _crops()
    varied = vary_intensities(x, NOTHING.replace(contrast=0.4, brightness=0.5), np.random.default_rng(0))
    for before, after in zip(x, varied, strict=True):
        slope, offset = np.polyfit(before.flatten().numpy(), after.flatten().numpy(), 1)
        torch.testing.assert_close(after, before * float(slope) + float(offset), atol=1e-4, rtol=1e-4)
        assert 0.2 < slope < 4


def test_gamma_keeps_sign_order_and_the_median() -> None:
    x = torch.linspace(-3, 3, 49).expand(4, 3, 49, 49)
    varied = vary_intensities(x, NOTHING.replace(gamma=0.3), np.random.default_rng(0))
    assert (varied.diff(dim=-1) >= 0).all()
    assert torch.equal(varied.sign(), x.sign())


def test_colour_makes_grey_and_leaves_grey_alone() -> None:
    colour = NOTHING.replace(colour=1.0)
    grey = vary_intensities(_crops(), colour, np.random.default_rng(0))
    assert torch.equal(grey[:, :1].expand(-1, 3, -1, -1), grey)
    x = _crops()[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(vary_intensities(x, colour, np.random.default_rng(0)), x)


def test_blur_smooths_and_keeps_the_mean() -> None:
    impulse = torch.zeros(8, 3, 25, 25)
    impulse[:, :, 12, 12] = 1
    blurred = vary_intensities(impulse, NOTHING.replace(blur=1.5), np.random.default_rng(0))
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(8, 3))
    assert float(blurred[:, 0, 12, 12].min()) < 0.5
    torch.testing.assert_close(blurred, blurred.mT)
    largest = vary_intensities(_crops()[..., :16, :16], NOTHING.replace(blur=5.0), np.random.default_rng(0))
    assert largest.shape == (4, 3, 16, 16)  # the smallest crop, the widest kernel


def test_noise_has_its_limit_and_no_colour() -> None:
    x = torch.zeros(16, 3, 64, 64)
    noisy = vary_intensities(x, NOTHING.replace(noise=0.5), np.random.default_rng(0))
    spread = noisy.std((1, 2, 3))
    assert 0.2 < float(spread.max()) < 0.52
    assert torch.equal(noisy[:, :1].expand(-1, 3, -1, -1), noisy)


def test_illumination_is_smooth() -> None:
    lit = vary_intensities(torch.zeros(8, 3, 64, 64), NOTHING.replace(illumination=0.4), np.random.default_rng(0))
    assert 0.05 < float(lit.abs().max()) < 5
    assert float(lit.diff(dim=-1).abs().max()) < 0.2


# -- pasting ---------------------------------------------------------------------------------------

PASTE = NOTHING.replace(composite=1.0)


def _pair(known: bool = True) -> tuple[Tensor, Tensor]:
    """A crop with a square, outlined, and an empty one; each channel of x shows the mask."""
    targets = torch.zeros(2, CLASSES, 30, 30)
    targets[0, MASK, 12:19, 11:18] = 1
    targets[0, CONTOUR] = targets[0, MASK]
    targets[0, CONTOUR, 13:18, 12:17] = 0
    targets[:, KNOWN] = 1.0
    if not known:
        targets[0, KNOWN] = 0
    return targets[:, :1].expand(-1, 3, -1, -1).clone(), targets


def _pasted_into(i: int, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Paste with seeds until crop `i` alone has received something."""
    for seed in range(200):
        pasted, marks = paste_objects(x, targets, NOTHING.replace(composite=0.5), np.random.default_rng(seed))
        others = [k for k in range(len(x)) if k != i]
        if not torch.equal(pasted[i], x[i]) and torch.equal(pasted[others], x[others]):
            return pasted[i], marks[i]
    raise AssertionError("nothing was pasted")


def test_a_pasted_object_brings_image_mask_and_contour_along() -> None:
    x, targets = _pair()
    pasted, marks = _pasted_into(1, x, targets)
    assert float(marks[MASK].sum()) == 49
    assert float(marks[CONTOUR].sum()) == 24
    assert (marks[KNOWN] == 1).all()
    torch.testing.assert_close(pasted[0], marks[MASK])
    corner = (marks[MASK] > 0).nonzero().min(0).values - torch.tensor([12, 11])
    torch.testing.assert_close(torch.roll(targets[0], tuple(corner.tolist()), (1, 2))[:2], marks[:2])


def test_a_pasted_object_hides_the_depth_and_the_class_of_what_it_covers() -> None:
    x, targets = _pair()
    targets = torch.cat([targets, torch.zeros(2, 2, 30, 30)], 1)
    targets[0, DISTANCE] = 0.5 * targets[0, MASK]
    targets[0, CLASSES] = targets[0, MASK]
    targets[1, MASK] = targets[1, DISTANCE] = targets[1, CLASSES + 1] = 1.0  # another class everywhere
    _, marks = _pasted_into(1, x, targets)
    inside = marks[CLASSES] > 0.5
    assert int(inside.sum()) == 49
    assert (marks[DISTANCE][inside] == 0.5).all()
    assert (marks[CLASSES + 1][inside] == 0).all()
    assert float((marks[CLASSES] + marks[CLASSES + 1]).max()) <= 1


def test_an_object_that_is_pasted_over_covers_image_and_targets_alike() -> None:
    sources = [_painted_source(), _painted_source()]
    # An odd edge: no pixel of the crop lies between two of the image.
    batch = draw_batch(sources, 8, 41, PASTE, np.random.default_rng(3))
    plain = draw_batch(sources, 8, 41, NOTHING, np.random.default_rng(3))
    assert float(batch.mask.sum()) > float(plain.mask.sum())  # there is more foreground
    apart = (_read(batch.x[:, MASK]) - batch.mask).abs()[batch.known > 0]
    assert float((apart < 1e-5).float().mean()) > 0.998
    assert float(apart.max()) < 0.5  # at soft rims that were pasted twice
    assert float(batch.known.mean()) > 0.7


def test_only_what_is_known_to_be_foreground_is_pasted() -> None:
    x, targets = _pair(known=False)
    for seed in range(20):
        pasted, marks = paste_objects(x, targets, PASTE, np.random.default_rng(seed))
        assert torch.equal(pasted[1], x[1])
        assert torch.equal(marks[1], targets[1])


def test_a_pasted_object_is_known_where_the_crop_was_not() -> None:
    x, targets = _pair()
    targets[1, KNOWN] = 0
    _, marks = _pasted_into(1, x, targets)
    assert torch.equal(marks[KNOWN], marks[MASK])


def test_pasting_leaves_what_it_is_given_alone_and_a_lone_crop_as_it_is() -> None:
    x, targets = _pair()
    before = x.clone(), targets.clone()
    paste_objects(x, targets, PASTE, np.random.default_rng(0))
    assert torch.equal(x, before[0])
    assert torch.equal(targets, before[1])
    alone, marks = paste_objects(x[:1], targets[:1], PASTE, np.random.default_rng(0))
    assert torch.equal(alone, x[:1])
    assert torch.equal(marks, targets[:1])


@pytest.mark.parametrize(
    "augment", [AugmentConfig(), AugmentConfig.strong(), STRONG], ids=["default", "strong", "paste"]
)
def test_all_augmentations_together_give_finite_crops_and_targets_in_range(augment: AugmentConfig) -> None:
    batch = draw_batch([_painted_source(), _painted_source(0.6)], 8, 32, augment, np.random.default_rng(0))
    assert batch.x.shape == (8, 3, 32, 32)
    assert batch.x.isfinite().all()
    for target in (batch.mask, batch.contour, batch.known):
        assert target.shape == (8, 32, 32)
        assert float(target.min()) >= 0
        assert float(target.max()) <= 1 + 1e-6


def test_all_augmentations_are_drawn_from_the_seed() -> None:
    first, same, other = (
        draw_batch([_painted_source()], 4, 24, STRONG, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.x, same.x)
    assert torch.equal(first.mask, same.mask)
    assert not torch.equal(first.x, other.x)
