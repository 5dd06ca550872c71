"""Movies that are not whole any more while they are read: said in a sentence, and never the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import zarr

from napari_osvos import Clip, lazy_pixels, read_clip, read_labels
from napari_osvos.formats import UnreadableFileError

FRAMES = np.arange(4 * 64 * 64, dtype=np.uint16).reshape(4, 64, 64) + 1

_READ = """
import os, sys
from napari_osvos import read_clip
clip = read_clip(sys.argv[1])
os.truncate(sys.argv[1], 9000)
try:
    clip.plane(3)
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["movie.tif", "movie.npy"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let go of a file that is mapped")
def test_a_file_that_becomes_shorter_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    np.save(path, FRAMES) if path.suffix == ".npy" else tifffile.imwrite(
        path, FRAMES, imagej=True, metadata={"axes": "TYX"}
    )
    # in a process of its own: the system ends one that reads beyond the end of a mapped file
    told = subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, text=True)
    assert told.returncode == 0
    assert (
        told.stdout == f"{path} cannot be read; it may be damaged or cut short: it became shorter while it was read.\n"
    )


@pytest.mark.parametrize("name", ["movie.tif", "movie.npy"])
def test_a_file_that_another_took_the_name_of_is_read_on(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    np.save(path, FRAMES) if path.suffix == ".npy" else tifffile.imwrite(
        path, FRAMES, imagej=True, metadata={"axes": "TYX"}
    )
    clip = read_clip(path)
    if sys.platform != "win32":
        (tmp_path / "other").write_bytes(b"")
        os.replace(tmp_path / "other", path)
    np.testing.assert_array_equal(clip.plane(3)[..., 0], FRAMES[3])


@pytest.mark.parametrize("name", ["movie.tif", "movie.npy"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what of a mapped file is in memory")
def test_a_huge_plane_that_was_read_does_not_stay_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    np.save(path, FRAMES) if path.suffix == ".npy" else tifffile.imwrite(path, FRAMES, photometric="minisblack")
    clip, in_memory = read_clip(path), []
    for huge in (2**30, 1):
        monkeypatch.setattr(lazy_pixels, "HUGE_BYTES", huge)
        for t in (2, 0, 2):
            np.testing.assert_array_equal(clip.plane(t)[..., 0], FRAMES[t])
        in_memory.append(sum(part.rss for part in psutil.Process().memory_maps() if part.path == str(path)))
    assert in_memory[0] >= FRAMES[0].nbytes
    assert in_memory[1] == 0


def _zarr(folder: Path, **more: object) -> Path:
    array = zarr.create_array(str(folder / "movie.zarr"), shape=FRAMES.shape, dtype="u2", chunks=(1, 32, 64), **more)
    array[...] = FRAMES
    return folder / "movie.zarr"


@pytest.mark.parametrize(("version", "chunk"), [(2, "2.1.0"), (3, "c/2/1/0")])
def test_a_missing_chunk_is_told_once_and_when_it_is_read(tmp_path: Path, version: int, chunk: str) -> None:
    path = _zarr(tmp_path, zarr_format=version)
    (path / chunk).unlink()
    clip = read_clip(path)
    np.testing.assert_array_equal(clip.plane(1)[..., 0], FRAMES[1])
    with pytest.warns(UserWarning, match=f"movie.zarr has no chunk {chunk}, which therefore reads as 0"):
        found = clip.plane(2)
    assert not found[32:].any()
    clip.plane(2)  # a second warning would be an error


def test_a_missing_chunk_of_shards_is_told(tmp_path: Path) -> None:
    path = _zarr(tmp_path, shards=(2, 64, 64))
    clip = read_clip(path)
    clip.plane(3)
    (path / "c/1/0/0").unlink()
    with pytest.warns(UserWarning, match="has no chunk c/1/0/0"):
        clip.plane(3)


def test_background_that_labels_leave_out_is_no_fault(tmp_path: Path) -> None:
    path = _zarr(tmp_path)
    (path / "c/2/1/0").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not read_labels(path).at(2)[32:].any()


def test_a_corrupt_chunk_is_named(tmp_path: Path) -> None:
    path = _zarr(tmp_path)
    (path / "c/2/1/0").write_bytes(b"none")
    with pytest.raises(UnreadableFileError, match="movie.zarr cannot be read; it may be damaged"):
        read_clip(path).plane(2)


def test_a_movie_of_endless_frames_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ValueError, match=r"the movie has shape \(1000000000000, 4, 4\); more than 10,000,000 planes"):
        Clip(np.broadcast_to(np.uint8(0), (10**12, 4, 4)))
