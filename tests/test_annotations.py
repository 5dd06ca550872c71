"""Paint becomes annotations: which planes, which pixels, which frame of the movie, and what cannot be learned from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_osvos.annotations import CORRECTED_WEIGHT, Annotations
from napari_osvos.clip import Clip
from napari_osvos.labels import Labels, frame_positions

Drawn = Callable[..., np.ndarray]


def movie(*shape: int, **about: Any) -> Clip:
    return Clip(np.zeros(shape, np.uint8), {3: "TYX", 4: "TZYX"}[len(shape)], **about)


@pytest.mark.parametrize("lazy", [np.asarray, da.from_array, zarr.array])
def test_the_painted_frames_count(drawn: Drawn, lazy: Any) -> None:
    annotations = Annotations.from_labels(lazy(drawn(". .", "1 .", ". .", "1 2")))
    assert annotations.planes == annotations.frames == tuple(annotations) == (1, 3)
    assert len(annotations) == 2
    np.testing.assert_array_equal(annotations.labels(3), [[1], [2]])
    assert annotations.labels(3).dtype == np.int32
    np.testing.assert_array_equal(annotations.mask(1), [[True], [False]])
    assert annotations.known(1).all()
    assert not annotations.is_partial(1)


def test_frames_are_chosen_by_number(drawn: Drawn) -> None:
    labels = Labels(drawn("1", "2", "."), frame_numbers=[5, 8, 9])
    assert Annotations.from_labels(labels, frames=[8]).frames == (1,)
    assert Annotations.from_labels(labels, frames=[8, 9]).frames == (1, 2)  # 9 was looked at and is empty
    with pytest.raises(ValueError, match=r"^the labels has no frame 7; its frames are 5, 8, 9.$"):
        Annotations.from_labels(labels, frames=[7])
    for option in ("partial", "corrected"):
        with pytest.raises(ValueError, match=r"has no frame 6"):
            Annotations.from_labels(labels, **{option: [6]})  # type: ignore[arg-type]


def test_a_single_frame_takes_the_number_that_is_named(drawn: Drawn) -> None:
    annotations = Annotations.from_labels(drawn("1.")[0], frames=[2]).aligned_to(movie(4, 1, 2))
    assert annotations.frames == (2,)


@pytest.mark.parametrize("option", ["frames", "partial", "corrected"])
@pytest.mark.parametrize("numbers", [0, [0.0], ["0"]])
def test_what_is_no_list_of_frame_numbers_is_refused(drawn: Drawn, option: str, numbers: Any) -> None:
    sentence = f"{option} is {numbers!r}; it must be a list of frame numbers, such as [0, 40]."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Annotations.from_labels(drawn("1", "."), **{option: numbers})


@pytest.mark.parametrize("frames", [None, [0], [0, 1]])
def test_no_paint_is_refused(frames: list[int] | None) -> None:
    with pytest.raises(ValueError, match=r"^the annotations is empty: no frame.* holds a painted object.$"):
        Annotations.from_labels(np.zeros((2, 3, 4), np.uint8), frames=frames)


def test_void_alone_is_no_paint(drawn: Drawn) -> None:
    with pytest.raises(ValueError, match=r"is empty"):
        Annotations.from_labels(drawn("9."), void_label=9)


def test_void_pixels_do_not_count(drawn: Drawn) -> None:
    annotations = Annotations.from_labels(drawn("1.9"), void_label=9)
    np.testing.assert_array_equal(annotations.labels(0), [[1, 0, 0]])
    np.testing.assert_array_equal(annotations.known(0), [[True, True, False]])


def test_255_as_void_is_not_taken_for_a_mask() -> None:
    frames = np.array([[[0, 255, 1]], [[0, 255, 0]]], np.uint8)
    annotations = Annotations.from_labels(Labels(frames, masks_255=True), void_label=255)
    assert annotations.frames == (0, 1)
    assert not annotations.mask(1).any()


def test_in_partial_frames_only_paint_is_known(drawn: Drawn) -> None:
    labels = drawn("1.2", "1.2")
    annotations = Annotations.from_labels(labels, partial=[1], background_label=2)
    assert [annotations.is_partial(p) for p in annotations] == [False, True]
    np.testing.assert_array_equal(annotations.labels(1), [[1, 0, 0]])
    np.testing.assert_array_equal(annotations.known(0), [[True, True, True]])
    np.testing.assert_array_equal(annotations.known(1), [[True, False, True]])
    assert all(map(Annotations.from_labels(labels, partial=True).is_partial, (0, 1)))
    with pytest.raises(ValueError, match=r"The background label is 0"):
        Annotations.from_labels(labels, partial=True, background_label=0)


def test_corrected_frames_weigh_more(drawn: Drawn) -> None:
    labels = Labels(drawn("1.", "2.", "3."), frame_numbers=[5, 8, 9])
    annotations = Annotations.from_labels(labels, corrected=[8])
    assert [annotations.weight(p) for p in annotations] == [1.0, CORRECTED_WEIGHT, 1.0] == [1.0, 2.0, 1.0]
    aligned = annotations.aligned_to(movie(10, 1, 2))
    assert {p: aligned.weight(p) for p in aligned} == {5: 1.0, 8: 2.0, 9: 1.0}
    stack = np.stack([drawn(".", "1", "1"), drawn(".", ".", "2")])
    assert [p for p, paint in Annotations.from_labels(stack, corrected=[0]).items() if paint.weight == 2] == [1, 2]


def test_frames_painted_to_the_last_slice_are_blank_where_no_paint_is() -> None:
    labels = np.zeros((3, 3, 1, 2), np.uint16)
    labels[2, 1, 0, 1] = 7
    annotations = Annotations.from_labels(labels)
    assert annotations.planes == (7,)
    blank = annotations.with_blank_slices()
    assert blank.planes == (6, 7, 8)
    assert not blank.labels(6).any()
    assert blank.known(8).all()
    assert blank.labels(7).max() == 7


def test_a_frame_shows_the_paint_of_all_its_slices(drawn: Drawn) -> None:
    labels = np.stack([drawn(".", "7", "."), drawn(".", ".", ".")])
    annotations = Annotations.from_labels(labels)
    np.testing.assert_array_equal(annotations.frame_labels(0), labels[0])
    assert annotations.frame_labels(0).dtype == np.int32
    assert not annotations.frame_labels(1).any()


def test_partial_paint_must_show_background_somewhere(drawn: Drawn) -> None:
    strokes = Annotations.from_labels(drawn("1.1"), partial=True)
    with pytest.raises(ValueError, match=r"is partial and shows no background; paint some of it"):
        strokes.check_against(movie(1, 1, 3))
    Annotations.from_labels(drawn("1.2"), partial=True, background_label=2).check_against(movie(1, 1, 3))
    Annotations.from_labels(drawn("1.1", "1.."), partial=[0]).check_against(movie(2, 1, 3))


def test_a_frame_that_is_all_object_is_allowed() -> None:
    Annotations.from_labels(np.ones((1, 3, 4), np.uint8)).check_against(movie(1, 3, 4))


def test_planes_of_a_stack_are_counted_through(drawn: Drawn) -> None:
    labels = np.stack([drawn(".", "1", "."), drawn(".", ".", "2")])  # (T, Z, Y, X)
    annotations = Annotations.from_labels(labels)
    assert annotations.planes == (1, 5)
    assert annotations.frames == (0, 1)
    assert Annotations.from_labels(labels, frames=[1]).planes == (5,)
    assert annotations.aligned_to(movie(2, 3, 1, 1)).planes == (1, 5)


def test_later_strokes_do_not_change_annotations(drawn: Drawn) -> None:
    labels = drawn("1.")
    annotations = Annotations.from_labels(labels)
    labels[:] = 0
    annotations.labels(0)[:] = 7
    np.testing.assert_array_equal(annotations.labels(0), [[1, 0]])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.array([[[0, 0.5]]]), r"Frame 0 of the annotations holds the value 0.5; labels must be whole numbers."),
        (np.array([[[0, np.nan]]]), "holds the value nan; labels must be whole numbers"),
        (np.array([[[0, -1]]]), "holds the negative label -1; labels must be 0 or more"),
        (np.array([[[0, 2**40]]]), "holds label 1099511627776; the largest allowed is 2147483647"),
        (np.array([[[0, 2**31]]], np.float32), "holds label 2147483648; the largest allowed is 2147483647"),
    ],
)
def test_values_that_are_no_labels_are_refused(values: np.ndarray, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Annotations.from_labels(values)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint64, np.float16, np.float32])
def test_whole_numbers_of_any_dtype_are_labels(dtype: Any) -> None:
    assert Annotations.from_labels(np.ones((1, 2, 3), dtype)).labels(0).dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "clip", "sentence"),
    [
        ((2, 5, 6), (2, 6, 5), "painted is 5 x 6 pixels but movie.tif is 6 x 5; both must be of one size."),
        ((3, 5, 6), (2, 5, 6), "painted is painted on frame 2, which movie.tif does not have; its frames are 0, 1."),
        ((2, 5, 6), (2, 3, 5, 6), "painted has 1 slice a frame but movie.tif has 3; both must have the same."),
        ((2, 3, 5, 6), (6, 5, 6), "painted has 3 slices a frame but movie.tif has 1; both must have the same."),
    ],
)
def test_paint_must_fit_the_movie(labels: tuple[int, ...], clip: tuple[int, ...], sentence: str) -> None:
    annotations = Annotations.from_labels(np.ones(labels, np.uint8), name="painted")
    for check in (annotations.check_against, annotations.aligned_to):
        with pytest.raises(ValueError, match=f"^{sentence}$"):
            check(movie(*clip, name="movie.tif"))


def test_annotations_without_planes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"is empty"):
        Annotations({}, n_frames=3).check_against(movie(3, 4, 5))


def test_file_numbers_become_positions(drawn: Drawn) -> None:
    labels = Labels(drawn("1", "2", "."), frame_numbers=[8, 16, 40])
    clip = movie(5, 1, 1, frame_numbers=[0, 5, 8, 16, 21])
    aligned = Annotations.from_labels(labels).aligned_to(clip)
    assert aligned.frames == (2, 3)
    np.testing.assert_array_equal(aligned.labels(3), [[2]])
    again = aligned.aligned_to(clip)
    assert again.frames == (2, 3)
    assert again.frame_numbers == clip.frame_numbers


@pytest.mark.parametrize(
    ("source", "target", "pairs"),
    [
        ((3, None), (3, None), {0: 0, 1: 1, 2: 2}),
        ((3, [5, 8, 9]), (3, [8, 9, 10]), {1: 0, 2: 1}),
        ((3, None), (3, [5, 8, 9]), {0: 0, 1: 1, 2: 2}),  # a plain stack goes by position
        ((2, [1, 2]), (3, None), {0: 1, 1: 2}),  # numbers are positions in a plain stack
        ((3, [1, 2, 3]), (3, None), {0: 0, 1: 1, 2: 2}),  # unless they count from 1
        ((1, [7]), (1, None), {0: 0}),
        ((5, None), (2, None), {0: 0, 1: 1}),
    ],
)
def test_frames_pair_by_number(source: Any, target: Any, pairs: dict[int, int]) -> None:
    assert frame_positions(*(movie(n, 1, 1, frame_numbers=numbers) for n, numbers in (source, target))) == pairs


def test_a_lone_z_stack_pairs_with_a_single_volume(drawn: Drawn) -> None:
    aligned = Annotations.from_labels(drawn(".", "1", ".")).aligned_to(movie(1, 3, 1, 1))
    assert aligned.planes == (1,)
    assert aligned.depth == 3


@pytest.mark.parametrize("diameter", [12, 30, 60])
def test_a_disc_has_its_diameter(diameter: int) -> None:
    y, x = np.mgrid[:80, :80] - 39.5
    disc = (np.hypot(y, x) <= diameter / 2).astype(np.uint8)[np.newaxis]
    assert Annotations.from_labels(disc).object_diameter() == pytest.approx(diameter, rel=0.1)


def test_the_object_size_is_that_of_most_of_the_paint() -> None:
    y, x = np.mgrid[:100, :200]
    labels = np.zeros((2, 100, 200), np.uint8)
    labels[0][np.hypot(y - 50, x - 50) <= 20] = 1
    labels[0][np.hypot(y - 50, x - 140) <= 20] = 1  # binary paint: two objects
    labels[0, ::12, 190:193] = 1  # specks
    labels[1, 40:44, 40:60] = 1
    assert Annotations.from_labels(labels).object_diameter() == pytest.approx(40, rel=0.1)
    partial = Annotations.from_labels(labels, partial=[0])
    assert partial.object_diameter() < 10  # of strokes in a partial frame nothing is learned
    assert Annotations.from_labels(np.ones((1, 1, 1), np.uint8)).object_diameter() >= 1
    with pytest.raises(ValueError, match=r"is empty"):
        Annotations({}, n_frames=3).object_diameter()


def test_labels_are_a_lazy_sequence(drawn: Drawn) -> None:
    labels = Labels(drawn("1.", "2.", "3."), frame_numbers=[4, 6, 7])
    assert (labels.shape, labels.ndim, len(labels), labels.depth) == ((3, 1, 2), 3, 3, 1)
    assert labels.has_numbers
    assert [int(frame.max()) for frame in labels] == [1, 2, 3]
    np.testing.assert_array_equal(labels[-1], [[3, 0]])
    assert len(labels[1:]) == 2
    np.testing.assert_array_equal(labels.frame(6), [[2, 0]])
    np.testing.assert_array_equal(np.asarray(labels), drawn("1.", "2.", "3."))
    assert np.asarray(labels, dtype=np.uint8).dtype == np.uint8
    with pytest.raises(ValueError, match=r"has no frame 5; its frames are 4, 6, 7"):
        labels.frame(5)
    with pytest.raises(ValueError, match=r"has no frame at position 3"):
        labels.at(3)
    with pytest.raises(IndexError):
        labels[3]


def test_labels_keep_a_z_axis() -> None:
    stack = np.arange(24).reshape(2, 3, 2, 2)
    labels = Labels(stack)
    assert labels.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(labels.at(1), stack[1])


def test_masks_of_0_and_255_read_as_labels_where_files_are_read() -> None:
    frames = np.array([[[0, 255]], [[0, 254]]], np.uint8)
    assert np.asarray(Labels(frames, masks_255=True)).tolist() == [[[0, 1]], [[0, 254]]]
    assert np.asarray(Labels(frames)).max() == 255


def test_colour_pictures_are_no_labels() -> None:
    grey = np.ones((1, 2, 3, 3), np.uint8)
    assert Labels(grey, "TYXS").at(0).shape == (2, 3)
    grey[..., 0] = 0
    with pytest.raises(ValueError, match=r"Frame 0 of the labels is a colour picture; labels must have one channel."):
        Labels(grey, "TYXS").at(0)
