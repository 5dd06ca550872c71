"""Objects cut apart in blocks are those of the whole frame, their numbers included."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from napari_osvos import blockwise
from napari_osvos.blockwise import separate_any_size, snap_any_size
from napari_osvos.instances import SeparationConfig, separate
from napari_osvos.snapping import snap

RADIUS = 8.0


def _colony(shape: tuple[int, ...], spacing: int, seed: int = 0) -> list[np.ndarray]:
    """Foreground, contour and distance of ragged discs about a grid."""
    rng = np.random.default_rng(seed)
    centres = np.zeros(shape, bool)
    for place in np.ndindex(*(n // spacing for n in shape)):
        centres[tuple(np.array(place) * spacing + rng.integers(2, spacing - 2, len(shape)))] = True
    depth = ndimage.distance_transform_edt(~centres)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    foreground = (1 - (depth - RADIUS + 2) / 4 + noise).clip(0, 1)
    contour = np.exp(-(((depth - RADIUS) / 2) ** 2)) + noise
    return [part.clip(0, 1).astype(np.float32) for part in (foreground, contour, 1 - depth / RADIUS + noise)]


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "WHOLE", 1000)
    monkeypatch.setattr(blockwise, "EDGE", 128)
    monkeypatch.setattr(blockwise, "ROWS", 5000)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("fill_holes", [False, True])
@pytest.mark.parametrize("spacing", [30, 17, 12], ids=["sparse", "touching", "closed layer"])
def test_blocks_give_the_labels_of_the_whole(spacing: int, fill_holes: bool) -> None:
    foreground, contour, distance = _colony((390, 410), spacing)
    config = SeparationConfig(smallest=12, fill_holes=fill_holes)
    expected = separate(foreground, 0.5, contour, distance, RADIUS, config)
    assert expected.max() > 50
    found = separate_any_size(foreground, 0.5, contour, distance, RADIUS, config)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("_small_blocks")
def test_blocks_of_a_stack_give_the_labels_of_the_whole() -> None:
    foreground, contour, distance = _colony((12, 150, 170), 24)
    expected = separate(foreground, 0.5, contour, distance, RADIUS, SeparationConfig())
    found = separate_any_size(foreground, 0.5, contour, distance, RADIUS, SeparationConfig())
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("_small_blocks")
def test_an_object_larger_than_any_block_is_one() -> None:
    everything = np.ones((400, 380), np.float32)
    for foreground in (everything, np.pad(everything[20:-20, 20:-20], 20)):
        found = separate_any_size(foreground, 0.5, None, None, RADIUS, SeparationConfig())
        np.testing.assert_array_equal(found, foreground)
    assert separate_any_size(0 * everything, 0.5, None, None, RADIUS, SeparationConfig()).max() == 0


@pytest.mark.usefixtures("_small_blocks")
def test_half_precision_changes_hardly_a_pixel() -> None:
    maps = _colony((390, 410), 17)
    half = [part.astype(np.float16) for part in maps]
    expected = separate(maps[0], 0.5, maps[1], maps[2], RADIUS, SeparationConfig())
    found = separate_any_size(half[0], 0.5, half[1], half[2], RADIUS, SeparationConfig())
    assert ((found > 0) != (expected > 0)).mean() < 1e-3
    assert abs(int(found.max()) - int(expected.max())) <= 3


@pytest.mark.usefixtures("_small_blocks")
def test_snapping_in_blocks_is_that_of_the_whole_for_objects_that_a_block_sees() -> None:
    foreground, contour, _ = _colony((300, 310), 30)
    classes = (foreground >= 0.5).astype(np.int32)
    expected = snap(classes, contour, 0.3)
    assert (classes != expected).sum() > 1000
    snap_any_size(classes, contour, 0.3, RADIUS)
    np.testing.assert_array_equal(classes, expected)


def test_blocks_take_less_memory_than_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "WHOLE", 1000)
    monkeypatch.setattr(blockwise, "EDGE", 256)
    foreground, contour, distance = (np.tile(part, (2, 2)) for part in _colony((400, 400), 30))
    peaks = []
    for cut in (separate, separate_any_size):
        tracemalloc.start()
        cut(foreground, 0.5, contour, distance, RADIUS, SeparationConfig())
        peaks.append(tracemalloc.get_traced_memory()[1] / foreground.size)
        tracemalloc.stop()
    assert peaks[1] < 0.7 * peaks[0]
