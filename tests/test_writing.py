"""What is written is read back, here and by others, and appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_osvos import writing
from napari_osvos.io import read_clip, read_labels, write_labels, write_probabilities
from napari_osvos.labels import Labels
from napari_osvos.machine import aside
from napari_osvos.writing import check_output

RANDOM = np.random.default_rng(0)
SHAPES = [(3, 17, 23), (1, 17, 23), (3, 4, 17, 23), (3, 1, 17, 23), (1, 4, 17, 23), (4, 1, 1), (2, 33, 1), (2, 17, 3)]
ENDINGS = [".tif", ".tiff", ".zarr", ".ome.zarr"]


def drawn(shape: tuple[int, ...], top: int = 65535) -> np.ndarray:
    return RANDOM.integers(0, top + 1, shape)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("numbers", [False, True])
def test_labels_come_back(tmp_path: Path, ending: str, shape: tuple[int, ...], numbers: bool) -> None:
    path, labels = tmp_path / f"labels{ending}", drawn(shape)
    frame_numbers = tuple(range(5, 5 + 3 * shape[0], 3)) if numbers else None
    write_labels(path, labels, frame_numbers=frame_numbers)
    found = read_labels(path)
    assert found.shape == shape
    assert found.has_numbers == numbers
    assert found.frame_numbers == (frame_numbers or tuple(range(shape[0])))
    np.testing.assert_array_equal(found, labels)
    assert read_clip(path).dtype == np.uint16
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_come_back(tmp_path: Path, ending: str, shape: tuple[int, ...]) -> None:
    path, probabilities = tmp_path / f"p{ending}", RANDOM.random(shape)
    write_probabilities(path, probabilities, frame_numbers=range(shape[0]))
    clip = read_clip(path)
    assert (clip.labels_shape, clip.dtype, clip.n_channels) == (shape, np.float32, 1)
    planes = np.stack([clip.plane(p) for p in range(clip.n_planes)]).reshape(shape)
    np.testing.assert_array_equal(planes, probabilities.astype(np.float32))


@pytest.mark.parametrize("axes", ["TYX", "TZYX"])
def test_others_read_the_tiff(tmp_path: Path, axes: str) -> None:
    labels = drawn((3, 17, 23) if axes == "TYX" else (3, 4, 17, 23))
    write_labels(tmp_path / "a.tif", labels, frame_numbers=[5, 8, 16])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_imagej
        assert tif.series[0].axes == axes
        assert tif.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        notes = json.loads(tif.imagej_metadata["Info"])
    assert notes == {"napari_osvos": {"axes": axes, "frame_numbers": [5, 8, 16]}}


def test_others_read_the_zarr(tmp_path: Path) -> None:
    labels = drawn((3, 4, 17, 23))
    write_labels(tmp_path / "a.ome.zarr", labels, frame_numbers=[5, 8, 16])
    group: Any = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (scales,) = ome["multiscales"]
    assert [(axis["name"], axis["type"]) for axis in scales["axes"]] == [
        ("t", "time"), ("z", "space"), ("y", "space"), ("x", "space"),
    ]  # fmt: skip
    assert scales["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1.0] * 4}]
    array = group[scales["datasets"][0]["path"]]
    assert array.chunks == (1, 1, 17, 23)
    assert array.metadata.dimension_names == ("t", "z", "y", "x")
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array[:], labels)
    assert group.attrs["napari_osvos"]["frame_numbers"] == [5, 8, 16]


def test_labels_beyond_16_bits_need_32(tmp_path: Path) -> None:
    labels = np.array([[[0, 1]], [[0, 65536]]])
    with pytest.raises(ValueError, match=r"^Frame 1 for .*a.tif holds label 65536, but uint16 ends at 65535; .*uint32"):
        write_labels(tmp_path / "a.tif", labels)
    assert not list(tmp_path.iterdir())
    for ending in (".tif", ".zarr"):
        write_labels(tmp_path / f"a{ending}", labels, dtype=np.uint32, frame_numbers=[3, 4])
        found = read_labels(tmp_path / f"a{ending}")
        np.testing.assert_array_equal(found, labels)
        assert found.frame_numbers == (3, 4)
    assert tifffile.imread(tmp_path / "a.tif").dtype == np.uint32


@pytest.mark.parametrize(
    "shape", [(3, 5, 1), (1, 5, 1), (3, 1, 1), (2, 3, 5, 1), (1, 1, 1), (2, 1, 5, 1), (2, 3, 1, 1)]
)
def test_labels_of_32_bits_may_be_one_pixel_wide(tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = drawn(shape, top=2**31 - 1)
    numbers = tuple(range(5, 5 + shape[0]))
    write_labels(tmp_path / "a.tif", labels, dtype=np.uint32, frame_numbers=numbers)
    found = read_labels(tmp_path / "a.tif")
    assert (found.shape, found.frame_numbers) == (shape, numbers)
    np.testing.assert_array_equal(found, labels)


def test_a_stack_too_large_for_imagej_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LARGEST_IMAGEJ_BYTES", 100)
    labels = drawn((2, 1, 17, 23))
    write_labels(tmp_path / "a.tif", labels, frame_numbers=[3, 4])
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
    found = read_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, labels)
    assert found.frame_numbers == (3, 4)


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
@pytest.mark.parametrize(
    "source",
    [
        lambda a: iter(a),
        lambda a: enumerate(a),
        lambda a: ((t, frame) for t, frame in zip((5, 8, 9), a, strict=True)),
        lambda a: list(a),
        lambda a: da.from_array(a, chunks=(1, 5, 5)),
        lambda a: zarr.array(a),
        lambda a: Labels(a),
        lambda a: a.astype(np.float64),
    ],
)
def test_labels_come_from_arrays_and_iterators(tmp_path: Path, ending: str, source: Any) -> None:
    labels = drawn((3, 17, 23))
    write_labels(tmp_path / f"a{ending}", source(labels), shape=labels.shape)
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}"), labels)


def test_a_list_of_pairs_needs_no_shape(tmp_path: Path) -> None:
    labels = drawn((3, 4, 17, 23))
    write_labels(tmp_path / "a.tif", list(enumerate(labels)))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)


def test_numbers_go_with_labels_and_a_single_plane_is_a_stack_of_one(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", Labels(drawn((2, 5, 6)), frame_numbers=[8, 9]))
    write_labels(tmp_path / "b.tif", read_labels(tmp_path / "a.tif"))
    assert read_labels(tmp_path / "b.tif").frame_numbers == (8, 9)
    write_labels(tmp_path / "c.tif", drawn((5, 6)), frame_numbers=[7])
    assert read_labels(tmp_path / "c.tif").shape == (1, 5, 6)
    assert read_labels(tmp_path / "c.tif").frame_numbers == (7,)


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
def test_frames_are_taken_one_at_a_time(tmp_path: Path, ending: str) -> None:
    def frames() -> Iterator[np.ndarray]:
        for _ in range(30):
            yield np.zeros((250, 400), np.uint16)

    write_labels(tmp_path / f"warm{ending}", np.zeros((2, 3, 4), np.uint8))
    tracemalloc.start()
    try:
        write_labels(tmp_path / f"a{ending}", frames(), shape=(30, 250, 400))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2 * 250 * 400  # a few copies of a frame, some of them int32; not 30 frames


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([np.zeros((5, 6))], "Only 1 of the 3 frames announced for .* came"),
        ([np.zeros((5, 6))] * 4, "More than the 3 frames announced for .* came"),
        ([np.zeros((5, 6)), np.zeros((6, 5))], r"Frame 1 for .* has shape \(6, 5\); it must have \(5, 6\)"),
        (
            [(0, np.zeros((5, 6))), (0, np.zeros((5, 6)))],
            "Frame 0 came after frame 0; frames must come in rising order",
        ),
        ([np.full((5, 6), -1)], "Frame 0 for .* holds the negative label -1"),
        ([np.full((5, 6), 0.5)], "Frame 0 for .* holds the value 0.5; labels must be whole numbers"),
    ],
)
def test_after_an_error_all_is_as_it_was(
    tmp_path: Path, ending: str, existed: bool, frames: list[Any], sentence: str
) -> None:
    path = tmp_path / f"a{ending}"
    if existed:
        write_labels(path, np.ones((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=sentence):
        write_labels(path, iter(frames), shape=(3, 5, 6), overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name] * existed
    if existed:
        np.testing.assert_array_equal(read_labels(path), np.ones((1, 2, 2)))


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
def test_nothing_is_overwritten_unless_allowed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write_labels(path, np.ones((1, 2, 2), np.uint8))
    with pytest.raises(FileExistsError, match=rf"a{ending} exists; choose another name or allow overwriting it.$"):
        write_labels(path, np.zeros((1, 2, 2), np.uint8))
    assert read_labels(path).at(0).all()
    write_labels(path, np.full((2, 3, 4), 2, np.uint8), overwrite=True)
    np.testing.assert_array_equal(read_labels(path), np.full((2, 3, 4), 2))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_file_may_take_the_place_of_what_it_was_read_from(tmp_path: Path) -> None:
    for ending in (".tif", ".zarr"):
        path = tmp_path / f"a{ending}"
        write_labels(path, drawn((3, 17, 23), top=8))
        before = np.asarray(read_labels(path))
        write_labels(path, read_labels(path), overwrite=True)
        np.testing.assert_array_equal(read_labels(path), before)


def test_a_folder_that_is_no_zarr_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.tex").touch()
    (tmp_path / "b.tif").mkdir()
    for name in ("a.zarr", "b.tif"):
        with pytest.raises(ValueError, match=f"{name} is a folder that is no zarr, which is never overwritten"):
            write_labels(tmp_path / name, np.zeros((1, 2, 2), np.uint8), overwrite=True)
    assert (tmp_path / "a.zarr" / "thesis.tex").exists()
    (tmp_path / "c.zarr").touch()
    with pytest.raises(ValueError, match=r"c.zarr is a file, which is never overwritten"):
        check_output(tmp_path / "c.zarr", overwrite=True)


@pytest.mark.parametrize("name", ["labels", "labels.png", "labels.npy", "labels.ome.tif"])
def test_only_known_endings_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} cannot be written; the name must end in .tif, .tiff, .zarr or"):
        write_labels(tmp_path / name, np.zeros((1, 2, 2), np.uint8))


def test_folders_are_made(tmp_path: Path) -> None:
    for name in ("a/b/labels.tif", "c/d/labels.zarr"):
        write_labels(tmp_path / name, np.zeros((1, 2, 2), np.uint8))
        assert read_labels(tmp_path / name).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("labels", "arguments", "sentence"),
    [
        (iter([]), {}, "The shape of what is written to .* is not known; give shape="),
        ([], {}, "The shape of what is written to .* is not known"),
        (np.zeros((1, 2, 2)), {"shape": (2, 2, 2)}, r"was to have shape \(2, 2, 2\), but the array has \(1, 2, 2\)"),
        (np.zeros((1, 1, 1, 2, 2)), {}, r"must be \(T, Y, X\) or \(T, Z, Y, X\), none of them 0"),
        (np.zeros((0, 2, 2)), {}, "none of them 0"),
        (np.zeros((1, 2, 2)), {"frame_numbers": [1, 2]}, "has 1 frames but 2 frame numbers"),
        (np.zeros((1, 2, 2)), {"dtype": np.int32}, "The dtype of labels is int32; it must be uint16 or uint32"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, labels: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        write_labels(tmp_path / "a.tif", labels, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_probabilities_are_from_0_to_1(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match=r"Frame 0 for .* holds values from .*; probabilities are 0 to 1"):
        write_probabilities(tmp_path / "p.tif", np.array([[[0.5, value]]]))


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
def test_too_little_disk_is_said_before_anything_is_written(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, used=0, free=10))

    def frames() -> Iterator[np.ndarray]:
        pytest.fail("a frame was asked for")
        yield np.zeros((100, 100))

    with pytest.raises(OSError, match=rf"a{ending} needs 9.0 kB of disk and 0.0 kB are free") as caught:
        write_labels(tmp_path / f"a{ending}", frames(), shape=(3, 100, 100))
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
def test_a_disk_that_becomes_full_is_said_and_tidied(tmp_path: Path, ending: str) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield np.zeros((5, 6), np.uint16)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=rf"The disk became full, so .*a{ending} was not written; free some space"):
        write_labels(tmp_path / f"a{ending}", frames(), shape=(3, 5, 6))
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_group(str(aside(tmp_path / "a.zarr", "partial")))
    write_labels(path, np.ones((1, 2, 2), np.uint8))
    zarr.create_group(str(aside(tmp_path / "a.zarr", "old")))
    write_labels(path, np.full((1, 2, 2), 2, np.uint8), overwrite=True)
    np.testing.assert_array_equal(read_labels(path), np.full((1, 2, 2), 2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_what_was_moved_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write_labels(path, np.ones((1, 2, 2), np.uint8))
    path.rename(aside(tmp_path / "a.zarr", "old"))
    with pytest.raises(ValueError, match="came"):
        write_labels(path, iter([]), shape=(1, 2, 2))
    np.testing.assert_array_equal(read_labels(path), np.ones((1, 2, 2)))


def test_a_stop_between_the_two_renames_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zarr"
    write_labels(path, np.ones((1, 2, 2), np.uint8))
    replace, partial = os.replace, aside(path, "partial")

    def stopped(source: Path, target: Path) -> None:
        if source == partial:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_labels(path, np.full((1, 2, 2), 2, np.uint8), overwrite=True)
    np.testing.assert_array_equal(read_labels(path), np.ones((1, 2, 2)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield np.zeros((5, 6), np.uint16)
        raise KeyboardInterrupt

    for ending in (".tif", ".zarr"):
        with pytest.raises(KeyboardInterrupt):
            write_labels(tmp_path / f"a{ending}", frames(), shape=(3, 5, 6))
    assert not list(tmp_path.iterdir())
