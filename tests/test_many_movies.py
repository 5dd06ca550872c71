"""Many movies predicted by one command: each by itself, one that fails does not stop the others."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from toy_clip import quick, tiny_parent, toy_clip, toy_frames

from napari_osvos import FineTuner, Segmenter, frame_marks, read_clip, read_labels
from napari_osvos.cli import main
from napari_osvos.cli.console import Console
from napari_osvos.cli.summary import Summary, SummaryRow
from napari_osvos.frame_store import FrameStore
from napari_osvos.movie_list import bare_name, movies_in


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip, annotations, _ = toy_clip()
    path = tmp_path_factory.mktemp("segmenter") / "toy.osvos"
    FineTuner(tiny_parent(), quick()).fit(clip, annotations).save(path)
    return path


def _write(path: Path, n_frames: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames, _ = toy_frames(n_frames)
    if path.suffix == ".zarr":
        array = zarr.create_array(str(path), shape=frames.shape, dtype=frames.dtype, chunks=(1, 40, 56))
        array[...] = frames
    elif path.suffix:
        tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    else:
        path.mkdir()
        for t, frame in enumerate(frames):
            tifffile.imwrite(path / f"t{t:03d}.tif", frame)
    return path


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """A folder with three movies; names whose natural order is another than that of their letters."""
    for name, n_frames in (("well_10.tif", 4), ("well_9.tif", 3), ("well_11.ome.zarr", 2)):
        _write(tmp_path / "plate" / name, n_frames)
    return tmp_path / "plate"


def _predict(segmenter: Path, *words: str | Path) -> int:
    return main(["predict", str(segmenter), *map(str, words)])


def _rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "summary.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    head = "napari-osvos: error: "
    return [line.removeprefix(head) for line in capsys.readouterr().err.splitlines() if line.startswith(head)]


# -- which movies ----------------------------------------------------------------------------


def test_a_folder_of_movies_stands_for_them_in_natural_order(plate: Path) -> None:
    (plate / ".hidden.tif").touch()
    (plate / "notes.txt").touch()
    names = ["well_9.tif", "well_10.tif", "well_11.ome.zarr"]
    assert [path.name for path in movies_in([plate])] == names
    assert [path.name for path in movies_in([plate / "*_1*", plate / "well_9.tif"])] == names
    assert movies_in([plate / "well_11.ome.zarr"]) == (plate / "well_11.ome.zarr",)


def test_a_folder_of_frames_is_one_movie(tmp_path: Path) -> None:
    for folder in (_write(tmp_path / "01"), tmp_path / "pictures", tmp_path / "empty"):
        folder.mkdir(exist_ok=True)
        if folder.name == "pictures":
            (folder / "a1.png").touch()
        assert movies_in([folder]) == (folder,)
    stack = tmp_path / "stacks" / "t000.tif"
    stack.parent.mkdir()
    tifffile.imwrite(stack, np.zeros((3, 5, 4), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    assert movies_in([stack.parent]) == (stack.parent,)  # its frames have slices


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.b.tif", "a.b"),
        ("a.ome.tif", "a"),
        ("A.OME.ZARR", "A"),
        ("a.zarr", "a"),
        ("02.x", "02.x"),
        ("02.x/.", "02.x"),
    ],
)
def test_the_name_of_a_movie_is_that_of_its_file_without_the_ending(tmp_path: Path, path: str, name: str) -> None:
    (tmp_path / "02.x").mkdir()
    (tmp_path / "elsewhere.tif").touch()
    if path.endswith(".tif") and os.name == "posix":
        (tmp_path / path).symlink_to(tmp_path / "elsewhere.tif")
    assert bare_name(tmp_path / path) == name


def test_a_movie_is_not_taken_twice(plate: Path) -> None:
    with pytest.raises(ValueError, match=r"well_9.tif is given twice"):
        movies_in([plate, plate / "well_9.tif"])
    with pytest.raises(ValueError, match=r"no file or folder that fits .*\*.nd2"):
        movies_in([plate / "*.nd2"])


# -- what is made of them --------------------------------------------------------------------


def test_each_movie_gets_labels_of_its_name(segmenter: Path, plate: Path, tmp_path: Path) -> None:
    out, frames = tmp_path / "out", _write(tmp_path / "02", 5)
    assert _predict(segmenter, plate, frames, "-o", f"{out}/", "--json", tmp_path / "report.json") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "02.ome.zarr",
        "summary.csv",
        "well_10.ome.zarr",
        "well_11.ome.zarr",
        "well_9.ome.zarr",
    ]
    expected = Segmenter.load(segmenter)
    for movie in (plate / "well_9.tif", plate / "well_11.ome.zarr", frames):
        labels = read_labels(out / f"{movie.name.split('.')[0]}.ome.zarr")
        np.testing.assert_array_equal(np.asarray(labels), expected.predict(read_clip(movie)))
        assert np.asarray(labels).any()
    rows = _rows(out)
    assert [row["movie"] for row in rows] == [
        str(path) for path in (frames, *(plate / name for name in ("well_9.tif", "well_10.tif", "well_11.ome.zarr")))
    ]
    assert [row["frames"] for row in rows] == ["5", "3", "4", "2"]
    assert {row["status"] for row in rows} == {"done"}
    assert all(0.5 < float(row["mean_confidence"]) <= 1 and int(row["objects"]) > 0 for row in rows)
    assert json.loads((tmp_path / "report.json").read_text())["movies"] == rows


def test_tif_and_exports_of_each_movie(segmenter: Path, plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _predict(segmenter, plate, "-o", out, "--format", "tif", "--export", "csv", "--export", "ctc") == 0
    assert len((out / "well_9.csv").read_text().splitlines()) == 1 + 3  # a frame each
    assert (out / "well_10_RES" / "res_track.txt").is_file()
    assert tifffile.imread(out / "well_10.tif").shape == (4, 40, 56)


def test_one_broken_movie_does_not_stop_the_others(
    segmenter: Path, plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (plate / "well_10.tif").read_bytes()
    (plate / "well_10.tif").write_bytes(b"this is no TIFF")
    chunk = plate / "well_11.ome.zarr" / "c" / "1" / "0" / "0"
    chunk_bytes = chunk.read_bytes()
    chunk.write_bytes(b"damaged")
    assert _predict(segmenter, plate, "-o", tmp_path / "out") == 1
    errors = _errors(capsys)
    assert len(errors) == 2
    assert "well_10.tif cannot be read" in errors[0]
    assert "well_11.ome.zarr cannot be read" in errors[1]
    rows = {row["output"]: row for row in _rows(tmp_path / "out")}
    assert rows["well_9.ome.zarr"]["status"] == "done"
    assert "cannot be read" in rows["well_10.ome.zarr"]["status"]
    assert not (tmp_path / "out" / "well_10.ome.zarr").exists()
    (plate / "well_10.tif").write_bytes(whole)
    chunk.write_bytes(chunk_bytes)
    assert _predict(segmenter, plate, "-o", tmp_path / "out") == 0
    assert "Going on: 1 of 3 movies were finished." in capsys.readouterr().err
    assert {row["status"] for row in _rows(tmp_path / "out")} == {"done"}


def test_the_same_command_skips_what_is_done_and_another_does_not_mix(
    segmenter: Path, plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    report = ("--json", tmp_path / "report.json")
    assert _predict(segmenter, plate / "well_9.tif", "-o", f"{out}/", *report) == 0
    before = (out / "well_9.ome.zarr").stat().st_mtime_ns
    assert _predict(segmenter, plate, "-o", out, *report) == 0
    assert (out / "well_9.ome.zarr").stat().st_mtime_ns == before
    capsys.readouterr()
    assert _predict(segmenter, plate, "-o", out, "--threshold", "0.9") == 2
    assert "well_9.ome.zarr exists already" in _errors(capsys)[0]
    with monkeypatch.context() as idle:
        idle.setattr("napari_osvos.plane_prediction.plane_maps", None)
        assert _predict(segmenter, plate, "-o", out) == 0
        shutil.rmtree(out / "well_10.ome.zarr")
        assert _predict(segmenter, plate, "-o", out) == 1  # what is no longer there is not done
    assert _predict(segmenter, plate, "-o", out, "--threshold", "0.9", "--force") == 0
    assert (out / "well_9.ome.zarr").stat().st_mtime_ns != before


def test_two_processes_write_one_summary(tmp_path: Path) -> None:
    one, other = Summary(tmp_path / "summary.csv"), Summary(tmp_path / "summary.csv")
    one.add(SummaryRow("a.tif", "a.ome.zarr", status="out of memory"))
    other.add(SummaryRow("b.tif", "b.ome.zarr"))
    one.add(SummaryRow("a.tif", "a.ome.zarr"))
    assert [(row["movie"], row["status"]) for row in _rows(tmp_path)] == [("a.tif", "done"), ("b.tif", "done")]


def test_a_full_disk_stops_all_and_the_command_goes_on_in_mid_movie(
    segmenter: Path, plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replacing, calls = tmp_path / "out", frame_marks.replacing, []

    def full(path: Path) -> object:
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replacing(path)

    with monkeypatch.context() as small:
        small.setattr(frame_marks, "replacing", full)
        assert _predict(segmenter, plate, "-o", out) == 1
    (error,) = _errors(capsys)
    assert "disk became full" in error
    assert "2 of 4 frames were finished" in error
    assert error.endswith("1 of 3 movies are done.")
    assert FrameStore(out / "unfinished-well_10.ome.zarr").finished == (0, 1)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(Console, "progress", _telling(told))
    assert _predict(segmenter, plate, "-o", out) == 0
    assert told[-1] == (4, 4)  # frames of the two movies that were missing
    assert not [path for path in out.iterdir() if path.name.startswith("unfinished")]


def _telling(told: list[tuple[int, int]]) -> object:
    from contextlib import contextmanager

    @contextmanager
    def progress(self: Console, verb: str, total: int) -> object:  # type: ignore[misc]
        yield lambda done, total, note="": told.append((done, total))

    return progress


# -- what is refused before anything runs ----------------------------------------------------


def test_what_cannot_be_is_said_before_anything_runs(
    segmenter: Path, plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    clash = _write(tmp_path / "other" / "WELL_9.tif")
    for words, sentence in (
        ([plate, clash, "-o", out], "would both become"),
        ([plate, "-o", plate], "is the folder of the movies, too"),
        ([plate / "well_9.tif", plate / "well_10.tif", "-o", tmp_path / "labels.tif"], "is one file, but there are 2"),
        ([plate, "-o", out, "--probabilities", tmp_path / "p.tif"], "--probabilities is one file"),
        ([plate, "-o", out, "--export", "cells.csv"], "--export cells.csv is no kind"),
        ([plate, "-o", out, "--export", "csv", "--no-track"], "--export needs to know"),
        ([plate / "well_9.tif", "-o", "labels.png"], "must end in .tif"),
    ):
        assert _predict(segmenter, *words) == 2
        assert sentence in _errors(capsys)[0]
        assert not out.exists() or not list(out.iterdir())


def test_a_table_of_something_else_is_left_alone(
    segmenter: Path, plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.csv").write_text("precious\n")
    assert _predict(segmenter, plate, "-o", out, "--force") == 2
    assert "is not a summary of napari-osvos" in _errors(capsys)[0]
    assert (out / "summary.csv").read_text() == "precious\n"
