"""The benchmark: what is planned, measured, kept and resumed."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from toy_files import ToyFiles, write_toy_files

from napari_osvos import benchmark_cell, benchmark_plan, device
from napari_osvos.benchmark import pending, renamed, run
from napari_osvos.benchmark_cell import Cell, measure, spread
from napari_osvos.benchmark_methods import available_methods
from napari_osvos.benchmark_movies import BenchmarkMovie, read_movies, read_pairs, split_pair
from napari_osvos.benchmark_plan import fingerprint, identify, plan, plan_ablations
from napari_osvos.benchmark_table import COLUMNS, KEY, NEWER, Row, read_table, write_table
from napari_osvos.cli import main
from napari_osvos.writing import write_labels

pytestmark = pytest.mark.slow

SETTINGS = ["--threads", "1", "--device", "cpu"]


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


def _finished(cell: Cell, **values: str) -> Row:
    """Return the row of a cell as if it had been measured, which takes seconds for a process of its own."""
    shown = dict.fromkeys(COLUMNS, "0") | {"n_scored": "3", "n_predicted": "3", "J_frames": "", "group": ""}
    return shown | dict(zip(KEY, identify(cell), strict=True)) | values


# -- what is planned -------------------------------------------------------------------------


def test_annotated_frames_are_spread_from_the_first_to_the_last() -> None:
    frames = range(0, 100, 10)
    assert spread(frames, 1) == (0,)
    assert spread(frames, 2) == (0, 90)
    assert spread(frames, 4) == (0, 30, 60, 90)
    with pytest.raises(ValueError, match="only 10 hold labels"):
        spread(frames, 10)


def test_pairs_of_paths() -> None:
    assert split_pair("02:02_ST/SEG") == (Path("02"), Path("02_ST/SEG"))
    assert split_pair("C:\\a.tif:D:\\b.tif") == (Path("C:\\a.tif"), Path("D:\\b.tif"))
    for wrong in ("a.tif", "a:b:c", ":b"):
        with pytest.raises(ValueError, match="is no pair"):
            split_pair(wrong)


def test_pairs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("GOWT1/02", "HeLa/02", "other/HeLa/02", "PSC/01"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "HeLa")
    movies = read_pairs([f"{movie}:." for movie in ("../GOWT1/02", "02", "../other/HeLa/02", "../PSC/01", ".")])
    assert [movie.name for movie in movies] == ["GOWT1-02", f"{tmp_path.name}-HeLa-02", "other-HeLa-02", "01", "HeLa"]
    assert [movie.name for movie in read_pairs(["02:.", "../PSC/01:."])] == ["02", "01"]


def test_pairs_keep_what_is_no_ending_and_endings_that_tell_them_apart(tmp_path: Path) -> None:
    for folder in ("exp.1", "exp.2", "a.zarr", "b.zarr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a.tif").touch()
    pairs = [f"{tmp_path / name}:{tmp_path}" for name in ("exp.1", "exp.2", "a.tif", "a.zarr", "b.zarr")]
    assert [movie.name for movie in read_pairs(pairs)] == ["exp.1", "exp.2", "a.tif", "a.zarr", "b"]


def test_movies_of_one_name_are_measured_apart_or_refused(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = []
    for folder in ("one", "two"):
        (toy.folder / folder).mkdir()
        shutil.copy(toy.movie, toy.folder / folder / "movie.tif")
        pairs.append(f"{toy.folder / folder / 'movie.tif'}:{toy.truth}")
    table, words = toy.folder / "table.csv", ["--methods", "nearest-mask", "--frames", "1", *SETTINGS]
    assert main(["benchmark", *pairs, "-o", str(table), *words]) == 0
    assert [row["movie"] for row in read_table(table)] == ["one-movie", "two-movie"]

    listed = toy.folder / "movies.toml"
    listed.write_text('[[movie]]\nname = "movie"\nmovie = "movie.tif"\ntruth = "truth.tif"\n')
    for twice in ([pairs[0], pairs[0]], [pairs[0], "--list", str(listed)]):
        capsys.readouterr()
        assert main(["benchmark", *twice, "-o", str(table), *words]) == 2
        assert re.search(
            r"The command has two movies named '.*movie', .*movie.tif and .*; names", capsys.readouterr().err
        )


def test_movies_are_read_from_a_list(toy: ToyFiles) -> None:
    listed = toy.folder / "movies.toml"
    listed.write_text(
        '[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\nborder = 2\ngroup = "toys"\n'
        '[[movie]]\nname = "cells"\nmovie = "movie.tif"\ntruth = "truth.tif"\ninstances = true\ntracks = true\n'
        '[[movie]]\nname = "elsewhere"\nmovie = "nowhere"\ntruth = "nowhere"\noptional = true\n'
    )
    assert read_movies(listed) == [
        BenchmarkMovie("toy", toy.movie, toy.truth, 2, group="toys"),
        BenchmarkMovie("cells", toy.movie, toy.truth, instances=True, tracks=True),
    ]
    with pytest.raises(FileNotFoundError, match="'toy' names"):
        read_movies(listed, root=toy.folder / "other")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[movie]\n", "is no TOML file"),
        ("", "lists no movie"),
        ('[[movie]]\nname = "toy"\nmovie = "movie.tif"\n', "needs a text 'truth'"),
        ('[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\nedge = 2\n', "unknown entry 'edge'"),
        ('[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\nborder = -2\n', "border .* is -2"),
        ('[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\n' * 2, "two movies named 'toy'"),
        (
            '[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\ninstances = 1\n',
            "instances = 1; it must",
        ),
        (
            '[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\ntracks = true\n',
            "has tracks but no inst",
        ),
        ('movie = ["a"]\n', r"\[\[movie\]\] number 1 of .* is 'a'; it must be a table\."),
        (
            '[[movie]]\nname = 3\nmovie = "movie.tif"\ntruth = "truth.tif"\n',
            r"has name = 3; it must be a text\.",
        ),
    ],
)
def test_a_wrong_list_is_refused(toy: ToyFiles, text: str, sentence: str) -> None:
    listed = toy.folder / "movies.toml"
    listed.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_movies(listed)


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        ("skip_frames = 3", "a list of whole numbers"),
        ("skip_frames = [1.5]", "a list of whole numbers"),
        ("border = 'wide'", "a whole number"),
        ("border = 2.7", "a whole number"),
        ("void_label = 'grey'", "a whole number"),
        ("group = 3", "a text"),
        ("optional = 'no'", "true or false"),
    ],
)
def test_an_entry_of_the_wrong_kind_is_refused(toy: ToyFiles, entry: str, allowed: str) -> None:
    listed = toy.folder / "movies.toml"
    listed.write_text(f'[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\n{entry}\n')
    sentence = f"[[movie]] number 1 of {listed} has {entry}; it must be {allowed}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read_movies(listed)


def test_the_plan_measures_nothing_twice(toy: ToyFiles) -> None:
    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    methods = ["nearest-mask", "random-forest", "fast", "fast-no-parent"]
    cells = plan([movie], methods=methods, parents=["lite", "vgg16"], counts=[1, 2], seeds=[0, 1])
    assert len(cells) == 2 * (1 + 2 + 4 + 4)
    assert len({identify(cell) for cell in cells}) == len(cells)
    with pytest.raises(ValueError, match="no method 'watershed'"):
        plan([movie], methods=["watershed"])
    with pytest.raises(ValueError, match="0 annotated frames"):
        plan([movie], methods=methods, counts=[0])


@pytest.mark.parametrize(
    ("installed", "lacks"),
    [
        ((), "needs napari-convpaint, which is not installed; run pip"),
        (("PyQt6",), "needs napari-convpaint, which is not installed; run pip"),
        (("napari_convpaint",), "needs a Qt binding, of which none is installed; run pip"),
        (("napari_convpaint", "PySide6"), ""),
    ],
)
def test_methods_that_are_not_installed_are_refused(
    toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], lacks: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in installed or None)
    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    if lacks:
        assert "convpaint" not in available_methods()
        with pytest.raises(ValueError, match=lacks):
            plan([movie], methods=["convpaint"])
    else:
        assert "convpaint" in available_methods()
        assert len(plan([movie], methods=["convpaint"], counts=[1])) == 1


def test_a_parent_that_is_not_there_is_refused_before_anything_is_measured(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    table = toy.folder / "table.csv"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--parents", "lit", *SETTINGS]
    for more in (["--methods", "nearest-mask,fast"], ["--ablations"]):
        assert main([*words, *more]) == 2
        assert "There is no parent 'lit'; name a file, or one of lite, vgg16." in capsys.readouterr().err
    assert not table.exists()

    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    assert plan([movie], methods=["nearest-mask"], parents=["lit"], counts=[1])  # which needs none
    assert plan([movie], methods=["fast-no-parent"], parents=["tiny"], counts=[1])  # random weights of that network
    with pytest.raises(ValueError, match="no network named 'lit'"):
        plan([movie], methods=["fast-no-parent"], parents=["lit"], counts=[1])


def test_equal_seconds_without_what_took_them_are_refused_before_anything_is_measured(
    toy: ToyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    table = toy.folder / "table.csv"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--methods", "nearest-mask,unet-same-seconds"]
    assert main([*words, *SETTINGS]) == 2
    assert "needs the seconds of 'balanced' from lite on the same frames" in capsys.readouterr().err
    assert not table.exists()

    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    ours, unet = plan([movie], methods=["balanced", "unet-same-seconds"], counts=[1], finished=[])
    for there in (ours, unet):  # a table may have the one or the other from before
        row = dict.fromkeys(COLUMNS, "") | dict(zip(KEY, identify(there), strict=True))
        assert plan([movie], methods=["unet-same-seconds"], counts=[1], finished=[row]) == [unet]
        with pytest.raises(ValueError, match="2 frames, seed 0 needs the seconds"):
            plan([movie], methods=["unet-same-seconds"], counts=[2], finished=[row])


def test_a_movie_that_gets_another_name_is_not_measured_again(toy: ToyFiles, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    there = {"methods": ["nearest-mask"], "counts": [1], "seeds": [0], "threads": 1}
    alone = plan([BenchmarkMovie("02", toy.movie, toy.truth)], **there)
    assert len(list(run(alone, table))) == 1
    renamed = plan([BenchmarkMovie("HeLa-02", toy.movie, toy.truth)], **there)
    assert list(run(renamed, table)) == []
    assert [row["movie"] for row in read_table(table)] == ["HeLa-02"]


def test_all_rows_of_a_movie_that_gets_another_name_follow(toy: ToyFiles) -> None:
    settings: dict[str, Any] = {"counts": [1], "finished": []}
    methods = ["nearest-mask", "otsu", "balanced"]
    old = plan([BenchmarkMovie("02", toy.movie, toy.truth)], methods=methods, **settings)
    now = BenchmarkMovie("HeLa-02", toy.movie, toy.truth)
    rows = [_finished(cell) for cell in old]
    planned = plan([now], methods=["nearest-mask"], **settings)
    assert [row["movie"] for row in renamed(rows, planned)] == ["HeLa-02"] * 3

    (otsu,) = plan([now], methods=["otsu"], **settings)
    taken = renamed([*rows, _finished(otsu)], planned)  # whichever holds: neither takes the other's place
    assert [row["movie"] for row in taken if row["method"] == "otsu"] == ["02", "HeLa-02"]
    settings["finished"] = rows  # seconds are lent by a movie of another name
    assert plan([now], methods=["unet-same-seconds"], **settings)


def test_two_movies_may_exchange_their_names(toy: ToyFiles) -> None:
    def movies(one: str, other: str) -> list[BenchmarkMovie]:
        return [BenchmarkMovie(one, toy.movie, toy.truth), BenchmarkMovie(other, toy.movie, toy.painted)]

    before = plan(movies("a", "b"), methods=["nearest-mask", "otsu"], counts=[1])
    rows = [_finished(cell, J=str(i)) for i, cell in enumerate(before)]
    planned = plan(movies("b", "a"), methods=["nearest-mask"], counts=[1])
    assert [(row["movie"], row["J"]) for row in renamed(rows, planned)] == [
        ("b", "0"),
        ("b", "1"),
        ("a", "2"),
        ("a", "3"),
    ]


def test_what_is_to_do_is_counted_under_the_new_names(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    table, listed = toy.folder / "table.csv", toy.folder / "movies.toml"
    listed.write_text('[[movie]]\nname = "new"\nmovie = "movie.tif"\ntruth = "truth.tif"\n')
    (cell,) = plan([BenchmarkMovie("old", toy.movie, toy.truth)], methods=["otsu"], counts=[1])
    write_table(table, [_finished(cell)])
    words = ["benchmark", "--list", str(listed), "-o", str(table), "--methods", "nearest-mask,otsu", "--frames", "1"]
    assert main([*words, *SETTINGS]) == 0
    assert "1/1 new, nearest-mask, 1 frame, seed 0: J " in capsys.readouterr().err
    assert [(row["movie"], row["method"]) for row in read_table(table)] == [("new", "otsu"), ("new", "nearest-mask")]


def test_the_longest_schedule_of_the_paper_can_be_taken_apart(toy: ToyFiles) -> None:
    movie, long = BenchmarkMovie("toy", toy.movie, toy.truth), "published-2000x5"
    cells = plan_ablations([movie], qualities=[long], parents=["lite", "vgg16"], counts=[1, 2])
    found = [(cell.method, cell.parent, cell.n_annotated) for cell in cells if cell.method.startswith(long)]
    assert found == [(long, "lite", 1), (long, "vgg16", 1), (long, "lite", 2)]
    both = plan_ablations([movie], qualities=["fast", long], counts=[1])
    assert {"fast-no-parent", "fast-snapped"} <= {cell.method for cell in both}


def test_a_movie_whose_objects_count_now_is_measured_again(toy: ToyFiles) -> None:
    foreground = BenchmarkMovie("toy", toy.movie, toy.truth)
    objects = BenchmarkMovie("toy", toy.movie, toy.truth, instances=True)
    tracks = BenchmarkMovie("toy", toy.movie, toy.truth, instances=True, tracks=True)
    cells = plan([foreground, objects, tracks], methods=["nearest-mask"], counts=[1])
    assert len({fingerprint(cell) for cell in cells}) == 3


def _cell(toy: ToyFiles, method: str = "nearest-mask", **facts: Any) -> Cell:
    (cell,) = plan([BenchmarkMovie("toy", toy.movie, toy.truth, **facts)], methods=[method], counts=[1])
    return cell


def test_a_cell_knows_the_files_it_was_measured_on(toy: ToyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = _cell(toy)
    before = fingerprint(cell)
    monkeypatch.chdir(toy.folder)
    assert fingerprint(replace(cell, clip="movie.tif", truth="./truth.tif")) == before  # however they are written
    shutil.copy(toy.movie, toy.folder / "other.tif")
    assert fingerprint(replace(cell, clip=str(toy.folder / "other.tif"))) != before
    write_labels(toy.truth, 2 * tifffile.imread(toy.truth), overwrite=True)  # of the same size
    assert fingerprint(cell) != before


def test_a_cell_knows_the_frames_of_a_folder_but_not_what_lies_beside_them(toy: ToyFiles) -> None:
    frames = toy.folder / "frames"
    frames.mkdir()
    for t, frame in enumerate(tifffile.imread(toy.movie)):
        tifffile.imwrite(frames / f"t{t}.tif", frame)
    cell = replace(_cell(toy), clip=str(frames))
    before = fingerprint(cell)
    (frames / "results").mkdir()
    for beside in ("table.csv", "results/table.csv", "results/worst.png"):
        (frames / beside).write_text("written meanwhile")
    assert fingerprint(cell) == before
    frame = tifffile.imread(frames / "t2.tif")
    tifffile.imwrite(frames / "t2.tif", frame[::-1])
    assert fingerprint(cell) != before


def test_many_cells_look_at_their_files_once(toy: ToyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    facts = benchmark_plan.path_facts
    monkeypatch.setattr(benchmark_plan, "path_facts", lambda path: (looked.append(path), facts(path))[1])
    cells = plan([BenchmarkMovie("toy", toy.movie, toy.truth)], methods=["otsu", "fast"], seeds=range(9))
    assert pending(cells, []) == cells
    assert looked == [str(toy.movie), str(toy.truth)]


def test_a_cell_knows_what_computes_it(toy: ToyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, otsu = _cell(toy, "fast"), _cell(toy, "otsu")
    convpaint = replace(otsu, method="convpaint")

    def on(devices: list[str], features: str) -> list[str]:
        monkeypatch.setattr(device, "available_devices", lambda: devices)
        monkeypatch.setattr(benchmark_plan, "offline_features", lambda: features)
        return [fingerprint(cell) for cell in (ours, otsu, convpaint)]

    cpu, gpu, vgg = on(["cpu"], "gaussian"), on(["cuda:0", "cpu"], "gaussian"), on(["cpu"], "vgg")
    assert [one == other for one, other in zip(cpu, gpu, strict=True)] == [False, True, True]
    assert [one == other for one, other in zip(cpu, vgg, strict=True)] == [True, True, False]
    assert fingerprint(replace(ours, device="cpu")) == cpu[0]  # 'auto' is the CPU here
    with pytest.raises(ValueError, match="There is no device 'tpu' on this machine"):
        plan([BenchmarkMovie("toy", toy.movie, toy.truth)], methods=["otsu", "fast"], device="tpu")


def test_other_weights_make_another_cell(toy: ToyFiles) -> None:
    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    cells = plan([movie], methods=["fast", "fast-no-parent"], parents=[str(toy.parent)], counts=[1])
    before = [identify(cell) for cell in cells]
    toy.parent.write_bytes(b"other weights")
    after = [identify(cell) for cell in cells]
    assert before[0] != after[0]
    assert before[1] == after[1]  # random weights stay what they are


# -- what is measured ------------------------------------------------------------------------


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
        list(run([replace(_cell(toy), movie="movie", pictures=str(toy.folder / "pictures"))], table))
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
        measure(_cell(toy, **facts))


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
    before = [replace(_cell(toy), n_annotated=n) for n in (4, 1)]  # 4 leave no frame to score
    write_table(table, list(map(_finished, before)))
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
    write_table(table, list(map(_finished, cells)))
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
