"""Rounds in the panel: listed, shown, flipped, compared, gone back to, deleted, and there again after a crash."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import open_panel, paint, quick, run_events, small_movie, wait_for_end, wait_for_objects, wait_until
from test_rounds import FULL, keep

from napari_osvos._qt import round_layers, rounds_desk
from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.rounds import RoundFolder
from napari_osvos.session import SessionFolder
from napari_osvos.worker.events import Cancelled, Event, Finished, FrameDone, Preview, TrainingDone, TrainingProgress

SHAPE = (5, 20, 30)
STROKE = np.zeros(SHAPE[1:], np.uint16)
STROKE[5:9, 5:9] = 1
IN_PART = STROKE.copy()
IN_PART[15:] = 9  # some background
EXPECTED = ExpectedAccuracy(0.91, 0.85, 0.94, source="8 blocks of frame 2")


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_OSVOS_SESSIONS", str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture
def opened(make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Any, Any]]:
    """Opens the movie and a panel, whose engine only takes requests: what it tells, the test says."""
    monkeypatch.setattr("napari_osvos.worker.client.Engine.start", lambda engine: None)
    monkeypatch.setattr("napari_osvos.worker.client.Engine.run", lambda engine, request: None)

    def open() -> tuple[Any, Any]:
        viewer = make_napari_viewer()
        viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
        panel = open_panel(viewer)
        panel.objects.follow.setChecked(False)
        return viewer, panel

    return open


def tell(panel: Any, *events: Event) -> None:
    for event in events:
        panel.bridge.take(event)


def begin(panel: Any) -> Any:
    """Press the button; return the run."""
    panel.watch.settle()
    panel.run.start.click()
    run = wait_until(lambda: panel.control.run, "the run")
    wait_until(lambda: run.layers.labels_layer is not None, "its layer")
    return run


def block(run: Any, frame: int) -> None:
    """Have no room on the disk for the masks of a frame: a file is where their folder would be."""
    folder = run.wish.session.rounds.masks(run.number) / "c" / str(frame)
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")


def learn(panel: Any, run: Any, steps: int = 3) -> None:
    """Say that the engine has learned something."""
    tell(panel, *(TrainingProgress(step, steps, 1 / step, 0.1, 0.0) for step in range(1, steps + 1)))
    run.wish.session.segmenter_path(run.number).write_bytes(b"weights")
    tell(panel, TrainingDone(steps, 2.0, False, run.wish.session.segmenter_path(run.number)))
    wait_until(lambda: run.segmenter is not None, "the segmenter")


def segment(panel: Any, label: int = 1, frames: tuple[int, ...] = (0, 1, 2, 3, 4), steps: int = 3) -> Any:
    """A run from its beginning to its end that finds one object, further to the right the later the round."""
    run = begin(panel)
    learn(panel, run, steps)
    found = np.zeros(SHAPE[1:], np.uint16)
    found[4:10, 4 + run.number : 10 + run.number] = label
    for t in frames:
        tell(panel, FrameDone(t, found, None, 0.9, t + 1, len(frames), 0.0))
    tell(panel, Finished(len(frames), 3.0, False, {"task": "look-alike"}, (), EXPECTED))
    wait_until(lambda: panel.control.run is None, "the end of the run")
    return run


def saved(panel: Any) -> RoundFolder:
    """The rounds of the present session once all is on the disk."""
    panel.round_keeper.save()
    panel.round_keeper.saver.wait(120)
    folder: RoundFolder = panel.keeper.session.rounds
    return folder


def set_partial(panel: Any, frame: int) -> None:
    panel.watch.settle()
    panel.watch.painted.set_partial(frame)
    panel.paint_desk.list_frames()
    panel.frames.background.setValue(9)


def rows(panel: Any) -> list[tuple[str, ...]]:
    tree = panel.rounds.list
    items = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
    return [tuple(item.text(column) for column in range(tree.columnCount())) for item in items]


def select(panel: Any, *numbers: int) -> None:
    panel.rounds.select([kept for kept in panel.round_keeper.rounds if kept.about.number in numbers])


def press(viewer: Any, key: str) -> None:
    {str(bound): function for bound, function in viewer.keymap.items()}[key](viewer)


def two_rounds(opened: Any) -> tuple[Any, Any]:
    viewer, panel = opened()
    paint(panel, STROKE, 2)
    segment(panel)
    paint(panel, STROKE, 4)
    panel.run.dial.quality = "fast"
    segment(panel, label=7)
    return viewer, panel


def shown_masks(viewer: Any) -> list[int]:
    """The rounds whose masks are seen."""
    found = [layer for layer in viewer.layers if layer.name.startswith("cells masks") and layer.visible]
    return sorted(int(layer.name.split()[-1]) for layer in found)


# -- the list ------------------------------------------------------------------------------------


def test_every_run_is_a_round_with_all_that_belongs_to_it(opened: Any) -> None:
    _, panel = opened()
    assert panel.rounds.hint.isVisibleTo(panel)
    assert not panel.rounds.list.isVisibleTo(panel)
    layer = paint(panel, IN_PART, 2)
    set_partial(panel, 2)
    segment(panel, steps=4)
    layer.data[2, :3, :3] = 5
    layer.refresh()
    paint(panel, STROKE, 4)
    panel.run.dial.quality = "fast"
    segment(panel, label=7, frames=(0, 2))
    assert not panel.rounds.hint.isVisibleTo(panel)
    assert [row[:4] for row in rows(panel)] == [
        ("2", "fast", "2, 4", "0.91 (0.85-0.94)"),
        ("1", "balanced", "2", "0.91 (0.85-0.94)"),
    ]
    assert all(row[4].endswith(" s") for row in rows(panel))
    details = panel.rounds.list.topLevelItem(0).toolTip(0)
    for words in ("Started from: round01", "frames 2, 4", "Painted in part: 2", "Expected: J 0.91", "crop size 256"):
        assert words in details
    assert [kept.about.number for kept in panel.rounds_desk.selected] == [2]
    assert panel.rounds.plot.points == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    select(panel, 1)
    assert len(panel.rounds.plot.points) == 4

    (one, two), complaints = saved(panel).read_all()
    assert complaints == []
    assert (one.annotated, one.partial, one.background_label, one.start, one.parent) == ((2,), (2,), 9, None, "lite")
    assert (two.filled, two.start, two.quality) == ((0, 2), saved(panel).segmenter(1), "fast")
    assert (two.expected, two.confidences) == (EXPECTED.to_dict(), {0: 0.9, 2: 0.9})
    assert (one.task, one.learned_in, len(one.losses)) == ("look-alike", 2.0, 4)
    np.testing.assert_array_equal(saved(panel).read_paint(1)[0][2], IN_PART)  # not what was painted since
    assert saved(panel).read_paint(2)[0][2][0, 0] == 5


def test_rounds_are_those_of_the_movie_in_the_panel(opened: Any) -> None:
    viewer, panel = two_rounds(opened)
    other = viewer.add_image(np.ones(SHAPE, np.uint8), name="other")
    panel.data.image.choose(other)
    assert rows(panel) == []
    panel.data.image.choose(viewer.layers["cells"])
    assert [row[0] for row in rows(panel)] == ["2", "1"]
    panel.data.new.click()  # another layer of paint, and so another session
    assert [row[0] for row in rows(panel)] == ["2", "1"]


def test_a_run_that_was_cancelled_while_it_learned_is_no_round(opened: Any) -> None:
    _, panel = opened()
    paint(panel, STROKE, 2)
    begin(panel)
    folder = saved(panel)
    assert folder.highest == 1
    tell(panel, Cancelled())
    wait_until(lambda: panel.control.run is None, "the end of the run")
    assert rows(panel) == []
    assert saved(panel).highest == 0


def test_what_was_learned_is_a_round_though_no_frame_was_filled(opened: Any) -> None:
    _, panel = opened()
    paint(panel, STROKE, 2)
    learn(panel, begin(panel))
    assert [row[0] for row in rows(panel)] == ["1"]
    assert not panel.rounds.delete.isEnabled()  # it is going on
    tell(panel, Cancelled())
    wait_until(lambda: panel.control.run is None, "the end of the run")
    assert [row[0] for row in rows(panel)] == ["1"]
    assert saved(panel).read(1).filled == ()
    assert panel.rounds.delete.isEnabled()
    assert panel.rounds.revert.isEnabled()
    assert not panel.rounds.show_masks.isEnabled()
    assert not panel.rounds.compare.isEnabled()


def test_closing_the_panel_keeps_the_run_that_is_going_on(opened: Any) -> None:
    viewer, panel = opened()
    paint(panel, STROKE, 2)
    learn(panel, begin(panel))
    tell(panel, FrameDone(3, STROKE, None, 0.8, 1, 5, 1.0))
    wait_until(lambda: panel.control.run.layers.filled, "the frame")
    session, saver = panel.keeper.session, panel.round_keeper.saver
    viewer.window.remove_dock_widget(panel)
    saver.wait(120)
    (about,), _ = session.rounds.read_all()
    assert (about.filled, len(about.losses)) == ((3,), 3)


def test_a_session_folder_that_is_full_is_said(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError("The session folder cannot be written.")

    _, panel = opened()
    paint(panel, STROKE, 2)
    monkeypatch.setattr(RoundFolder, "save", full)
    segment(panel)
    wait_until(lambda: "cannot be written" in panel.rounds.message.text, "the complaint")


def test_masks_corrected_by_hand_are_saved(opened: Any) -> None:
    viewer, panel = two_rounds(opened)
    folder = saved(panel)
    masks = viewer.layers["cells masks 1"]
    masks.visible = True
    viewer.dims.set_current_step(0, 3)
    masks.selected_label = 40
    masks.paint((3, 15, 15), 40)
    viewer.dims.set_current_step(0, 0)
    saved(panel)
    fresh = rounds_desk._read(panel.round_keeper.rounds[0], panel.data.movie)[0]
    np.testing.assert_array_equal(fresh, masks.data)
    assert (fresh == 40).any()
    masks.undo()
    panel.round_keeper.refresh(panel.round_keeper.rounds[1].run)  # as linking does
    viewer.layers["cells masks 2"].data[4] = 0
    saved(panel)
    for kept, layer in zip(panel.round_keeper.rounds, ("cells masks 1", "cells masks 2"), strict=True):
        np.testing.assert_array_equal(rounds_desk._read(kept, panel.data.movie)[0], viewer.layers[layer].data)
    assert folder.read(1).filled == (0, 1, 2, 3, 4)


def test_it_is_kept_with_a_round_that_its_objects_were_followed(opened: Any) -> None:
    _, panel = opened()
    paint(panel, STROKE, 2)
    run = segment(panel)
    assert not saved(panel).read(1).linked
    run.tracked = object()
    panel.tracks_desk.linked.emit(run)
    assert saved(panel).read(1).linked


def test_painted_background_stays_background_in_a_complete_frame(opened: Any) -> None:
    viewer, panel = opened()
    layer = paint(panel, IN_PART, 2)
    set_partial(panel, 2)
    viewer.dims.set_current_step(0, 2)
    panel.frames.list.itemWidget(panel.frames.list.topLevelItem(0), 2).click()
    assert panel.watch.painted.partial == frozenset()
    assert panel.frames.background.isVisibleTo(panel)
    press(viewer, "Shift+A")
    run = begin(panel)
    assert (run.wish.background_label, run.wish.accepted) == (9, {2})
    np.testing.assert_array_equal(run.layers.labels[2], STROKE)
    tell(panel, Cancelled())
    wait_until(lambda: panel.control.run is None, "the end of the run")
    panel.data.new.click()  # on another layer, 9 may be an object
    assert panel.frames.background_label is None
    assert not panel.frames.background.isVisibleTo(panel)
    panel.data.annotations.choose(layer)
    assert panel.frames.background_label == 9
    assert panel.frames.background.isVisibleTo(panel)


@pytest.mark.parametrize("tool", ["brush", "bucket"])
def test_masks_corrected_by_hand_are_saved_though_the_slider_stays(opened: Any, tool: str) -> None:
    viewer, panel = two_rounds(opened)
    viewer.dims.set_current_step(0, 3)
    folder = saved(panel)
    masks = viewer.layers["cells masks 1"]
    with masks.block_history():  # as the mouse does: no slice is drawn anew
        if tool == "brush":
            masks.paint((3, 15, 15), 40, refresh=False)
        else:
            masks.fill((3, 15, 15), 40, refresh=False)
    saved(panel)
    fresh = rounds_desk._read(panel.round_keeper.rounds[0], panel.data.movie)[0]
    np.testing.assert_array_equal(fresh, masks.data)
    assert (fresh[3] == 40).any()
    assert not panel.round_keeper.rounds[0].masks.look()  # no frame was marked that has nothing new
    assert folder.read(1).filled == (0, 1, 2, 3, 4)


# -- buttons and the key -------------------------------------------------------------------------


def test_show_brings_the_masks_of_one_round_into_view(opened: Any) -> None:
    viewer, panel = two_rounds(opened)
    select(panel, 1)
    panel.rounds.show_masks.click()
    assert viewer.layers["cells masks 1"].visible
    assert not viewer.layers["cells masks 2"].visible
    viewer.layers.remove("cells masks 2")
    select(panel, 2)
    panel.rounds.show_masks.click()
    assert viewer.layers["cells masks 2"].visible
    assert (viewer.layers["cells masks 2"].data == 7).any()
    assert not viewer.layers["cells masks 1"].visible
    assert panel.rounds.message.text == "Round 2 is shown."


def test_masks_make_way_for_a_run_and_come_back_if_nothing_comes_of_it(opened: Any) -> None:
    viewer, panel = two_rounds(opened)
    assert shown_masks(viewer) == [2]
    viewer.dims.set_current_step(0, 3)
    press(viewer, "A")
    assert shown_masks(viewer) == []
    begun: list[Any] = []
    panel.control.begun.connect(begun.append)
    begin(panel)
    wait_until(lambda: begun, "the beginning of the run")
    assert shown_masks(viewer) == [3]
    viewer.dims.set_current_step(0, 0)  # no longer the frame that is corrected
    assert shown_masks(viewer) == [3]
    tell(panel, Cancelled())
    wait_until(lambda: panel.control.run is None, "the end of the run")
    assert shown_masks(viewer) == [2]
    begin(panel)
    wait_until(lambda: shown_masks(viewer) == [4], "the masks of the run only")
    select(panel, 1)
    panel.rounds.show_masks.click()
    tell(panel, Cancelled())
    wait_until(lambda: panel.control.run is None, "the end of the run")
    assert shown_masks(viewer) == [1]


def test_a_key_flips_between_two_rounds(opened: Any) -> None:
    viewer, panel = opened()
    press(viewer, "Shift+R")
    assert "no two rounds" in panel.rounds.message.text
    paint(panel, STROKE, 2)
    for label in (1, 2, 3):
        segment(panel, label)

    def shown() -> list[int]:
        return [n for n in (1, 2, 3) if viewer.layers[f"cells masks {n}"].visible]

    press(viewer, "Shift+R")
    assert shown() == [2]
    assert "Round 2 is shown, round 3 is hidden" in panel.rounds.message.text
    assert "Round 2 is shown" in str(viewer.status)
    press(viewer, "Shift+R")
    assert shown() == [3]
    select(panel, 1, 3)
    viewer.layers.remove("cells masks 1")
    press(viewer, "Shift+R")
    assert shown() == [1]


def test_compare_shows_where_two_rounds_differ_in_the_frame_in_view(opened: Any) -> None:
    viewer, panel = two_rounds(opened)
    viewer.dims.set_current_step(0, 3)
    panel.rounds.compare.click()
    layer = viewer.layers["difference of rounds 1 and 2 of cells"]

    def seen() -> np.ndarray:
        return np.asarray(layer._slice.image.raw)

    wait_until(lambda: seen().any(), "the difference")
    counted = np.zeros(SHAPE[1:], np.uint8)
    counted[4:10, 5], counted[4:10, 11] = 1, 2
    np.testing.assert_array_equal(seen(), counted)
    assert "in&nbsp;1&nbsp;only" in panel.rounds.legend.text()
    viewer.layers["cells masks 2"].data[1] = 0
    viewer.dims.set_current_step(0, 1)
    wait_until(lambda: (seen() == 1).sum() == 36, "the difference of the other frame")
    masks = viewer.layers["cells masks 2"]
    masks.data[1, 4:10, 5:11] = 7
    masks.refresh()
    wait_until(lambda: not seen().any(), "the correction")
    panel.rounds.compare.click()
    assert layer not in viewer.layers
    assert not panel.rounds.legend.isVisibleTo(panel)
    panel.rounds.compare.click()
    assert panel.rounds.compare.isChecked()
    viewer.layers.remove("difference of rounds 1 and 2 of cells")
    assert not panel.rounds.compare.isChecked()
    panel.rounds.compare.click()
    viewer.layers.remove("cells masks 1")
    assert not panel.rounds.compare.isChecked()
    assert [one.name for one in viewer.layers if "difference" in one.name] == []


def test_compare_over_stacks_and_axes_of_channels(make_napari_viewer: Any, opened: Any) -> None:
    viewer, panel = opened()
    for letters, shape in (("TZYX", (3, 4, 20, 30)), ("TYXC", (3, 20, 30, 2)), ("TCYX", (3, 2, 20, 30))):
        movie = viewer.add_image(np.zeros(shape, np.uint8), name=letters)
        panel.data.image.choose(movie)
        panel.data.restore({"axes": letters})
        assert panel.data.movie.axes.letters == letters
        panel.data.new.click()
        frame = np.zeros(panel.data.movie.axes.labels_shape[1:], np.uint16)
        pair = []
        for number in (1, 2):
            frame[..., 2:9, 2 : 9 + number] = 1
            made = round_layers.RoundLayers(viewer, panel.data.movie, number, False, Path())
            made.write(1, frame)
            pair.append(made)
        panel.rounds_desk.difference.open(*pair)
        panel.data.movie.go_to(viewer, 1)
        difference = panel.rounds_desk.difference
        index = panel.data.movie.axes.frame_index(1)
        wait_until(lambda shown=difference.layer.data, at=index: shown[at].any(), f"the difference of {letters}")
        assert (difference.layer.data[index] == 2).sum() == 7 * panel.data.movie.axes.labels_shape[-3] ** (
            letters[1] == "Z"
        )
        difference.close()


def test_revert_goes_back_to_paint_settings_and_start(opened: Any) -> None:
    viewer, panel = opened()
    layer = paint(panel, IN_PART, 2)
    set_partial(panel, 2)
    panel.watch.painted.set_corrected(2)
    panel.settings.tuning.fill({"steps": 50})
    segment(panel)
    layer.data_setitem((np.array([2, 4]), np.array([15, 15]), np.array([15, 16])), [3, 3])
    panel.watch.settle()
    panel.watch.painted.set_partial(2, False)
    panel.run.dial.quality = "best"
    panel.settings.tuning.fill({"steps": 60})
    segment(panel)
    now = layer.data.copy()
    select(panel, 1)
    panel.rounds.revert.click()
    wait_until(lambda: panel.data.painted_layer is not layer, "the paint")
    wait_until(lambda: panel.rounds.message.text.startswith("Paint, settings"), "the words")
    reverted = panel.data.painted_layer
    assert reverted.name == "cells annotations of round 1"
    np.testing.assert_array_equal(reverted.data[2], IN_PART)
    assert not reverted.data[4].any()
    assert layer in viewer.layers
    assert not layer.visible
    np.testing.assert_array_equal(layer.data, now)
    assert panel.run.dial.quality == "balanced"
    assert panel.settings.tuning.values() == {"steps": 50}
    assert panel.watch.painted.partial == panel.watch.painted.corrected == {2}
    assert panel.run.segmenter is None  # round 1 started from the general network
    assert viewer.layers["cells masks 1"].visible
    assert not viewer.layers["cells masks 2"].visible
    assert [row[0] for row in rows(panel)] == ["2", "1"]

    select(panel, 2)
    panel.rounds.revert.click()
    wait_until(lambda: panel.run.dial.quality == "best", "the settings")
    assert panel.run.segmenter is not None
    assert panel.run.segmenter.name == "round01.osvos"
    assert panel.data.painted_layer.data[4].any()
    segment(panel)  # in another session, which knows where the others are
    assert [row[0] for row in rows(panel)] == ["3", "2", "1"]
    panel.watch.settle()
    panel.keeper.save()
    assert panel.keeper._savers[panel.keeper._present].wait(120)
    assert len(SessionFolder.open(panel.keeper.session.path).former_sessions()) >= 1


def test_revert_says_what_is_gone(opened: Any) -> None:
    _, panel = two_rounds(opened)
    folder = saved(panel)
    folder.segmenter(1).unlink()
    select(panel, 2)
    panel.rounds.revert.click()
    wait_until(lambda: "round01.osvos, is no longer there" in panel.rounds.message.text, "the complaint")
    for path in folder.file(1, "-paint").rglob("*.tif"):
        path.write_bytes(b"damaged")
    select(panel, 1)
    panel.rounds.revert.click()
    wait_until(lambda: "frame00002.tif" in panel.rounds.message.text, "the complaint")


def test_delete_asks_first_and_then_leaves_nothing(opened: Any) -> None:
    viewer, panel = two_rounds(opened)
    folder = saved(panel)
    select(panel, 2)
    panel.rounds.delete.click()
    assert panel.rounds.message.text.startswith("Delete round 2 for good")
    panel.rounds.delete_refused.emit()
    assert panel.rounds.message.text == ""
    assert len(rows(panel)) == 2
    panel.rounds.delete.click()
    panel.rounds.message.press()
    assert [row[0] for row in rows(panel)] == ["1"]
    assert "cells masks 2" not in viewer.layers
    assert panel.run.segmenter is None
    origins = [panel.run.origin.itemData(i) for i in range(panel.run.origin.count())]
    assert folder.segmenter(2) not in origins
    assert "round 1 of" in panel.keep.save_labels.toolTip()  # what is left is what is saved
    assert saved(panel).highest == 1
    segment(panel)
    assert [row[0] for row in rows(panel)] == ["3", "1"]  # a number is not given twice


def test_a_round_that_a_run_uses_is_not_deleted(opened: Any) -> None:
    _, panel = two_rounds(opened)
    run = begin(panel)
    assert run.wish.segmenter is not None
    select(panel, 2)
    panel.rounds.delete.click()
    panel.rounds.message.press()
    assert "A run is using round 2" in panel.rounds.message.text
    assert saved(panel).segmenters == (1, 2)
    assert not panel.rounds.revert.isEnabled()
    tell(panel, Cancelled())
    wait_until(lambda: panel.control.run is None, "the end of the run")


# -- large movies --------------------------------------------------------------------------------


def test_masks_that_are_too_large_for_memory_are_not_copied(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (round_layers, rounds_desk):
        monkeypatch.setattr(module, "LARGEST_IN_MEMORY", 100)
    viewer, panel = two_rounds(opened)
    folder = saved(panel)
    masks = viewer.layers["cells masks 1"].data
    assert Path(masks.store.root) == folder.masks(1)
    assert folder.read(1).filled == (0, 1, 2, 3, 4)
    kept = panel.round_keeper.rounds[0]
    masks[3] = 5  # the preview of a frame that a killed run did not come to
    kept.about = dataclasses.replace(kept.about, filled=(0, 1, 2, 4))
    array, _ = rounds_desk._read(kept, panel.data.movie)
    assert not isinstance(array, np.ndarray)
    assert not array[3].any()
    assert array[4].any()


def test_a_frame_that_cannot_be_stored_ends_filling_and_is_said(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_layers, "LARGEST_IN_MEMORY", 100)
    movie = small_movie()
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel)
    paint(panel, movie.labels[0], 0)
    viewer.dims.set_current_step(0, 0)  # which is filled first
    run = begin(panel)
    block(run, 2)
    said = wait_for_end(panel)
    assert 2 not in run.layers.filled
    assert run.layers.filled
    assert said.startswith((f"The {len(run.layers.filled)} frame", f"{len(run.layers.filled)} of 6 frames"))
    assert f"Masks could not be stored in {panel.keeper.session.rounds.path} (" in said
    assert said.count("could not be stored") == 1
    assert not np.asarray(viewer.layers["cells masks 1"].data[2]).any()
    assert saved(panel).read(1).filled == tuple(sorted(run.layers.filled))


def test_previews_and_frames_that_cannot_be_stored_are_said_once(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_layers, "LARGEST_IN_MEMORY", 100)
    _, panel = opened()
    stopped: list[int] = []
    monkeypatch.setattr(panel.bridge.engine, "stop_and_keep", lambda: stopped.append(1))
    paint(panel, STROKE, 2)
    run = begin(panel)
    for frame in (1, 2, 3):
        block(run, frame)
    tell(panel, Preview(1, None, STROKE, None, 1), Preview(2, None, STROKE, None, 2))
    wait_until(lambda: "could not be stored" in panel.progress.message.text, "the sentence")
    assert stopped == []  # there may be room by the time that it has learned
    learn(panel, run)
    tell(panel, FrameDone(0, STROKE, None, 0.9, 1, 5, 0.0), FrameDone(3, STROKE, None, 0.9, 2, 5, 0.0))
    assert stopped == [1]
    tell(panel, Finished(2, 3.0, True))
    said = wait_for_end(panel)
    assert said.startswith("The 1 frame done is in 'cells masks 1'")
    assert said.count("could not be stored") == 1
    assert run.confidences == {0: 0.9}


# -- earlier sessions ----------------------------------------------------------------------------

KILLED = """
import dataclasses, os, signal, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_rounds import FULL, MOVIE, keep, paint
from napari_osvos.session import SessionFolder
session = SessionFolder.for_movie("cells", None, MOVIE.shape, "uint8")
session.save_frames({0: paint(8), 3: paint(8)})
session.save_settings({"quality": "best", "axes": "TYX"})
settings = {"quality": "fast", "axes": "TYX", "background_label": 9}
keep(session.rounds, 1, start=None, channels=None, filled=(0, 1, 2, 3, 4), settings=settings)
keep(session.rounds, 2, start=session.rounds.segmenter(1), channels=None, settings=settings)
session.rounds.segmenter(4).write_bytes(b"of a run that was killed before anything was said of it")
session.rounds.save(dataclasses.replace(FULL, number=3, filled=()))
os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


CLOSED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from napari_osvos.worker.client import Engine
from napari_osvos.round_masks import MaskWriter
Engine.start, Engine.run = lambda engine: None, lambda engine, request: None
write = MaskWriter.write
MaskWriter.write = lambda *given: (time.sleep(0.5), write(*given))
from test_panel_rounds import SHAPE, STROKE, np, open_panel, paint, saved, segment
viewer = napari.Viewer(show=False)
viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
panel = open_panel(viewer)
panel.objects.follow.setChecked(False)
layer = paint(panel, STROKE, 2)
segment(panel)
saved(panel)
for keeper in (panel.keeper, panel.round_keeper):
    keeper._timer.stop()  # the last strokes come right after it
tells = [saver._on_error for saver in (panel.round_keeper.saver, *panel.keeper._savers.values())]
def close():
    for one, label in ((layer, 3), (viewer.layers["cells masks 1"], 40)):
        with one.block_history():
            one.paint((2, 15, 15), label, refresh=False)
    panel.run.dial.quality = "best"
    viewer.window._qt_window.close()
QTimer.singleShot(0, close)
QTimer.singleShot(200, QApplication.instance().quit)
napari.run(force=True)
for tell in tells:
    tell("The disk is full.")  # to nobody
"""


def test_the_last_strokes_are_saved_when_the_window_is_closed(opened: Any, sessions: Path) -> None:
    command = [sys.executable, "-c", CLOSED, str(Path(__file__).parent)]
    subprocess.run(command, check=True, timeout=300)
    (session,) = (SessionFolder.open(path) for path in sessions.iterdir())
    assert not session.is_in_use
    assert set(np.unique(session.read_frame(2))) == {0, 1, 3}
    assert session.settings()["quality"] == "best"
    viewer, panel = opened()
    wait_until(lambda: "with 1 round" in panel.offer.text, "the offer")
    panel.offer.press()
    wait_until(lambda: len(rows(panel)) == 1, "the round")
    panel.rounds.show_masks.click()
    wait_until(lambda: "cells masks 1" in viewer.layers, "the masks")
    assert (viewer.layers["cells masks 1"].data[2] == 40).any()


def test_rounds_are_there_again_after_napari_was_killed(opened: Any, sessions: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode != 0
    viewer, panel = opened()
    wait_until(lambda: "with 2 rounds" in panel.offer.text, "the offer")
    panel.offer.press()
    wait_until(lambda: len(rows(panel)) == 2, "the rounds")
    assert rows(panel)[0][:4] == ("2", "fast", "0, 4", "0.90 (0.85-0.95)")
    assert panel.rounds.plot.points == [(1, 0.7), (2, 0.5)]
    origins = [panel.run.origin.itemText(i) for i in range(panel.run.origin.count())]
    assert [words for words in origins if "round" in words] == [f"cells, earlier round {n}" for n in (1, 2, 4)]
    painted = panel.data.painted_layer
    assert painted.data[3].max() == 8

    press(viewer, "Shift+R")
    wait_until(lambda: "cells masks 2" in viewer.layers and "is hidden" in panel.rounds.message.text, "both masks")
    assert [viewer.layers[f"cells masks {n}"].visible for n in (1, 2)] == [True, False]
    assert viewer.layers["cells masks 2"].data[1].max() == 2
    assert not viewer.layers["cells masks 2"].data[2:].any()

    panel.rounds.revert.click()
    wait_until(lambda: panel.data.painted_layer is not painted, "the paint")
    wait_until(lambda: panel.run.segmenter is not None, "what it started from")
    assert panel.run.segmenter.name == "round01.osvos"
    assert panel.data.painted_layer.data[4].max() == 3
    assert panel.run.dial.quality == "fast"
    assert panel.watch.painted.partial == {4}

    segment(panel)  # refines
    assert [row[0] for row in rows(panel)] == ["5", "2", "1"]
    select(panel, 1)
    panel.rounds.delete.click()
    panel.rounds.message.press()
    assert [row[0] for row in rows(panel)] == ["5", "2"]
    viewer.window.remove_dock_widget(panel)
    panel.round_keeper.saver.wait(120)
    kept = {path.name for path in sessions.glob("*/rounds/*.json")}
    assert kept == {"round02.json", "round03.json", "round05.json"}


def test_rounds_of_a_session_that_was_closed_come_back_with_the_next_one(opened: Any) -> None:
    first, panel = two_rounds(opened)
    session = panel.keeper.session
    first.window.remove_dock_widget(panel)
    wait_until(lambda: session.path.exists() and not session.is_in_use, "the end of the session")
    panel.round_keeper.saver.wait(120)
    viewer, second = opened()
    wait_until(lambda: "with 2 rounds" in second.offer.text, "the offer")
    second.offer.press()
    wait_until(lambda: len(rows(second)) == 2, "the rounds")
    segment(second)
    assert [row[0] for row in rows(second)] == ["3", "2", "1"]
    # and once more, from the session that went on from the first
    again = second.keeper.session
    second.watch.settle()
    viewer.window.remove_dock_widget(second)
    wait_until(lambda: not again.is_in_use, "the end of the session")
    second.round_keeper.saver.wait(120)
    _, third = opened()
    wait_until(lambda: "with 3 rounds" in third.offer.text, "the offer")
    third.offer.press()
    wait_until(lambda: len(rows(third)) == 3, "the rounds")
    select(third, 3)
    third.rounds.show_masks.click()
    wait_until(lambda: "Round 3 is shown" in third.rounds.message.text, "the masks")


def test_rounds_of_an_earlier_session_are_adopted_as_what_they_are(opened: Any) -> None:
    session = SessionFolder.for_movie("cells", None, SHAPE, np.uint8)
    session.save_frames({2: 7 * STROKE})
    keep(session.rounds, 1, channels=None)
    keep(session.rounds, 2, channels=None, linked=False)
    keep(session.rounds, 3, channels=None, linked=False, task="distinct")
    keep(session.rounds, 4, channels=None, linked=False, task="", tuning={"task": "distinct"})  # it was cancelled
    session.close()
    viewer, panel = opened()
    wait_until(lambda: "with 4 rounds" in panel.offer.text, "the offer")
    panel.offer.press()
    wait_until(lambda: len(rows(panel)) == 4, "the rounds")
    layer = panel.data.painted_layer
    adopted = {}
    for number in (1, 2, 3, 4):
        select(panel, number)
        panel.rounds.show_masks.click()
        wait_until(lambda n=number: f"Round {n} is shown" in panel.rounds.message.text, "the masks")
        viewer.dims.set_current_step(0, 1)
        press(viewer, "A")
        adopted[number] = int(layer.data[1].max())
        layer.undo()
        panel.watch.settle()
    assert adopted == {1: 2, 2: 8, 3: 2, 4: 2}  # found as 2; 7 is painted
    viewer.layers["cells"].name = "renamed"
    press(viewer, "A")
    assert layer.data[1].max() == 2
    for frame, words in ((3, "Frame 3 has no masks yet"), (0, "No object was found on frame 0.")):
        viewer.layers["cells masks 4"].data[0] = 0
        viewer.dims.set_current_step(0, frame)
        press(viewer, "A")
        assert panel.next.message.text.startswith(words)


def test_rounds_are_offered_even_if_the_paint_is_there_already(opened: Any) -> None:
    session = SessionFolder.for_movie("cells", None, SHAPE, np.uint8)
    session.save_frames({2: STROKE})
    keep(session.rounds, 1, channels=None)
    session.close()
    viewer, panel = opened()
    paint(panel, STROKE, 2)
    panel.watch.settle()
    wait_until(lambda: panel.offer.text.startswith("There is 1 round of an earlier session"), "the offer")
    n_layers = len(viewer.layers)
    panel.offer.press()
    wait_until(lambda: len(rows(panel)) == 1, "the round")
    assert len(viewer.layers) == n_layers
    assert session._state()["settled"]


def test_damaged_rounds_are_told_and_the_others_listed(opened: Any) -> None:
    session = SessionFolder.for_movie("cells", None, SHAPE, np.uint8)
    session.save_frames({2: STROKE})
    for number in (1, 2, 3):
        keep(session.rounds, number, channels=None)
    session.rounds.file(1, ".json").write_text("{")
    (session.rounds.masks(2) / "c" / "1" / "0" / "0").write_bytes(b"damaged")
    about = session.rounds.file(3, ".json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "expected": {"of": "another version"}}))
    session.close()
    _, panel = opened()
    wait_until(lambda: "with 2 rounds" in panel.offer.text, "the offer")
    panel.offer.press()
    wait_until(lambda: len(rows(panel)) == 2, "the rounds")
    assert "round01.json cannot be read" in panel.rounds.message.text
    assert [row[3] for row in rows(panel)] == ["", "0.90 (0.85-0.95)"]
    select(panel, 2)
    panel.rounds.show_masks.click()
    wait_until(lambda: "is damaged; it is left empty" in panel.rounds.message.text, "the complaint")


def test_rounds_of_a_movie_that_is_not_open_say_so(opened: Any) -> None:
    session = SessionFolder.for_movie("cells", None, SHAPE, np.uint8)
    session.save_frames({2: STROKE})
    keep(session.rounds, 1, channels=None, movie=dataclasses.replace(FULL.movie, name="other", shape=(5, 9, 9)))
    session.close()
    _, panel = opened()
    wait_until(lambda: panel.offer.text, "the offer")
    panel.offer.press()
    wait_until(lambda: len(rows(panel)) == 1, "the round")
    panel.rounds.show_masks.click()
    assert panel.rounds.message.text == "Round 1 is of 'other'; open it to see its masks."


# -- the real engine -----------------------------------------------------------------------------


def test_a_real_run_is_a_round_that_can_be_refined_from_another_viewer(make_napari_viewer: Any) -> None:
    movie = small_movie(n_frames=2)
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel)
    paint(panel, movie.labels[0], 0)
    panel.run.start.click()
    wait_for_end(panel)
    wait_for_objects(panel)
    folder = saved(panel)
    (about,), _ = folder.read_all()
    assert about.filled == (0, 1)
    assert len(about.losses) == len(panel.progress.plot.points) == len(panel.rounds.plot.points)
    assert panel.progress.plot.isHidden()  # one curve is enough
    assert not panel.rounds.plot.isHidden()
    masks = viewer.layers["cells masks 1"].data.copy()
    viewer.window.remove_dock_widget(panel)
    panel.round_keeper.saver.wait(120)
    wait_until(lambda: not SessionFolder.open(folder.path.parent).is_in_use, "the end of the session")

    other = make_napari_viewer()
    other.add_image(movie.frames, name="cells")
    again = open_panel(other)
    wait_until(lambda: "with 1 round" in again.offer.text, "the offer")
    again.offer.press()
    wait_until(lambda: len(rows(again)) == 1, "the round")
    again.rounds.show_masks.click()
    wait_until(lambda: "cells masks 1" in other.layers, "the masks")
    run_events(0.02)
    np.testing.assert_array_equal(other.layers["cells masks 1"].data, masks)
    quick(again)
    again.run.choose_origin(folder.segmenter(1))
    assert again.run.start.text() == "Refine"
    again.run.start.click()
    wait_for_end(again)
    assert [row[0] for row in rows(again)] == ["2", "1"]
    assert again.round_keeper.rounds[1].about.start == folder.segmenter(1)
