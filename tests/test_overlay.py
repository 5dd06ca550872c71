"""Pictures of movies, checked by their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from napari_osvos.clip import Clip
from napari_osvos.overlay import (
    EXTRA,
    MISSED,
    OBJECTS,
    PREDICTED,
    as_picture,
    draw_strips,
    error_map,
    movie_strip,
    overlay,
    save_strips,
)


def test_a_grey_plane_is_stretched_over_the_range_of_the_movie() -> None:
    plane = np.array([[[100.0], [150.0], [200.0], [999.0], [np.nan]]])
    picture = as_picture(plane, np.array([[100, 200]]))
    assert picture.dtype == np.uint8
    assert picture[0].tolist() == [[v] * 3 for v in (0, 128, 255, 255, 0)]


def test_three_channels_are_rgb_and_two_take_colours() -> None:
    plane = np.array([[[255, 0, 51]]], np.uint8)
    assert as_picture(plane, np.array([[0, 255]] * 3))[0, 0].tolist() == [255, 0, 51]
    assert as_picture(plane[..., :2], np.array([[0, 255]] * 2))[0, 0].tolist() == list(OBJECTS[0])


def test_a_constant_plane_is_black() -> None:
    assert not as_picture(np.full((2, 2, 1), 7), np.array([[7, 8]])).any()


def test_overlay_tints_labels_only() -> None:
    picture = np.full((1, 3, 3), 100, np.uint8)
    tinted = overlay(picture, np.array([[0, 1, 2]]), fill=0.5)
    assert tinted[0, 0].tolist() == [100, 100, 100]
    assert tinted[0, 1].tolist() == [round((100 + c) / 2) for c in OBJECTS[0]]
    assert tinted[0, 2].tolist() == [round((100 + c) / 2) for c in OBJECTS[1]]
    assert overlay(picture, np.array([[False, True, True]]), colour=PREDICTED, fill=1)[0, 2].tolist() == list(PREDICTED)


def test_overlay_refuses_labels_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"The labels are \(2, 3\) and the picture is \(1, 3\)"):
        overlay(np.zeros((1, 3, 3), np.uint8), np.zeros((2, 3), int))


def test_error_map_colours_what_was_missed_and_what_is_too_much() -> None:
    picture = np.zeros((1, 4, 3), np.uint8)
    errors = error_map(picture, np.array([[0, 1, 0, 1]]), np.array([[0, 0, 5, 5]]))
    assert errors[0].tolist() == [[0, 0, 0], list(EXTRA), list(MISSED), [110, 110, 110]]


def test_a_strip_shows_the_painted_frame_then_others_then_errors(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    clip = Clip(toy_movie, frame_numbers=(10, 11, 12))
    scores = {1: 0.9, 2: 0.8}
    strip = movie_strip(clip, toy_labels, annotated=[0], truth=toy_labels, scores=scores, title="toy", columns=9)
    titles = ["frame 10   painted", "frame 11   J 0.900", "frame 12   J 0.800", "frame 12   errors"]
    assert [panel.title for panel in strip.panels] == titles
    assert [panel.painted for panel in strip.panels] == [True, False, False, False]
    assert [panel.truth is not None for panel in strip.panels] == [False, True, True, False]


def test_a_label_has_the_same_colour_in_all_frames(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    strip = movie_strip(Clip(toy_movie), toy_labels, annotated=[0], by_label=True)
    for label, colour in ((1, OBJECTS[0]), (2, OBJECTS[1])):
        shown = [panel.picture[toy_labels[t] == label] for t, panel in enumerate(strip.panels)]
        tint = 0.75 * 255 + 0.25 * np.array(colour)
        np.testing.assert_allclose(np.concatenate(shown), np.tile(tint, (len(np.concatenate(shown)), 1)), atol=1)
    assert draw_strips([strip]).axes


def test_a_stack_shows_the_slice_with_most_labels(toy_labels: np.ndarray) -> None:
    labels = np.stack([np.zeros_like(toy_labels), toy_labels], axis=1)  # (T, Z, Y, X)
    strip = movie_strip(Clip(np.where(labels > 0, 200, 50).astype(np.uint8)), labels, columns=2)
    for panel in strip.panels:
        assert panel.mask is not None
        assert panel.mask.sum() > 0


def test_strips_of_unequal_length_and_shape_make_one_picture(
    tmp_path: Path, toy_movie: np.ndarray, toy_labels: np.ndarray
) -> None:
    wide = movie_strip(Clip(toy_movie), toy_labels, annotated=[1], truth=toy_labels, title="wide")
    tall = movie_strip(Clip(toy_movie.swapaxes(1, 2)), np.zeros_like(toy_labels).swapaxes(1, 2), title="tall, nothing")
    path = tmp_path / "overlay.png"
    save_strips(path, [wide, tall], title="toys", dpi=50)
    assert imread(path).shape[2] in (3, 4)
    assert len(draw_strips([wide, tall]).axes) == len(wide.panels) + len(tall.panels)


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no frame to draw"):
        draw_strips([])
