"""The tables and plots of the benchmark: what is averaged, named and drawn; and that old tables stay readable."""

from __future__ import annotations

import csv
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from napari_osvos import benchmark_plots
from napari_osvos.benchmark_plots import write_plots
from napari_osvos.benchmark_table import (
    COLUMNS,
    method_names,
    parent_name,
    parent_names,
    read_table,
    seconds,
    to_markdown,
    told_apart,
    write_table,
)
from napari_osvos.config import NetworkConfig
from napari_osvos.parent import ParentNetwork

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


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


def test_the_summary_shows_objects_where_there_are_any() -> None:
    scores = {"SEG": "0.75", "DET": "0.98", "TRA": "0.97", "F1_50": "0.95", "F1_75": "0.8", "link_s": "0.4"}
    rows = [
        _row(movie="cells", method="fast", parent="lite", n_predicted="4", **scores),
        _row(movie="cells", method="nearest-mask"),
        _row(movie="swan", method="fast", parent="lite"),
    ]
    summary = to_markdown(rows)
    assert "## SEG, 1 annotated frame\n\n| method | cells |\n|---|---|\n| fast | 0.750 |\n\n" in summary
    fast = "0.900 | 0.800 | 0.700 | 0.750 | 0.980 | 0.970 | 0.950 | 0.800 | 5.0 | 1.50 | 0.100 | 500 |"
    assert f"| 1 | fast | {fast}" in summary  # 6 s and 0.4 s for the 4 frames that were predicted
    assert "| 1 | fast | 0.900 | 0.800 | 0.700 | 5.0 | 2.00 | 500 |" in summary  # the swan


def test_the_summary_tells_parents_and_step_numbers_apart() -> None:
    rows = [_row(method="fast", parent="lite"), _row(method="fast", parent="vgg16", steps="7")]
    summary = to_markdown(rows)
    assert "| fast (lite) |" in summary
    assert "| fast (vgg16), 7 steps |" in summary
    assert "Nothing has been measured yet." in to_markdown([])


def test_the_summary_tells_thread_numbers_apart() -> None:
    rows = [_row(method="otsu", threads="1", J="0.9"), _row(method="otsu", threads="2", steps="7", J="0.8")]
    summary = to_markdown(rows)
    assert "| otsu, 1 thread | 0.900 |" in summary
    assert "| otsu, 7 steps, 2 threads | 0.800 |" in summary
    assert method_names(rows[1:]) == ["otsu, 7 steps"]  # which there is no other of


def test_the_summary_shows_recall_and_decay() -> None:
    of_j, of_f = {"J_recall": "1", "J_decay": "-0.02"}, {"F_recall": "0.5", "F_decay": "0.25"}
    summary = to_markdown([_row(method="otsu", **of_j, **of_f), _row(method="fast", **of_j)])  # the other is older
    assert "| J | J recall | J decay | F | F recall | F decay | F at 2 px |" in summary
    assert "| 1 | otsu | 0.900 | 1.000 | -0.020 | 0.800 | 0.500 | 0.250 | 0.700 |" in summary
    assert "| 1 | fast | 0.900 | 1.000 | -0.020 | 0.800 |  |  | 0.700 |" in summary


def test_the_card_of_a_parent_shows_what_the_benchmark_measured(tmp_path: Path) -> None:
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "bundle_parent.py"))
    write_table(
        tmp_path / "table.csv", [dict.fromkeys(COLUMNS, "") | {"movie": "a", "n_annotated": "2", "adapt_s": "7"}]
    )
    parent = ParentNetwork.random(NetworkConfig.tiny())
    parent.card |= {"sets": {}, "recipe": {}, "curve": []}
    lines = script["model_card"](parent, 10, read_table(tmp_path / "table.csv")).splitlines()
    assert "| movie | method | n_annotated | seed | J | F | F2px | adapt_s |" in lines
    assert "| a |  | 2 |  |  |  |  | 7 |" in lines


def _page_script() -> dict[str, Any]:
    return runpy.run_path(str(RESULTS.parent / "comparison_page.py"))


def test_the_tables_of_a_page_are_renewed() -> None:
    rows = [
        _row(movie=movie, group=group, method=method, parent=parent, seed=str(seed), J=str(j + seed / 10))
        for movie, group, best in (("cells", "", 0.8), ("swan", "DAVIS", 0.6), ("dog", "DAVIS", 0.4))
        for method, parent, j in (("otsu", "", 0.1), ("fast", "lite", best), ("fast", "vgg16", 0.5))
        for seed in range(2)
    ]
    comment = "<!-- table: J of frames=1 methods=otsu,fast,fast@vgg16*0 -->"
    page = f"Before.\n\n{comment}\n\n| old |\n|---|\n\nBehind.\n"
    renewed = _page_script()["renewed"]
    assert (
        renewed(page, rows)
        == f"""Before.

{comment}

| | Otsu | `fast` | `fast`, vgg16 |
|---|---|---|---|
| cells | 0.150 ± 0.071 | **0.850** ± 0.071 | 0.500 |
| swan | 0.150 ± 0.071 | **0.650** ± 0.071 | 0.500 |
| dog | 0.150 ± 0.071 | 0.450 ± 0.071 | **0.500** |
| mean of the two of DAVIS | 0.150 | **0.550** | 0.500 |

Behind.
"""
    )
    by_frames = [*rows, *(row | {"n_annotated": "2", "J": "0.9"} for row in rows if row["movie"] == "cells")]
    against = renewed(page.replace("1 methods=otsu,fast,fast@vgg16*0", "1,2 methods=fast*0 movies=cells"), by_frames)
    assert "| | one frame | two frames |\n|---|---|---|\n| cells | 0.800 | **0.900** |\n" in against
    cost = page.replace("J of frames=1 methods=otsu,fast,fast@vgg16*0", "cost of frames=1 methods=fast*0")
    assert "| `fast` | 5.0 (5.0 to 5.0) | 2.00 (2.00 to 2.00) | 500 (500 to 500) |" in renewed(cost, rows)
    for wrong, sentence in {
        "J of frames=1 methods=best": "No measurement of best from lite is in the table.",
        "luck of frames=1 methods=fast": "The comment asks for 'luck'; allowed are J, ",
        "J of frames=1,2 methods=fast,otsu": "several numbers of frames go with one method and a measure.",
        "J of methods=fast": "it must have ' of frames=N methods=A,B'.",
    }.items():
        with pytest.raises(ValueError, match=re.escape(sentence)):
            renewed(page.replace(comment, f"<!-- table: {wrong} -->"), rows)


def test_the_comparison_shows_what_was_measured() -> None:
    page = (RESULTS.parents[1] / "docs" / "comparison.md").read_text(encoding="utf-8")
    themes = ("methods_*.csv", "networks_*.csv", "ablations_*.csv")
    rows = _page_script()["rows_of"]([path for theme in themes for path in sorted(RESULTS.glob(theme))])
    assert _page_script()["renewed"](page, rows) == page


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [_row(method="fast"), _row(method="best", device_name='GPU, "fast", bfloat16')]
    write_table(tmp_path / "table.csv", rows)
    assert read_table(tmp_path / "table.csv") == rows
    with open(tmp_path / "table.csv", newline="") as stream:
        assert tuple(next(csv.reader(stream))) == COLUMNS


# -- means over movies -----------------------------------------------------------------------


def test_a_group_counts_as_one_movie() -> None:
    rows = [
        _row(movie="cells", method="fast", J="0.9"),
        _row(movie="swan", method="fast", J="0.6", group="DAVIS"),
        _row(movie="dog", method="fast", J="0.4", group="DAVIS"),
        _row(movie="cells", method="otsu", J="0.5"),
    ]
    summary = to_markdown(rows)
    assert "| method | cells | swan | dog | mean of DAVIS | mean |" in summary
    assert "| fast | 0.900 | 0.600 | 0.400 | 0.500 | 0.700 |" in summary
    assert "| otsu | 0.500 |  |  |  |  |" in summary  # no mean of what was not measured on all


def test_parents_have_short_names() -> None:
    assert parent_name("lite") == "lite"
    assert parent_name("/somewhere/parent-100/parent.safetensors") == "parent-100"
    assert parent_name("/somewhere/mine.safetensors") == "mine"


def test_parents_of_one_name_are_told_apart() -> None:
    files = ["/a/run/parent.safetensors", "/b/run/parent.safetensors", "run/mine.safetensors"]
    assert list(parent_names(["lite", *files]).values()) == ["lite", "a-run", "b-run", "mine"]
    assert parent_names(["lite", "lite.safetensors"]) == {"lite": "lite", "lite.safetensors": "lite.safetensors"}
    summary = to_markdown([_row(method="fast", parent=parent, J=j) for parent, j in zip(files, "010", strict=True)])
    assert "| fast (a-run) | 0.000 |" in summary
    assert "| fast (b-run) | 1.000 |" in summary


def test_names_are_as_short_as_tells_them_apart() -> None:
    paths = [["x", "a-b", "c"], ["x", "a", "b", "c"], ["y", "b", "c"], ["y", "d"]]
    assert told_apart(paths) == ["x-a-b-c", "x-a-b-c", "y-b-c", "d"]
    assert told_apart([["y", "b"], ["y", "b"], ["b"]]) == ["y-b", "y-b", "b"]  # what is the same stays the same
    assert told_apart([]) == []


# -- old tables ------------------------------------------------------------------------------


# the others are of scripts that write and read tables of their own
TABLES = [path for path in sorted(RESULTS.glob("*.csv")) if "method" in path.read_text().partition("\n")[0].split(",")]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_committed_tables_stay_readable(path: Path) -> None:
    rows = read_table(path)
    assert rows
    assert all(seconds(row) > 0 for row in rows if row["method"] != "nearest-mask")
    assert f"| {rows[0]['method']}" in to_markdown(rows)


# -- plots -----------------------------------------------------------------------------------


def test_plots_show_what_there_is(tmp_path: Path) -> None:
    rows = [
        _row(method=method, parent=parent, n_annotated=n, seed=seed, annotated_frames="0", J_frames=per_frame)
        for method, parent in (("fast", "lite"), ("best", "lite"), ("otsu", ""))
        for n in ("1", "2")
        for seed, per_frame in (("0", "1:0.9 2:0.8 3:1"), ("1", ""))
    ]
    written = write_plots(tmp_path / "table.csv", rows)
    assert [path.name for path in written] == ["table_frames.png", "table_seconds.png", "table_time.png"]
    for path in written:
        with Image.open(path) as picture:
            assert picture.width > 400
    assert [p.name for p in write_plots(tmp_path / "old.csv", [_row(method="fast")])] == ["old_seconds.png"]
    assert write_plots(tmp_path / "empty.csv", []) == []


def test_plots_of_an_earlier_table_do_not_stay(tmp_path: Path) -> None:
    rows = [_row(method="fast", n_annotated=n, J_frames="1:0.9", annotated_frames="0") for n in ("1", "2")]
    assert len(write_plots(tmp_path / "table.csv", rows)) == 3
    assert [path.name for path in write_plots(tmp_path / "table.csv", [_row(method="fast")])] == ["table_seconds.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["table_seconds.png"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, in their order."""
    figures: list[Any] = []
    draw = benchmark_plots._figure

    def keep(*arguments: Any) -> Any:
        figures.append(draw(*arguments))
        return figures[-1]

    monkeypatch.setattr(benchmark_plots, "_figure", keep)
    return figures


def test_panels_say_how_many_frames_where_movies_differ(tmp_path: Path, drawn: list[Any]) -> None:
    rows = [
        _row(movie=movie, method="fast", n_annotated=n, J_frames="1:0.9", annotated_frames="0")
        for movie, n in (("cells", "1"), ("cells", "2"), ("swan", "2"))
    ]
    write_plots(tmp_path / "table.csv", rows)
    assert [figure.get_suptitle() for figure in drawn] == [
        "J against annotated frames",
        "J against seconds a frame, adapting included",
        "J of each frame",
    ]
    of_each = ["cells, 1 annotated frame", "swan, 2 annotated frames"]
    titles = [[axes.get_title() for axes in figure.axes] for figure in drawn]
    assert titles == [["cells", "swan"], of_each, of_each]
    write_plots(tmp_path / "table.csv", rows[:1])
    assert drawn[-1].get_suptitle() == "J of each frame; 1 annotated frame"
    assert drawn[-1].axes[0].get_title() == "cells"


def test_a_line_joins_means_over_the_same_seeds(tmp_path: Path, drawn: list[Any]) -> None:
    def row(method: str, n: str, seed: str, j: str) -> dict[str, str]:
        return _row(method=method, parent="lite", n_annotated=n, seed=seed, J=j)

    rows = [
        *(row("fast", "1", seed, j) for seed, j in (("0", "0.5"), ("1", "0.7"))),
        *(row("fast", "2", seed, j) for seed, j in (("1", "0.8"), ("2", "0.2"))),
        *(row("best", "1", seed, j) for seed, j in (("1", "0.9"), ("2", "0.1"))),
        *(row("best", "2", seed, j) for seed, j in (("0", "0.6"),)),
        *(row("otsu", "1", seed, j) for seed, j in (("0", "0.3"), ("5", "0.5"))),
    ]
    write_plots(tmp_path / "table.csv", rows)
    frames, seconds_of = ([list(line.get_ydata()) for line in figure.axes[0].lines] for figure in drawn)
    assert frames == [pytest.approx(y) for y in ([0.7, 0.8], [0.5, 0.6], [0.4])]  # those of best have no seed in common
    # fast and best at their common seed, the line between them, and Otsu, which nothing joins, with all of its own
    assert sorted(seconds_of) == [pytest.approx(y) for y in ([0.4], [0.7], [0.7, 0.9], [0.9])]
