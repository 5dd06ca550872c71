"""What the benchmark is to measure: every combination, or what takes ours apart; and when a finished cell holds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

from napari_osvos.baseline_convpaint import offline_features
from napari_osvos.benchmark_cell import Cell
from napari_osvos.benchmark_methods import (
    BASELINES,
    CONVPAINT,
    LONG_SCHEDULES,
    METHODS,
    NEITHER,
    NO_PARENT,
    NOT_RANDOM,
    ON_THE_CPU,
    PARENT_ALONE,
    SNAPPED,
    TIMED,
    UNET_SAME_SECONDS,
    UNTRAINED,
    check_methods,
    knows_parent,
)
from napari_osvos.benchmark_movies import BenchmarkMovie
from napari_osvos.benchmark_table import KEY, Row, key_of, key_without, text
from napari_osvos.config import QUALITIES, NetworkConfig
from napari_osvos.machine import versions
from napari_osvos.path_facts import file_digest, path_facts

ABLATION_COUNTS = (1, 2, 3, 4, 5)
"""Annotated frames of the ablations, as in the paper's table."""

Seen = dict[tuple[str, str], str]
"""What files were found to be, by what was asked and their path: for many cells at once, and no longer than that."""


def plan(
    movies: Sequence[BenchmarkMovie],
    *,
    methods: Sequence[str],
    parents: Sequence[str] = ("lite",),
    counts: Sequence[int] = (1, 2, 4),
    seeds: Sequence[int] = (0,),
    device: str = "auto",
    threads: int = 1,
    steps: int | None = None,
    pictures: str = "",
    finished: Sequence[Row] | None = None,
) -> list[Cell]:
    """Return every cell to measure, movie by movie, in the order of the methods.

    What has nothing random in it is measured with the first seed alone. ``-snapped`` is left out where objects are told
    apart, since only masks of one object or class are snapped. ``unet-same-seconds`` comes after ``balanced``.

    Parameters
    ----------
    movies, methods
        What is measured, and by what, of `benchmark_methods.METHODS`.
    parents
        Names or files of the parents that ours starts from.
    counts, seeds
        Numbers of annotated frames, and seeds.
    device, threads, steps, pictures
        As in `Cell`.
    finished
        Rows of the table that is gone on with. Given these, ``unet-same-seconds`` is refused where neither they nor the
        plan have the ``balanced`` that it is timed by; without, its measurement fails then.

    Raises
    ------
    ValueError
        If a method is unknown, not installed or lacks what it is timed by, there is no such parent or device, or a
        count is below 1.
    """
    check_methods(methods)
    if min(counts, default=1) < 1:
        raise ValueError(f"{min(counts)} annotated frames are not possible; at least 1 is needed.")
    of_all: dict[str, Any] = {"device": device, "threads": threads, "pictures": pictures}
    cells = []
    for movie in movies:
        of_movie: dict[str, Any] = {
            "movie": movie.name,
            "clip": str(movie.movie),
            "truth": str(movie.truth),
            "border": movie.border,
            "skip_frames": movie.skip_frames,
            "instances": movie.instances,
            "tracks": movie.tracks,
            "void_label": movie.void_label,
            "group": movie.group,
        }
        for n in counts:
            for method in sorted(methods, key=lambda name: name == UNET_SAME_SECONDS):
                if movie.instances and method.endswith(SNAPPED):
                    continue
                for parent in ("",) if method in BASELINES else parents:
                    for seed in seeds[:1] if method in NOT_RANDOM else seeds:
                        of_cell: dict[str, Any] = {
                            "method": method,
                            "parent": parent,
                            "n_annotated": n,
                            "seed": seed,
                            "steps": None if method in UNTRAINED else steps,
                            "timed_by": parents[0] if method == UNET_SAME_SECONDS else "",
                        }
                        cells.append(Cell(**of_movie, **of_cell, **of_all))
    _check_parents(cells)
    for cell in {cell.device: cell for cell in cells if cell.method not in ON_THE_CPU}.values():
        _place_of(cell)  # says which devices there are
    if finished is not None:
        _check_timers(cells, finished)
    return cells


def plan_ablations(
    movies: Sequence[BenchmarkMovie],
    *,
    qualities: Sequence[str] = (TIMED,),
    parents: Sequence[str] = ("lite",),
    counts: Sequence[int] = ABLATION_COUNTS,
    **settings: Any,
) -> list[Cell]:
    """Return what takes ours apart, as the tables of the paper do.

    With the fewest annotated frames: every quality from the first parent (J against seconds), each of `qualities` from
    every parent (such as parents trained on 100, 200 and all images), from random weights, and with its masks snapped
    (but not a schedule that is no quality of its own), the parents without fine-tuning, and neither parent nor
    fine-tuning. With the other numbers of annotated frames: each of `qualities` from the first parent.

    Parameters
    ----------
    qualities
        What is taken apart, of `napari_osvos.config.QUALITIES` and `benchmark_methods.LONG_SCHEDULES`.
    movies, parents, counts, settings
        As for `plan`.

    Raises
    ------
    ValueError
        As `plan`, and if something is no quality.
    """
    known = (*QUALITIES, *LONG_SCHEDULES)
    odd = [name for name in qualities if name not in known]
    if odd:
        raise ValueError(f"{odd[0]!r} is no quality that can be taken apart; there are {', '.join(known)}.")
    fewest, more = min(counts, default=1), [n for n in counts if n != min(counts)]
    from_each = plan(movies, methods=[PARENT_ALONE, *qualities], parents=parents, counts=[fewest], **settings)
    parts = [quality + part for quality in qualities for part in (NO_PARENT, SNAPPED) if quality + part in METHODS]
    if not _has_contours(parents[0]):  # what was trained as published and is fine-tuned so has nothing to snap to
        parts = [name for name in parts if name != "published" + SNAPPED]
    from_first = plan(movies, methods=[NEITHER, *parts, *QUALITIES], parents=parents[:1], counts=[fewest], **settings)
    against_frames = plan(movies, methods=qualities, parents=parents[:1], counts=more, **settings)
    return list(dict.fromkeys([*from_each, *from_first, *against_frames]))


def _has_contours(parent: str) -> bool:
    """Whether a parent predicts contours; the bundled ones do."""
    from napari_osvos.checkpoint import read_header

    path = Path(parent)
    return not path.is_file() or "contour" in read_header(path)[1]["network"]["heads"]


def timer(cell: Cell) -> Cell | None:
    """Return the cell whose seconds a cell gets, None where it needs none."""
    return replace(cell, method=TIMED, parent=cell.timed_by, timed_by="") if cell.timed_by else None


def lacks_seconds(cell: Cell) -> str:
    """Return what is wrong where the cell whose seconds a cell gets is not measured."""
    seconds = f"the seconds of {TIMED!r} from {cell.timed_by} on the same frames"
    return f"{describe(cell)} needs {seconds}; measure that, too."


def fingerprint(cell: Cell, seen: Seen | None = None) -> str:
    """Return 12 hexadecimal digits that change when a finished cell no longer holds.

    That is when the files of movie or truth (their places, names, sizes and times of the last change), the weights of
    the parent, the program's version, border, void label, skipped frames, the device of what computes on one, or the
    features that Convpaint has change, when objects or tracks are scored that were not before, or when the cell that
    lends its seconds no longer holds.

    Parameters
    ----------
    seen
        Give the same for many cells at once, so that each file is looked at once.

    Raises
    ------
    OSError
        If movie or truth are not there.
    ValueError
        If there is no such device.
    """
    seen = {} if seen is None else seen
    digest = hashlib.sha256()
    files = (_facts_of(cell.clip, seen), _facts_of(cell.truth, seen))
    facts = (versions()["napari-osvos"], cell.border, tuple(cell.skip_frames), _place_of(cell), *files)
    digest.update(repr(facts).encode())
    if cell.instances:  # cells without are those of tables that knew none
        digest.update(f"instances, tracks {cell.tracks}".encode())
    if cell.void_label is not None:
        digest.update(f"void {cell.void_label}".encode())
    lender = timer(cell)
    if lender is not None:
        digest.update(f"seconds of {fingerprint(lender, seen)}".encode())
    if cell.parent and knows_parent(cell.method):
        file = _weights_of(cell.parent)
        if file is not None:
            digest.update(_digest_of(file, seen).encode())
    return digest.hexdigest()[:12]


def identify(cell: Cell, seen: Seen | None = None) -> tuple[str, ...]:
    """Return the `KEY` of a cell as the table holds it; `seen` as for `fingerprint`."""
    values = {**asdict(cell), "fingerprint": fingerprint(cell, seen)}
    return tuple(text(values[name]) for name in KEY)


def may_hold(row: Row, planned: Cell, lenders: Sequence[str], seen: Seen) -> bool:
    """Whether a row could have been measured under the conditions of a planned cell of the same movie.

    Parameters
    ----------
    lenders
        Parents whose ``balanced`` may have lent the row its seconds, which it does not say.
    seen
        As for `fingerprint`.
    """
    cell = cell_of(row, planned)
    if knows_parent(cell.method) and _weights_of(cell.parent) is None:
        return True  # nobody can tell any more
    if cell.method != UNET_SAME_SECONDS:
        return identify(cell, seen) == key_of(row)
    return not lenders or any(identify(replace(cell, timed_by=by), seen) == key_of(row) for by in lenders)


def cell_of(row: Row, planned: Cell) -> Cell:
    """Return the cell of a row, as if it had been measured under the conditions of a planned cell of the same movie."""
    return replace(
        planned,
        method=row["method"],
        parent=row["parent"],
        n_annotated=int(row["n_annotated"]),
        seed=int(row["seed"]),
        threads=int(row["threads"]),
        steps=int(row["steps"]) if row["steps"] else None,
        timed_by="",
    )


def describe(cell: Cell) -> str:
    """Return a cell in words."""
    start = f" from {cell.parent}" if cell.parent and knows_parent(cell.method) else ""
    frames = "1 frame" if cell.n_annotated == 1 else f"{cell.n_annotated} frames"
    return f"{cell.movie}, {cell.method}{start}, {frames}, seed {cell.seed}"


def _place_of(cell: Cell) -> str:
    """Return what a method computes on or with, as far as it has a say in the scores or seconds."""
    if cell.method == CONVPAINT:
        return f"{offline_features()} features"
    if cell.method in ON_THE_CPU:
        return ""
    from napari_osvos.device import resolve_device

    return str(resolve_device(cell.device))  # what 'auto' is on this machine


def _facts_of(path: str, seen: Seen) -> str:
    key = ("facts", path)
    if key not in seen:
        seen[key] = repr(path_facts(path))
    return seen[key]


def _digest_of(file: Path, seen: Seen) -> str:
    key = ("digest", str(file))
    if key not in seen:
        seen[key] = file_digest(file)
    return seen[key]


def _weights_of(parent: str) -> Path | None:
    """Return the file of a parent, as it is named or bundled; None where there is none."""
    bundled = Path(str(resources.files("napari_osvos") / "parents" / f"{parent}.safetensors"))
    return next((file for file in (Path(parent), bundled) if file.is_file()), None)


def _check_parents(cells: Sequence[Cell]) -> None:
    """Raise ValueError if a cell names a parent that is not there; random weights need only the name of a network."""
    named = dict.fromkeys((cell.parent, knows_parent(cell.method)) for cell in cells if cell.parent)
    for parent, has_weights in named:
        if _weights_of(parent) is not None:
            continue
        if has_weights:
            from napari_osvos.parent import ParentNetwork

            names = ", ".join(ParentNetwork.bundled_names())
            raise ValueError(f"There is no parent {parent!r}; name a file, or one of {names}.")
        NetworkConfig.preset(parent)  # says which there are


def _check_timers(cells: Sequence[Cell], finished: Sequence[Row]) -> None:
    """Raise ValueError if a cell that is not measured yet is timed by one that is neither planned nor measured."""
    seen: Seen = {}
    planned, measured = set(cells), {key_without(key_of(row), "movie") for row in finished}  # a movie may be renamed

    def is_measured(cell: Cell) -> bool:
        return key_without(identify(cell, seen), "movie") in measured

    for cell in cells:
        lender = timer(cell)
        if lender is None or lender in planned:
            continue
        if not is_measured(cell) and not is_measured(lender):
            raise ValueError(lacks_seconds(cell))
