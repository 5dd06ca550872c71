"""Positions and colours of the strip, the order of suggestions, and adopting; no screen is needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_osvos.adopting import adopt
from napari_osvos.next_frames import NextFrames
from napari_osvos.strip import StripScale, doubts
from napari_osvos.suggest import Suggestion


@pytest.mark.parametrize("n_frames", [1, 2, 7, 5000])
def test_a_frame_is_found_where_it_is_drawn(n_frames: int) -> None:
    scale = StripScale(12.5, 700 / n_frames, n_frames)
    assert [scale.frame_at(scale.centre(t)) for t in range(n_frames)] == list(range(n_frames))
    assert scale.frame_at(-100) == 0
    assert scale.frame_at(10_000) == n_frames - 1


def test_wide_frames_fill_their_columns() -> None:
    columns = StripScale(2.0, 4.0, 2).columns(np.array([0.1, np.nan]), 10)
    np.testing.assert_array_equal(columns, [0.1] * 4 + [np.nan] * 6)


def test_of_frames_that_share_a_column_the_most_doubtful_is_seen() -> None:
    n_frames = 5000
    scale = StripScale(10.0, 600 / n_frames, n_frames)
    values = np.full(n_frames, 0.1)
    values[3333] = 0.9
    columns = scale.columns(values, 700)
    seen = np.flatnonzero(columns == 0.9)
    assert len(seen) == 1
    assert abs(seen[0] + 0.5 - scale.centre(3333)) <= 0.5
    assert np.isnan(columns[:9]).all()
    assert np.isnan(columns[612:]).all()
    assert not np.isnan(columns[11:608]).any()


def test_doubt_grows_with_what_is_expected_to_be_wrong() -> None:
    found = doubts({0: 1.0, 1: 0.9, 2: 0.5, 3: 0.1, 9: 0.3}, 5)
    np.testing.assert_allclose(found, [0, 0.2, 1, 1, np.nan])


def test_suggestions_are_gone_through_in_order_without_those_annotated() -> None:
    way = NextFrames([Suggestion(t, 0.5, 0.5, "borders uncertain") for t in (3, 1, 4)])
    assert [way.go(()).frame for _ in range(4)] == [3, 1, 4, 3]  # type: ignore[union-attr]
    assert way.shown((), in_view=3).frame == 3  # type: ignore[union-attr]
    assert way.shown((), in_view=0).frame == 1  # type: ignore[union-attr]
    assert way.go({1, 3}).frame == 4  # type: ignore[union-attr]
    assert way.go({1, 3, 4}) is None
    assert NextFrames().shown((), 0) is None


def test_classes_fill_what_is_not_painted(drawn: Callable[..., np.ndarray]) -> None:
    prediction, paint = drawn("1122 .3.."), drawn("2... ...4")
    after = adopt(prediction, paint, objects=False)
    np.testing.assert_array_equal(after, drawn("2122 .3.4"))
    assert after.dtype == paint.dtype


def test_objects_that_are_painted_already_are_left_out_and_scribbles_completed(
    drawn: Callable[..., np.ndarray],
) -> None:
    prediction = drawn("111.2222.333")
    paint = drawn("77...8......")
    after = adopt(prediction, paint, objects=True)
    np.testing.assert_array_equal(after, drawn("77..8888.333"))


def test_new_objects_get_numbers_that_no_painted_one_has(drawn: Callable[..., np.ndarray]) -> None:
    prediction, paint = drawn("111.222.333"), drawn("...........2")[..., :11]
    paint[0, 0, 3] = 2
    kept = adopt(prediction, paint, objects=True, keep_ids=True, largest=40)
    assert kept[0, 0].tolist() == [1, 1, 1, 2, 41, 41, 41, 0, 3, 3, 3]
    anew = adopt(prediction, paint, objects=True, keep_ids=False, largest=40)
    assert anew[0, 0].tolist() == [41, 41, 41, 2, 42, 42, 42, 0, 43, 43, 43]


def test_a_label_too_large_for_the_paint_is_named() -> None:
    with pytest.raises(ValueError, match="needs the label 300; the layer of paint holds 255 at most"):
        adopt(np.full((2, 2), 300, np.uint16), np.zeros((2, 2), np.uint8), objects=False)
    with pytest.raises(ValueError, match="shape"):
        adopt(np.zeros((2, 2), np.uint16), np.zeros((2, 3), np.uint8), objects=False)
