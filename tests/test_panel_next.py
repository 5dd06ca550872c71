"""Which frame to annotate next, adopting and accepting frames, and the strip under the time slider."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import open_panel, paint, quick, run_events, small_movie, wait_for_end, wait_until
from qtpy.QtCore import QPointF, Qt
from qtpy.QtWidgets import QScrollBar, QStyle, QStyleOptionSlider

from napari_osvos._qt.confidence_strip import ConfidenceStrip, StripContent
from napari_osvos._qt.files import command_of
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.run import Run
from napari_osvos._qt.wish import Wish
from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.strip import StripScale
from napari_osvos.suggest import Suggestion
from napari_osvos.worker.events import TrainingDone

UNLIKE, UNCERTAIN = "objects unlike those painted", "borders uncertain"
FRAMES = 6


pytestmark = pytest.mark.usefixtures("sessions")


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


def toy_labels(n_frames: int = FRAMES, depth: int = 0) -> np.ndarray:
    """Three squares a frame, one of them moving: (T, Y, X) or (T, Z, Y, X)."""
    shape = (n_frames, depth, 40, 50) if depth else (n_frames, 40, 50)
    labels = np.zeros(shape, np.uint16)
    for t in range(n_frames):
        labels[t, ..., 2:10, 2 + t % 20 : 10 + t % 20] = 1
        labels[t, ..., 20:30, 5:15] = 2
        labels[t, ..., 20:30, 30:40] = 3
    return labels


def toy_panel(viewer: Any, labels: np.ndarray) -> Any:
    viewer.add_image(labels * np.uint16(50), name="cells", axis_labels="tzyx" if labels.ndim == 4 else "tyx")
    panel = open_panel(viewer)
    panel.objects.follow.setChecked(False)
    return panel


def finish_round(panel: Any, labels: np.ndarray, order: tuple[int, ...] = (4, 2), task: str = "look-alike") -> Run:
    """Have the panel take a round, as at the end of a run, without learning."""
    movie, number = panel.data.movie, 1
    while any(layer.name == f"cells masks {number}" for layer in panel.next_part.desk._viewer.layers):
        number += 1
    wish = Wish(movie=movie, session=panel.keeper.session, frames={0: labels[0]})
    layers = RoundLayers(panel.next_part.desk._viewer, movie, number, False, wish.session.segmenter_path(number).parent)
    run = Run(wish, number, layers, None, "over", task=task)
    panel.control.run = run
    panel.control.state_changed.emit("filling")
    for t, frame in enumerate(labels):
        layers.write(t, frame)
    layers.finish()
    run.confidences = {t: 0.95 - 0.02 * t for t in range(len(labels))}
    run.suggestions = tuple(Suggestion(t, 0.5, 0.6, UNLIKE if t == order[0] else UNCERTAIN) for t in order)
    run.expected_accuracy = ExpectedAccuracy(0.93, 0.9, 0.95, 0.96, 0.93, 0.98, "8 blocks of frame 0")
    panel.control.run = None
    panel.control.state_changed.emit("idle")
    panel.control.ended.emit(run)
    return run


def settle(panel: Any) -> None:
    """Wait until what was painted is known."""
    wait_until(lambda: panel.watch.painted is not None and not panel.watch.painted.n_waiting, "looking at the paint")
    run_events(0.05)


def press(panel: Any, key: str) -> None:
    """Press a key as the canvas hands it to napari."""
    panel.next_part.desk._viewer.window._qt_viewer._key_map_handler.press_key(key)


def in_view(panel: Any) -> int:
    return int(panel.data.movie.in_view(panel.next_part.desk._viewer)[0])


def ticks(panel: Any, column: int) -> list[bool]:
    tree = panel.frames.list
    return [tree.itemWidget(tree.topLevelItem(i), column).isChecked() for i in range(tree.topLevelItemCount())]


# -- annotate next ---------------------------------------------------------------------------------


def test_n_goes_to_the_best_frame_then_to_the_next_best_and_passes_over_what_was_annotated_since(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    assert "After a run" in panel.next.suggestion.text()
    assert not panel.next.go.isEnabled()
    press(panel, "N")  # nothing happens
    paint(panel, labels[0], 0)
    settle(panel)
    viewer.dims.set_current_step(0, 0)
    finish_round(panel, labels, (4, 2, 5))
    assert panel.next.accuracy.text() == (
        "On frames you did not paint, expect J 0.93 (0.90 to 0.95), F1 0.96 (0.93 to 0.98), from 8 blocks of frame 0."
    )
    assert panel.next.suggestion.text() == "Frame 4 would help most: objects unlike those painted."
    press(panel, "N")
    assert in_view(panel) == 4
    assert panel.next.suggestion.text().startswith("This frame, 4, would help most")
    assert panel.next_part.strip.content.suggested == 4
    panel.next.go.click()
    assert in_view(panel) == 2
    press(panel, "N")
    assert in_view(panel) == 5
    press(panel, "N")  # from the beginning
    assert in_view(panel) == 4
    paint(panel, labels[2], 2)
    settle(panel)
    press(panel, "N")
    assert in_view(panel) == 5
    for t in (4, 5):
        paint(panel, labels[t], t)
    settle(panel)
    assert not panel.next.go.isEnabled()
    assert "Every frame that was suggested is annotated" in panel.next.suggestion.text()


def test_what_is_said_belongs_to_the_movie_that_is_chosen(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=True)
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels)
    other = viewer.add_image(np.zeros((7, 30, 30)), name="other")
    panel.data.image.choose(other)
    assert "After a run" in panel.next.suggestion.text()
    assert not panel.next_part.strip.isVisible()
    panel.data.image.choose(viewer.layers["cells"])
    assert panel.next.suggestion.text().startswith("Frame 4")
    assert panel.next_part.strip.isVisible()


def test_the_numbers_are_those_of_the_round_that_is_shown(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    viewer.dims.set_current_step(0, 0)
    first = finish_round(panel, labels, (4, 2))
    finish_round(panel, labels, (5, 3))
    assert panel.next.suggestion.text().startswith("Frame 5")
    kept = next(one for one in panel.round_keeper.rounds if one.run is first)
    panel.rounds_desk.show_round(kept)
    assert panel.next.suggestion.text().startswith("Frame 4")
    press(panel, "A")  # the masks that are shown
    settle(panel)
    assert not viewer.layers["cells masks 1"].visible
    panel.rounds_desk.flip()
    assert panel.next.suggestion.text().startswith("Frame 5")
    viewer.dims.set_current_step(0, 1)
    assert [viewer.layers[f"cells masks {i}"].visible for i in (1, 2)] == [False, True]
    panel.round_keeper.delete(next(one for one in panel.round_keeper.rounds if one.run is not first))
    run_events(0.1)
    assert panel.next.suggestion.text().startswith("Frame 4")  # the one that is left


# -- adopting --------------------------------------------------------------------------------------


def test_a_copies_the_prediction_and_one_undo_takes_it_away(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    masks = finish_round(panel, labels, task="distinct").layers.labels_layer
    viewer.dims.set_current_step(0, 3)
    press(panel, "A")  # on a layer that is made for it
    layer = panel.data.painted_layer
    np.testing.assert_array_equal(layer.data[3], labels[3])
    assert not layer.data[[0, 1, 2, 4, 5]].any()
    assert viewer.layers.selection == {layer}
    assert layer.mode == "paint"
    settle(panel)
    assert panel.watch.painted.corrected == {3}
    assert panel.frames.list.topLevelItem(0).text(1) == "3, corrected"
    assert not masks.visible  # else it would show where paint is erased
    press(panel, "A")
    assert "painted already" in panel.next.message.text
    layer.undo()
    assert not layer.data.any()
    settle(panel)
    assert panel.watch.painted.corrected == frozenset()
    assert panel.frames.list.topLevelItemCount() == 0
    assert masks.visible
    layer.redo()
    np.testing.assert_array_equal(layer.data[3], labels[3])


def test_the_masks_come_back_when_another_frame_is_in_view(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    masks = finish_round(panel, labels).layers.labels_layer
    viewer.dims.set_current_step(0, 3)
    panel.next.adopt.click()
    settle(panel)
    assert not masks.visible
    viewer.dims.set_current_step(0, 4)
    assert masks.visible


def test_all_masks_are_out_of_sight_while_a_frame_is_corrected(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    masks = [finish_round(panel, labels).layers.labels_layer for _ in range(2)]
    assert [layer.visible for layer in masks] == [False, True]
    masks[0].visible = True  # the user wants both
    viewer.dims.set_current_step(0, 3)
    press(panel, "A")
    settle(panel)
    assert [layer.visible for layer in masks] == [False, False]
    viewer.dims.set_current_step(0, 4)
    assert [layer.visible for layer in masks] == [True, True]


def test_adopting_keeps_what_is_painted_and_its_numbers(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels)  # look-alike objects that were not followed: their numbers mean nothing
    paint(panel, np.where(labels[0] == 1, 7, 0), 0)
    painted = np.zeros_like(labels[2])
    painted[labels[2] == 1] = 2  # an object that is painted in full
    painted[22:24, 6:9] = 5  # a scribble in another one
    layer = paint(panel, painted, 2)
    settle(panel)
    viewer.dims.set_current_step(0, 2)
    press(panel, "A")
    after = layer.data[2]
    np.testing.assert_array_equal(after[painted > 0], painted[painted > 0])
    np.testing.assert_array_equal(after == 2, labels[2] == 1)
    np.testing.assert_array_equal(after == 5, labels[2] == 2)
    np.testing.assert_array_equal(after == 8, labels[2] == 3)  # above all numbers of all frames
    assert set(np.unique(after)) == {0, 2, 5, 8}
    layer.undo()
    np.testing.assert_array_equal(layer.data[2], painted)


def test_the_whole_stack_of_a_frame_is_adopted(viewer: Any) -> None:
    labels = toy_labels(3, depth=5)
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels, order=(1,), task="distinct")
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 2)
    viewer.dims.ndisplay = 3
    press(panel, "A")
    layer = panel.data.painted_layer
    np.testing.assert_array_equal(layer.data[1], labels[1])
    assert not layer.data[[0, 2]].any()
    layer.undo()
    assert not layer.data.any()


def test_it_is_said_why_there_is_nothing_to_adopt(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    viewer.dims.set_current_step(0, 0)
    press(panel, "A")
    assert panel.next.message.text == "Frame 0 has no masks yet; segment the movie, or show a round."
    press(panel, "Shift-A")
    assert "nothing to accept" in panel.next.message.text
    finish_round(panel, labels)
    viewer.add_labels(np.zeros((9, 9), np.uint8), name="odd")
    panel.data.annotations.choose(viewer.layers["odd"])
    press(panel, "A")
    assert "odd" in panel.next.message.text
    assert len(viewer.layers) == 3


# -- accepting -------------------------------------------------------------------------------------


def test_shift_a_locks_a_frame_and_lets_it_go_again(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels, task="distinct")
    viewer.dims.set_current_step(0, 3)
    press(panel, "Shift-A")  # not painted: it is adopted first
    settle(panel)
    layer = panel.data.painted_layer
    np.testing.assert_array_equal(layer.data[3], labels[3])
    assert panel.watch.painted.accepted == {3}
    assert panel.next.accept.isChecked()
    assert panel.next_part.strip.content.accepted == {3}
    assert ticks(panel, 3) == [True]
    panel.frames.list.itemWidget(panel.frames.list.topLevelItem(0), 2).click()  # what is unknown cannot be final
    assert panel.watch.painted.accepted == frozenset()
    assert ticks(panel, 2) == [True]
    assert ticks(panel, 3) == [False]
    panel.frames.list.itemWidget(panel.frames.list.topLevelItem(0), 3).click()
    assert panel.watch.painted.accepted == {3}
    assert ticks(panel, 2) == [False]
    press(panel, "Shift-A")
    assert panel.watch.painted.accepted == frozenset()
    assert not panel.next.accept.isChecked()
    panel.next.accept.click()
    assert panel.watch.painted.accepted == {3}
    layer.undo()  # its paint is gone
    settle(panel)
    assert panel.watch.painted.accepted == frozenset()


def test_marks_of_frames_are_brought_back_with_the_session(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    for t in range(4):
        paint(panel, labels[t], t)
    settle(panel)
    panel.watch.painted.set_partial(1)
    panel.watch.painted.set_accepted(2)
    panel.watch.painted.set_corrected(2)
    panel.watch.painted.set_corrected(3)
    plain = panel.plain_settings()
    assert (plain["partial"], plain["accepted"], plain["corrected"]) == ([1], [2], [2, 3])
    for t in range(4):
        panel.watch.painted.set_partial(t, False)
        panel.watch.painted.set_accepted(t, False)
        panel.watch.painted.set_corrected(t, False)
    panel.restore_plain(plain)
    settle(panel)
    assert ticks(panel, 2) == [False, True, False, False]
    assert ticks(panel, 3) == [False, False, True, False]
    assert [panel.frames.list.topLevelItem(i).text(1) for i in range(4)] == ["3", "3", "3, corrected", "3, corrected"]
    assert panel.watch.painted.accepted == {2}
    assert panel.next_part.desk.verdict is None  # what an earlier run thought of the frames is not brought back


def test_letters_reach_the_viewer_while_the_list_of_frames_has_the_focus(viewer: Any, qtbot: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    paint(panel, labels[0], 0)
    settle(panel)
    finish_round(panel, labels)
    qtbot.keyClick(panel.frames.list, Qt.Key.Key_N)
    assert in_view(panel) == 4


def test_letters_reach_the_viewer_from_every_list_and_choice(viewer: Any, qtbot: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels, order=(4,))
    choices = [panel.data.image, panel.data.axes, panel.frames.task.combo, panel.run.origin, panel.settings.device]
    for widget in (panel.rounds.list, *choices):
        viewer.dims.set_current_step(0, 0)
        qtbot.keyClick(widget, Qt.Key.Key_N)
        assert in_view(panel) == 4, widget
    assert panel.frames.task.task == "auto"
    qtbot.keyClick(panel.frames.task.combo, Qt.Key.Key_Down)
    assert panel.frames.task.task == "look-alike"


# -- frames that look painted in part --------------------------------------------------------------


def test_a_frame_that_looks_painted_in_part_is_pointed_out_once(viewer: Any) -> None:
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    for t in (0, 1):
        paint(panel, labels[t], t)
    settle(panel)
    run = finish_round(panel, labels)
    remarks = tuple(f"Frame {t} looks painted in part only: tick 'Painted in part', or paint them." for t in (0, 1))
    panel.control._take_training_done(run, TrainingDone(3, 1.0, False, None, remarks))
    notice = panel.next.notice
    assert notice.text == remarks[0]
    assert notice.action == "It is painted in part"
    notice.press()
    assert panel.watch.painted.partial == {0}
    assert ticks(panel, 2) == [True, False]
    assert notice.text == remarks[1]
    notice.refused.emit()
    assert notice.isHidden()
    panel.control._take_training_done(run, TrainingDone(3, 1.0, False, None, remarks))
    assert notice.isHidden()  # both are answered


# -- the strip -------------------------------------------------------------------------------------


def slider_of(viewer: Any, axis: int) -> QScrollBar:
    widgets = viewer.window._qt_viewer.dims.slider_widgets
    return widgets[axis].slider


def handle_centre(viewer: Any, axis: int, strip: Any) -> float:
    slider = slider_of(viewer, axis)
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    handle = slider.style().subControlRect(
        QStyle.ComplexControl.CC_ScrollBar, option, QStyle.SubControl.SC_ScrollBarSlider, slider
    )
    return strip.mapFromGlobal(slider.mapToGlobal(QPointF(handle.x() + handle.width() / 2, 0))).x()


def click(strip: Any, qtbot: Any, frame: int) -> None:
    x = round(strip.scale.centre(frame))
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=strip.rect().center().__class__(x, 12))


@pytest.mark.parametrize("n_frames", [2, 6, 200])
def test_a_click_on_the_strip_goes_to_the_frame_under_which_the_handle_then_is(
    make_napari_viewer: Any, qtbot: Any, n_frames: int
) -> None:
    viewer = make_napari_viewer(show=True)
    labels = toy_labels(n_frames)
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels, order=(n_frames - 1,))
    wait_until(lambda: panel.next_part.strip.scale is not None and panel.next_part.strip.isVisible(), "the strip")
    run_events(0.1)
    strip = panel.next_part.strip
    for frame in (0, n_frames - 1, n_frames // 2):
        click(strip, qtbot, frame)
        assert in_view(panel) == frame
        off = lambda frame=frame: abs(handle_centre(viewer, 0, strip) - strip.scale.centre(frame))  # noqa: E731
        wait_until(lambda off=off: off() <= 1.5, "the handle under its frame", 20)


def test_the_strip_follows_the_axes_and_stays_in_its_own_window(make_napari_viewer: Any) -> None:
    labels = toy_labels(3, depth=5)
    viewer, other = make_napari_viewer(show=True), make_napari_viewer(show=True)
    panel, beside = toy_panel(viewer, labels), toy_panel(other, labels)
    finish_round(panel, labels, order=(1,))
    wait_until(panel.next_part.strip.isVisible, "the strip")
    assert panel.next_part.strip.window() is viewer.window._qt_window
    assert not beside.next_part.strip.isVisible()
    viewer.dims.order = (1, 2, 0, 3)  # time is a side of the picture: it has no slider
    wait_until(lambda: not panel.next_part.strip.isVisible(), "hiding the strip")
    viewer.dims.order = (0, 1, 2, 3)
    wait_until(panel.next_part.strip.isVisible, "the strip again")
    before = panel.next_part.strip.scale
    viewer.add_image(np.zeros((6, 5, 40, 50)), name="longer")  # its slider has twice as many steps
    wait_until(lambda: panel.next_part.strip.scale != before, "a shorter strip")
    assert panel.next_part.strip.scale.pitch < before.pitch
    viewer.theme = "light"
    assert panel.next_part.strip.colours().shape == (panel.next_part.strip.width(), 3)


def test_the_strip_goes_with_the_panel(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=True)
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels)
    wait_until(panel.next_part.strip.isVisible, "the strip")
    run_events(0.1)
    window = viewer.window._qt_window
    assert window.findChildren(ConfidenceStrip)
    viewer.window.remove_dock_widget(panel)
    run_events(0.1)
    assert not window.findChildren(ConfidenceStrip)
    assert not any(str(key) in ("N", "A", "Shift+A") for key in viewer.keymap)


def test_the_strip_becomes_a_dock_where_the_sliders_are_not_found(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_osvos._qt.strip_place.SLIDERS", "none")
    viewer = make_napari_viewer(show=True)
    labels = toy_labels()
    panel = toy_panel(viewer, labels)
    finish_round(panel, labels)
    wait_until(panel.next_part.strip.isVisible, "the strip")
    assert panel.next_part.strip.scale.n_frames == FRAMES
    strip = panel.next_part.strip
    wait_until(lambda: abs(strip.scale.span(5)[1] - strip.width()) <= 2, "frames from side to side")
    viewer.window.remove_dock_widget(panel)
    run_events(0.1)
    assert not viewer.window._qt_window.findChildren(ConfidenceStrip)


def test_doubtful_frames_are_bright_and_frames_to_come_have_the_colour_of_the_theme(qtbot: Any) -> None:
    strip = ConfidenceStrip()
    qtbot.addWidget(strip)
    strip.resize(300, strip.height())
    strip.colour("#414851", "#ffffff")
    strip.show_content(StripContent(3, {0: 0.98, 1: 0.6}))
    strip.fit(StripScale(50, 100, 3))
    sure, doubtful, unknown = (strip.colours()[x].astype(int) for x in (50, 150, 250))
    assert doubtful.sum() > sure.sum() + 150
    assert unknown.tolist() == [0x41, 0x48, 0x51]
    words = StripContent(9, {1: 0.6, 2: 0.9}, painted={2, 3}, accepted={3}, reasons={1: UNLIKE}).words
    assert words(1) == "Frame 1: expect J 0.60, objects unlike those painted."
    assert words(2) == "Frame 2, painted: expect J 0.90."
    assert words(3) == "Frame 3 is accepted: no run overwrites it."
    assert words(4) == "Frame 4: not segmented yet."


# -- with the engine -------------------------------------------------------------------------------


def test_an_accepted_frame_is_untouched_by_the_next_run_and_uncertainty_is_a_layer(viewer: Any) -> None:
    movie = small_movie(n_frames=4)
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    panel.objects.follow.setChecked(False)
    quick(panel, steps=4)
    panel.settings.uncertainty.setChecked(True)
    paint(panel, movie.labels[0], 0)
    odd = np.zeros_like(movie.labels[2])
    odd[5:9, 5:9] = 99  # no network would say so
    paint(panel, odd, 2)
    settle(panel)
    viewer.dims.set_current_step(0, 2)
    press(panel, "Shift-A")
    panel.run_desk.segment()
    run = wait_until(lambda: panel.control.run, "a run")
    assert run.wish.accepted == {2}
    said = wait_for_end(panel)
    assert said.startswith("4 frames are in")
    np.testing.assert_array_equal(run.layers.labels_layer.data[2], odd)
    assert run.layers.labels_layer.data[3].any()
    assert set(run.confidences) == {0, 1, 3}
    assert {one.frame for one in run.suggestions} <= {1, 3}
    uncertainty = viewer.layers["cells uncertainty 1"]
    assert uncertainty.colormap.name == "magma"
    assert 0 <= uncertainty.data.min() < uncertainty.data.max() <= 1
    assert not uncertainty.data[2].any()
    assert "would help most" in panel.next.suggestion.text()
    assert "--accepted 2" in command_of(run)
