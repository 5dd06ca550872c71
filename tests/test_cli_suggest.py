"""Refinement on the command line: where to annotate next, corrected and accepted frames, uncertainty."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_files import QUICK, ToyFiles, error_line, write_cells, write_toy_files

from napari_osvos import read_clip, read_labels, write_labels
from napari_osvos.annotations import Annotations
from napari_osvos.cli import main
from napari_osvos.cli.paint import accepted_positions
from napari_osvos.clip import Clip
from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.finetune import FineTuner
from napari_osvos.labels import Labels
from napari_osvos.suggest import FrameReview


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> ToyFiles:
    """A toy movie of 12 frames and a segmenter, ``toy.osvos``, that has learned from frame 0."""
    toy = write_toy_files(tmp_path_factory.mktemp("learned"), n_frames=12)
    words = ("fine-tune", toy.movie, "-a", toy.painted, "--parent", toy.parent, *QUICK, "-o", toy.folder / "toy.osvos")
    assert _run(*words, "--quiet") == 0
    return toy


def _run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def _segment(toy: ToyFiles, *more: str | Path) -> int:
    start = ("segment", toy.movie, "-a", toy.painted, "--parent", toy.parent, "-o", toy.folder / "labels.tif")
    return _run(*start, *QUICK, *more)


def _paint_too(toy: ToyFiles, t: int) -> np.ndarray:
    """Paint another frame, not quite as it is, and return its paint."""
    painted, truth = (np.array(read_labels(path)) for path in (toy.painted, toy.truth))
    painted[t] = np.roll(truth[t], 2, axis=0)
    write_labels(toy.painted, painted, overwrite=True)
    return painted[t]


# -- suggest ---------------------------------------------------------------------------------


def test_suggest_prints_the_frames_to_annotate_next(
    learned: ToyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, table = tmp_path / "report.json", tmp_path / "ranking.csv"
    words = ("suggest", learned.folder / "toy.osvos", learned.movie, "--top", "4", "--csv", table, "--json", report)
    assert _run(*words) == 0
    said = capsys.readouterr()
    head, *rows = said.out.splitlines()
    assert head.split("  ")[-1] == "reason"
    assert head.split()[:4] == ["rank", "frame", "gain", "expected"]
    assert [int(row.split()[0]) for row in rows] == [1, 2, 3, 4]
    assert all(re.fullmatch(r" *\d+ +\d+ +[01]\.\d{3} +[01]\.\d{3}  [a-z ]+", row) for row in rows)
    assert "7 more frames are ranked" in said.err
    facts = json.loads(report.read_text())
    assert facts["annotated_frames"] == [0]
    ranked = facts["suggestions"]
    assert sorted(entry["frame"] for entry in ranked) == list(range(1, 12))
    assert [entry["rank"] for entry in ranked] == list(range(1, 12))
    gains = [entry["gain"] for entry in ranked]
    assert gains == sorted(gains, reverse=True)
    assert [int(row.split()[1]) for row in rows] == [entry["frame"] for entry in ranked[:4]]
    with open(table, newline="") as stream:
        kept = list(csv.DictReader(stream))
    assert [(int(row["rank"]), int(row["frame"])) for row in kept] == [(e["rank"], e["frame"]) for e in ranked]
    assert {"gain", "expected_J", "reason"} < set(kept[0])


def test_frames_that_are_hard_to_see_are_suggested_first(
    learned: ToyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie = read_clip(learned.movie)
    frames = np.stack([movie.plane(p)[..., 0] for p in range(8)]).astype(np.float32)
    frames[2:4] = 100 + 0.2 * (frames[2:4] - 100)
    np.save(tmp_path / "movie.npy", frames)
    assert _run("suggest", learned.folder / "toy.osvos", tmp_path / "movie.npy", "--frames", "0,7", "--top", "1") == 0
    rank, frame, *_ = capsys.readouterr().out.splitlines()[1].split()
    assert (rank, frame) in (("1", "2"), ("1", "3"))


def test_annotated_frames_are_those_of_the_paint_or_of_the_numbers_or_those_learned_from(
    learned: ToyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.tif"
    other.write_bytes(learned.movie.read_bytes())
    truth = np.array(read_labels(learned.truth))
    truth[5:] = 0
    write_labels(tmp_path / "painted.tif", truth)

    def suggested(movie: Path, *more: str | Path) -> set[int]:
        assert _run("suggest", learned.folder / "toy.osvos", movie, "--top", "99", *more) == 0
        said = capsys.readouterr()
        assert "more frames" not in said.err
        return {int(row.split()[1]) for row in said.out.splitlines()[1:]}

    assert suggested(learned.movie) == set(range(1, 12))
    assert suggested(other) == set(range(12))
    assert suggested(other, "-a", tmp_path / "painted.tif") == set(range(5, 12))
    assert suggested(learned.movie, "-a", tmp_path / "painted.tif", "--frames", "2") == set(range(12)) - {2}
    assert suggested(other, "--frames", "0-10") == {11}
    assert suggested(other, "--frames", "0-11") == set()


def test_what_is_piped_is_the_table_alone(learned: ToyFiles) -> None:
    words = ["suggest", "toy.osvos", "movie.tif", "--top", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "napari_osvos", *words], capture_output=True, text=True, cwd=learned.folder, check=True
    )
    assert len(done.stdout.splitlines()) == 3
    assert "\x1b" not in done.stdout
    assert "Computing on" in done.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--csv", "ranking.txt"), "must end in .csv"),
        (("--csv", "taken.csv"), "exists already"),
        (("--top", "0"), "at least 1"),
        (("--frames", "40"), "has no frame 40; its frames are 0 to 11"),
        (("-a", "nowhere.tif"), "There is no file or folder nowhere.tif"),
        (("--threshold", "2"), "--threshold is 2"),
    ],
)
def test_suggest_refuses_in_one_sentence(
    learned: ToyFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Sequence[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.csv").write_text("precious")
    assert _run("suggest", learned.folder / "toy.osvos", learned.movie, *change) == 2
    assert sentence in error_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.csv"]


# -- corrected and accepted frames -----------------------------------------------------------


def test_a_corrected_frame_weighs_more_where_it_is_learned_from(toy: ToyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    _paint_too(toy, 2)
    weights: list[dict[int, float]] = []
    steps = FineTuner.steps

    def watched(tuner: FineTuner, clip: Any, annotations: Annotations) -> Any:
        weights.append({p: annotations.weight(p) for p in annotations})
        return steps(tuner, clip, annotations)

    monkeypatch.setattr(FineTuner, "steps", watched)
    start = ("fine-tune", toy.movie, "-a", toy.painted, "--parent", toy.parent, *QUICK)
    assert _run(*start, "-o", toy.folder / "toy.osvos", "--corrected", "2") == 0
    assert weights == [{0: 1.0, 2: 2.0}]


def test_accepted_frames_come_out_as_painted_and_are_not_predicted(toy: ToyFiles) -> None:
    paint = _paint_too(toy, 2)
    report = toy.folder / "report.json"
    files = [word for name in ("probabilities", "uncertainty") for word in (f"--{name}", toy.folder / f"{name}.tif")]
    assert _segment(toy, "--accepted", "2", "--json", report, *files) == 0
    labels = np.asarray(read_labels(toy.folder / "labels.tif"))
    np.testing.assert_array_equal(labels[2], paint)
    assert (labels[0] != read_labels(toy.painted)[0]).any()  # which is a prediction
    facts = json.loads(report.read_text())
    assert facts["accepted_frames"] == [2]
    assert set(facts["confidence"]) == {"0", "1", "3"}
    assert {entry["frame"] for entry in facts["suggestions"]} == {1, 3}
    probabilities, uncertainty = (read_clip(toy.folder / f"{name}.tif") for name in ("probabilities", "uncertainty"))
    assert uncertainty.dtype == np.float32
    np.testing.assert_array_equal(probabilities.plane(2)[..., 0], paint > 0)
    assert not uncertainty.plane(2).any()
    for p in range(4):
        np.testing.assert_allclose(uncertainty.plane(p), 1 - abs(2 * probabilities.plane(p) - 1), atol=1e-3)
    assert uncertainty.plane(1).max() > 0.5


def test_accepted_frames_need_not_be_among_those_to_segment(toy: ToyFiles) -> None:
    paint = _paint_too(toy, 2)
    report = toy.folder / "report.json"
    assert _segment(toy, "--accepted", "0,2", "--only", "1,2", "--json", report) == 0
    labels = read_labels(toy.folder / "labels.tif")
    assert labels.frame_numbers == (1, 2)
    np.testing.assert_array_equal(labels.frame(2), paint)
    assert set(json.loads(report.read_text())["confidence"]) == {"1"}
    assert _segment(toy, "--accepted", "0,2", "--only", "0,2", "--force", "--uncertainty", toy.folder / "u.zarr") == 0
    np.testing.assert_array_equal(
        np.asarray(read_labels(toy.folder / "labels.tif")), [read_labels(toy.painted)[0], paint]
    )
    assert not read_clip(toy.folder / "u.zarr").plane(0).any()


def test_objects_of_accepted_frames_keep_their_ids_in_the_tracks(tmp_path: Path) -> None:
    cells = write_cells(tmp_path)
    painted = read_labels(cells / "painted.tif")
    start = ("segment", cells / "movie.tif", "-a", cells / "painted.tif", "--parent", cells / "tiny.safetensors")
    assert _run(*start, *QUICK, "-o", cells / "tracks.tif", "--accepted", "0,4") == 0
    labels = read_labels(cells / "tracks.tif")
    for t in (0, 4):
        np.testing.assert_array_equal(labels[t], painted[t])
    write_labels(cells / "binary.tif", (np.asarray(painted) > 0) * 3)
    start = ("segment", cells / "movie.tif", "-a", cells / "binary.tif", "--parent", cells / "tiny.safetensors")
    assert _run(*start, *QUICK, "-o", cells / "apart.tif", "--accepted", "4", "--task", "look-alike", "--no-track") == 0
    frame = read_labels(cells / "apart.tif")[4]
    np.testing.assert_array_equal(frame > 0, painted[4] > 0)
    assert len(np.unique(frame)) == 5  # one label was painted for all: each part is an object


def test_an_accepted_frame_of_a_stack_is_its_paint_in_all_slices(toy: ToyFiles) -> None:
    movie = read_clip(toy.movie)
    np.save(toy.folder / "stack.npy", np.stack([movie.plane(p)[..., 0] for p in range(4)]).reshape(2, 2, 40, 56))
    painted = np.zeros((2, 2, 40, 56), np.uint16)
    painted[1, 0] = read_labels(toy.truth)[2]
    write_labels(toy.painted, painted, overwrite=True)
    start = ("segment", toy.folder / "stack.npy", "-a", toy.painted, "--parent", toy.parent, "--axes", "TZYX")
    assert _run(*start, *QUICK, "-o", toy.folder / "labels.tif", "--accepted", "1") == 0
    np.testing.assert_array_equal(read_labels(toy.folder / "labels.tif")[1], painted[1])


def test_frames_are_accepted_by_the_numbers_of_the_paint() -> None:
    def movie(n: int, numbers: Sequence[int] | None) -> Clip:
        return Clip(np.zeros((n, 2, 2), np.uint8), frame_numbers=numbers)

    paint = np.ones((3, 2, 2), np.uint8)
    numbered = Annotations.from_labels(Labels(paint, frame_numbers=[8, 16, 40]))
    assert accepted_positions(numbered, movie(5, [0, 8, 16, 21, 40]), [40, 8]) == (1, 4)
    assert accepted_positions(Annotations.from_labels(paint), movie(3, [8, 16, 40]), [2]) == (2,)
    stack = Clip(np.zeros((1, 3, 2, 2), np.uint8), "TZYX")  # which the labels see as three frames
    assert accepted_positions(Annotations.from_labels(paint), stack, [0, 1, 2]) == (0,)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--accepted", "1"), "--accepted names frame 1, which is not annotated; the annotated frames are 0, 2."),
        (("--accepted", "9"), "--accepted names frame 9, which is not annotated; the annotated frames are 0, 2."),
        (("--accepted", "0", "--frames", "2"), "--accepted names frame 0, which is not annotated; the annotated"),
        (("--accepted", "2", "--partial", "2"), "--accepted names frame 2, which is painted only in part; only comp"),
        (("--accepted", "x"), "write for example 0,40"),
        (("--corrected", "9"), "has no frame 9"),
        (("--uncertainty", "u.png"), "--uncertainty u.png must end in .tif"),
    ],
)
def test_what_cannot_be_accepted_is_one_sentence_before_training(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str], change: Sequence[str], sentence: str
) -> None:
    _paint_too(toy, 2)
    assert _segment(toy, *change) == 2
    assert sentence in error_line(capsys)
    assert not (toy.folder / "labels.tif").exists()


# -- what is said after a run ----------------------------------------------------------------


def test_segment_says_what_to_expect_and_what_to_do_next(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = ExpectedAccuracy(0.93, 0.9, 0.95, source="8 blocks of frame 0")
    steps = FineTuner.steps

    def remarking(tuner: FineTuner, *given: Any) -> Any:
        yield from steps(tuner, *given)
        tuner.remarks = ("Frame 0 looks painted in part only.",)

    monkeypatch.setattr(FrameReview, "expected", lambda review: accuracy)
    monkeypatch.setattr(FineTuner, "steps", remarking)
    report = toy.folder / "report.json"
    assert _segment(toy, "--json", report) == 0
    said = capsys.readouterr().err.splitlines()
    expected = "Expected on frames that are not annotated: J 0.93 (0.90 to 0.95), from 8 blocks of frame 0."
    first = said.index(expected)
    assert said[first + 1] == "Frame 0 looks painted in part only."
    facts = json.loads(report.read_text())
    named = ", ".join(f"{entry['frame']} ({entry['reason']})" for entry in facts["suggestions"])
    assert said[first + 2] == f"To annotate next: frame {named}."
    assert facts["expected_accuracy"] == accuracy.to_dict()
    assert facts["remarks"] == ["Frame 0 looks painted in part only."]


def test_predict_writes_the_uncertainty_of_each_pixel(learned: ToyFiles, tmp_path: Path) -> None:
    words = ("predict", learned.folder / "toy.osvos", learned.movie, "--only", "3-5", "-o", tmp_path / "labels.tif")
    assert _run(*words, "--uncertainty", tmp_path / "u.ome.zarr") == 0
    uncertainty = read_clip(tmp_path / "u.ome.zarr")
    assert uncertainty.frame_numbers == (3, 4, 5)
    assert uncertainty.dtype == np.float32
    assert 0 <= uncertainty.plane(0).min() < 0.1
    assert 0.5 < uncertainty.plane(0).max() <= 1
