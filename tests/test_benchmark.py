"""The baselines and the benchmark: what is planned, measured, kept and resumed."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from toy_files import ToyFiles, write_toy_files

from napari_osvos.annotations import Annotations
from napari_osvos.baselines import NearestMask, RandomForest
from napari_osvos.benchmark import BenchmarkMovie, identify, plan, read_movies, split_pair
from napari_osvos.benchmark_cell import spread
from napari_osvos.benchmark_table import COLUMNS, read_table, to_markdown, write_table
from napari_osvos.cli import main
from napari_osvos.clip import Clip
from napari_osvos.evaluation import evaluate

SETTINGS = ["--threads", "1", "--device", "cpu"]


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path)


# -- baselines -------------------------------------------------------------------------------


def test_the_nearest_mask_is_copied(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    clip = Clip(np.concatenate([toy_movie, toy_movie[:2]]))
    method = NearestMask()
    method.fit(clip, Annotations.from_labels(np.concatenate([toy_labels, toy_labels[:2]]), frames=[0, 4]))
    found = dict(method.iter_labels(clip))
    assert list(found) == [0, 1, 2, 3, 4]
    for t, source in enumerate((0, 0, 0, 1, 1)):  # frame 2 is as far from 0 as from 4, which shows what frame 1 does
        np.testing.assert_array_equal(found[t], toy_labels[source] > 0)


def test_the_nearest_mask_of_a_stack_stays_in_its_slice(toy_labels: np.ndarray) -> None:
    labels = np.stack([toy_labels, toy_labels[::-1]], axis=1)  # (T, Z, Y, X)
    clip = Clip(labels.astype(np.uint8))
    method = NearestMask()
    method.fit(clip, Annotations.from_labels(labels, frames=[0]))
    found = dict(method.iter_labels(clip, frames=[2]))
    np.testing.assert_array_equal(found[2], labels[0] > 0)


def test_the_random_forest_finds_bright_objects(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 5, toy_movie.shape)
    for frames in (toy_movie + noise, np.repeat((toy_movie + noise)[..., None], 3, axis=-1)):  # grey, RGB
        clip = Clip(frames)
        forest = RandomForest(seed=1)
        forest.fit(clip, Annotations.from_labels(toy_labels, frames=[0]))
        labels = np.stack([frame for _, frame in forest.iter_labels(clip)])
        assert labels.dtype == np.uint16
        assert evaluate(labels, toy_labels, skip_frames=[0]).j_mean > 0.7


def test_the_random_forest_is_repeatable(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    def decide() -> np.ndarray:
        forest = RandomForest(seed=3)
        forest.fit(Clip(toy_movie), Annotations.from_labels(toy_labels, frames=[0]))
        return np.stack([frame for _, frame in forest.iter_labels(Clip(toy_movie))])

    np.testing.assert_array_equal(decide(), decide())


def test_the_random_forest_learns_from_known_pixels_only(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    forest = RandomForest()
    with pytest.raises(ValueError, match="All annotated pixels are foreground"):
        forest.fit(Clip(toy_movie), Annotations.from_labels(toy_labels, frames=[0], partial=True))


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


def test_movies_are_read_from_a_list(toy: ToyFiles) -> None:
    listed = toy.folder / "movies.toml"
    listed.write_text(
        '[[movie]]\nname = "toy"\nmovie = "movie.tif"\ntruth = "truth.tif"\nborder = 2\n'
        '[[movie]]\nname = "elsewhere"\nmovie = "nowhere"\ntruth = "nowhere"\noptional = true\n'
    )
    assert read_movies(listed) == [BenchmarkMovie("toy", toy.movie, toy.truth, 2)]
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
    ],
)
def test_a_wrong_list_is_refused(toy: ToyFiles, text: str, sentence: str) -> None:
    listed = toy.folder / "movies.toml"
    listed.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_movies(listed)


def test_the_plan_measures_nothing_twice(toy: ToyFiles) -> None:
    movie = BenchmarkMovie("toy", toy.movie, toy.truth)
    methods = ["nearest-mask", "random-forest", "fast", "fast-no-parent"]
    cells = plan([movie], methods=methods, parents=["lite", "vgg16"], counts=[1, 2], seeds=[0, 1])
    assert len(cells) == 2 * (1 + 2 + 4 + 4)
    assert len({identify(cell) for cell in cells}) == len(cells)
    with pytest.raises(ValueError, match="no method 'otsu'"):
        plan([movie], methods=["otsu"])
    with pytest.raises(ValueError, match="0 annotated frames"):
        plan([movie], methods=methods, counts=[0])


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


def test_a_cell_that_fails_takes_no_other_with_it(toy: ToyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    table = toy.folder / "table.csv"
    words = ["benchmark", f"{toy.movie}:{toy.truth}", "-o", str(table), "--methods", "nearest-mask", *SETTINGS]
    assert main([*words, "--frames", "4,1"]) == 1
    assert "4 frames cannot be annotated" in capsys.readouterr().err
    assert len(read_table(table)) == 1


def test_a_benchmark_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "-o", str(tmp_path / "table.csv")]) == 2
    assert "nothing to measure" in capsys.readouterr().err
    (tmp_path / "table.csv").write_text("precious\n")
    assert main(["benchmark", f"{tmp_path}:{tmp_path}", "-o", str(tmp_path / "table.csv")]) == 2
    assert "is no table of this version" in capsys.readouterr().err
    assert (tmp_path / "table.csv").read_text() == "precious\n"


# -- the tables ------------------------------------------------------------------------------


def _row(**values: str) -> dict[str, str]:
    row = dict.fromkeys(COLUMNS, "")
    shown = {"J": "0.9", "F": "0.8", "F2px": "0.7", "adapt_s": "5", "predict_s": "6", "n_scored": "3"}
    fixed = {"movie": "toy", "n_annotated": "1", "threads": "2", "version": "1.0", "device_name": "CPU", "seed": "0"}
    return row | shown | fixed | {"peak_memory_mb": "500"} | values


def test_the_summary_averages_over_seeds() -> None:
    rows = [
        _row(method="fast", parent="lite", J="0.9"),
        _row(method="fast", parent="lite", J="0.8", seed="1"),
        _row(method="nearest-mask", J="0.5", adapt_s="0"),
    ]
    summary = to_markdown(rows)
    assert "| fast | 0.850 ± 0.071 |" in summary
    assert "| nearest-mask | 0.500 |" in summary
    assert "| 1 | nearest-mask | 0.500 | 0.800 | 0.700 | 0.0 | 2.00 | 500 |" in summary  # 6 s for 3 frames
    assert "seeds 0, 1." in summary


def test_the_summary_tells_parents_and_step_numbers_apart() -> None:
    rows = [_row(method="fast", parent="lite"), _row(method="fast", parent="vgg16", steps="7")]
    summary = to_markdown(rows)
    assert "| fast (lite) |" in summary
    assert "| fast (vgg16), 7 steps |" in summary
    assert "Nothing has been measured yet." in to_markdown([])


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [_row(method="fast"), _row(method="best", device_name='GPU, "fast", bfloat16')]
    write_table(tmp_path / "table.csv", rows)
    assert read_table(tmp_path / "table.csv") == rows
    with open(tmp_path / "table.csv", newline="") as stream:
        assert tuple(next(csv.reader(stream))) == COLUMNS
