"""Raw intensities of any dtype and contrast become comparable network input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_osvos.clip import Clip
from napari_osvos.intensity import PERCENTILES, IntensityScale, movie_intensity


def _movie(background: float = 100, brightness: float = 80, noise: float = 5) -> np.ndarray:
    """Frames (3, 24, 32), float64, of whole numbers: one bright square in five."""
    rng = np.random.default_rng(0)
    frames = background + rng.normal(0, noise, (3, 24, 32))
    frames[:, 4:16, 6:18] += brightness
    return frames.round()


def _input(frames: np.ndarray, axes: str | None = None, kind: str = "robust") -> Tensor:
    clip = Clip(frames, axes)
    raw = torch.from_numpy(np.moveaxis(clip.plane(0).astype(np.float64), -1, 0).copy())
    return movie_intensity(clip, kind).normalise(raw)


def _raw(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames[0][None])


def test_the_median_becomes_zero_and_a_spread_one() -> None:
    values = np.random.default_rng(0).normal(1000, 20, (2, 50, 50))
    z = torch.sinh(_input(values))
    assert float(z.median()) == pytest.approx(0, abs=0.03)
    assert float(z.std()) == pytest.approx(1, rel=0.05)


def test_dim_objects_stay_visible_beside_bright_ones() -> None:
    frames = np.random.default_rng(0).normal(100, 5, (1, 40, 40))
    frames[0, 5:10, 5:10] += 1000
    frames[0, 20:25, 20:25] += 100
    z = _input(frames)[0]
    assert float(z[20:25, 20:25].mean()) > 1
    assert float(z[5:10, 5:10].mean()) > float(z[20:25, 20:25].mean())


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)
def test_the_dtype_does_not_matter(dtype: Any) -> None:
    frames = _movie()
    torch.testing.assert_close(_input(frames.astype(dtype)), _input(frames), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("factor", "offset"), [(1, 1000), (200, 0), (257, 100)])
def test_gain_and_offset_of_the_camera_do_not_matter(factor: int, offset: int) -> None:
    frames = _movie()
    other = (factor * frames + offset).astype(np.uint16)
    torch.testing.assert_close(_input(other), _input(frames), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_large_numbers_keep_their_digits(dtype: Any) -> None:
    """Next to 2e9 float32 knows every 128th number only."""
    frames = _movie()
    torch.testing.assert_close(_input((frames + 2_000_000_037).astype(dtype)), _input(frames), atol=1e-6, rtol=1e-6)


def test_integers_may_stay_integers() -> None:
    frames = (_movie() + 2_000_000_037).astype(np.int32)
    scale = movie_intensity(Clip(frames), "robust")
    torch.testing.assert_close(scale.normalise(_raw(frames)), scale.normalise(_raw(frames.astype(np.float64))))


def test_inverse_contrast_is_a_change_of_sign() -> None:
    frames = _movie()
    torch.testing.assert_close(_input((255 - frames).astype(np.uint8)), -_input(frames.astype(np.uint8)))


@pytest.mark.parametrize("kind", ["robust", "imagenet-v1"])
def test_few_pixels_on_a_blank_background_keep_their_contrast(kind: str) -> None:
    frames = np.zeros((2, 100, 100), np.uint16)
    frames[:, 40:44, 40:44] = 500
    frames[:, 60:64, 60:64] = 4000  # 0.3 % of the pixels in all
    scale = movie_intensity(Clip(frames), kind)
    net = _input(frames, kind=kind)[0]
    ground, dim, bright = net[0, 0], net[41, 41], net[61, 61]
    assert bright - ground < 5
    assert dim - ground > 0.2
    assert bright - dim > 0.5
    assert IntensityScale.from_image(frames[0][..., None], kind) == scale


def test_a_constant_background_does_not_widen_the_scale() -> None:
    """Of many fluorescence movies more than three quarters are exactly zero."""
    frames = np.zeros((2, 40, 40), np.uint16)
    frames[:, :12, :12] = 1000
    frames[0, 0, 0] = 60_000  # a hot pixel
    scale = movie_intensity(Clip(frames), "robust")
    assert scale.centre == (0,)
    assert scale.spread == (50,)  # a twentieth of 1000: neither the quartiles nor the hot pixel
    assert scale == IntensityScale.from_image(frames.reshape(80, 40, 1))


@pytest.mark.parametrize("kind", ["robust", "imagenet-features"])
@pytest.mark.parametrize(("value", "dtype"), [(0, np.uint8), (7, np.uint8), (2**31 - 1, np.int32), (1e-30, np.float64)])
def test_a_constant_movie_is_constant_and_finite(kind: str, value: float, dtype: Any) -> None:
    z = _input(np.full((2, 5, 6), value, dtype), kind=kind)
    assert z.shape == (3, 5, 6)
    assert z.isfinite().all()
    assert (z == z[0, 0, 0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_that_are_not_finite_do_not_disturb_the_others(dtype: Any) -> None:
    frames = _movie().astype(dtype)
    broken = frames.copy()
    broken[0, 0, :5] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    z = _input(broken)
    assert z[0, 0, 0] == 0
    assert z[0, 0, 1] == -z[0, 0, 2] > 5
    assert z.isfinite().all()
    torch.testing.assert_close(z[:, 1:], _input(frames)[:, 1:], atol=0.02, rtol=0.02)
    still = np.moveaxis(broken[:1], 0, -1)
    assert np.isfinite([*IntensityScale.from_image(still).centre, *IntensityScale.from_image(still).spread]).all()


def test_a_still_without_a_finite_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="channel without a finite pixel"):
        IntensityScale.from_image(np.full((4, 4, 1), np.nan))


def test_one_to_four_channels_become_three() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (1, 6, 7, 4)).astype(np.uint8)
    alone = [_input(frames[..., c])[0] for c in range(4)]
    one, two, three, four = (_input(frames[..., :n], "TYXC") for n in (1, 2, 3, 4))
    assert all(z.shape == (3, 6, 7) for z in (one, two, three, four))
    assert torch.equal(one, torch.stack([alone[0]] * 3))
    torch.testing.assert_close(two, torch.stack([alone[0], alone[1], (alone[0] + alone[1]) / 2]))
    assert torch.equal(three, torch.stack(alone[:3]))
    assert torch.equal(four, three)


def test_each_channel_has_a_scale_of_its_own() -> None:
    frames = _movie()
    both = np.stack([frames, 10 * frames + 500], -1)
    z = _input(both, "TYXC")
    torch.testing.assert_close(z[0], z[1], atol=1e-5, rtol=1e-5)


def test_the_display_range_is_0_to_255_for_8_bit_movies_and_the_outer_percentiles_otherwise() -> None:
    frames = _movie().astype(np.uint8)
    z = _input(frames, kind="imagenet-features")
    torch.testing.assert_close((z[0] + 1) * 127.5, torch.from_numpy(frames[0]).float(), atol=1e-4, rtol=0)
    low, high = np.percentile(frames.astype(np.uint16) * 200, (0.5, 99.5))
    scale = movie_intensity(Clip(frames.astype(np.uint16) * 200), "imagenet-v1")
    assert scale.centre == pytest.approx(((low + high) / 2,))
    assert scale.spread == pytest.approx(((high - low) / 2,))
    z = scale.normalise(torch.tensor([[[low, high, 0.0, 1e6]]]))
    assert z[0, 0].tolist() == pytest.approx([-1, 1, -1, 1])


def test_the_scale_of_a_still_is_that_of_a_movie_of_it() -> None:
    frame = _movie()[:1]
    scale = IntensityScale.from_image(np.moveaxis(frame, 0, -1))
    assert scale == movie_intensity(Clip(frame), "robust")
    assert scale == IntensityScale.from_percentiles(np.percentile(frame, PERCENTILES)[None])
