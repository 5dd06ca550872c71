"""Simulated stills: what the training relies on."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos.shapes import FAMILIES, edges, family_of_shapes, stamp, tessellate
from napari_osvos.simulate import simulate_still
from napari_osvos.textures import band_noise, blur, camera_noise, illumination, stripes


def stills(count: int, shape: tuple[int, int] = (64, 64)) -> list[tuple[np.ndarray, np.ndarray]]:
    return [simulate_still(np.random.default_rng([1, k]), shape) for k in range(count)]


def test_shapes_and_dtypes():
    for image, labels in stills(3, (48, 80)):
        assert image.shape == labels.shape == (48, 80)
        assert (image.dtype, labels.dtype) == (np.uint8, np.uint16)


@pytest.mark.parametrize("shape", [(16, 16), (17, 129), (101, 33)])
def test_odd_and_tiny_sizes(shape):
    for image, labels in stills(12, shape):
        assert image.shape == labels.shape == shape


def test_the_same_seed_gives_the_same_image():
    (first, labels), (again, same) = (simulate_still(np.random.default_rng(5), (64, 64)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(labels, same)
    assert not np.array_equal(first, simulate_still(np.random.default_rng(6), (64, 64))[0])


def test_objects_of_either_polarity_and_images_without_any():
    signs, empty = [], 0
    for image, labels in stills(60):
        inside = labels > 0
        empty += not inside.any()
        if inside.any() and not inside.all():
            signs.append(float(image[inside].mean()) - float(image[~inside].mean()))
    assert min(signs) < -20
    assert max(signs) > 20
    assert 0 < empty < 12


def test_labels_count_up_from_1():
    for _, labels in stills(10):
        present = np.unique(labels[labels > 0])
        assert present.size == 0 or present.max() < 3 * present.size + 3


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_of_shapes_has_about_the_size_asked_for(family):
    rng = np.random.default_rng(0)
    windows = [family_of_shapes(rng, family)(40.0) for _ in range(10)]
    areas = [np.count_nonzero(window) for window in windows]
    assert 100 < np.median(areas) < 2 * 1257  # the disc has 1257
    if family in ("blob", "ellipse"):
        assert np.median(areas) == pytest.approx(1257, rel=0.2)
    for window in windows:  # no object is cut by its window
        assert not window[[0, -1]].any()
        assert not window[:, [0, -1]].any()


def test_an_unknown_family_gets_its_sentence():
    with pytest.raises(ValueError, match="Unknown family of shapes 'star': choose one of blob, ellipse"):
        family_of_shapes(np.random.default_rng(0), "star")


def test_stamp_keeps_to_the_background():
    labels = np.zeros((12, 12), np.uint16)
    window = np.ones((4, 4), bool)
    assert stamp(labels, window, (4, 4), 1)
    assert np.count_nonzero(labels == 1) == 16
    assert stamp(labels, window, (4, 7), 2)  # overlaps by one column, which stays with 1
    assert np.count_nonzero(labels == 1) == 16
    assert np.count_nonzero(labels == 2) == 12
    assert not stamp(labels, window, (4, 4), 3)
    assert not stamp(labels, window, (8, 4), 3, gap=1)  # touches 1 from below
    assert stamp(labels, window, (9, 4), 3, gap=1)
    assert not stamp(labels, window, (90, 4), 4)


def test_tessellation_fills_the_plane():
    labels = tessellate(np.random.default_rng(0), (60, 60), 15.0, gap=0, kept=1.0)
    assert (labels > 0).all()
    assert labels.max() > 6
    part = tessellate(np.random.default_rng(0), (60, 60), 15.0, gap=3, kept=0.5)
    assert 0.1 < (part > 0).mean() < 0.7


def test_edges(drawn):
    labels = drawn("11. 12. ...")[0]
    np.testing.assert_array_equal(edges(labels), drawn(".1. 11. ...")[0] + drawn(".1. ... ...")[0] > 0)


def test_textures_are_normalised():
    rng = np.random.default_rng(0)
    noise = band_noise(rng, (90, 64), 8.0)
    assert noise.dtype == np.float32
    assert noise.shape == (90, 64)
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.std()) == pytest.approx(1, abs=1e-3)
    assert float(stripes(rng, (64, 64), 8.0).std()) == pytest.approx(1, abs=0.1)
    light = illumination(rng, (40, 50), 0.2)
    assert float(light.mean()) == pytest.approx(1, abs=0.05)
    assert light.min() > 0


def test_texture_scale_and_direction():
    rng = np.random.default_rng(0)
    fine, coarse = band_noise(rng, (64, 64), 4.0), band_noise(rng, (64, 64), 16.0)
    assert np.abs(np.diff(fine)).mean() > 2 * np.abs(np.diff(coarse)).mean()
    along_x = band_noise(rng, (64, 64), 6.0, angle=0.0, stretch=5.0)
    assert np.abs(np.diff(along_x, axis=0)).mean() > 2 * np.abs(np.diff(along_x, axis=1)).mean()


def test_noise_has_the_strength_asked_for():
    rng = np.random.default_rng(0)
    flat = np.full((128, 128), 0.25, np.float32)
    assert camera_noise(rng, flat, read=0.1).std() == pytest.approx(0.1, rel=0.05)
    assert camera_noise(rng, flat, shot=0.1).std() == pytest.approx(0.05, rel=0.05)
    assert camera_noise(rng, flat, correlated=0.1).std() == pytest.approx(0.1, rel=0.1)
    assert blur(flat, 3.0) == pytest.approx(flat, abs=1e-5)


def test_bad_shapes_get_their_sentence():
    with pytest.raises(ValueError, match=r"at least 16 pixels each, not \(8, 64\)"):
        simulate_still(np.random.default_rng(0), (8, 64))
