"""Contour snapping on drawn contours."""

from __future__ import annotations

import numpy as np

from napari_osvos.snapping import CUT, contour_regions, fitting_cut, snap


def _square() -> tuple[np.ndarray, np.ndarray]:
    """A contour around a square, and the square."""
    inside = np.zeros((40, 40), np.int32)
    inside[10:30, 10:30] = 1
    contour = np.zeros((40, 40), np.float32)
    contour[9:31, 9:31] = 0.9
    contour[11:29, 11:29] = 0.0
    return contour, inside


def test_a_closed_contour_makes_two_regions() -> None:
    contour, _ = _square()
    regions = contour_regions(contour)
    assert len(np.unique(regions)) == 2
    assert regions[20, 20] != regions[0, 0]


def test_weak_contours_part_nothing() -> None:
    contour, _ = _square()
    assert len(np.unique(contour_regions(0.2 * contour))) == 1
    assert len(np.unique(contour_regions(0 * contour))) == 1


def test_contours_that_are_the_same_everywhere_part_nothing() -> None:
    ramp = np.linspace(0.4, 0.9, 400, dtype=np.float32).reshape(20, 20)
    for contour in (np.full((20, 20), 0.5, np.float32), ramp):
        assert not contour_regions(contour).any()
    whole = np.ones((20, 20), np.int32)
    np.testing.assert_array_equal(snap(whole, np.full((20, 20), 0.5, np.float32)), whole)


def test_a_ragged_mask_takes_the_shape_of_the_contour() -> None:
    contour, inside = _square()
    ragged = inside * 3
    ragged[10:14, 12:20] = 0  # a bite, and a bump
    ragged[28:33, 20:24] = 3
    snapped = snap(ragged, contour)
    wrong = (snapped > 0) != (inside > 0)
    assert set(np.unique(snapped)) == {0, 3}
    assert wrong.sum() <= 4 * 22  # the contour itself, two pixels wide, goes to either side
    assert not wrong[12:28, 12:28].any()
    assert not wrong[:8].any()
    assert not wrong[32:].any()


def test_a_region_needs_more_than_half_of_its_pixels() -> None:
    contour, inside = _square()
    less = inside.copy()
    less[:, :23] = 0
    assert snap(less, contour).max() == 0
    more = inside.copy()
    more[:, :16] = 0
    assert (snap(more, contour)[12:28, 12:28] == 1).all()


def test_the_cut_is_half_of_what_the_network_says_on_painted_borders() -> None:
    contour, inside = _square()
    border = contour > 0
    assert abs(fitting_cut([(0.3 * contour, border), (0.3 * contour, border & (inside < 0))]) - 0.135) < 1e-6
    assert fitting_cut([]) == CUT
    faint = 0.3 * contour
    assert len(np.unique(contour_regions(faint))) == 1
    assert len(np.unique(contour_regions(faint, fitting_cut([(faint, border)])))) == 2
