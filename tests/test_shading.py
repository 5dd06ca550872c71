"""Shading from one side is told from texture, from few objects, and from objects that are bright in the middle."""

from __future__ import annotations

import numpy as np

from napari_osvos.shading import shading_direction


def _discs(shade: tuple[float, float], count: int = 9, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Discs of radius 6 on a grid, brighter towards `shade`, (Y, X, 1) and (Y, X)."""
    y, x = np.mgrid[:60, :60]
    labels = np.zeros((60, 60), int)
    image = np.random.default_rng(0).normal(0, noise, (60, 60))
    for i in range(count):
        top, left = 10 + 20 * (i // 3), 10 + 20 * (i % 3)
        inside = (y - top) ** 2 + (x - left) ** 2 <= 36
        labels[inside] = i + 1
        image[inside] += (shade[0] * (y - top) + shade[1] * (x - left))[inside] / 6
    return image[..., None], labels


def test_shading_from_one_side_is_found_with_its_direction() -> None:
    image, labels = _discs((0.0, 1.0))
    found = shading_direction([image], [labels])
    assert found is not None
    assert found[1] > 0.5
    assert abs(found[0]) < 0.1


def test_texture_without_direction_is_none() -> None:
    assert shading_direction(*([part] for part in _discs((0.0, 0.0)))) is None


def test_four_objects_may_agree_by_chance() -> None:
    assert shading_direction(*([part] for part in _discs((1.0, 0.0), count=4))) is None


def test_a_constant_movie_and_nan_do_no_harm() -> None:
    image, labels = _discs((1.0, 0.0))
    assert shading_direction([np.zeros_like(image)], [labels]) is None
    image[0, 0] = np.nan
    assert shading_direction([image], [labels]) is not None


def test_pixels_that_are_not_finite_within_objects_do_not_count() -> None:
    for shade in ((0.0, 1.0), (0.0, 0.0)):
        image, labels = _discs(shade)
        clean = shading_direction([image], [labels])
        image[10, 10], image[30, 30], image[50, 50] = np.inf, -np.inf, np.nan
        found = shading_direction([image], [labels])
        assert (found is None) is (clean is None)
        if clean is not None:
            assert np.allclose(found, clean, atol=0.1)
