"""A clip hands out the right plane of any layout, reads no other, and says what is wrong with an array."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_osvos.clip import Clip

LENGTHS = {"T": 3, "Z": 2, "Y": 7, "X": 9, "C": 2, "S": 3}


def numbered(axes: str, lengths: dict[str, int] = LENGTHS, dtype: Any = np.uint16) -> np.ndarray:
    """An array in which every pixel has a value of its own."""
    shape = tuple(lengths[letter] for letter in axes)
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def moved(array: np.ndarray, axes: str) -> np.ndarray:
    """The same array as (T, Z, Y, X, C)."""
    axes = axes.replace("S", "C")
    for letter in "TZC":
        if letter not in axes:
            axes, array = letter + axes, array[np.newaxis]
    return array.transpose([axes.index(letter) for letter in "TZYXC"])


class Counting:
    """An array that counts the pixels read from it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, index: Any) -> np.ndarray:
        part = self.array[index]
        self.read += part.size
        return part


@pytest.mark.parametrize(
    "axes", ["YX", "TYX", "TZYX", "TCYX", "TYXC", "TYXS", "CTYX", "TZCYX", "TCZYX", "TZYXC", "YXC", "TXY", "CYX"]
)
@pytest.mark.parametrize("lazy", [np.asarray, lambda a: da.from_array(a, chunks=2), zarr.array])
def test_every_layout_gives_the_same_planes(axes: str, lazy: Any) -> None:
    array = numbered(axes)
    clip = Clip(lazy(array), axes)
    expected = moved(array, axes)
    assert (clip.n_frames, clip.depth, clip.n_channels) == (*expected.shape[:2], expected.shape[4])
    assert clip.plane_shape == (7, 9)
    assert clip.has_depth == ("Z" in axes)
    assert clip.labels_shape == tuple(
        {"T": clip.n_frames}.get(a, LENGTHS[a]) for a in ("TZYX" if "Z" in axes else "TYX")
    )
    for p in range(clip.n_planes):
        plane = clip.plane(p)
        np.testing.assert_array_equal(plane, expected[p // clip.depth, p % clip.depth])
        assert plane.dtype == np.uint16
        assert plane.flags.c_contiguous
        assert plane.flags.writeable


@pytest.mark.parametrize(
    ("shape", "frames", "depth", "channels"),
    [
        ((20, 30), 1, 1, 1),
        ((5, 20, 30), 5, 1, 1),
        ((20, 30, 3), 1, 1, 3),
        ((5, 20, 30, 3), 5, 1, 3),
        ((5, 20, 30, 4), 5, 1, 3),  # alpha
        ((5, 20, 30, 2), 5, 1, 2),
        ((5, 20, 30, 1), 5, 1, 1),
        ((5, 6, 20, 30), 5, 6, 1),
        ((5, 2, 20, 30), 5, 2, 1),
        ((5, 6, 20, 30, 3), 5, 6, 3),
        ((1, 1, 20, 30), 1, 1, 1),
        ((4, 3, 3), 4, 1, 1),  # tiny frames
        ((4, 1, 1), 4, 1, 1),
    ],
)
def test_axes_are_guessed_from_the_shape(shape: tuple[int, ...], frames: int, depth: int, channels: int) -> None:
    clip = Clip(np.zeros(shape, np.uint8))
    assert (clip.n_frames, clip.depth, clip.n_channels) == (frames, depth, channels)
    assert clip.plane(clip.n_planes - 1).shape == (*clip.plane_shape, channels)


@pytest.mark.parametrize(
    ("axes", "shape", "labels_shape", "channels"),
    [
        ("ZYX", (4, 7, 9), (4, 7, 9), 1),  # a lone stack is a sequence
        ("QYX", (4, 7, 9), (4, 7, 9), 1),
        ("IYX", (4, 7, 9), (4, 7, 9), 1),
        ("TQYX", (4, 2, 7, 9), (4, 2, 7, 9), 1),
        ("QQYX", (4, 2, 7, 9), (4, 2, 7, 9), 1),
        ("PTVYX", (1, 4, 1, 7, 9), (4, 7, 9), 1),
        ("TCZYX", (4, 1, 1, 7, 9), (4, 1, 7, 9), 1),
        ("TCYXS", (4, 1, 7, 9, 3), (4, 7, 9), 3),
        ("TCYXS", (4, 2, 7, 9, 1), (4, 7, 9), 2),
        ("tyxc", (4, 7, 9, 4), (4, 7, 9), 4),  # channels, not colours: the fourth is kept
        ("TYXS", (4, 7, 9, 2), (4, 7, 9), 1),  # grey and alpha
    ],
)
def test_letters_of_files_are_understood(
    axes: str, shape: tuple[int, ...], labels_shape: tuple[int, ...], channels: int
) -> None:
    clip = Clip(np.zeros(shape, np.uint8), axes)
    assert clip.labels_shape == labels_shape
    assert clip.n_channels == channels
    assert clip.plane(0).shape == (7, 9, channels)


@pytest.mark.parametrize(
    ("array", "arguments", "sentence"),
    [
        (np.zeros((4, 7, 9)), {"axes": "TZYX"}, "the movie has shape .4, 7, 9.; axes 'TZYX' name 4 axes, not 3."),
        (np.zeros((4, 7, 9)), {"axes": "TYC"}, "axes are 'TYC'; they must name Y and X once each."),
        (np.zeros((2, 2, 7, 9)), {"axes": "TPYX"}, "only axes of length 1 are allowed"),
        (np.zeros((2, 2, 7, 9, 3)), {"axes": "TCYXS"}, "only axes of length 1 are allowed"),
        (np.zeros(9), {}, "the movie has shape .9,., whose axes cannot be guessed"),
        (np.zeros((2, 2, 2, 7, 9)), {}, "whose axes cannot be guessed; say what they are, for example axes='TZCYX'."),
        (np.zeros((0, 7, 9)), {}, "the movie is empty: its shape is .0, 7, 9.."),
        (np.zeros((4, 7, 9), complex), {}, "the movie has dtype complex128; it must be bool, integer or float."),
        (np.array([["a"]]), {}, "it must be bool, integer or float."),
        (np.zeros((4, 7, 9)), {"channels": [1]}, "the movie has no channel 1; its channels are 0 to 0."),
        (np.zeros((4, 7, 9)), {"channels": []}, "No channel of the movie is kept; name at least one of 0 to 0."),
        (np.zeros((2, 7, 9)), {"frame_numbers": [1]}, "the movie has 2 frames but 1 frame numbers"),
        (np.zeros((2, 7, 9)), {"frame_numbers": [1, 1]}, "the movie has two frames of number 1"),
    ],
)
def test_what_does_not_fit_is_said(array: np.ndarray, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Clip(array, **arguments)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">f4", "?"])
def test_any_real_dtype_is_kept_in_native_order(dtype: str) -> None:
    array = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    clip = Clip(array)
    assert clip.dtype == (np.uint8 if dtype == "?" else np.dtype(dtype).newbyteorder("="))
    assert clip.plane(1).dtype == clip.dtype
    assert clip.dtype.isnative
    np.testing.assert_array_equal(clip.plane(1)[..., 0], array[1])
    assert np.isfinite(clip.intensity_range()).all()


def test_one_plane_is_read_at_a_time() -> None:
    array = Counting(numbered("TZYX"))
    clip = Clip(array, "TZYX")
    assert array.read == 0
    clip.plane(3)
    assert array.read == 7 * 9


def test_channels_are_chosen_in_order_and_the_others_not_read() -> None:
    array = Counting(numbered("TCYX", LENGTHS | {"C": 5}))
    clip = Clip(array, "TCYX", channels=[4, 0])
    assert clip.n_channels == 2
    np.testing.assert_array_equal(clip.plane(1), np.moveaxis(array.array[1, [4, 0]], 0, -1))
    assert array.read == 2 * 7 * 9


def test_the_plane_is_a_copy() -> None:
    array = np.zeros((2, 3, 4), np.uint8)
    Clip(array).plane(0)[:] = 1
    assert not array.any()


@pytest.mark.parametrize("p", [-1, 3])
def test_a_plane_out_of_range_is_refused(p: int) -> None:
    with pytest.raises(ValueError, match=rf"drawn has no plane {p}; its planes are 0 to 2."):
        Clip(np.zeros((3, 4, 5)), name="drawn").plane(p)


def test_frame_numbers_count_from_zero_unless_given() -> None:
    assert Clip(np.zeros((2, 3, 4))).frame_numbers == (0, 1)
    assert not Clip(np.zeros((2, 3, 4))).has_numbers
    given = Clip(np.zeros((2, 3, 4)), frame_numbers=np.array([5, 8]))
    assert given.frame_numbers == (5, 8)
    assert given.has_numbers


def test_the_intensity_range_is_of_the_movie_and_each_channel() -> None:
    frames = np.zeros((11, 10, 10, 2), np.uint16)
    frames[..., 0] = np.arange(11)[:, None, None] * 10
    frames[..., 1] = 1000 + np.arange(100).reshape(10, 10)
    bounds = Clip(frames, "TYXC").intensity_range(0, 100)
    assert bounds.dtype == np.float32
    np.testing.assert_array_equal(bounds, [[0, 100], [1000, 1099]])


def test_percentiles_are_those_of_the_pixels() -> None:
    frames = np.random.default_rng(0).normal(size=(4, 30, 40))
    found = Clip(frames).percentiles((0.5, 25, 50, 75, 99.5))
    np.testing.assert_allclose(found, [np.percentile(frames, (0.5, 25, 50, 75, 99.5))])


def test_percentiles_look_at_few_planes_and_once() -> None:
    array = Counting(np.random.default_rng(0).integers(0, 255, (50, 8, 8), dtype=np.uint8))
    clip = Clip(array)
    first = clip.intensity_range(max_planes=4)
    assert array.read == 4 * 64
    first[:] = -1  # the caller's own
    assert (clip.intensity_range(max_planes=4) >= 0).all()
    assert array.read == 4 * 64


def test_pixels_that_are_not_finite_do_not_count() -> None:
    frames = np.ones((2, 4, 4), np.float64)
    frames[0, 0] = [np.nan, np.inf, -np.inf, 1e300]
    frames[0, 1, 0] = 3
    np.testing.assert_array_equal(Clip(frames).intensity_range(0, 100), [[1, 3]])


def test_a_sample_without_finite_pixels_makes_it_look_further() -> None:
    frames = np.full((9, 4, 4), np.nan)
    frames[3, 2] = [1, 2, 3, 4]
    np.testing.assert_array_equal(Clip(frames).intensity_range(0, 100, max_planes=2), [[1, 4]])


def test_a_movie_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^stack.tif has no finite pixel: every one is NaN or infinite.$"):
        Clip(np.full((3, 4, 5), np.nan), name="stack.tif").intensity_range()
    frames = np.zeros((3, 4, 5, 2))
    frames[..., 1] = np.inf
    with pytest.raises(ValueError, match="Channel 1 of the movie has no finite pixel"):
        Clip(frames, "TYXC").intensity_range()


@pytest.mark.parametrize("value", [0, 7, -3, 2**40])
def test_a_constant_movie_has_a_range_all_the_same(value: int) -> None:
    low, high = Clip(np.full((3, 4, 5), value, np.int64)).intensity_range()[0]
    assert low == np.float32(value)
    assert high > low
    if value < 2**24:
        assert high == low + 1


def test_rare_bright_pixels_make_a_range_where_percentiles_are_equal() -> None:
    frames = np.zeros((1, 100, 100), np.uint8)
    frames[0, 5, 5] = 9
    np.testing.assert_array_equal(Clip(frames).intensity_range(), [[0, 9]])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [((5, 5), "the first must be the lower"), ((0, 101), "A percentile is 101.0"), ((1, 99, 0), "max_planes is 0")],
)
def test_percentiles_out_of_range_are_refused(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Clip(np.zeros((3, 4, 5))).intensity_range(*arguments)
