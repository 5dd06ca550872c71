"""Rounds on disk: what is listed is whole, whenever a program was killed and whatever happened to some of the files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_osvos.config import FineTuneConfig
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.movie_facts import MovieFacts
from napari_osvos.round_masks import (
    ONLY_NEWER,
    ONLY_OLDER,
    OTHER_OBJECT,
    MaskWriter,
    clear_others,
    difference,
    open_masks,
    read_masks,
)
from napari_osvos.round_record import MOST_POINTS, Round, thinned
from napari_osvos.round_saver import RoundSaver
from napari_osvos.rounds import RoundFolder
from napari_osvos.session import SessionFolder, find_recoverable
from napari_osvos.session_rounds import read_rounds, round_folders

AXES = LayerAxes("TYX", (5, 20, 30))
MOVIE = MovieFacts("cells", None, (5, 20, 30), "uint8")
FULL = Round(
    number=3,
    movie=MOVIE,
    when=1_700_000_000.0,
    axes="TYX",
    channels=(0, 2),
    tuning=FineTuneConfig(quality="fast").to_dict(),
    prediction={"flips": True},
    parent="lite",
    annotated=(0, 4),
    partial=(4,),
    corrected=(0,),
    accepted=(0,),
    background_label=9,
    expected={"j": 0.9, "j_low": 0.85, "j_high": 0.95},
    suggestions=({"frame": 2, "gain": 0.5, "confidence": 0.7, "reason": "borders uncertain"},),
    confidences={0: 0.95, 1: 0.7},
    losses=((1, 0.7), (2, 0.5)),
    learned_in=12.5,
    filled_in=2.0,
    cut_short=True,
    device="cpu",
    threads=2,
    task="look-alike",
    linked=True,
    filled=(0, 1),
    settings={"quality": "fast", "partial": [4]},
)


class Masks:
    """Masks that a test fills."""

    axes = AXES
    is_in_file = False

    def __init__(self, *filled: int) -> None:
        self.present_labels = np.zeros(AXES.labels_layer_shape, np.uint16)
        self.filled = frozenset(filled)
        self.changed = set(filled)
        for frame in filled:
            self.present_labels[frame, 2:9, 3:12] = frame + 1

    def take_changed(self) -> tuple[set[int], frozenset[int]]:
        changed, self.changed = self.changed, set()
        return changed, self.filled

    def mark_changed(self, frames: Any = None) -> None:
        self.changed |= set(self.filled if frames is None else frames)


def paint(label: int = 1) -> np.ndarray:
    labels = np.zeros((20, 30), np.uint16)
    labels[2:9, 3:12] = label
    return labels


def keep(folder: RoundFolder, number: int, **changes: Any) -> Round:
    """Keep a whole round; return what is said of it."""
    about = dataclasses.replace(FULL, number=number, **changes)
    folder.save_paint(number, {0: paint(number), 4: paint(number + 1)})
    folder.path.mkdir(exist_ok=True)
    folder.segmenter(number).write_bytes(b"weights")
    MaskWriter(folder.masks(number), AXES).write(Masks(*about.filled).present_labels, about.filled)
    folder.save(about)
    return about


@pytest.fixture
def folder(tmp_path: Path) -> RoundFolder:
    return RoundFolder(tmp_path / "session" / "rounds")


# -- what is said of a round ---------------------------------------------------------------------


def test_everything_that_is_said_of_a_round_is_read_again(folder: RoundFolder) -> None:
    about = keep(folder, 3)
    assert about == FULL
    assert folder.read(3) == FULL
    assert folder.read_all() == ([FULL], [])
    frames, complaints = folder.read_paint(3)
    np.testing.assert_array_equal(frames[4], paint(4))
    assert (sorted(frames), complaints) == ([0, 4], [])


def test_of_a_round_that_does_not_say_so_objects_were_not_followed() -> None:
    plain = FULL.to_dict()
    assert Round.from_dict(plain).linked
    del plain["linked"]
    assert not Round.from_dict(plain).linked


def test_what_it_started_from_is_found_in_a_folder_that_was_moved(folder: RoundFolder, tmp_path: Path) -> None:
    keep(folder, 1)
    keep(folder, 2, start=folder.segmenter(1))
    keep(folder, 3, start=tmp_path / "elsewhere" / "cells.osvos")
    os.rename(tmp_path / "session", tmp_path / "moved")
    moved = RoundFolder(tmp_path / "moved" / "rounds")
    assert moved.read(2).start == moved.segmenter(1)
    assert moved.read(3).start == tmp_path / "elsewhere" / "cells.osvos"


def test_long_loss_curves_are_thinned_with_both_ends() -> None:
    points = [(step, 1 / step) for step in range(1, 2001)]
    kept = thinned(points)
    assert len(kept) == MOST_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    assert thinned(points[:5]) == points[:5]
    assert len(dataclasses.replace(FULL, losses=tuple(points)).to_dict()["losses"]) == MOST_POINTS


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"losses": [[1]]}, "unpack"),
        ({"movie": {"name": "x"}}, "missing"),
        ({"filled": "abc"}, "invalid literal"),
        ({"tuning": 3}, "int"),
        ({"number": 4}, "says that it is round 4"),
        ({"format": 99}, "of format 1"),
        ({"movie": None}, ""),
    ],
)
def test_a_damaged_round_is_passed_over_with_a_sentence(folder: RoundFolder, change: Any, cause: str) -> None:
    keep(folder, 1)
    keep(folder, 3)
    path = folder.path / "round03.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    rounds, complaints = folder.read_all()
    assert [about.number for about in rounds] == [1]
    (sentence,) = complaints
    assert sentence.startswith(f"{path} cannot be read; it may be damaged: ")
    assert cause in sentence


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\ufffe"])
def test_a_file_that_is_no_round_is_passed_over_with_a_sentence(folder: RoundFolder, text: str) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "round02.json").write_text(text, encoding="utf-8")
    assert folder.read_all()[0] == []
    assert len(folder.read_all()[1]) == 1
    with pytest.raises(FileNotFoundError, match="nothing is known of round 7"):
        folder.read(7)


def test_a_round_that_has_neither_learned_nor_filled_anything_is_not_listed(folder: RoundFolder) -> None:
    keep(folder, 1, filled=())
    assert len(folder.read_all()[0]) == 1  # it has learned
    folder.segmenter(1).unlink()
    assert folder.read_all() == ([], [])
    keep(folder, 2)
    folder.segmenter(2).unlink()
    assert len(folder.read_all()[0]) == 1  # it has filled frames


def test_numbers_of_rounds(folder: RoundFolder) -> None:
    assert (folder.highest, folder.segmenters, folder.is_empty) == (0, (), True)
    keep(folder, 2)
    keep(folder, 104)
    folder.segmenter(7).write_bytes(b"of a round of which nothing else is known")
    (folder.path / "painting-1.npy").write_bytes(b"x")
    assert (folder.highest, folder.segmenters, folder.is_empty) == (104, (2, 7, 104), False)


def test_a_folder_that_cannot_be_written_is_a_sentence(folder: RoundFolder) -> None:
    folder.path.parent.write_text("in the way")
    with pytest.raises(OSError, match=r"^The session folder .*session cannot be written \(.*\); choose another one"):
        folder.save(FULL)


# -- deleting ------------------------------------------------------------------------------------


def test_all_of_a_round_is_deleted_and_nothing_else(folder: RoundFolder) -> None:
    others = [keep(folder, number) for number in (1, 10, 11, 100)]
    keep(folder, 2)
    folder.delete(2)
    assert folder.read_all() == (others, [])
    assert not [path.name for path in folder.path.iterdir() if path.name.startswith("round02")]
    folder.delete(10)
    folder.delete(10)
    assert [about.number for about in folder.read_all()[0]] == [1, 11, 100]
    assert folder.segmenters == (1, 11, 100)


@pytest.mark.parametrize("survivor", [".osvos", "-paint", "-masks.zarr"])
def test_a_deletion_that_is_cut_short_leaves_nothing_that_is_listed(
    folder: RoundFolder, survivor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(folder, 1)
    keep(folder, 2)

    def killed(path: Any, *args: Any, **kwargs: Any) -> None:
        if Path(path) == folder.file(2, survivor):
            raise KeyboardInterrupt

    unlink = Path.unlink
    monkeypatch.setattr(shutil, "rmtree", killed)
    monkeypatch.setattr(Path, "unlink", lambda path, **kwargs: killed(path) or unlink(path, **kwargs))
    with pytest.raises(KeyboardInterrupt):
        folder.delete(2)
    monkeypatch.undo()
    assert folder.file(2, survivor).exists()
    assert [about.number for about in folder.read_all()[0]] == [1]
    assert folder.segmenters == (1,)
    assert folder.highest == 2  # its number is not given again
    folder.finish_deletions()
    assert folder.highest == 1
    assert [about.number for about in folder.read_all()[0]] == [1]


# -- masks ---------------------------------------------------------------------------------------


def test_masks_are_compressed_frame_by_frame_and_read_again(folder: RoundFolder) -> None:
    masks = Masks(0, 2, 3)
    masks.present_labels[3] = 0  # a frame without objects
    path = folder.masks(1)
    MaskWriter(path, AXES).write(masks.present_labels, {0, 2, 3})
    array = open_masks(path, AXES)
    assert array.metadata.zarr_format == 3
    assert array.chunks == (1, 20, 30)
    labels, complaints = read_masks(array, path, AXES, (0, 2, 3))
    np.testing.assert_array_equal(labels, masks.present_labels)
    assert (labels.dtype, complaints) == (np.uint16, [])


@pytest.mark.parametrize(
    ("letters", "shape"), [("TZYX", (3, 4, 8, 9)), ("YXT", (8, 9, 3)), ("TCYX", (3, 2, 8, 9)), ("YX", (8, 9))]
)
def test_masks_over_movies_of_all_kinds(folder: RoundFolder, letters: str, shape: tuple[int, ...]) -> None:
    axes = LayerAxes(letters, shape)
    labels = np.arange(np.prod(axes.labels_layer_shape), dtype=np.uint16).reshape(axes.labels_layer_shape)
    frames = range(axes.n_frames)
    MaskWriter(folder.masks(1), axes).write(labels, frames)
    again, complaints = read_masks(open_masks(folder.masks(1), axes), folder.masks(1), axes, frames)
    np.testing.assert_array_equal(again, labels)
    assert complaints == []


def test_labels_above_65535_survive(folder: RoundFolder) -> None:
    labels = Masks(0, 1).present_labels.astype(np.uint32)
    labels[1, 4, 5] = 70_000
    MaskWriter(folder.masks(1), AXES).write(labels, (0, 1))
    again, _ = read_masks(open_masks(folder.masks(1), AXES), folder.masks(1), AXES, (0, 1))
    assert again.dtype == np.uint32
    np.testing.assert_array_equal(again, labels)


def test_only_frames_that_changed_are_written(folder: RoundFolder) -> None:
    masks, path = Masks(0, 1), folder.masks(1)
    writer = MaskWriter(path, AXES)
    writer.write(masks.present_labels, (0, 1))
    chunks = [path / "c" / str(t) / "0" / "0" for t in (0, 1)]
    for chunk in chunks:
        os.utime(chunk, (1, 1))
    masks.present_labels[1, 0, 0] = 5
    writer.write(masks.present_labels, (0, 1))
    assert [chunk.stat().st_mtime == 1 for chunk in chunks] == [True, False]


def test_damaged_and_missing_masks_are_told_and_the_rest_is_read(folder: RoundFolder) -> None:
    masks, path = Masks(0, 1, 2, 3), folder.masks(1)
    masks.present_labels[2] = 0
    MaskWriter(path, AXES).write(masks.present_labels, masks.filled)
    damaged = path / "c" / "1" / "0" / "0"
    damaged.write_bytes(damaged.read_bytes()[:7])
    (path / "c" / "2" / "0" / "0").unlink()
    labels, complaints = read_masks(open_masks(path, AXES), path, AXES, masks.filled)
    assert complaints == [
        f"Frame 1 of {path} is damaged; it is left empty.",
        f"Frame 2 of {path} is no longer there; it is left empty.",
    ]
    masks.present_labels[1] = 0
    np.testing.assert_array_equal(labels, masks.present_labels)


def test_masks_that_cannot_be_opened_are_a_sentence(folder: RoundFolder) -> None:
    path = folder.masks(1)
    with pytest.raises(FileNotFoundError, match="round01-masks.zarr is no longer there"):
        open_masks(path, AXES)
    MaskWriter(path, AXES).write(Masks(0).present_labels, [0])
    with pytest.raises(OSError, match=r"masks of this movie have shape \(7, 20, 30\)"):
        open_masks(path, LayerAxes("TYX", (7, 20, 30)))
    (path / "zarr.json").write_text("{")
    with pytest.raises(OSError, match="round01-masks.zarr cannot be read"):
        open_masks(path, AXES)


def test_previews_of_frames_that_were_not_filled_are_cleared(folder: RoundFolder) -> None:
    labels = Masks(0, 1, 2).present_labels
    clear_others(labels, AXES, (0, 2))
    np.testing.assert_array_equal(labels, Masks(0, 2).present_labels)


# -- the difference ------------------------------------------------------------------------------


def test_the_difference_by_hand(drawn: Callable[..., np.ndarray]) -> None:
    older, newer, counted = drawn("11.22 11.22 ..... 33...", "77.88 7...8 .5... 33...", "..... .1.1. .2... .....")
    np.testing.assert_array_equal(difference(older, newer), counted)
    assert difference(older, newer).dtype == np.uint8
    assert (ONLY_OLDER, ONLY_NEWER, OTHER_OBJECT) == (1, 2, 3)


def test_objects_that_are_cut_otherwise(drawn: Callable[..., np.ndarray]) -> None:
    older, newer, counted = drawn("11111 ..... 22233", "11144 ..... 55555", "...33 ..... ...33")
    np.testing.assert_array_equal(difference(older, newer), counted)
    split = difference(newer, older)
    np.testing.assert_array_equal(split, counted)


def test_other_numbers_of_the_same_objects_are_no_difference() -> None:
    older = np.kron(np.arange(64).reshape(8, 8), np.ones((5, 5), int))
    newer = np.where(older, 1000 - older, 0)
    assert not difference(older, newer).any()
    assert not difference(older[None], newer[None]).any()


def test_large_frames_are_compared_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    older, newer = rng.integers(0, 4, (2, 31, 37))
    whole = difference(older, newer)
    assert set(np.unique(whole)) == {0, 1, 2, 3}
    monkeypatch.setattr("napari_osvos.round_masks._STRIP", 100)
    np.testing.assert_array_equal(difference(older, newer), whole)


def test_frames_of_other_sizes_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        difference(np.zeros((3, 4), int), np.zeros((4, 3), int))


# -- saving in the background --------------------------------------------------------------------


def test_rounds_are_saved_in_the_background(folder: RoundFolder) -> None:
    told: list[str] = []
    saver = RoundSaver(told.append)
    masks = Masks(0, 1)
    saver.save(folder, dataclasses.replace(FULL, filled=()), None, {0: paint()})
    saver.save(folder, FULL, masks)
    saver.wait(120)
    masks.filled = frozenset({0, 1, 4})
    masks.mark_changed({4})
    saver.save(folder, FULL, masks)
    saver.close()
    saver.save(folder, FULL, masks)  # nothing is done any more
    saver.wait(120)
    assert folder.read(3).filled == (0, 1, 4)
    assert sorted(folder.read_paint(3)[0]) == [0]
    labels, complaints = read_masks(open_masks(folder.masks(3), AXES), folder.masks(3), AXES, (0, 1, 4))
    np.testing.assert_array_equal(labels, masks.present_labels)
    assert told == complaints == []


def test_a_disk_that_is_full_is_told_once_and_tried_again(folder: RoundFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    saver, masks = RoundSaver(told.append), Masks(0, 1)
    write = MaskWriter.write

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MaskWriter, "write", full)
    saver.save(folder, dataclasses.replace(FULL, filled=()))
    for _ in range(2):
        saver.save(folder, FULL, masks)
        saver.wait(120)
    assert folder.read(3).filled == ()  # nothing is promised that is not there
    assert len(told) == 1
    assert "cannot be written (No space left on device)" in told[0]
    monkeypatch.setattr(MaskWriter, "write", write)
    saver.save(folder, FULL, masks)
    saver.delete(folder, 99)
    saver.wait(120)
    assert folder.read(3).filled == (0, 1)
    assert read_masks(open_masks(folder.masks(3), AXES), folder.masks(3), AXES, (0, 1))[1] == []
    saver.close()


KILLED = """
import dataclasses, os, sys, threading
sys.path.insert(0, sys.argv[2])
from test_rounds import FULL, Masks, RoundFolder, RoundSaver, paint
from pathlib import Path
saver, masks = RoundSaver(print), Masks(*range(5))
folder = RoundFolder(Path(sys.argv[1]))
for number in (1, 2):
    saver.save(folder, dataclasses.replace(FULL, number=number, filled=()), None, {0: paint(), 4: paint()})
    masks.mark_changed()
    saver.save(folder, dataclasses.replace(FULL, number=number), masks)
saver.delete(folder, 1)
timer = threading.Timer(float(sys.argv[3]), os._exit, (9,))
print("begun", flush=True)
timer.start()
saver.wait(120)
timer.join()
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1])
def test_a_program_that_is_killed_while_it_saves_leaves_only_whole_rounds(folder: RoundFolder, seconds: float) -> None:
    command = [sys.executable, "-c", KILLED, str(folder.path), str(Path(__file__).parent), str(seconds)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 9
    for path in folder.path.glob("*.json"):
        number = int(path.name[5:7])
        about = folder.read(number)
        assert sorted(folder.read_paint(number)[0]) == [0, 4]
        if about.filled:
            labels, complaints = read_masks(
                open_masks(folder.masks(number), AXES), folder.masks(number), AXES, about.filled
            )
            assert complaints == []
            np.testing.assert_array_equal(
                labels[list(about.filled)], Masks(*range(5)).present_labels[list(about.filled)]
            )


# -- sessions ------------------------------------------------------------------------------------


def begin(root: Path) -> SessionFolder:
    return SessionFolder.for_movie("cells", None, MOVIE.shape, np.uint8, root)


def test_rounds_go_on_in_other_sessions(tmp_path: Path) -> None:
    first, second, third = begin(tmp_path), begin(tmp_path), begin(tmp_path)
    for session, number in ((first, 1), (second, 2), (third, 3)):
        session.save_frames({0: paint()})
        keep(session.rounds, number)
    second.go_on_from([first.path])
    third.go_on_from([second.path])
    first.go_on_from([third.path])  # as when one goes back to the first layer of paint
    again = SessionFolder.open(third.path)
    assert [about.number for _, about in read_rounds(again)[0]] == [1, 2, 3]
    assert [folder.path.parent for folder in round_folders(again)] == [third.path, second.path, first.path]
    (tmp_path / "moved").mkdir()
    for session in (first, third):
        os.rename(session.path, tmp_path / "moved" / session.path.name)
    shutil.rmtree(second.path)
    moved = SessionFolder.open(tmp_path / "moved" / third.path.name)
    assert [about.number for _, about in read_rounds(moved)[0]] == [3]
    moved.go_on_from([first.path])
    assert [about.number for _, about in read_rounds(moved)[0]] == [1, 3]


def test_nothing_is_made_to_remember_former_sessions(tmp_path: Path) -> None:
    first, second = begin(tmp_path), begin(tmp_path)
    first.save_frames({0: paint()})
    second.go_on_from([first.path])
    assert not second.path.exists()
    second.save_frames({1: paint()})
    assert SessionFolder.open(second.path).former_sessions()[0].path == first.path


def test_a_session_without_paint_is_found_by_its_rounds(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_settings({})
    keep(session.rounds, 1)
    session.close()
    (found,) = find_recoverable(MOVIE, tmp_path)
    assert found.path == session.path
    assert found.in_words.startswith("no paint of cells, saved on ")


def test_rounds_are_offered_again_if_the_session_that_took_them_leaves_nothing(tmp_path: Path) -> None:
    first = begin(tmp_path)
    first.save_frames({0: paint()})
    keep(first.rounds, 1)
    first.close()
    second = begin(tmp_path)
    second.go_on_from([first.path])
    second.save_settings({})
    first.settle()
    assert find_recoverable(MOVIE, tmp_path) == []
    second.close()
    assert not second.path.exists()
    assert [found.path for found in find_recoverable(MOVIE, tmp_path)] == [first.path]
