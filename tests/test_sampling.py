"""Crops come from where they should, in any dtype and at any zoom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_osvos.config import AugmentConfig
from napari_osvos.intensity import IntensityScale
from napari_osvos.sampling import (
    ANYWHERE,
    BORDER,
    CLASSES,
    CONTOUR,
    DISTANCE,
    ERROR,
    FOREGROUND,
    KNOWN,
    MASK,
    Batch,
    Source,
    draw_batch,
    inner_boundary,
    inner_distance,
)

Drawn = Callable[..., np.ndarray]
NOTHING = AugmentConfig(**{f.name: False if f.name == "flip" else 0.0 for f in dataclasses.fields(AugmentConfig)})
SCALE = IntensityScale("robust", (100.0,), (20.0,))
KINDS = (FOREGROUND, BORDER, ANYWHERE, ERROR)


def _source(
    labels: np.ndarray, zoom: float = 1.0, known: np.ndarray | None = None, weight: float = 1.0, **wanted: Any
) -> Source:
    image = np.where(labels > 0, 180, 60).astype(np.uint8)[..., None]
    return Source(image, labels, known, SCALE, zoom, weight, **wanted)


def _square(edge: int = 8, size: int = 24) -> np.ndarray:
    labels = np.zeros((size, size), np.int32)
    labels[size // 4 : size // 4 + edge, size // 4 : size // 4 + edge] = 1
    return labels


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- targets ------------------------------------------------------------------------------------


def test_the_boundary_lies_inside_of_each_object(drawn: Drawn) -> None:
    labels = drawn(
        """
        ..........
        .1111222..
        .1111222..
        .1111222..
        .1111.....
        ..........
        333.......
        333.......
        """
    )[0]
    boundary = drawn(
        """
        ..........
        .1111111..
        .1..11.1..
        .1..1111..
        .1111.....
        ..........
        111.......
        ..1.......
        """
    )[0]
    # Where an object leaves the frame it has no border.
    np.testing.assert_array_equal(inner_boundary(labels), boundary > 0)


def test_targets_and_share_are_those_of_the_known_pixels(drawn: Drawn) -> None:
    labels = drawn("11..  11..  ....")[0].astype(np.int32)
    assert _source(labels).positive_share == pytest.approx(4 / 12)
    known = np.zeros((3, 4), bool)
    known[:, :2] = True
    source = _source(labels, known=known)
    assert source.positive_share == pytest.approx(4 / 6)
    np.testing.assert_array_equal(source.targets[MASK], labels > 0)
    np.testing.assert_array_equal(source.targets[CONTOUR], inner_boundary(labels))
    np.testing.assert_array_equal(source.targets[KNOWN], known)
    assert _source(labels, known=np.zeros((3, 4), bool)).positive_share == 0


# -- dtypes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [1.0, 0.5])
@pytest.mark.parametrize(
    "dtype",
    ["bool", "u1", "i1", "u2", ">u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f4", "f8", "longdouble"],
)
def test_any_dtype_gives_the_same_crop(dtype: str, zoom: float) -> None:
    labels = _square()
    image = (labels > 0)[..., None]
    source = Source(image.astype(dtype), labels, None, IntensityScale("robust", (0.0,), (1.0,)), zoom)
    crop = source.crop((8.0, 8.0), 9, NOTHING, _rng())
    floating = Source(image.astype(np.float32), labels, None, source.intensity, zoom)
    expected = floating.crop((8.0, 8.0), 9, NOTHING, _rng())
    # Reduced, integers are rounded.
    if zoom == 1 or "f" in dtype or dtype == "longdouble":
        torch.testing.assert_close(crop, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(crop[3:], expected[3:])


@pytest.mark.parametrize("zoom", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.float64])
def test_large_numbers_keep_their_digits(dtype: Any, zoom: float) -> None:
    labels, offset = _square(), 2_000_000_037
    image = np.where(labels > 0, 180, 60)[..., None]
    plain = Source(image.astype(np.float32), labels, None, SCALE, zoom)
    scale = IntensityScale("robust", (100.0 + offset,), (20.0,))
    large = Source((image + offset).astype(dtype), labels, None, scale, zoom)
    crops = [source.crop((8.0, 8.0), 11, NOTHING, _rng()) for source in (plain, large)]
    torch.testing.assert_close(crops[1], crops[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("zoom", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pixel_that_is_not_finite_stays_a_local_matter(dtype: Any, zoom: float) -> None:
    labels = _square()
    image = np.where(labels > 0, 180, 60).astype(dtype)[..., None]
    broken = image.copy()
    broken[0, 0], broken[0, 1], broken[1, 0] = np.nan, np.inf, -np.inf
    crops = [
        Source(pixels, labels, None, SCALE, zoom).crop((11.0 * zoom, 11.0 * zoom), 9, NOTHING, _rng())
        for pixels in (image, broken)
    ]
    assert torch.equal(*crops)
    corner = Source(broken, labels, None, SCALE, zoom).crop((0.0, 0.0), 9, NOTHING, _rng())
    assert corner.isfinite().all()


# -- zoom ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [0.1, 0.3, 0.6, 0.74, 0.9, 1.0, 3.0])
def test_objects_come_out_at_the_size_that_the_zoom_asks_for(zoom: float) -> None:
    labels = np.zeros((120, 120), np.int32)
    labels[30:90, 40:80] = 1
    source = _source(labels, zoom)
    middle = ((np.array(source.targets.shape[-2:]) - 1) / 2).tolist()
    crop = source.crop((middle[0], middle[1]), round(100 * zoom), NOTHING, _rng())
    area = float(crop[3 + MASK].sum())
    assert area**0.5 == pytest.approx(zoom * 2400**0.5, rel=0.08, abs=0.5)


def test_a_reduced_image_is_what_prediction_resamples() -> None:
    image = (_rng().random((64, 64, 1)) ** 4 * 1000).astype(np.float32)  # skewed: asinh of a mean is no mean of asinh
    source = Source(image, _square(16, 64), None, SCALE, 0.25)
    seen = F.interpolate(
        SCALE.normalise(torch.from_numpy(image[None, ..., 0]))[None], size=(16, 16), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(source.image, seen[0])
    assert source.zoom == 1
    crop = source.crop((7.5, 7.5), 16, NOTHING, _rng())
    torch.testing.assert_close(crop[:3], seen[0], rtol=1e-4, atol=1e-4)


def test_a_thin_stroke_survives_the_reduction() -> None:
    """Partial paint beside large objects: strokes of two pixels, seen at a quarter of the size."""
    labels, known = np.zeros((64, 64), np.int32), np.zeros((64, 64), bool)
    labels[20:22, 5:60] = 1
    known[20:22, 5:60] = known[50:52, 5:60] = True
    source = _source(labels, 0.25, known)
    painted = (source.targets[MASK] * source.targets[KNOWN]).sum()
    assert painted >= 12
    assert (source.targets[KNOWN] - source.targets[MASK] * source.targets[KNOWN]).sum() >= 12
    assert len(source._places[0]) >= 12


def test_a_small_image_is_not_reduced_to_nothing() -> None:
    for shape in ((1, 1), (1, 30), (3, 5), (9, 4)):
        labels = np.ones(shape, np.int32)
        for zoom in (0.05, 0.5, 1.0, 4.0):
            crop = _source(labels, zoom).crop((0.0, 0.0), 16, AugmentConfig.strong(), _rng())
            assert crop.shape == (3 + CLASSES, 16, 16)
            assert crop.isfinite().all()


# -- places -------------------------------------------------------------------------------------


def test_a_crop_is_centred_on_what_was_asked_for() -> None:
    labels = _square()
    source, rng = _source(labels), _rng()
    boundary = inner_boundary(labels)
    for _ in range(50):
        y, x = (int(c) for c in source.place(FOREGROUND, rng))
        assert labels[y, x] > 0
        y, x = (int(c) for c in source.place(BORDER, rng))
        assert boundary[y, x]
    anywhere = np.array([source.place(ANYWHERE, rng) for _ in range(400)])
    assert anywhere.min() <= 2
    assert anywhere.max() >= 21


def test_what_is_not_there_is_replaced_by_what_is() -> None:
    source, rng = _source(np.zeros((6, 5), np.int32)), _rng()
    places = np.array([source.place(kind, rng) for kind in KINDS for _ in range(30)])
    assert (places >= 0).all()
    assert (places < (6, 5)).all()
    nothing = _source(np.ones((6, 5), np.int32), known=np.zeros((6, 5), bool))
    y, x = nothing.place(FOREGROUND, rng)
    assert 0 <= y < 6
    assert 0 <= x < 5


def test_only_known_pixels_are_places() -> None:
    known = np.zeros((24, 24), bool)
    known[6:9, 6:9] = True
    source, rng = _source(_square(), known=known), _rng()
    places = np.array([source.place(kind, rng) for kind in KINDS for _ in range(40)])
    assert places.min() >= 6
    assert places.max() <= 8


def test_places_of_a_large_object_reach_all_of_it() -> None:
    source, rng = _source(np.ones((400, 400), np.int32)), _rng()
    places = np.array([source.place(FOREGROUND, rng) for _ in range(500)])
    assert places.min() < 20
    assert (places.max(0) > 380).all()


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0])
def test_errors_are_places_once_they_were_looked_for(zoom: float) -> None:
    labels, known = _square(), np.ones((24, 24), bool)
    known[:3] = False
    source, rng = _source(labels, zoom, known), _rng()
    scale = source.targets.shape[-1] / 24

    def right_but_for_a_corner(x: torch.Tensor) -> torch.Tensor:
        assert x.shape == (1, 3, round(24 * zoom), round(24 * zoom))
        p = (x[:, :1] > 0).float()
        part = round(4 * zoom)
        p[..., -part:, -part:] = 1  # false positives
        p[..., :part, :part] = 1  # and where nobody knows
        return p

    source.look_for_errors(right_but_for_a_corner, rng)
    places = np.array([source.place(ERROR, rng) for _ in range(200)]) / scale
    in_corner = (places >= 18).all(1)
    assert in_corner.mean() > 0.4  # the others: at borders and where the known region ends
    assert (places[:, 0] >= 2).all()


def test_where_nothing_is_wrong_the_places_stay() -> None:
    source, rng = _source(_square()), _rng()
    source.look_for_errors(lambda x: (x[:, :1] > 0).float(), rng)
    places = np.array([source.place(ERROR, rng) for _ in range(200)])
    assert places.min() <= 2
    assert places.max() >= 21


def test_errors_are_looked_for_beside_a_gpu_that_cannot_antialias(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def beside(device: torch.device) -> torch.device:
        asked.append(device)
        return device

    monkeypatch.setattr("napari_osvos.resampling.crops_on", beside)
    _source(_square()).look_for_errors(lambda x: (x[:, :1] > 0).float(), _rng())
    assert asked == [torch.device("cpu")]


def test_errors_of_a_large_image_are_looked_for_in_a_window() -> None:
    source, rng = _source(np.zeros((60, 80), np.int32)), _rng()
    seen: list[tuple[int, ...]] = []

    def all_wrong(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return torch.ones(1, 1, *x.shape[-2:])

    found = []
    for _ in range(8):
        source.look_for_errors(all_wrong, rng, most_pixels=400)
        places = np.array([source.place(ERROR, rng) for _ in range(100)])
        assert (np.ptp(places, axis=0) < 20).all()
        found.append(places)
    assert set(seen) == {(1, 3, 20, 20)}
    everywhere = np.concatenate(found)
    assert (everywhere < (60, 80)).all()
    assert (np.ptp(everywhere, axis=0) > 25).all()


# -- batches ------------------------------------------------------------------------------------


def _parts(batch: Batch) -> list[torch.Tensor]:
    parts = (getattr(batch, f.name) for f in dataclasses.fields(batch))
    return [part for part in parts if part is not None]


def test_a_batch_has_the_shapes_and_dtypes_it_says() -> None:
    batch = draw_batch([_source(_square())], 5, 16, AugmentConfig(), _rng())
    assert batch.x.shape == (5, 1, 16, 16)
    assert batch.x.is_contiguous(memory_format=torch.channels_last)
    assert all(t.shape == (5, 16, 16) for t in (batch.mask, batch.contour, batch.known))
    assert batch.positive_share.shape == (5, 1, 1)
    assert batch.classes is None
    parts = _parts(batch)
    assert all(part.dtype == torch.float32 for part in parts)
    moved = batch.to(torch.device("cpu"))
    assert all(torch.equal(one, other) for one, other in zip(_parts(moved), parts, strict=True))


def test_labels_that_are_told_apart_each_have_a_mask() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[:8], labels[12:] = 7, 3
    source = _source(labels, classes=(3, 7))
    batch = draw_batch([source], 4, 16, AugmentConfig(), _rng())
    assert batch.classes is not None
    assert batch.classes.shape == (4, 2, 16, 16)
    torch.testing.assert_close(batch.classes.sum(1), batch.mask, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(source.targets[CLASSES:], np.stack([labels == 3, labels == 7]))


def test_depth_is_largest_in_the_middle_of_each_object_and_falls_where_two_touch() -> None:
    labels = np.zeros((15, 30), np.int32)
    labels[2:13, 3:14], labels[2:13, 14:25] = 1, 2
    depth = inner_distance(labels)
    assert depth[7, 8] == depth[7, 19] == 1
    assert (depth[labels == 0] == 0).all()
    assert depth[7, 13] == depth[7, 14] == depth[2, 8] == pytest.approx(1 / 6)
    row = inner_distance(np.array([[0, 5, 5, 5, 0]]))
    np.testing.assert_array_equal(row, [[0, 0.5, 1, 0.5, 0]])


def test_depth_does_not_depend_on_ids() -> None:
    labels = np.zeros((12, 20), np.int64)
    labels[2:9, 2:8], labels[3:11, 8:17] = 1, 2
    np.testing.assert_array_equal(inner_distance(labels * (2**30)), inner_distance(labels))


def test_depth_outlives_reducing_a_large_object() -> None:
    labels = np.zeros((80, 80), np.int32)
    labels[16:64, 16:64] = 1
    crop = _source(labels, 0.25, distance=True).crop((39.5, 39.5), 20, NOTHING, _rng())
    assert float(crop[3 + DISTANCE].max()) > 0.85
    assert float(crop[3 + DISTANCE, 4, 9]) < 0.4


def test_a_stroke_one_pixel_wide_is_still_known_after_reducing() -> None:
    labels, known = np.zeros((64, 64), np.int32), np.zeros((64, 64), bool)
    labels[10, 5:60] = 1
    known[10, 5:60], known[40, 5:60] = True, True
    for zoom in (0.35, 0.25, 0.125):
        targets = _source(labels, zoom, known=known).targets
        assert (targets[KNOWN] & targets[MASK]).sum() > 3
        assert (targets[KNOWN] & ~targets[MASK].bool()).sum() > 3


def test_half_of_the_crops_show_foreground_at_their_centre() -> None:
    labels = np.zeros((200, 200), np.int32)
    labels[90:110, 90:110] = 1
    batch = draw_batch([_source(labels)], 200, 17, NOTHING, _rng())
    middle = batch.mask[:, 8, 8]
    assert 0.65 < float(middle.mean()) < 0.85  # a half on foreground, a quarter on its border
    only = draw_batch([_source(labels)], 50, 17, NOTHING, _rng(), shares=(0.0, 0.0, 1.0))
    assert float(only.mask[:, 8, 8].mean()) < 0.2


def test_sources_are_drawn_by_weight_and_bring_their_share() -> None:
    full, quarter, never = np.ones((16, 16), np.int32), np.zeros((16, 16), np.int32), np.ones((16, 16), np.int32)
    quarter[:8, :8] = 1
    sources = [_source(full, weight=3.0), _source(quarter, weight=1.0), _source(never, weight=0.0)]
    sources[2].positive_share = 0.5
    shares = draw_batch(sources, 200, 16, NOTHING, _rng()).positive_share.flatten()
    assert 0.65 < float((shares == 1).float().mean()) < 0.85
    assert float((shares == 0.25).float().mean()) == pytest.approx(1 - float((shares == 1).float().mean()))


def test_a_batch_is_drawn_from_the_random_numbers_alone() -> None:
    first, second = (draw_batch([_source(_square())], 3, 16, AugmentConfig.strong(), _rng(4)) for _ in range(2))
    torch.manual_seed(99)
    third = draw_batch([_source(_square())], 3, 16, AugmentConfig.strong(), _rng(4))
    for other in (second, third):
        assert all(torch.equal(a, b) for a, b in zip(_parts(first), _parts(other), strict=True))


def _grey_and_colour() -> tuple[Source, Source]:
    image = _rng().random((24, 24, 1)).astype(np.float32)
    every = np.repeat(image, 3, -1)
    grey = Source(image, _square(), None, IntensityScale("robust", (0.5,), (0.2,)), 1.0)
    return grey, Source(every, _square(), None, IntensityScale("robust", (0.5,) * 3, (0.2,) * 3), 1.0)


def test_one_channel_makes_the_batch_that_three_alike_make() -> None:
    varied = AugmentConfig.strong().replace(composite=0.5)
    grey, colour = (draw_batch([source], 4, 24, varied, _rng()) for source in _grey_and_colour())
    assert grey.x.shape == (4, 1, 24, 24)
    for name, part in grey.tensors().items():
        three_alike = part.expand(-1, 3, -1, -1) if name == "x" else part
        torch.testing.assert_close(three_alike, colour.tensors()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_image_too_large_to_be_normalised_at_once_gives_the_same_crops(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = _rng().integers(0, 255, (24, 24, 1)).astype(dtype), _square()
    crops = []
    for most in (0, labels.size):
        monkeypatch.setattr("napari_osvos.sampling.NORMALISED_AT_ONCE", most)
        source = Source(image, labels, None, IntensityScale("robust", (90.0,), (50.0,)), 1.0)
        assert (source.image.dtype == torch.float32 and float(source.image.abs().max()) < 10) == (most > 0)
        crops.append(source.crop((9.0, 14.0), 16, AugmentConfig(), _rng()))
    torch.testing.assert_close(crops[0], crops[1])
