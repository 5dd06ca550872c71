"""Rounds in the panel: listed, shown, flipped, compared, gone back to, deleted, and there again after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import paint, wait_until
from round_driver import (
    EXPECTED,
    IN_PART,
    SHAPE,
    STROKE,
    begin,
    learn,
    press,
    rows,
    saved,
    segment,
    select,
    set_partial,
    shown_masks,
    tell,
    two_rounds,
)

from napari_osvos._qt import round_layers, rounds_desk
from napari_osvos.rounds import RoundFolder
from napari_osvos.session import SessionFolder
from napari_osvos.worker.events import Cancelled, FrameDone

pytestmark = pytest.mark.usefixtures("sessions")


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
