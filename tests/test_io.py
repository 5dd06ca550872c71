"""Stacks in single files, lazily, and a sentence for every file that is none."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_osvos.formats import UnreadableFileError
from napari_osvos.io import read_clip, read_labels

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 60000, (4, 17, 23), dtype=np.uint16)


def planes_of(path: Path, **options: Any) -> np.ndarray:
    clip = read_clip(path, **options)
    return np.stack([clip.plane(p) for p in range(clip.n_planes)])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dialect", [{"imagej": True}, {"ome": True}, {}, {"bigtiff": True}, {"byteorder": ">"}])
@pytest.mark.parametrize("axes", ["TYX", "TZYX", "TCYX", "ZYX", "TZCYX"])
def test_tiff_stacks_say_their_axes(
    tmp_path: Path, axes: str, dialect: dict[str, Any], compression: str | None
) -> None:
    shape = tuple({"T": 4, "Z": 3, "C": 2, "Y": 17, "X": 23}[letter] for letter in axes)
    pixels = RANDOM.integers(0, 60000, shape, dtype=np.uint16)
    about = {"photometric": "minisblack", "metadata": {"axes": axes}, "compression": compression}
    tifffile.imwrite(tmp_path / "movie.tif", pixels, **about, **dialect)
    clip = read_clip(tmp_path / "movie.tif")
    assert clip.labels_shape == tuple(n for letter, n in zip(axes, shape, strict=True) if letter != "C")
    assert clip.n_channels == (2 if "C" in axes else 1)
    assert clip.dtype == np.uint16
    assert not clip.has_numbers
    expected = pixels if "C" in axes else np.expand_dims(pixels, -3)
    expected = np.moveaxis(expected, -3, -1).reshape(clip.n_planes, 17, 23, clip.n_channels)
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.tif"), expected)


def test_the_axes_of_a_tiff_can_be_overruled(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", np.stack([STACK, STACK]), imagej=True, metadata={"axes": "TZYX"})
    clip = read_clip(tmp_path / "movie.tif", axes="CTYX", channels=[1])
    assert (clip.labels_shape, clip.n_channels) == ((4, 17, 23), 1)


@pytest.mark.parametrize("samples", [3, 4])
def test_colour_tiffs_lose_their_alpha(tmp_path: Path, samples: int) -> None:
    pixels = RANDOM.integers(0, 255, (4, 17, 23, samples), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "movie.tif", pixels, photometric="rgb")
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.tif"), pixels[..., :3])


@pytest.mark.parametrize("frames", [3, 4])
def test_a_stack_of_three_or_four_frames_is_no_colour_picture(tmp_path: Path, frames: int) -> None:
    """Without being told otherwise, tifffile writes such a stack as the planes of a colour picture."""
    pixels = STACK[:frames]
    tifffile.imwrite(tmp_path / "movie.tif", pixels, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.tif")[..., 0], pixels)
    np.testing.assert_array_equal(read_labels(tmp_path / "movie.tif"), pixels)
    tifffile.imwrite(tmp_path / "5.tif", np.stack([pixels[:3]] * 2), photometric="rgb", planarconfig="separate")
    assert read_clip(tmp_path / "5.tif").n_channels == 3
    assert read_labels(tmp_path / "5.tif").shape == (2, 3, 17, 23)


def test_samples_that_are_no_colours_are_channels(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 255, (4, 17, 23, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "movie.tif", pixels, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.tif"), pixels)


@pytest.mark.parametrize("metadata", [None, {}])
def test_pages_that_were_written_one_by_one_are_one_movie(tmp_path: Path, metadata: dict[str, Any] | None) -> None:
    with tifffile.TiffWriter(tmp_path / "movie.tif") as tif:
        for frame in STACK:
            tif.write(frame, metadata=metadata)
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.tif")[..., 0], STACK)


@pytest.mark.parametrize("shape", [(17, 23), (1, 17, 23), (3, 1, 1), (1, 1), (2, 33, 1)])
def test_odd_and_tiny_stacks(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = RANDOM.normal(size=shape).astype(np.float32)
    tifffile.imwrite(tmp_path / "movie.tif", pixels, photometric="minisblack")
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.tif").reshape(shape), pixels)


@pytest.mark.parametrize("layout", [{"tile": (16, 16)}, {"rowsperstrip": 5}, {"compression": "zlib", "predictor": 2}])
@pytest.mark.parametrize("dialect", [{"imagej": True}, {"ome": True}, {}, {"bigtiff": True}, {"byteorder": ">"}])
def test_planes_in_tiles_strips_or_differences(tmp_path: Path, dialect: dict[str, Any], layout: dict[str, Any]) -> None:
    about = {"photometric": "minisblack", "metadata": {"axes": "TYX"}, "compression": "zlib"}
    tifffile.imwrite(tmp_path / "movie.tif", STACK, **dialect, **(about | layout))
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.tif")[..., 0], STACK)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_of_ome_may_lie_in_several_files_or_be_left_out(tmp_path: Path, compression: str | None) -> None:
    paths = [tmp_path / f"{k}.tif" for k in range(2)]
    names = [f"urn:uuid:0000000{k}-0000-4000-8000-000000000000" for k in range(2)]
    uuids = [f'<UUID FileName="{path.name}">{name}</UUID>' for path, name in zip(paths, names, strict=True)]
    where = "".join(f'<TiffData IFD="0" FirstT="{2 * k}" PlaneCount="1">{uuids[k]}</TiffData>' for k in range(2))
    for k in range(2):
        description = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{names[k]}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" BigEndian="false" '
            'SizeX="23" SizeY="17" SizeZ="1" SizeC="1" SizeT="3">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{where}</Pixels></Image></OME>'
        )
        tifffile.imwrite(paths[k], STACK[k], description=description, metadata=None, compression=compression)
    expected = np.stack([STACK[0], np.zeros_like(STACK[0]), STACK[1]])
    for path in paths:
        np.testing.assert_array_equal(planes_of(path)[..., 0], expected)


def test_pages_that_do_not_fill_the_stack_are_refused(tmp_path: Path) -> None:
    """With ImageJ, tifffile takes a last axis of length 1 for samples, and so writes Z as Y."""
    about = {"imagej": True, "metadata": {"axes": "TZYX"}, "compression": "zlib"}
    tifffile.imwrite(tmp_path / "movie.tif", np.zeros((4, 3, 9, 1), np.uint8), **about)
    with pytest.raises(UnreadableFileError, match=r"4 pages of \(3, 9\) pixels do not make an array of shape \(4, 3"):
        read_clip(tmp_path / "movie.tif")


def test_a_damaged_page_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib", rowsperstrip=17)
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[3].dataoffsets[0], tif.pages[3].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + count] = bytes(count)
    path.write_bytes(content)
    clip = read_clip(path)
    np.testing.assert_array_equal(clip.plane(2)[..., 0], STACK[2])
    with pytest.raises(UnreadableFileError, match=r"movie.tif cannot be read; it may be damaged or cut short: .*\.$"):
        clip.plane(3)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dialect", [{"imagej": True}, {"ome": True}, {}])
def test_a_tiff_that_is_cut_short_does_not_pass_for_a_shorter_one(
    tmp_path: Path, dialect: dict[str, Any], compression: str | None, part: float
) -> None:
    path = tmp_path / "movie.tif"
    about = {"photometric": "minisblack", "metadata": {"axes": "TYX"}, "compression": compression}
    tifffile.imwrite(path, STACK, **about, **dialect)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    if part == 0.95 and (compression is None or dialect == {"ome": True}):
        # perhaps only what lies behind the pixels is lost
        with contextlib.suppress(UnreadableFileError):
            np.testing.assert_array_equal(planes_of(path)[..., 0], STACK)
        return
    with pytest.raises(UnreadableFileError, match=r"movie.tif .*damaged or cut short: .*\.$"):
        planes_of(path)


@pytest.mark.parametrize("metadata", [None, {}])
def test_a_tiff_of_several_sizes_is_refused(tmp_path: Path, metadata: dict[str, Any] | None) -> None:
    with tifffile.TiffWriter(tmp_path / "movie.tif") as tif:
        for frame in (STACK[0], STACK[1], STACK[0, :5, :5]):
            tif.write(frame, metadata=metadata)
    with pytest.raises(UnreadableFileError, match=r"holds images of several sizes; all frames must be of one size"):
        read_clip(tmp_path / "movie.tif")


def test_a_compression_that_needs_a_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", STACK[0], compression="zlib")
    monkeypatch.setattr(type(tifffile.TIFF.DECOMPRESSORS), "__contains__", lambda *_: False)
    with pytest.raises(UnreadableFileError, match=r"ADOBE_DEFLATE compression.*pip install imagecodecs"):
        read_clip(tmp_path / "movie.tif")


@pytest.mark.parametrize("ending", [".tif", ".png", ".npy", ".jpg"])
@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000)])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"movie{ending}"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"movie{ending} cannot be read; it may be damaged or cut short: "):
        read_clip(path)


def test_what_is_not_there_or_not_known(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder .*nowhere.tif\.$"):
        read_clip(tmp_path / "nowhere.tif")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes.txt has an ending that is not known; a movie may be TIFF, PNG"):
        read_clip(tmp_path / "notes.txt")
    (tmp_path / "movie.mp4").touch()
    with pytest.raises(ValueError, match=r"labels may be TIFF"):
        read_labels(tmp_path / "movie.mp4")


def test_npy_is_mapped_and_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "movie.npy", STACK)
    np.testing.assert_array_equal(planes_of(tmp_path / "movie.npy")[..., 0], STACK)
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableFileError, match=r"objects.npy cannot be read"):
        read_clip(tmp_path / "objects.npy")
    content = (tmp_path / "movie.npy").read_bytes()
    (tmp_path / "movie.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableFileError, match=r"movie.npy cannot be read"):
        read_clip(tmp_path / "movie.npy")


def test_short_or_inner_numbers_of_a_single_picture_are_no_frame_numbers(tmp_path: Path) -> None:
    for name, number in (("labels2.tif", None), ("005_labels.tif", None), ("man_seg005.tif", 5)):
        tifffile.imwrite(tmp_path / name, STACK[0])
        assert read_clip(tmp_path / name).has_numbers == (number is not None)
        assert read_labels(tmp_path / name).frame_numbers == (number or 0,)


@pytest.mark.parametrize("values", [np.full((2, 3, 4), 0.5, np.float32), np.full((2, 3, 4), -1, np.int16)])
def test_values_that_are_no_labels_name_frame_and_file(tmp_path: Path, values: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "drawn.tif", values, photometric="minisblack")
    with pytest.raises(ValueError, match=r"^Frame 1 of .*drawn.tif holds the (value 0.5|negative label -1); labels"):
        read_labels(tmp_path / "drawn.tif").at(1)
