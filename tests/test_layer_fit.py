"""Labels layers that do not fit: one sentence each, and mending that loses no paint."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos.layer_axes import LayerAxes
from napari_osvos.layer_fit import check_labels, empty_labels, mend

MOVIE = LayerAxes("TYX", (6, 9, 7))
STACKS = LayerAxes("TZYX", (6, 5, 9, 7))
CHANNELS = LayerAxes("TCYX", (6, 2, 9, 7))
RGB = LayerAxes("TYXS", (6, 9, 7, 3))


def kind(axes: LayerAxes, shape: tuple[int, ...], dtype: object = np.uint16) -> str | None:
    misfit = check_labels(axes, shape, dtype)  # type: ignore[arg-type]
    if misfit is None:
        return None
    assert misfit.sentence.endswith(".")
    assert "\n" not in misfit.sentence
    return misfit.kind


def test_labels_that_fit() -> None:
    for axes in (MOVIE, STACKS, CHANNELS, RGB):
        labels = empty_labels(axes)
        assert check_labels(axes, labels.shape, labels.dtype) is None


@pytest.mark.parametrize(
    ("axes", "shape", "what"),
    [
        (MOVIE, (9, 7), "single picture"),
        (MOVIE, (5, 9, 7), "frames"),
        (MOVIE, (8, 9, 7), "frames"),
        (MOVIE, (6, 7, 9), "transposed"),
        (MOVIE, (9, 7, 6), "transposed"),
        (MOVIE, (6, 1, 9, 7), "axes"),
        (STACKS, (5, 9, 7), "single picture"),
        (STACKS, (6, 9, 7), "axes"),
        (STACKS, (9, 7), "single picture"),
        (CHANNELS, (6, 2, 9, 7), "channels"),
        (CHANNELS, (6, 9, 7), "axes"),
        (RGB, (6, 9, 7, 3), "channels"),
        (RGB, (9, 7), "single picture"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_what_can_be_mended_keeps_every_painted_pixel(
    axes: LayerAxes, shape: tuple[int, ...], what: str, dtype: type
) -> None:
    assert kind(axes, shape) == what
    misfit = check_labels(axes, shape, np.uint16)
    assert misfit is not None
    assert misfit.remedy == f"Make it {axes.labels_layer_shape}"
    labels = np.zeros(shape, dtype)
    labels.reshape(-1)[[0, 3, 7]] = 4, 5, 6
    before = labels.copy()
    mended = mend(labels, axes, frame=2, z=1 if axes.has_depth else 0)
    assert check_labels(axes, mended.shape, mended.dtype) is None
    assert sorted(mended[mended > 0].tolist()) == [4, 5, 6]
    np.testing.assert_array_equal(labels, before)
    assert not np.shares_memory(mended, labels)


def test_a_single_picture_goes_to_the_frame_in_view() -> None:
    picture = np.zeros((9, 7), np.uint8)
    picture[2:4, 3] = 3
    np.testing.assert_array_equal(mend(picture, MOVIE, frame=4)[4], picture)
    stacks = mend(picture, STACKS, frame=4, z=2)
    np.testing.assert_array_equal(stacks[4, 2], picture)
    assert stacks.sum() == picture.sum()
    channels = mend(picture, CHANNELS, frame=1)
    np.testing.assert_array_equal(channels[1, 0], picture)


def test_slices_painted_in_every_frame_go_to_the_slice_in_view() -> None:
    painted = np.arange(6 * 9 * 7, dtype=np.uint16).reshape(6, 9, 7)
    mended = mend(painted, STACKS, z=3)
    np.testing.assert_array_equal(mended[:, 3], painted)
    assert mended.sum() == painted.sum()


def test_transposed_labels_are_turned() -> None:
    right = np.arange(6 * 9 * 7, dtype=np.uint16).reshape(6, 9, 7)
    np.testing.assert_array_equal(mend(right.transpose(1, 2, 0), MOVIE), right)


def test_frames_that_the_movie_has_not_are_cut_only_without_paint() -> None:
    labels = np.zeros((8, 9, 7), np.uint16)
    labels[5, 3, 3] = 1
    assert mend(labels, MOVIE)[5, 3, 3] == 1
    labels[7, 0, 0] = 2
    with pytest.raises(ValueError, match="has paint at index 7 .* outside"):
        mend(labels, MOVIE)


def test_channels_painted_differently_at_one_pixel_are_not_merged() -> None:
    labels = np.zeros((6, 2, 9, 7), np.uint16)
    labels[1, 0, 4, 4] = 1
    labels[1, 1, 5, 5] = 2
    mended = mend(labels, CHANNELS)
    assert (mended[1, 0, 4, 4], mended[1, 0, 5, 5]) == (1, 2)
    labels[1, 1, 4, 4] = 2
    with pytest.raises(ValueError, match="different labels in two channels of one pixel"):
        mend(labels, CHANNELS)


@pytest.mark.parametrize("shape", [(6, 9, 8), (10, 7), (6, 90, 70)])
def test_another_size_is_told_and_not_mended(shape: tuple[int, ...]) -> None:
    misfit = check_labels(MOVIE, shape, np.uint8)
    assert misfit is not None
    assert (misfit.kind, misfit.remedy) == ("size", None)
    with pytest.raises(ValueError, match="9 x 7"):
        mend(np.zeros(shape, np.uint8), MOVIE)


def test_shapes_that_have_nothing_in_common_are_told_and_not_mended() -> None:
    misfit = check_labels(MOVIE, (3, 6, 9, 7), np.uint8)
    assert misfit is not None
    assert (misfit.kind, misfit.remedy) == ("axes", None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
def test_a_dtype_that_is_no_whole_number(dtype: type) -> None:
    assert kind(MOVIE, (6, 9, 7), dtype) == "dtype"
    labels = np.zeros((6, 9, 7), dtype)
    labels[2, 2, 2] = 1
    mended = mend(labels, MOVIE)
    assert mended.dtype == np.uint16
    assert mended.sum() == mended[2, 2, 2] == 1


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_values_that_are_no_whole_numbers_are_not_rounded_away(value: float) -> None:
    labels = np.zeros((6, 9, 7))
    labels[1, 1, 1] = value
    with pytest.raises(ValueError, match="no whole numbers"):
        mend(labels, MOVIE)


@pytest.mark.parametrize(("value", "dtype"), [(70_000, np.uint32), (-3, np.int64), (2**40, np.int64)])
def test_large_and_negative_labels_keep_their_value(value: int, dtype: type) -> None:
    labels = np.zeros((9, 7), np.int64)
    labels[1, 1] = value
    mended = mend(labels, MOVIE, frame=0)
    assert mended.dtype == dtype
    assert mended[0, 1, 1] == value


def test_placement_is_looked_at_when_the_shape_fits() -> None:
    image = {"image_scale": (1, 0.5, 0.5), "image_translate": (0, 10, 20)}
    fits = check_labels(MOVIE, (6, 9, 7), np.uint8, scale=(1, 0.5, 0.5), translate=(0, 10, 20), **image)
    assert fits is None
    for own in ({"scale": (1, 1, 1)}, {"translate": (0, 0, 0)}):
        misfit = check_labels(MOVIE, (6, 9, 7), np.uint8, name="Cells", **own, **image)
        assert misfit is not None
        assert misfit.kind == "placement"
        assert misfit.sentence.startswith(f"Cells has {next(iter(own))} (")
    assert kind(MOVIE, (9, 7)) == "single picture"


def test_lazy_labels_are_mended() -> None:
    import dask.array as da

    labels = da.zeros((5, 9, 7), dtype=np.uint8, chunks=(1, 9, 7)) + 1
    mended = mend(labels, MOVIE)
    assert mended[:5].all()
    assert not mended[5].any()
