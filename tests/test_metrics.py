"""Measures against answers counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import gaussian
from skimage.morphology import dilation, disk

from napari_osvos.metrics import (
    Statistics,
    boundary,
    contour_accuracy,
    default_tolerance,
    region_similarity,
    statistics,
)


@pytest.fixture
def square(drawn) -> np.ndarray:
    """A square of 3 x 3 in a frame of 6 x 8."""
    return drawn("........ .111.... .111.... .111.... ........ ........")[0]


def test_region_similarity_is_intersection_over_union(square):
    shifted = np.roll(square, 1, axis=1)  # 6 pixels shared, 12 in either
    assert region_similarity(square, shifted) == 6 / 12
    assert region_similarity(square * 7, square > 0) == 1


def test_region_similarity_of_empty_masks(square):
    nothing = np.zeros_like(square)
    assert region_similarity(nothing, nothing) == 1
    assert region_similarity(square, nothing) == 0
    assert region_similarity(nothing, square) == 0


def test_void_pixels_count_for_neither(square):
    shifted = np.roll(square, 1, axis=1)
    void = np.zeros(square.shape, bool)
    void[:, 4] = True  # the 3 pixels that only the shifted square has
    assert region_similarity(square, shifted, void) == 6 / 9
    assert region_similarity(square, np.zeros_like(square), square > 0) == 1


def test_boundary_is_one_pixel_thin(drawn, square):
    by_hand = drawn("1111.... 1..1.... 1..1.... 1111.... ........ ........")[0]
    np.testing.assert_array_equal(boundary(square), by_hand > 0)


def test_the_edge_of_the_frame_is_no_boundary():
    assert not boundary(np.ones((4, 5), bool)).any()
    half = np.zeros((3, 4), bool)
    half[:, :2] = True
    np.testing.assert_array_equal(np.argwhere(boundary(half)), [(0, 1), (1, 1), (2, 1)])


def test_contour_accuracy_counts_boundary_pixels_within_the_tolerance(square):
    shifted = np.roll(square, 1, axis=1)
    # 12 boundary pixels each: of the two rows of 4 they share 3 + 3, of the columns none
    shared = np.count_nonzero(boundary(square) & boundary(shifted))
    assert shared == 6
    assert contour_accuracy(square, shifted, tolerance=0) == pytest.approx(6 / 12)
    assert contour_accuracy(square, shifted, tolerance=1) == 1


def test_contour_accuracy_is_the_harmonic_mean_of_precision_and_recall(square):
    both = square.copy()
    both[1:4, 6] = 1  # one more object, of which the boundary lies in columns 5 and 6
    extra = np.count_nonzero(boundary(both)) - 12
    assert extra == 8
    precision = 12 / 20  # recall is 1
    assert contour_accuracy(both, square, tolerance=0) == pytest.approx(2 * precision / (precision + 1))
    assert contour_accuracy(square, both, tolerance=0) == pytest.approx(2 * precision / (precision + 1))


def test_the_tolerance_is_a_euclidean_distance():
    one, other = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    one[:4, :4], other[:5, :5] = True, True  # the corners of the boundaries are sqrt(2) apart
    recall = 8 / 9  # all but that corner; precision is 1
    assert contour_accuracy(one, other, tolerance=1) == pytest.approx(2 * recall / (1 + recall))
    assert contour_accuracy(one, other, tolerance=2**0.5) == 1


@pytest.mark.parametrize("tolerance", [0, 1, 2, 5])
def test_contour_accuracy_equals_dilation_with_a_disc(tolerance):
    # the words of the paper: pixels of one boundary inside the other, dilated
    rng = np.random.default_rng(0)
    found, wanted = (gaussian(rng.standard_normal((40, 50)), 2) > 0.05 for _ in range(2))
    ours, theirs = boundary(found), boundary(wanted)
    precision = (ours & dilation(theirs, disk(tolerance))).sum() / ours.sum()
    recall = (theirs & dilation(ours, disk(tolerance))).sum() / theirs.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert contour_accuracy(found, wanted, tolerance=tolerance) == pytest.approx(expected)


@pytest.mark.parametrize(("mask", "truth", "expected"), [(0, 0, 1), (1, 1, 1), (1, 0, 0), (0, 1, 0)])
def test_contour_accuracy_without_any_boundary(mask, truth, expected):
    assert contour_accuracy(np.full((5, 5), mask), np.full((5, 5), truth)) == expected


def test_contour_accuracy_with_one_boundary_is_0(square):
    assert contour_accuracy(square, np.zeros_like(square)) == 0
    assert contour_accuracy(np.ones_like(square), square) == 0


def test_contour_accuracy_leaves_void_boundaries_out(square):
    both = square.copy()
    both[1:4, 6] = 1
    void = np.zeros(square.shape, bool)
    void[:, 5:] = True
    assert contour_accuracy(both, square, void, tolerance=0) == 1


def test_what_is_void_is_background_before_boundaries_are_taken(square):
    void = np.zeros(square.shape, bool)
    void[:, -2:] = True
    reaching = square.copy()
    reaching[void] = 1  # void in the truth, and found: for neither
    assert contour_accuracy(reaching, square, void, tolerance=0) == 1
    assert contour_accuracy(square, reaching, void, tolerance=0) == 1
    assert contour_accuracy(square & ~void, void, void) == 0


def test_slices_of_a_stack_have_boundaries_of_their_own(square):
    nothing = np.zeros_like(square)
    found, wanted = np.stack([square, nothing]), np.stack([square, square])  # P = 12/12, R = 12/24
    assert contour_accuracy(found, wanted, tolerance=2) == pytest.approx(2 * 0.5 / 1.5)
    assert region_similarity(found, wanted) == 0.5


def test_the_default_tolerance_is_that_of_davis():
    assert default_tolerance((480, 854)) == 8
    assert default_tolerance((30, 1024, 1024)) == 12


def test_statistics_of_eight_frames():
    # quarters as in DAVIS: frames 0-2 and 5-7
    found = statistics([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert found.mean == pytest.approx(0.65)
    assert found.recall == 5 / 8
    assert found.decay == pytest.approx(0.9 - 0.4)


def test_statistics_of_more_than_256_frames():
    values = np.r_[np.ones(200), np.zeros(200)]
    assert statistics(values) == Statistics(mean=0.5, recall=0.5, decay=1.0)


def test_statistics_of_one_frame():
    assert statistics([0.7]) == Statistics(mean=0.7, recall=1.0, decay=0.0)


def test_bad_input_gets_its_sentence(square):
    with pytest.raises(ValueError, match=r"same shape \(Y, X\) or \(Z, Y, X\), not \(6, 8\) and \(6, 7\)"):
        region_similarity(square, square[:, :-1])
    with pytest.raises(ValueError, match=r"void pixels have the shape of the mask, \(6, 8\), not \(2, 2\)"):
        region_similarity(square, square, np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="0 pixels or more, not -1"):
        contour_accuracy(square, square, tolerance=-1)
    with pytest.raises(ValueError, match="no frames"):
        statistics([])
