"""Objects, tracks and exports on the command line: drawn labels are linked, a toy movie is segmented and linked."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from toy_files import error_line, write_cells

from napari_osvos import Segmenter, read_labels, write_labels
from napari_osvos.cli import main
from napari_osvos.ctc_folder import read_ctc_folder
from napari_osvos.geff_file import read_geff
from napari_osvos.lineage import Lineage, Track

Drawn = Callable[..., np.ndarray]
QUICK = ("--steps", "40", "--crops", "2", "--crop-size", "48", "--learning-rate", "0.02", "--average-decay", "0.9")

# Number of an object in a frame means nothing: one stays at the left, one in the middle divides after frame 1.
DIVIDING = (
    "11.....22222...... 11.....22222...... 11.....22222...... ..................",
    "22.....11111...... 22.....11111...... 22.....11111...... ..................",
    "33....22...111.... 33...222...111.... 33...222....11.... ..................",
    "11...222....333... 11...222....333... 11...222....333... ..................",
)


@pytest.fixture
def dividing(tmp_path: Path, drawn: Drawn) -> Path:
    path = tmp_path / "labels.tif"
    write_labels(path, drawn(*DIVIDING))
    return path


def _run(*words: str | Path) -> int:
    return main([str(word) for word in words])


# -- track, export ---------------------------------------------------------------------------


def test_track_gives_a_drawn_division_a_mother_and_two_daughters(dividing: Path, tmp_path: Path) -> None:
    out, folder, report = tmp_path / "tracked.tif", tmp_path / "01_RES", tmp_path / "report.json"
    assert _run("track", dividing, "-o", out, "--export", folder, "--json", report) == 0
    facts = json.loads(report.read_text())
    assert (facts["n_tracks"], facts["n_divisions"]) == (4, 1)
    assert facts["outputs"] == [str(out), str(folder)]
    labels, lineage = read_ctc_folder(folder)
    (mother, daughters), *others = lineage.divisions.items()
    assert not others
    assert (lineage[mother].first, lineage[mother].last) == (0, 1)
    assert [(lineage[id].first, lineage[id].last) for id in daughters] == [(2, 3), (2, 3)]
    tracked = np.asarray(read_labels(out))
    assert len(np.unique(tracked[:, 0, 0])) == 1
    np.testing.assert_array_equal(tracked, np.asarray(labels))
    np.testing.assert_array_equal(tracked > 0, np.asarray(read_labels(dividing)) > 0)


def test_track_without_divisions_links_one_daughter_or_none(dividing: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ("track", dividing, "--export", tmp_path / "run", "--no-divisions", "--json", report)
    assert _run(*words) == 0
    assert json.loads(report.read_text())["n_divisions"] == 0
    assert json.loads(report.read_text())["link"]["divisions"] is False


def test_painted_ids_win_in_track(dividing: Path, tmp_path: Path, drawn: Drawn) -> None:
    painted = drawn(*DIVIDING) * 0
    painted[1, 0:3, 0:2], painted[1, 1, 7:12] = 70, 9
    write_labels(tmp_path / "painted.tif", painted)
    out = tmp_path / "tracked.ome.zarr"
    assert _run("track", dividing, "-a", tmp_path / "painted.tif", "-o", out) == 0
    tracked = np.asarray(read_labels(out))
    assert (tracked[:, 0, 0] == 70).all()
    assert (tracked[:2, 1, 9] == 9).all()
    assert tracked[2:].max() > 70  # the daughters are new


def test_paint_of_one_label_names_no_objects(dividing: Path, tmp_path: Path, drawn: Drawn) -> None:
    painted = (drawn(*DIVIDING) > 0) * 5
    painted[1:] = 0
    write_labels(tmp_path / "painted.tif", painted)
    out = tmp_path / "tracked.tif"
    assert _run("track", dividing, "-a", tmp_path / "painted.tif", "-o", out) == 0
    assert len(np.unique(np.asarray(read_labels(out))[0])) == 3


def test_every_kind_of_export_reads_back(dividing: Path, tmp_path: Path) -> None:
    frames = np.asarray(read_labels(dividing)).astype(np.uint8) * 50
    tifffile.imwrite(tmp_path / "movie.tif", frames, imagej=True, metadata={"axes": "TYX"})
    names = ("cells.csv", "cells.tracks.csv", "cells.geff", "cells.gif", "cells.zarr")
    exports = [word for name in names for word in ("--export", tmp_path / name)]
    units = ("--pixel-size", "0.5,0.5", "--frame-interval", "60", "--movie", tmp_path / "movie.tif")
    assert _run("track", dividing, "-o", tmp_path / "tracked.tif", *exports, *units) == 0
    with open(tmp_path / "cells.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 10
    assert float(rows[0]["area_um2"]) == 1.5  # 6 pixels of a quarter
    assert float(rows[0]["intensity_mean_c0"]) == 50
    assert [float(row["time_s"]) for row in rows] == sorted([0, 60] * 2 + [120, 180] * 3)
    with open(tmp_path / "cells.tracks.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 4
    _, lineage = read_geff(tmp_path / "cells.geff")
    assert len(lineage) == 4
    with Image.open(tmp_path / "cells.gif") as picture:
        assert picture.n_frames == 4
    tracked = read_labels(tmp_path / "tracked.tif")
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "cells.zarr")), np.asarray(tracked))


def test_export_keeps_ids_and_the_mothers_of_a_challenge_folder(dividing: Path, tmp_path: Path) -> None:
    folder, again = tmp_path / "01_RES", tmp_path / "02_RES"
    assert _run("track", dividing, "--export", folder) == 0
    assert _run("export", folder, again, tmp_path / "cells.csv") == 0
    assert (again / "res_track.txt").read_text() == (folder / "res_track.txt").read_text()
    assert _run("export", dividing, tmp_path / "plain.geff") == 0
    _, lineage = read_geff(tmp_path / "plain.geff")
    assert lineage == Lineage([Track(1, 0, 3), Track(2, 0, 3), Track(3, 2, 3)])  # no more than the numbers say


def test_the_truth_of_a_challenge_movie_is_exported_with_its_mothers(dividing: Path, tmp_path: Path) -> None:
    assert _run("track", dividing, "--export", tmp_path / "01_RES") == 0
    truth = tmp_path / "01_GT" / "TRA"
    truth.mkdir(parents=True)
    for mask in (tmp_path / "01_RES").glob("mask*.tif"):
        mask.rename(truth / f"man_track{mask.name.removeprefix('mask')}")
    lines = (tmp_path / "01_RES" / "res_track.txt").rename(truth / "man_track.txt").read_text()
    assert _run("export", tmp_path / "01_GT", tmp_path / "02_RES") == 0
    assert (tmp_path / "02_RES" / "res_track.txt").read_text() == lines
    assert not all(line.endswith(" 0") for line in lines.splitlines())


def test_labels_keep_frame_numbers_and_depth(tmp_path: Path) -> None:
    stack = np.zeros((3, 2, 6, 12), np.uint16)
    for t in range(3):
        stack[t, :, 1:4, 2 + t : 5 + t] = t + 1
    write_labels(tmp_path / "labels.tif", stack, frame_numbers=[10, 20, 30])
    more = ("--export", tmp_path / "x.tracks.csv", "--pixel-size", "2,0.5,0.5")
    assert _run("track", tmp_path / "labels.tif", "-o", tmp_path / "tracked.tif", *more) == 0
    tracked = read_labels(tmp_path / "tracked.tif")
    assert tracked.frame_numbers == (10, 20, 30)
    np.testing.assert_array_equal(np.asarray(tracked), stack > 0)  # one track: frames given are neighbours in time
    with open(tmp_path / "x.tracks.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["first_frame"], row["last_frame"]) == ("10", "30")
    assert float(row["displacement_um"]) == 1.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ((), "give -o or --export"),
        (("-o", "tracked.png"), "must end in .tif"),
        (("-o", "tracked.ome.tif"), "the name must end in .tif, .tiff, .zarr or .ome.zarr"),
        (("-o", "folder.zarr", "--force"), "is a folder that is no zarr, which is never overwritten"),
        (("--export", "cells.mp4"), "shows the movie, so it cannot be exported without one"),
        (("--export", "cells.xlsx"), "cannot be exported; the name must end in"),
        (("--export", "geff:"), "has no file name"),
        (("--export", "a.csv", "--export", "a.csv"), "is also the output --export"),
        (("-o", "a.tif", "--export", "a.tif"), "is also the output -o"),
        (("--export", "labels.tif", "--force"), "is also the input"),
        (("--export", "taken.csv"), "exists already"),
        (("--export", "taken.csv/run"), "is a file, not a folder"),
        (("--export", "full", "--force"), "holds notes.txt, which no exported folder does"),
        (("-o", "a.tif", "--gap", "-1"), "--gap is -1; it must be from 0 to 1000"),
        (("-o", "a.tif", "--reach", "0"), "--reach is 0.0"),
        (("-o", "a.tif", "--pixel-size", "0,1"), "give Y,X or Z,Y,X in micrometres"),
        (("-o", "a.tif", "--pixel-size", "1"), "give Y,X or Z,Y,X in micrometres"),
        (("-o", "a.tif", "--frame-interval", "0"), "give a number above 0"),
        (("-o", "a.tif", "--frame-interval", "9"), "--frame-interval has a say only with --export"),
        (("-o", "a.tif", "-a", "other.tif"), "both must be of one size"),
        (("-o", "a.tif", "--movie", "other.tif"), "must be of one size"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_any_work(
    dividing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Sequence[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.csv").write_text("precious")
    Path("full").mkdir()
    Path("folder.zarr").mkdir()
    Path("full/notes.txt").write_text("precious")
    write_labels("other.tif", np.ones((4, 9, 9), np.uint16))
    before = sorted(tmp_path.iterdir())
    assert _run("track", dividing, *change) == 2
    assert sentence in error_line(capsys)
    assert sorted(tmp_path.iterdir()) == before
    assert Path("taken.csv").read_text() == "precious"


def test_stacks_need_a_pixel_size_along_z(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(tmp_path / "labels.tif", np.ones((2, 3, 6, 6), np.uint16))
    words = ("track", tmp_path / "labels.tif", "-o", tmp_path / "out.tif")
    assert _run(*words, "--pixel-size", "0.5,0.5") == 2
    assert "has slices; give Z,Y,X" in error_line(capsys)
    assert _run(*words, "--export", f"davis:{tmp_path / 'bear'}") == 2  # before anything is linked or written
    assert "bear cannot hold" in error_line(capsys)
    assert not (tmp_path / "out.tif").exists()


# -- segment, predict ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def segmenter(cells: Path) -> Path:
    path = cells / "cells.osvos"
    words = ("fine-tune", cells / "movie.tif", "-a", cells / "painted.tif", "--parent", cells / "tiny.safetensors")
    assert _run(*words, *QUICK, "-o", path) == 0
    return path


def test_segment_links_look_alike_objects_and_what_was_painted_wins(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run, report = tmp_path / "tracks.tif", tmp_path / "run", tmp_path / "report.json"
    start = ("segment", cells / "movie.tif", "-a", cells / "painted.tif", "--parent", cells / "tiny.safetensors")
    exports = ("--export", run, "--export", tmp_path / "cells.csv")
    scoring = ("--truth", cells / "truth.tif", "--stable-ids", "--json", report)
    assert _run(*start, *QUICK, "-o", out, *exports, *scoring) == 0
    said = capsys.readouterr()
    assert "Look-alike objects: each label is one object; 5 tracks, 1 division." in said.err
    assert "| TRA |" in said.out
    facts = json.loads(report.read_text())
    assert (facts["task"], facts["n_tracks"], facts["n_divisions"]) == ("look-alike", 5, 1)
    assert facts["outputs"] == [str(out), str(run), str(tmp_path / "cells.csv")]
    assert {"link", "export"} < set(facts["seconds"])
    assert facts["scores"]["SEG"]["value"] > 0.6
    assert facts["scores"]["TRA"] > 0.9
    labels = np.asarray(read_labels(out))
    assert [labels[t, 16 + t, 14] for t in range(5)] == [7] * 5
    assert [labels[t, 46, 16 + t] for t in range(5)] == [30] * 5
    assert [labels[t, 32, 46] for t in range(3)] == [2] * 3
    exported, lineage = read_ctc_folder(run)
    assert lineage.divisions == {2: (11, 12)}
    np.testing.assert_array_equal(np.asarray(exported), labels)
    with open(tmp_path / "cells.csv", newline="") as stream:
        assert {row["mother_id"] for row in csv.DictReader(stream) if row["track_id"] in ("11", "12")} == {"2"}


def test_predict_knows_from_its_file_what_labels_mean(cells: Path, segmenter: Path, tmp_path: Path) -> None:
    assert Segmenter.load(segmenter).meaning.task == "look-alike"
    tracked, apart, some = (tmp_path / f"{name}.tif" for name in ("tracked", "apart", "some"))
    report = tmp_path / "report.json"
    assert _run("predict", segmenter, cells / "movie.tif", "-o", tracked, "--json", report) == 0
    assert json.loads(report.read_text())["n_tracks"] == 5
    assert len(np.unique(np.asarray(read_labels(tracked)))) == 6
    assert _run("predict", segmenter, cells / "movie.tif", "-o", apart, "--no-track", "--json", report, "--force") == 0
    assert "n_tracks" not in json.loads(report.read_text())
    assert [len(np.unique(frame)) - 1 for frame in read_labels(apart)] == [3, 3, 3, 4, 4]
    assert np.asarray(read_labels(apart)).max() == 4
    words = ("--only", "0,2", "--export", tmp_path / "some.geff", "--json", report, "--force")
    assert _run("predict", segmenter, cells / "movie.tif", "-o", some, *words) == 0
    assert read_labels(some).frame_numbers == (0, 2)
    _, lineage = read_geff(tmp_path / "some.geff")
    assert lineage == Lineage([Track(1, 0, 2), Track(2, 0, 2), Track(3, 0, 2)])


def test_distinct_objects_are_tracks_of_their_own(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labels(tmp_path / "painted.tif", (np.asarray(read_labels(cells / "painted.tif"))[:1] > 0) * 4)
    start = ("segment", cells / "movie.tif", "-a", tmp_path / "painted.tif", "--parent", cells / "tiny.safetensors")
    out, table = tmp_path / "labels.tif", tmp_path / "cells.tracks.csv"
    assert _run(*start, *QUICK, "-o", out, "--export", table) == 0
    assert "to tell its objects apart, add --task look-alike" in capsys.readouterr().err
    assert set(np.unique(np.asarray(read_labels(out)))) == {0, 4}
    with open(table, newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["track_id"], row["first_frame"], row["last_frame"], row["mother_id"]) == ("4", "0", "4", "0")
    assert _run(*start, *QUICK, "-o", out, "--task", "look-alike", "--force") == 0
    assert "Look-alike objects: each label is one object; " in capsys.readouterr().err
    assert len(np.unique(np.asarray(read_labels(out))[0])) == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--export", "cells.xlsx"), "cannot be exported; the name must end in"),
        (("--export", "run", "--no-track"), "it does not go with --no-track"),
        (("-o", "labels.ome.tif"), "the name must end in .tif, .tiff, .zarr or .ome.zarr"),
        (("--probabilities", "p.ome.tif"), "the name must end in .tif, .tiff, .zarr or .ome.zarr"),
        (("--export", "labels.tif"), "is also the output -o"),
        (("--growth", "0.5"), "--growth is 0.5; it must be from 1.1 to 1000"),
        (("--task", "cells"), "--task is 'cells'; allowed are auto, look-alike, distinct"),
    ],
)
def test_segment_refuses_before_training(
    cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Sequence[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run("segment", cells / "movie.tif", "-a", cells / "painted.tif", "-o", "labels.tif", *change) == 2
    assert sentence in error_line(capsys)
    assert not list(tmp_path.iterdir())
