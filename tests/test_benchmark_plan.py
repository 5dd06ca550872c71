"""What the benchmark plans: movies and their names, cells, and when a finished one still holds."""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tifffile
from benchmark_rows import finished_row, toy_cell
from toy_files import ToyFiles, write_toy_files

from napari_osvos import benchmark_plan, device
from napari_osvos.benchmark import pending, renamed, run
from napari_osvos.benchmark_cell import spread
from napari_osvos.benchmark_methods import available_methods
from napari_osvos.benchmark_movies import BenchmarkMovie, read_movies, read_pairs, split_pair
from napari_osvos.benchmark_plan import fingerprint, identify, plan, plan_ablations
from napari_osvos.benchmark_table import COLUMNS, KEY, read_table, write_table
from napari_osvos.cli import main
from napari_osvos.writing import write_labels

pytestmark = pytest.mark.slow

SETTINGS = ["--threads", "1", "--device", "cpu"]


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


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
    rows = [finished_row(cell) for cell in old]
    planned = plan([now], methods=["nearest-mask"], **settings)
    assert [row["movie"] for row in renamed(rows, planned)] == ["HeLa-02"] * 3

    (otsu,) = plan([now], methods=["otsu"], **settings)
    taken = renamed([*rows, finished_row(otsu)], planned)  # whichever holds: neither takes the other's place
    assert [row["movie"] for row in taken if row["method"] == "otsu"] == ["02", "HeLa-02"]
    settings["finished"] = rows  # seconds are lent by a movie of another name
    assert plan([now], methods=["unet-same-seconds"], **settings)


def test_two_movies_may_exchange_their_names(toy: ToyFiles) -> None:
    def movies(one: str, other: str) -> list[BenchmarkMovie]:
        return [BenchmarkMovie(one, toy.movie, toy.truth), BenchmarkMovie(other, toy.movie, toy.painted)]

    before = plan(movies("a", "b"), methods=["nearest-mask", "otsu"], counts=[1])
    rows = [finished_row(cell, J=str(i)) for i, cell in enumerate(before)]
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
    write_table(table, [finished_row(cell)])
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


def test_a_cell_knows_the_files_it_was_measured_on(toy: ToyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = toy_cell(toy)
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
    cell = replace(toy_cell(toy), clip=str(frames))
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
    ours, otsu = toy_cell(toy, "fast"), toy_cell(toy, "otsu")
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


def test_other_weights_make_anothertoy_cell(toy: ToyFiles) -> None:
    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    cells = plan([movie], methods=["fast", "fast-no-parent"], parents=[str(toy.parent)], counts=[1])
    before = [identify(cell) for cell in cells]
    toy.parent.write_bytes(b"other weights")
    after = [identify(cell) for cell in cells]
    assert before[0] != after[0]
    assert before[1] == after[1]  # random weights stay what they are
