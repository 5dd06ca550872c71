"""The benchmark: what is measured, kept, resumed and refused."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from benchmark_rows import finished_row, toy_cell
from toy_files import ToyFiles, write_toy_files

from napari_osvos import benchmark_cell
from napari_osvos.benchmark import pending, run
from napari_osvos.benchmark_cell import measure
from napari_osvos.benchmark_movies import BenchmarkMovie
from napari_osvos.benchmark_plan import plan
from napari_osvos.benchmark_table import COLUMNS, NEWER, read_table, write_table
from napari_osvos.cli import main
from napari_osvos.writing import write_labels

pytestmark = pytest.mark.slow

SETTINGS = ["--threads", "1", "--device", "cpu"]


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


def test_a_benchmark_is_measured_then_resumed(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    table = toy.folder / "results" / "table.csv"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--border", "2", *SETTINGS]
    ours = ["--parents", str(toy.parent), "--steps", "2"]
    assert main([*words, "--methods", "nearest-mask", "--frames", "1,2"]) == 0
    rows = read_table(table)
    assert [(row["method"], row["n_annotated"]) for row in rows] == [
        ("nearest-mask", "1"),
        ("nearest-mask", "2"),
    ]
    assert [row["annotated_frames"] for row in rows] == ["0", "0 3"]
    assert [row["n_scored"] for row in rows] == ["3", "2"]
    assert 0 < float(rows[0]["J"]) < 0.8
    for name in ("J", "F"):
        assert 0 <= float(rows[0][f"{name}_recall"]) < 1
        assert float(rows[0][f"{name}_decay"]) > 0  # the copy fits ever less
    capsys.readouterr()

    words += ["--methods", "nearest-mask,random-forest,fast", "--frames", "1", *ours]
    assert main(words) == 0
    said = capsys.readouterr()
    assert re.findall(r"^(\d/\d) .*, (random-forest|fast)", said.err, re.MULTILINE) == [
        ("1/2", "random-forest"),  # only what the table lacked was measured
        ("2/2", "fast"),
    ]
    assert "| fast, 2 steps |" in said.out
    again = read_table(table)
    assert again[:2] == rows
    assert float(again[2]["J"]) > 0.8
    assert float(again[3]["adapt_s"]) > 0
    assert all(float(row["peak_memory_mb"]) > 20 for row in again)
    assert float(again[3]["peak_memory_mb"]) > float(again[0]["peak_memory_mb"])  # torch takes its share, copying none
    assert (table.with_suffix(".md")).read_text() == said.out
    assert again[3]["updates"] == "2"
    assert 0 < float(again[3]["train_s"]) <= float(again[3]["adapt_s"]) + float(again[3]["read_s"])
    assert [pair.split(":")[0] for pair in again[3]["J_frames"].split()] == ["1", "2", "3"]
    assert {path.name for path in table.parent.glob("*.png")} == {
        "table_frames.png",
        "table_seconds.png",
        "table_time.png",
    }


def test_the_worst_frames_are_drawn_on_request(toy: ToyFiles) -> None:
    pictures = toy.folder / "pictures"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(toy.folder / "table.csv"), "--pictures", str(pictures)]
    assert main([*words, "--methods", "nearest-mask", "--frames", "1", *SETTINGS]) == 0
    assert [path.name for path in pictures.iterdir()] == ["movie_nearest-mask_1_frame_seed_0.png"]


def test_a_place_for_pictures_is_looked_at_before_anything_is_measured(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    table, picture = toy.folder / "table.csv", "movie_nearest-mask_1_frame_seed_0.png"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--methods", "nearest-mask", "--frames", "1"]
    assert main([*words, *SETTINGS, "--pictures", str(toy.parent)]) == 2
    assert f"{picture} cannot be written: {toy.parent} is a file, not a folder." in capsys.readouterr().err
    assert not table.exists()

    (toy.folder / "pictures" / picture / "kept").mkdir(parents=True)
    with pytest.warns(UserWarning, match=f"movie, nearest-mask, 1 frame, seed 0: the picture .*{picture} could not be"):
        list(run([replace(toy_cell(toy), movie="movie", pictures=str(toy.folder / "pictures"))], table))
    assert [row["method"] for row in read_table(table)] == ["nearest-mask"]  # what was measured is kept


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"border": 30}, "The border is 30 px; in frames of 40 x 56 pixels it may be 0 to 19."),
        ({"skip_frames": (2, 9)}, "There is no frame 9 to skip; the truth has 0 to 3."),
        ({"skip_frames": (0, 1, 2, 3)}, "No frame is left to score"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_learned(
    toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(benchmark_cell, "make_method", None)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        measure(toy_cell(toy, **facts))


def test_a_table_is_gone_on_with_and_so_is_its_report_but_files_of_others_stay(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    table, report, notes = (toy.folder / name for name in ("table.csv", "report.json", "notes.md"))
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "--frames", "1", *SETTINGS]
    for methods in ("nearest-mask", "nearest-mask,otsu"):
        assert main([*words, "-o", str(table), "--methods", methods, "--json", str(report)]) == 0
    assert len(read_table(table)) == len(json.loads(report.read_text())["rows"]) == 2
    capsys.readouterr()
    notes.write_text("precious")
    assert main([*words, "-o", str(notes.with_suffix(".csv")), "--methods", "nearest-mask"]) == 2
    assert f"{notes} exists already; choose another -o" in capsys.readouterr().err
    other = [*words, "-o", str(toy.folder / "other.csv"), "--methods", "nearest-mask", "--json", str(report)]
    assert main(other) == 2
    assert "report.json exists already, and is no report of this; choose another --json." in capsys.readouterr().err
    assert notes.read_text() == "precious"


def test_rows_that_are_about_to_be_replaced_are_told_first(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    table = toy.folder / "table.csv"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--methods", "nearest-mask", "--frames", "1"]
    assert main([*words, "--threads", "1"]) == 0
    assert "replaced" not in capsys.readouterr().err
    assert main([*words, "--threads", "1", "--border", "2"]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(
        f"1 of the rows in {table} will be replaced, the first of them movie, nearest-mask, 1 frame"
    )
    assert [row["border"] for row in read_table(table)] == ["2"]


def test_a_row_that_no_longer_holds_goes_also_where_measuring_it_again_fails(toy: ToyFiles) -> None:
    table = toy.folder / "table.csv"
    before = [replace(toy_cell(toy), n_annotated=n) for n in (4, 1)]  # 4 leave no frame to score
    write_table(table, list(map(finished_row, before)))
    ((_, error),) = run([replace(before[0], border=2)], table)
    assert "4 frames cannot be annotated" in str(error)
    assert [row["n_annotated"] for row in read_table(table)] == ["1"]


def test_rows_of_other_conditions_are_told_and_not_shown_beside_the_others(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    table = toy.folder / "table.csv"
    movie = BenchmarkMovie("movie", toy.movie, toy.truth)
    methods = ["otsu", "balanced", "unet-same-seconds", "fast"]
    of_device: dict[str, Any] = {"counts": [1], "device": "cpu", "parents": [str(toy.parent)]}
    narrow = plan([movie], methods=[*methods, "nearest-mask"], **of_device)
    wide = plan([replace(movie, border=2)], methods=[*methods, "nearest-mask"], **of_device)
    elsewhere = replace(narrow[0], movie="elsewhere")
    cells = [narrow[0], *wide[1:], elsewhere]  # otsu with the narrow border
    assert [cell.method for cell in cells[:-1]].count("otsu") == 1
    write_table(table, list(map(finished_row, cells)))
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--border", "2", "--methods", "nearest-mask"]
    words += ["--frames", "1", *SETTINGS]
    assert main(words) == 0
    said = capsys.readouterr()
    assert (
        f"warning: 1 of the rows in {table}, the first of them movie, otsu, 1 frame, seed 0, were measured under other"
        " conditions and are left out of summary and plots; --methods with them measures them anew.\n"
    ) in said.err
    assert "| otsu |  | 0.000 |" in said.out  # of the other movie alone
    assert all(f"| {method}" in said.out for method in ("balanced", "unet-same-seconds", "fast", "nearest-mask"))
    assert table.with_suffix(".md").read_text() == said.out
    assert len(read_table(table)) == len(cells)  # nothing is lost


def test_what_is_void_in_the_truth_is_neither_painted_nor_scored(toy: ToyFiles) -> None:
    truth = tifffile.imread(toy.truth)
    truth[:, :6, 40:] = 255
    truth[1] = np.where(truth[1] == 1, 0, truth[1])  # nothing but void: to be scored, not to be painted
    write_labels(toy.folder / "void.tif", truth)
    truth[truth == 255] = 0
    write_labels(toy.folder / "plain.tif", truth)
    scores = []
    for name, void in (("plain", None), ("void", 255)):
        movie = BenchmarkMovie(name, toy.movie, toy.folder / f"{name}.tif", void_label=void)
        cells = plan([movie], methods=["nearest-mask"], counts=[1, 2], pictures=str(toy.folder / "pictures"))
        list(run(cells, toy.folder / f"{name}.csv"))
        rows = read_table(toy.folder / f"{name}.csv")
        scores.append([(row["annotated_frames"], row["J_frames"], row["F"]) for row in rows])
    assert scores[0] == scores[1]
    assert len(list((toy.folder / "pictures").iterdir())) == 4
    with pytest.raises(ValueError, match="void label of the benchmark movie 'x' is 0; it must be 1 or more"):
        BenchmarkMovie("x", toy.movie, toy.truth, void_label=0)


def test_groups_are_those_of_the_list_even_in_finished_rows(toy: ToyFiles) -> None:
    table = toy.folder / "table.csv"
    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    assert len(list(run(plan([movie], methods=["nearest-mask"], counts=[1]), table))) == 1
    grouped = BenchmarkMovie("toy", toy.movie, toy.truth, group="toys")
    assert list(run(plan([grouped], methods=["nearest-mask"], counts=[1]), table)) == []  # finished is finished
    assert [row["group"] for row in read_table(table)] == ["toys"]


@pytest.fixture
def cells(tmp_path: Path) -> BenchmarkMovie:
    """Two bright cells that touch and drift, 3 frames of (48, 64); the labels of the truth are their ids."""
    y, x = np.mgrid[:48, :64]
    truth = np.zeros((3, 48, 64), np.uint16)
    for t in range(3):
        left, right = ((y - 24) ** 2 + (x - c - 3 * t) ** 2 for c in (18, 37))
        truth[t][(left <= 110) & (left <= right)] = 3
        truth[t][(right <= 110) & (right < left)] = 8
    movie, labels = tmp_path / "cells.tif", tmp_path / "cells_truth.tif"
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    tifffile.imwrite(movie, (50 + 120 * (truth > 0) + noise).astype(np.uint8), imagej=True, metadata={"axes": "TYX"})
    write_labels(labels, truth)
    return BenchmarkMovie("cells", movie, labels, instances=True, tracks=True)


@pytest.mark.parametrize("method", ["nearest-mask", "otsu", "optical-flow", "random-forest", "unet"])
def test_objects_and_tracks_are_measured(cells: BenchmarkMovie, method: str) -> None:
    (cell,) = plan([cells], methods=[method], counts=[1], steps=1, device="cpu")
    measured = measure(cell)
    assert measured["annotated_frames"] == "0"
    assert (measured["n_scored"], measured["n_predicted"]) == (2, 3)  # tracks need the annotated frame, too
    for name in ("SEG", "DET", "TRA", "F1_50", "F1_75"):
        assert 0 <= measured[name] <= 1
    assert measured["link_s"] > 0
    assert all(measured[name] >= 0 for name in ("read_s", "adapt_s", "predict_s"))
    assert (measured["post_s"] is None) == (method in ("nearest-mask", "optical-flow"))
    assert measured["updates"] == (1 if method == "unet" else None)
    if method in ("random-forest", "otsu"):
        assert measured["F1_50"] == 1  # the two are apart, in every frame
        assert measured["TRA"] == 1  # and followed
    if method == "nearest-mask":
        assert measured["F1_75"] < 1  # a copy lags behind


def test_truth_without_stable_ids_says_nothing_of_tracks(cells: BenchmarkMovie) -> None:
    movie = BenchmarkMovie(cells.name, cells.movie, cells.truth, instances=True)
    measured = measure(plan([movie], methods=["nearest-mask"], counts=[1])[0])
    assert measured["DET"] > 0
    assert measured["TRA"] is None
    assert measured["link_s"] is None


def test_truth_without_instances_says_nothing_of_objects(cells: BenchmarkMovie) -> None:
    movie = BenchmarkMovie(cells.name, cells.movie, cells.truth)
    measured = measure(plan([movie], methods=["nearest-mask"], counts=[1])[0])
    assert measured["J"] > 0.3
    assert measured["n_predicted"] == 2
    assert {measured[name] for name in ("SEG", "DET", "TRA", "F1_50", "F1_75", "link_s")} == {None}


def test_an_old_table_is_gone_on_with(cells: BenchmarkMovie, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    foreground = BenchmarkMovie("cells", cells.movie, cells.truth)
    (cell,) = plan([foreground], methods=["nearest-mask"], counts=[1])
    assert [row["J"] for _, row in run([cell], table) if isinstance(row, dict)]
    older = [name for name in COLUMNS if name not in NEWER]
    (row,) = read_table(table)
    with open(table, "w", newline="") as stream:
        writer = csv.DictWriter(stream, older, extrasaction="ignore")
        writer.writeheader()
        writer.writerow(row)
    (again,) = read_table(table)
    assert again["J"] == row["J"]
    assert again["SEG"] == again["n_predicted"] == again["F_recall"] == ""
    assert pending([cell], [again]) == []  # finished is finished

    (wider,) = plan([cells], methods=["nearest-mask"], counts=[1])
    assert len(list(run([wider], table))) == 1
    (renewed,) = read_table(table)  # in place of the old row
    assert renewed["J"] == row["J"]
    assert float(renewed["SEG"]) > 0


def test_a_cell_that_fails_takes_no_other_with_it(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    table = toy.folder / "table.csv"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--methods", "nearest-mask", *SETTINGS]
    assert main([*words, "--frames", "4,1"]) == 1
    assert "4 frames cannot be annotated" in capsys.readouterr().err
    assert len(read_table(table)) == 1


def test_where_all_fails_the_same_command_may_be_given_again(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    table = toy.folder / "table.csv"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--methods", "nearest-mask", "--frames", "4"]
    assert main([*words, *SETTINGS]) == 1
    assert not list(toy.folder.glob("table*"))
    table.with_suffix(".md").write_text("of a table that is started over")
    assert main([*words, *SETTINGS, "--force"]) == 1
    assert not list(toy.folder.glob("table*"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--border", "0"], "--border has a say only with pairs MOVIE:TRUTH; a --list says such things of each movie."),
        (["--instances"], "--instances has a say only with pairs"),
        (["--stable-ids"], "--stable-ids has a say only with pairs"),
        (["--void-label", "255"], "--void-label has a say only with pairs"),
        (["a:b", "--root", "DATA"], "--root DATA has a say only with --list; name that, too."),
        (["a:b", "--parents", ""], "argument --parents: '' names nothing; write one name, or several with commas"),
        (["a:b", "--methods", ","], "argument --methods: ',' names nothing; write one name, or several with commas"),
    ],
)
def test_options_without_a_say_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    listed = [] if more[0] == "a:b" else ["--list", "movies.toml"]
    assert main(["benchmark", *more, *listed, "-o", str(tmp_path / "table.csv")]) == 2
    assert sentence in capsys.readouterr().err


def test_a_benchmark_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "-o", str(tmp_path / "table.csv")]) == 2
    assert "nothing to measure" in capsys.readouterr().err
    (tmp_path / "table.csv").write_text("precious\n")
    assert main(["benchmark", f"{tmp_path}:{tmp_path}", "-o", str(tmp_path / "table.csv")]) == 2
    assert "is no table of this version" in capsys.readouterr().err
    assert (tmp_path / "table.csv").read_text() == "precious\n"
