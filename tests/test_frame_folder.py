"""Folders of frames and single pictures: the Cell Tracking Challenge, DAVIS, and what else there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_osvos.annotations import Annotations
from napari_osvos.formats import UnreadableFileError
from napari_osvos.frame_folder import numbers_in_names
from napari_osvos.io import read_clip, read_labels

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 60000, (4, 17, 23), dtype=np.uint16)


def planes_of(path: Path, **options: Any) -> np.ndarray:
    clip = read_clip(path, **options)
    return np.stack([clip.plane(p) for p in range(clip.n_planes)])


def write_frames(folder: Path, name: str, numbers: Any, frames: Any = STACK) -> Path:
    folder.mkdir(parents=True)
    for number, frame in zip(numbers, frames, strict=False):
        path = folder / name.format(*number if isinstance(number, tuple) else (number,))
        if path.suffix == ".tif":
            tifffile.imwrite(path, frame)
        else:
            Image.fromarray(frame).save(path)
    return folder


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("t{:03}.tif", (0, 5, 8, 16)),  # Cell Tracking Challenge
        ("{:02}.tif", (0, 1, 2, 3)),
        ("frame {}.tif", (2, 9, 10, 100)),  # natural order, not "10" before "2"
        ("{:05}.png", (0, 1, 2, 3)),
        ("2024-11-03 well 7 t{}.tif", (1, 2, 3, 4)),
        ("t{}_c1.tif", (1, 2, 3, 10)),  # the last number is the same in all
        ("t{}_10x{}.tif", ((0, 1), (1, 2), (2, 0), (3, 7))),  # the last number does not rise
    ],
)
def test_a_folder_is_a_movie_and_its_file_numbers_are_frame_numbers(
    tmp_path: Path, name: str, numbers: tuple[Any, ...]
) -> None:
    folder = write_frames(tmp_path / "01", name, numbers)
    (folder / "Thumbs.db").touch()
    (folder / "._t000.tif").touch()
    clip = read_clip(folder)
    assert clip.frame_numbers == tuple(number[0] if isinstance(number, tuple) else number for number in numbers)
    assert clip.has_numbers
    np.testing.assert_array_equal(planes_of(folder)[..., 0], STACK)


def test_names_without_numbers_go_by_natural_order(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "01", "{}.tif", ("movie", "movie2", "movie10"))
    clip = read_clip(folder)
    assert not clip.has_numbers
    np.testing.assert_array_equal(planes_of(folder)[..., 0], STACK[:3])


def test_times_of_day_go_by_natural_order(tmp_path: Path) -> None:
    times = ("10-59-50", "10-59-58", "11-00-06", "11-00-14")
    folder = write_frames(tmp_path / "01", "img_{}.tif", times)
    clip = read_clip(folder)
    assert not clip.has_numbers
    np.testing.assert_array_equal(planes_of(folder)[..., 0], STACK)


@pytest.mark.parametrize("stems", [["t2", "t10", "t9"], ["t10", "t9", "t2"]])
def test_numbers_do_not_depend_on_the_order_of_the_files(stems: list[str]) -> None:
    assert numbers_in_names(stems, "01") == tuple(int(stem[1:]) for stem in stems)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"01 has two files of frame number 1, t01 and t1; each frame needs a number"):
        numbers_in_names(["t01", "t1", "t2"], "01")
    with pytest.raises(ValueError, match=r"^01 has two files of frame number 1, t1_c1 and t2_c1;"):
        numbers_in_names(["t1_c1", "t1_c2", "t2_c1", "t2_c2"], "01")  # two channels are not twice as many frames
    folder = write_frames(tmp_path / "01", "t{}.tif", (1, 2))
    Image.fromarray(STACK[0]).save(folder / "t1.png")
    with pytest.raises(ValueError, match=r"two files of frame number 1"):
        read_clip(folder)


@pytest.mark.parametrize("dialect", [{"imagej": True, "metadata": {"axes": "ZYX"}}, {}, {"compression": "zlib"}])
def test_a_folder_of_z_stacks_is_read_slice_by_slice(tmp_path: Path, dialect: dict[str, Any]) -> None:
    stacks = RANDOM.integers(0, 255, (2, 3, 17, 23), dtype=np.uint8)
    for t, stack in enumerate(stacks):
        tifffile.imwrite(tmp_path / f"t{t:03}.tif", stack, photometric="minisblack", **dialect)
    assert read_clip(tmp_path).labels_shape == stacks.shape
    np.testing.assert_array_equal(planes_of(tmp_path).reshape(stacks.shape), stacks)


def test_a_folder_of_movies_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "well1.tif", STACK, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(UnreadableFileError, match=r"well1.tif is a movie of its own; give that file"):
        read_clip(tmp_path)


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_frames_of_a_folder_must_agree_in_size(tmp_path: Path, ending: str) -> None:
    write_frames(tmp_path / "01", f"t{{}}{ending}", range(3), [*STACK[:2], STACK[2, :5]])
    with pytest.raises(
        UnreadableFileError, match=rf"t2{ending} is 5 x 23 pixels but t0{ending} is 17 x 23 pixels; all frames"
    ):
        read_clip(tmp_path / "01")


def test_frames_of_a_folder_must_agree_in_dtype(tmp_path: Path) -> None:
    clip = read_clip(write_frames(tmp_path / "01", "t{}.tif", range(2), [STACK[0].astype(np.uint8), STACK[1]]))
    with pytest.raises(UnreadableFileError, match=r"t1.tif is uint16 but t0.tif is uint8; all frames"):
        clip.plane(1)


def test_a_frame_that_goes_bad_is_named_when_it_is_read(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "01", "t{}.png", range(3))
    content = (folder / "t1.png").read_bytes()
    (folder / "t1.png").write_bytes(content[: len(content) // 2])
    clip = read_clip(folder)
    np.testing.assert_array_equal(clip.plane(2)[..., 0], STACK[2])
    with pytest.raises(UnreadableFileError, match=r"t1.png cannot be read"):
        clip.plane(1)


def test_a_folder_without_frames_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"holds no TIFF, PNG or JPEG frames\.$"):
        read_clip(tmp_path)
    for inner in ("02", "02_ST", "02_GT"):
        (tmp_path / inner).mkdir()
    with pytest.raises(UnreadableFileError, match=r"frames; it holds the folders 02, 02_GT, 02_ST\.$"):
        read_clip(tmp_path)


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("LA", 1), ("P", 3), ("1", 1), ("I;16", 1), ("CMYK", 3)]
)
def test_pictures_of_any_mode(tmp_path: Path, mode: str, channels: int) -> None:
    ending = ".jpg" if mode == "CMYK" else ".png"
    for t in range(2):
        picture = Image.fromarray(STACK[t]) if mode == "I;16" else Image.new("L", (23, 17), 200).convert(mode)
        picture.save(tmp_path / f"{t:05}{ending}")
    clip = read_clip(tmp_path)
    assert (clip.labels_shape, clip.n_channels) == ((2, 17, 23), channels)
    assert clip.plane(1).shape == (17, 23, channels)
    assert clip.dtype == (np.uint16 if mode == "I;16" else np.uint8)


def test_davis_as_it_is(tmp_path: Path) -> None:
    for t in range(3):
        for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
            folder = tmp_path / kind / "480p" / "dog"
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB" if ending == "jpg" else "L", (23, 17))
            picture.paste("white" if ending == "jpg" else 255, (5, 3, 9 + t, 8))
            picture.save(folder / f"{t:05}.{ending}")
    clip = read_clip(tmp_path / "JPEGImages" / "480p" / "dog")
    assert (clip.labels_shape, clip.n_channels, clip.dtype) == ((3, 17, 23), 3, np.uint8)
    labels = read_labels(tmp_path / "Annotations" / "480p" / "dog")
    assert [np.unique(frame).tolist() for frame in labels] == [[0, 1]] * 3
    assert [int(frame.sum()) for frame in labels] == [20, 25, 30]
    assert Annotations.from_labels(labels, frames=[1]).aligned_to(clip).frames == (1,)


def test_palette_pictures_are_labels_by_index(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 2]], np.uint8)
    picture = Image.frombytes("P", (2, 2), indices.tobytes())
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "00000.png")
    np.testing.assert_array_equal(read_labels(tmp_path).at(0), indices)
    assert read_clip(tmp_path).plane(0)[0, 1].tolist() == [128, 0, 0]


def test_pictures_that_cannot_be_labels(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    with pytest.raises(UnreadableFileError, match=r"red.png is a colour picture; labels must have one channel"):
        read_labels(tmp_path / "red.png")
    Image.new("L", (3, 2)).save(tmp_path / "grey.jpg")
    with pytest.raises(UnreadableFileError, match=r"grey.jpg is compressed with losses, which alters labels"):
        read_labels(tmp_path / "grey.jpg")
    Image.new("RGB", (3, 2), "white").save(tmp_path / "white.png")
    assert read_labels(tmp_path / "white.png").at(0).tolist() == [[1] * 3] * 2


def test_a_challenge_folder_pairs_by_number(tmp_path: Path) -> None:
    write_frames(tmp_path / "02", "t{:03}.tif", (0, 5, 8, 16))
    truth = np.zeros((2, 17, 23), np.uint16)
    truth[:, 3:6, 4:7] = 9
    write_frames(tmp_path / "02_ST" / "SEG", "man_seg{:03}.tif", (5, 16), truth)
    write_frames(tmp_path / "02_GT" / "TRA", "man_track{:03}.tif", (8,), truth)
    (tmp_path / "02_GT" / "TRA" / "man_track.txt").touch()
    clip = read_clip(tmp_path / "02")
    for given, numbers, positions in (
        ("02_ST", (5, 16), (1, 3)),
        ("02_ST/SEG", (5, 16), (1, 3)),
        ("02_GT", (8,), (2,)),  # no SEG there
        ("02_GT/TRA", (8,), (2,)),
        ("02_ST/SEG/man_seg005.tif", (5,), (1,)),
    ):
        labels = read_labels(tmp_path / given)
        assert labels.frame_numbers == numbers
        annotations = Annotations.from_labels(labels).aligned_to(clip)
        assert annotations.frames == positions
        assert annotations.labels(positions[0]).max() == 9


def test_truth_of_0_and_255_is_a_mask_and_instances_stay(tmp_path: Path) -> None:
    write_frames(tmp_path / "truth", "{:02}.png", range(2), np.array([[[0, 255]], [[0, 3]]], np.uint8))
    assert np.asarray(read_labels(tmp_path / "truth")).tolist() == [[[0, 1]], [[0, 3]]]
