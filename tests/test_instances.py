"""Foreground cut into instances, on drawn landscapes whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos.instances import (
    Basins,
    SeparationConfig,
    basins,
    choose_separation,
    landscape,
    panoptic_quality,
    separate,
    separation_of_paint,
    tidy,
)

RADIUS = 10.0


def _discs(*centres: tuple[float, ...], shape: tuple[int, ...] = (48, 80), radius: float = RADIUS) -> np.ndarray:
    """Labels of discs (balls); each pixel belongs to the nearest centre."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = np.stack([np.linalg.norm(grid - np.array(c), axis=-1) for c in centres])
    labels = distance.argmin(0) + 1
    labels[distance.min(0) > radius] = 0
    return labels.astype(np.int32)


def _probability(labels: np.ndarray) -> np.ndarray:
    return (labels > 0).astype(np.float32) * 0.9


def test_two_touching_cells_are_two_instances() -> None:
    truth = _discs((24, 24), (24, 42))
    found = separate(_probability(truth), 0.5, None, None, RADIUS, SeparationConfig())
    assert set(np.unique(found)) == {0, 1, 2}
    assert panoptic_quality(found, truth) > 0.95


def test_cells_that_only_a_contour_parts_are_two_instances() -> None:
    truth = np.zeros((30, 60), np.int32)
    truth[5:25, 5:30], truth[5:25, 30:55] = 1, 2  # side by side: the mask has no waist
    contour = np.zeros(truth.shape, np.float32)
    contour[5:25, 29:31] = 0.9
    whole = separate(_probability(truth), 0.5, None, None, RADIUS, SeparationConfig())
    assert whole.max() == 1
    found = separate(_probability(truth), 0.5, contour, None, RADIUS, SeparationConfig())
    assert panoptic_quality(found, truth) > 0.95


def test_cells_that_only_the_learned_distance_parts_are_two_instances() -> None:
    truth = np.zeros((30, 60), np.int32)
    truth[5:25, 5:30], truth[5:25, 30:55] = 1, 2
    columns = np.abs((np.arange(60) - 5) % 25 - 12) / 12
    distance = np.where(truth > 0, 1 - columns, 0).astype(np.float32)
    found = separate(_probability(truth), 0.5, None, distance, RADIUS, SeparationConfig())
    assert panoptic_quality(found, truth) > 0.95


def test_a_ragged_cell_stays_whole_unless_shallow_valleys_count() -> None:
    # a stadium of two discs of which the waist is hardly narrower
    truth = (_discs((24, 30), (24, 37)) > 0).astype(np.int32)
    assert separate(_probability(truth), 0.5, None, None, RADIUS, SeparationConfig()).max() == 1


def test_an_empty_frame_a_full_frame_and_a_single_pixel() -> None:
    for shape in ((20, 30), (3, 20, 30), (1, 1), (1, 9)):
        nothing = np.zeros(shape, np.float32)
        assert separate(nothing, 0.5, nothing, nothing, RADIUS, SeparationConfig()).max() == 0
        assert set(np.unique(separate(nothing + 1, 0.5, None, None, RADIUS, SeparationConfig()))) == {1}
    lone = np.zeros((9, 9), np.float32)
    lone[4, 4] = 1
    assert separate(lone, 0.5, None, None, RADIUS, SeparationConfig()).sum() == 1


@pytest.mark.parametrize("learned", [0.5, 1.0])
def test_cells_that_fill_the_frame_are_parted_by_contour_and_distance(learned: float) -> None:
    within = np.abs((np.arange(64) % 16) - 7.5)
    middle = 1 - np.maximum(within[:, None], within[None]) / 8  # 16 squares of 16 px
    contour = (middle < 0.1).astype(np.float32)
    full, config = np.full((64, 64), 0.9, np.float32), SeparationConfig(learned=learned)
    labels = separate(full, 0.5, contour, middle.astype(np.float32), 8.0, config)
    assert labels.max() == 16
    assert labels.min() == 1
    assert (separate(full, 0.5, None, None, 8.0, config) == 1).all()


def test_cells_of_a_stack_are_cut_apart_in_depth_too() -> None:
    truth = _discs((10, 12, 12), (10, 12, 28), (24, 12, 12), shape=(34, 24, 40), radius=8.0)
    found = separate(_probability(truth), 0.5, None, None, 8.0, SeparationConfig())
    assert found.max() == 3
    assert panoptic_quality(found, truth) > 0.9


@pytest.mark.parametrize("slices", [1, 3, 9])
def test_cells_of_few_slices_are_cut_apart_as_those_of_a_plane(slices: int) -> None:
    y, x = np.mgrid[:60, :110]
    plane = np.minimum((y - 30) ** 2 + (x - 35) ** 2, (y - 30) ** 2 + (x - 71) ** 2) <= 400
    stack = np.zeros((slices + 2, 60, 110), np.float32)
    stack[1:-1] = plane
    config = SeparationConfig(learned=0.0)
    expected = separate(plane.astype(np.float32), 0.5, None, None, 20.0, config)
    assert expected.max() == 2
    found = separate(stack, 0.5, None, None, 20.0, config)
    assert found.max() == 2
    for z in range(1, slices + 1):
        assert panoptic_quality(found[z], expected) > 0.98  # pixels of the waist may go to either


def test_basins_are_merged_by_the_depth_of_the_valley_between_them() -> None:
    heights = np.array([[0, 3, 2, 5, 1, 4, 0]], np.float32)
    found = basins(heights, heights > 0)
    assert isinstance(found, Basins)
    assert found.labels.max() == 3
    # the pass at 2 lies 1 below the peak of 3, the pass at 1 lies 3 below the peak of 4
    assert sorted(found.depths.tolist()) == [1.0, 3.0]
    assert found.merged(0.5).max() == 3
    two = found.merged(1.5)
    assert two[0, 1] == two[0, 3] != two[0, 5]
    assert found.merged(3.5).max() == 1


def test_small_objects_are_left_out_and_holes_filled() -> None:
    labels = np.zeros((12, 20), np.int32)
    labels[1:8, 1:8], labels[4, 4], labels[10, 15] = 3, 0, 8
    kept = tidy(labels, SeparationConfig(smallest=2, fill_holes=True))
    assert set(np.unique(kept)) == {0, 1}
    assert (kept[1:8, 1:8] == 1).all()
    assert tidy(labels, SeparationConfig())[4, 4] == 0
    assert tidy(labels, SeparationConfig()).max() == 2


def test_paint_says_how_small_objects_are_and_whether_they_have_holes() -> None:
    full = _discs((24, 20), (24, 60))
    ring = full.copy()
    ring[24, 20] = 0
    assert separation_of_paint([full]).fill_holes
    assert not separation_of_paint([full, ring]).fill_holes
    assert 0 < separation_of_paint([full]).smallest <= 0.1 * np.pi * RADIUS**2 + 1
    assert separation_of_paint([]) == SeparationConfig()


def test_large_ids_take_no_memory() -> None:
    ring = np.pad(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.int32), 4)
    for frame in (ring, _discs((24, 24))):
        large = np.where(frame > 0, 2**31 - 1, 0).astype(np.int32)
        assert separation_of_paint([large]) == separation_of_paint([frame])
        maps, known = (_probability(frame), None, None), np.ones(frame.shape, bool)
        assert choose_separation([(maps, large, known)], 0.5, 4.0) == choose_separation(
            [(maps, frame, known)], 0.5, 4.0
        )


def test_settings_are_changed_only_where_that_brings_the_paint_out() -> None:
    apart = _discs((24, 20), (24, 60))
    good = ((_probability(apart), None, None), apart, np.ones(apart.shape, bool))
    assert choose_separation([good], 0.5, RADIUS) == SeparationConfig()
    # one object of two lobes, which the default cuts in two
    dumbbell = (_discs((24, 24), (24, 38)) > 0).astype(np.int32)
    lobes = ((_probability(dumbbell), None, None), dumbbell, np.ones(dumbbell.shape, bool))
    chosen = choose_separation([lobes], 0.5, RADIUS)
    assert chosen.depth > SeparationConfig().depth
    assert separate(_probability(dumbbell), 0.5, None, None, RADIUS, chosen).max() == 1


def test_the_landscape_is_low_outside_and_at_contours() -> None:
    mask = _discs((24, 24)) > 0
    contour = np.zeros(mask.shape, np.float32)
    contour[:, 24] = 1.0
    plain = landscape(mask, None, None, RADIUS, SeparationConfig(smoothing=0.0))
    lowered = landscape(mask, contour, None, RADIUS, SeparationConfig(smoothing=0.0))
    assert plain[~mask].max() < plain[mask].min()
    assert plain[24, 24] == pytest.approx(1.0, abs=0.1)
    assert lowered[24, 24] == pytest.approx(plain[24, 24] - 0.5)


def test_panoptic_quality_is_what_one_counts() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
    found = np.array([[5, 5, 5, 0, 0, 0, 0, 7, 7]])
    # 1 matches with 3 / 4; 2 and 3 are missed (3 has IoU 1 / 2, which is not above it), 7 is spurious
    assert panoptic_quality(found, truth) == pytest.approx(0.75 / (1 + 3 / 2))
    assert panoptic_quality(truth * 0, truth * 0) == 1
    assert panoptic_quality(truth * 0, truth) == 0
    known = np.array([[True] * 4 + [False] * 5])
    assert panoptic_quality(found, truth, known) == pytest.approx(0.75)
