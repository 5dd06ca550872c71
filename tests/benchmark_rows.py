"""Rows of a benchmark that was not run: a measurement takes seconds for a process of its own."""

from __future__ import annotations

from typing import Any

from toy_files import ToyFiles

from napari_osvos.benchmark_cell import Cell
from napari_osvos.benchmark_movies import BenchmarkMovie
from napari_osvos.benchmark_plan import identify, plan
from napari_osvos.benchmark_table import COLUMNS, KEY, Row


def finished_row(cell: Cell, **values: str) -> Row:
    """Return the row of a cell as if it had been measured."""
    shown = dict.fromkeys(COLUMNS, "0") | {"n_scored": "3", "n_predicted": "3", "J_frames": "", "group": ""}
    return shown | dict(zip(KEY, identify(cell), strict=True)) | values


def toy_cell(toy: ToyFiles, method: str = "nearest-mask", **facts: Any) -> Cell:
    (cell,) = plan([BenchmarkMovie("toy", toy.movie, toy.truth, **facts)], methods=[method], counts=[1])
    return cell
