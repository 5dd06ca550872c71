"""What the axes of a napari layer mean, and how a Labels layer lies over it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos.clip import Clip
from napari_osvos.layer_axes import LayerAxes, axes_choices, guess_layer_axes


@pytest.mark.parametrize(
    ("shape", "letters"),
    [
        ((64, 48), "YX"),
        ((24, 64, 48), "TYX"),
        ((3, 64, 48), "TYX"),  # three frames are as likely as three channels: the choices have both
        ((24, 11, 64, 48), "TZYX"),
        ((24, 2, 64, 48), "TCYX"),
        ((3, 24, 64, 48), "CTYX"),
        ((24, 11, 2, 64, 48), "TZCYX"),
        ((24, 2, 11, 64, 48), "TCZYX"),
        ((2, 24, 11, 64, 48), "CTZYX"),
        ((24, 9, 7, 64, 48), "TZCYX"),
        ((24, 64, 48, 3), "TYXC"),
        ((1, 64, 48), "1YX"),
        ((24, 1, 64, 48), "T1YX"),
        ((1, 24, 64, 48), "1TYX"),
        ((1, 24, 1, 64, 48), "1T1YX"),
        ((32, 32), "YX"),
    ],
)
def test_axes_are_guessed_from_the_shape(shape: tuple[int, ...], letters: str) -> None:
    assert guess_layer_axes(shape).letters == letters


def test_rgb_samples_are_no_axis_of_the_layer() -> None:
    axes = guess_layer_axes((24, 64, 48, 3), rgb=True)
    assert (axes.letters, axes.ndim, axes.n_channels) == ("TYXS", 3, 3)
    assert axes.labels_shape == axes.labels_layer_shape == (24, 64, 48)
    assert guess_layer_axes((24, 64, 48, 4), rgb=True).n_channels == 3  # alpha is no channel


@pytest.mark.parametrize(
    ("shape", "labels", "letters"),
    [
        ((24, 3, 64, 48), ("t", "z", "y", "x"), "TZYX"),
        ((24, 30, 64, 48), ("time", "channel", "-2", "-1"), "TCYX"),
        ((5, 24, 64, 48), ("Z", "T", "Y", "X"), "ZTYX"),
        ((64, 48, 24), ("y", "x", "t"), "YXT"),
        ((3, 64, 48), ("c", "y", "x"), "CYX"),
        ((24, 2, 64, 48), ("-4", "-3", "-2", "-1"), "TCYX"),
        ((24, 2, 64, 48), ("t", "t", "y", "x"), "TCYX"),  # what is said twice says nothing
        ((24, 64, 48), ("slice", "t"), "TYX"),  # nor do labels for other axes
    ],
)
def test_axis_labels_go_first(shape: tuple[int, ...], labels: tuple[str, ...], letters: str) -> None:
    assert guess_layer_axes(shape, axis_labels=labels).letters == letters


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5, 6, 64, 48)])
def test_shapes_without_a_meaning_are_refused_in_a_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"The image has shape .*\.$"):
        guess_layer_axes(shape)


def test_choices_hold_the_guess_first_and_every_one_reads_as_a_movie() -> None:
    array = np.zeros((6, 2, 16, 12), np.uint8)
    choices = axes_choices(array.shape)
    assert choices[0].letters == "TCYX"
    assert {choice.letters for choice in choices} >= {"TCYX", "TZYX", "CTYX", "ZCYX"}
    for choice in choices:
        clip = Clip(array, choice.letters)
        assert clip.labels_shape == choice.labels_shape
        assert clip.n_channels == choice.n_channels


def test_axes_in_words() -> None:
    assert LayerAxes("TZCYX", (24, 5, 2, 256, 512)).in_words == (
        "24 frames (T) x 5 slices (Z) x 2 channels (C) x 256 x 512 pixels (Y, X)"
    )
    assert LayerAxes("TYXS", (1, 64, 48, 3)).in_words == "1 frame (T) x 64 x 48 pixels (Y, X), RGB"


def test_letters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="name 3 axes, not 4"):
        LayerAxes("TYX", (24, 2, 64, 48))


@pytest.mark.parametrize("letters", ["TYX", "TZYX", "ZTYX", "TCYX", "CTYX", "TYXC", "YXT", "ZYX", "1TYX", "TZCYX"])
def test_frames_of_a_labels_layer_are_found_whatever_its_axes(letters: str) -> None:
    lengths = {"T": 5, "Z": 3, "C": 2, "Y": 8, "X": 6, "1": 1}
    axes = LayerAxes(letters, tuple(lengths[letter] for letter in letters))
    labels = np.zeros(axes.labels_layer_shape, np.uint16)
    frame = axes.n_frames - 2
    drawn = np.arange(np.prod(axes.labels_shape[1:]), dtype=np.uint16).reshape(axes.labels_shape[1:])
    axes.write_frame(labels, frame, drawn)
    np.testing.assert_array_equal(axes.read_frame(labels, frame), drawn)
    assert not axes.read_frame(labels, 0).any()
    assert axes.frames_touched(np.nonzero(labels)) == (frame,)
    assert axes.frames_touched(axes.frame_index(frame)) == (frame,)


def test_frames_touched_by_a_slice_and_by_an_index_that_does_not_say() -> None:
    axes = LayerAxes("TYX", (5, 8, 6))
    assert axes.frames_touched((slice(2, 4), slice(None), slice(None))) == (2, 3)
    assert axes.frames_touched(()) == (0, 1, 2, 3, 4)
    assert LayerAxes("YX", (8, 6)).frames_touched((slice(0, 2), slice(0, 2))) == (0,)


def test_a_copy_of_a_frame_does_not_change_with_the_layer() -> None:
    axes = LayerAxes("TYX", (2, 4, 4))
    labels = np.zeros((2, 4, 4), np.uint16)
    copy = axes.read_frame(labels, 0)
    labels[0] = 7
    assert not copy.any()


@pytest.mark.parametrize(("letters", "time", "depth"), [("TZYX", 0, 1), ("ZTYX", 1, 0), ("TCYX", 0, None)])
def test_frame_of_the_slider_and_back(letters: str, time: int, depth: int | None) -> None:
    axes = LayerAxes(letters, (5, 4, 8, 6))
    assert (axes.time_axis, axes.depth_axis) == (time, depth)
    position = axes.position_of(3, 2 if depth is not None else 0, np.array([1.0, 1.0, 6.0, 4.0]))
    assert position[2:] == (6.0, 4.0)
    assert axes.frame_of(np.array(position)) == (3, 2 if depth is not None else 0)
    assert axes.position_of(0) == (0.0, 0.0, 0.0, 0.0)


def test_frame_of_positions_of_other_lengths_and_outside() -> None:
    axes = LayerAxes("TYX", (5, 8, 6))
    assert axes.frame_of((9.0, 3.0, 1.0, 1.0)) == (3, 0)  # another layer has one more axis
    assert axes.frame_of((1.0, 1.0)) == (0, 0)
    assert axes.frame_of((99.0, 1.0, 1.0)) == (4, 0)
    assert axes.frame_of((-3.0, 1.0, 1.0)) == (0, 0)


def test_the_labels_layer_covers_all_channels() -> None:
    axes = LayerAxes("TCYX", (5, 3, 8, 6))
    scale, translate = axes.labels_placement((2.0, 1.0, 0.5, 0.5), (0.0, 10.0, 3.0, 4.0))
    assert axes.labels_layer_shape == (5, 1, 8, 6)
    for channel in range(3):  # the single pixel of the labels is shown at every channel
        assert round((10.0 + channel - translate[1]) / scale[1]) == 0
    assert (scale[0], *scale[2:]) == (2.0, 0.5, 0.5)
    assert (translate[0], *translate[2:]) == (0.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("letters", "frame", "begins_with_time"),
    [
        ("TYX", "YX", True),
        ("TCYX", "YX", True),
        ("CTYX", "YX", True),
        ("TYXC", "YX", True),
        ("TZCYX", "ZYX", True),
        ("ZTYX", "ZYX", False),
        ("1TYX", "YX", False),
        ("YXS", "YX", False),
    ],
)
def test_entries_and_positions_of_a_frame_go_by_what_the_axes_mean(
    letters: str, frame: str, begins_with_time: bool
) -> None:
    lengths = {"T": 5, "Z": 4, "C": 2, "Y": 8, "X": 6, "1": 1, "S": 3}
    axes = LayerAxes(letters, tuple(lengths[letter] for letter in letters))
    assert "".join(axes.frame_entries(letters.rstrip("S"))) == frame
    assert axes.begins_with_time == begins_with_time
    labels = np.zeros(axes.labels_layer_shape, np.uint16)
    values = np.zeros(axes.labels_shape[1:], np.uint16)
    values[(3, 2, 5)[-len(frame) :]] = 1
    axes.write_frame(labels, axes.n_frames - 1, values)
    positions = axes.labels_positions(np.array([axes.n_frames - 1]), np.argwhere(values))
    np.testing.assert_array_equal(positions, np.argwhere(labels))


def test_channels_in_front_are_no_axis_of_the_labels_layer() -> None:
    axes = LayerAxes("CTYX", (3, 5, 8, 6))
    assert axes.labels_layer_shape == (5, 8, 6)
    assert axes.labels_placement((1, 2, 3, 4), (5, 6, 7, 8)) == ((2, 3, 4), (6, 7, 8))
    assert axes.labels_entries(("pixel", "s", "um", "um")) == ("s", "um", "um")
