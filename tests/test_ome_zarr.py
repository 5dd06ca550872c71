"""OME-Zarr of both versions, plain zarr, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_osvos.formats import UnreadableFileError
from napari_osvos.io import read_clip, read_labels

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 60000, (4, 17, 23), dtype=np.uint16)


def planes_of(path: Path, **options: Any) -> np.ndarray:
    clip = read_clip(path, **options)
    return np.stack([clip.plane(p) for p in range(clip.n_planes)])


def put(group: zarr.Group, name: str, pixels: np.ndarray) -> None:
    group.create_array(name, shape=pixels.shape, dtype=pixels.dtype)[...] = pixels


def write_ome_zarr(path: Path, pixels: np.ndarray, axes: str, version: str) -> None:
    zarr_format = 3 if version == "0.5" else 2
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    put(group, "full", pixels)
    put(group, "half", pixels[..., ::2, ::2])
    scales = [{"axes": [{"name": letter} for letter in axes], "datasets": [{"path": "full"}, {"path": "half"}]}]
    group.attrs.update(
        {"ome": {"version": version, "multiscales": scales}} if version == "0.5" else {"multiscales": scales}
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "shape", "labels_shape"),
    [
        ("tyx", (4, 17, 23), (4, 17, 23)),
        ("tczyx", (4, 2, 3, 17, 23), (4, 3, 17, 23)),
        ("tczyx", (4, 1, 1, 17, 23), (4, 1, 17, 23)),
        ("zyx", (4, 17, 23), (4, 17, 23)),
        ("cyx", (2, 17, 23), (1, 17, 23)),
    ],
)
def test_ome_zarr_gives_its_full_level(
    tmp_path: Path, version: str, axes: str, shape: tuple[int, ...], labels_shape: tuple[int, ...]
) -> None:
    pixels = RANDOM.integers(0, 255, shape, dtype=np.uint8)
    write_ome_zarr(tmp_path / "movie.zarr", pixels, axes, version)
    clip = read_clip(tmp_path / "movie.zarr")
    assert clip.labels_shape == labels_shape
    expected = np.moveaxis(pixels, axes.index("c"), -1) if "c" in axes else pixels[..., np.newaxis]
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.zarr"), expected.reshape(-1, 17, 23, clip.n_channels))


def test_the_labels_inside_an_ome_zarr_image_are_found(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "movie.zarr", STACK, "tyx", "0.5")
    write_ome_zarr(tmp_path / "movie.zarr" / "labels" / "cells", STACK // 30000, "tyx", "0.5")
    zarr.open_group(tmp_path / "movie.zarr" / "labels", mode="a").attrs["ome"] = {"labels": ["cells"]}
    assert np.asarray(read_labels(tmp_path / "movie.zarr")).max() == 1
    assert read_clip(tmp_path / "movie.zarr").plane(0).max() > 1


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plain_zarr_array(tmp_path: Path, zarr_format: Any) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", data=STACK[:, None], zarr_format=zarr_format)
    assert read_clip(tmp_path / "a.zarr").labels_shape == (4, 1, 17, 23)
    array.attrs["_ARRAY_DIMENSIONS"] = ["time", "channel", "y", "x"]
    assert read_clip(tmp_path / "a.zarr").labels_shape == (4, 17, 23)
    array.attrs["_ARRAY_DIMENSIONS"] = ["dim_0", "dim_1", "dim_2", "dim_3"]
    assert read_clip(tmp_path / "a.zarr").labels_shape == (4, 1, 17, 23)


def test_zarr_dimension_names_and_lone_arrays(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "named.zarr", data=STACK[None], dimension_names=["c", "t", "y", "x"])
    assert read_clip(tmp_path / "named.zarr").labels_shape == STACK.shape
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    with pytest.raises(UnreadableFileError, match=r"group.zarr is a zarr group that holds no array"):
        read_clip(tmp_path / "group.zarr")
    put(group, "only", STACK)
    assert read_clip(tmp_path / "group.zarr").labels_shape == STACK.shape
    put(group, "second", STACK)
    with pytest.raises(
        UnreadableFileError, match=r"holds (only, second|second, only); give the array of it that is meant"
    ):
        read_clip(tmp_path / "group.zarr")


def test_bioformats_puts_the_image_one_level_down(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "movie.zarr", mode="w").attrs["ome"] = {"bioformats2raw.layout": 3}
    write_ome_zarr(tmp_path / "movie.zarr" / "0", STACK, "tyx", "0.5")
    assert read_clip(tmp_path / "movie.zarr").labels_shape == STACK.shape


def test_a_damaged_zarr_is_named(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(1, 17, 23))
    (tmp_path / "a.zarr" / "c" / "1" / "0" / "0").write_bytes(b"junk")
    clip = read_clip(tmp_path / "a.zarr")
    np.testing.assert_array_equal(clip.plane(2)[..., 0], STACK[2])
    with pytest.raises(UnreadableFileError, match=r"a.zarr cannot be read"):
        clip.plane(1)
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps({"node_type": "nonsense"}))
    with pytest.raises(UnreadableFileError, match=r"a.zarr cannot be read"):
        read_clip(tmp_path / "a.zarr")
