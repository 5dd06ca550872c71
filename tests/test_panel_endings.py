"""Whatever is closed, killed, deleted or renamed in mid-run: nothing hangs, nothing leaks, nothing painted is lost."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import (
    ENDLESS,
    open_panel,
    paint,
    quick,
    run_events,
    small_movie,
    wait_for_end,
    wait_until,
)
from waiting import standstill

pytestmark = pytest.mark.usefixtures("sessions")


def training(make_napari_viewer: Any, steps: int = ENDLESS) -> tuple[Any, Any, Any]:
    """A viewer with a panel that is learning."""
    movie = small_movie()
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel, steps)
    paint(panel, movie.labels[0], 0)
    panel.run_desk.segment()
    assert panel.progress.message.text == ""
    wait_until(lambda: panel.progress.plot.points, "the first step")
    return viewer, panel, movie


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_closing_the_panel_in_mid_training_frees_it_and_ends_its_engine(make_napari_viewer: Any) -> None:
    viewer, panel, _ = training(make_napari_viewer)
    pid = panel.bridge.engine.pid
    keys = {str(key) for key in viewer.keymap}
    assert any("S" in key for key in keys)
    reference = weakref.ref(panel)
    viewer.window.remove_dock_widget(panel)
    del panel
    wait_until(lambda: gone(pid), "the end of the engine")
    wait_until(lambda: gc.collect() is not None and reference() is None, "the end of the panel")
    assert not {str(key) for key in viewer.keymap} & keys
    assert "cells masks 1" not in viewer.layers
    viewer.dims.set_current_step(0, 3)  # nothing listens any more
    viewer.add_image(np.zeros((4, 4)))
    run_events(0.2)


def test_closing_the_viewer_in_mid_training_ends_the_engine(make_napari_viewer: Any) -> None:
    viewer, panel, _ = training(make_napari_viewer)
    pid = panel.bridge.engine.pid
    del panel
    viewer.close()
    gc.collect()
    wait_until(lambda: gone(pid), "the end of the engine")


def test_a_killed_engine_is_told_in_a_sentence_and_the_next_click_works(make_napari_viewer: Any) -> None:
    viewer, panel, movie = training(make_napari_viewer)
    os.kill(panel.bridge.engine.pid, signal.SIGKILL)
    said = wait_for_end(panel)
    assert said.count(".") >= 1
    assert "Traceback" not in said
    assert "cells masks 1" not in viewer.layers
    assert panel.run.start.isVisibleTo(panel)
    np.testing.assert_array_equal(panel.data.painted_layer.data[0] > 0, movie.labels[0] > 0)
    quick(panel, steps=5)
    panel.run.start.click()
    assert "6 frames" in wait_for_end(panel)


def test_cancel_takes_the_layer_away(make_napari_viewer: Any) -> None:
    viewer, panel, _ = training(make_napari_viewer)
    panel.run.cancel.click()
    wait_until(lambda: panel.control.run is None, "the end of the run")
    assert [layer.name for layer in viewer.layers] == ["cells", "cells annotations"]
    assert "Cancelled" in panel.progress.message.text


def test_layers_may_be_deleted_and_renamed_in_mid_run(make_napari_viewer: Any) -> None:
    viewer, panel, movie = training(make_napari_viewer)
    wait_until(lambda: panel.control.run.layers.is_shown, "the layer")
    viewer.layers.remove("cells masks 1")
    assert "deleted" in panel.progress.message.text
    viewer.layers["cells"].name = "movie"
    viewer.layers.remove("cells annotations")
    assert panel.data.painted_layer is None
    panel.run.stop.click()
    wait_for_end(panel)
    assert viewer.layers["cells masks 1"].data.any(axis=(1, 2)).all()
    assert panel.data.painted_layer is None  # what a run has filled is not taken for paint

    panel.paint_desk.new_annotations()
    paint(panel, movie.labels[0], 0)
    quick(panel, steps=5)
    panel.run_desk.segment()
    viewer.layers.remove("movie")
    wait_for_end(panel)
    assert viewer.layers["movie masks 2"].data.any()


def test_pause_halts_and_goes_on(make_napari_viewer: Any) -> None:
    _, panel, _ = training(make_napari_viewer)
    panel.run.pause.click()
    assert panel.run.pause.text() == "Go on"
    steps = standstill(lambda: len(panel.progress.plot.points), rest=run_events)
    run_events(1.0)
    assert len(panel.progress.plot.points) == steps
    panel.run.pause.click()
    wait_until(lambda: len(panel.progress.plot.points) > steps, "the next step")
    panel.run.stop.click()
    assert "6 frames" in wait_for_end(panel)


def test_two_viewers_have_an_engine_each(make_napari_viewer: Any) -> None:
    movie = small_movie(n_frames=3)
    panels = []
    for _ in range(2):
        viewer = make_napari_viewer()
        viewer.add_image(movie.frames, name="cells")
        panel = open_panel(viewer)
        quick(panel, steps=5)
        paint(panel, movie.labels[0], 0)
        panel.run_desk.segment()
        panels.append((viewer, panel))
    for viewer, panel in panels:
        assert "3 frames" in wait_for_end(panel)
        assert viewer.layers["cells masks 1"].data.any()
    assert panels[0][1].bridge.engine.pid != panels[1][1].bridge.engine.pid


def test_what_cannot_be_learned_from_is_said_and_leaves_no_layer(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 64, 64), np.uint8), name="dark", contrast_limits=(0, 1))
    panel = open_panel(viewer)
    labels = np.zeros((64, 64), np.uint16)
    labels[5:20, 5:20] = 1
    paint(panel, labels, 0)
    panel.run_desk.segment()
    said = wait_for_end(panel)
    assert "dark shows nothing where it is painted" in said
    assert [layer.name for layer in viewer.layers] == ["dark", "dark annotations"]


def test_what_was_learned_is_kept_whatever_becomes_of_the_first_frame(make_napari_viewer: Any) -> None:
    _, panel, _ = training(make_napari_viewer)
    path = panel.keeper.session.segmenter_path(1)
    panel.control.run.layers.write = lambda *frame: None  # as if no frame had come
    panel.run.stop.click()
    wait_until(path.is_file, "the segmenter")
    os.kill(panel.bridge.engine.pid, signal.SIGKILL)
    said = wait_for_end(panel)
    assert "What was learned is kept as round 1." in said
    assert panel.run.segmenter == path
    assert panel.run.origin.currentText() == "cells, round 1"


def test_pauses_and_applying_do_not_count_as_time_that_a_run_takes(make_napari_viewer: Any) -> None:
    _, panel, _ = training(make_napari_viewer)
    run = panel.control.run
    run.filling_since -= 100
    before = run.filling_since
    panel.run.pause.click()
    run.paused_since -= 50
    panel.run.pause.click()
    assert run.filling_since - before == pytest.approx(50, abs=5)  # as if it had begun so much later
    corrected: list[Any] = []
    panel.estimate_desk.expected.correct = lambda *took: corrected.append(took)
    run.expected = (1.0, 1.0)
    panel.run.stop.click()
    wait_for_end(panel)
    assert len(corrected) == 1
    panel.estimate_desk.expected.of = lambda *run: (1.0, 1.0)
    panel.keep.target.choose(panel.data.movie.layer)
    panel.keep.apply.click()
    assert "6 frames" in wait_for_end(panel)
    assert len(corrected) == 1


def test_an_engine_that_cannot_be_started_leaves_nothing_behind(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, panel, _ = training(make_napari_viewer)
    panel.run.cancel.click()
    wait_for_end(panel)

    def no_place(request: Any) -> None:
        raise OSError("There is no place for temporary files.")

    monkeypatch.setattr(panel.bridge.engine, "run", no_place)
    panel.run.start.click()
    assert "no place" in panel.progress.message.text
    assert panel.bridge.sink is None
    assert panel.control.run is None


def test_another_device_or_number_of_threads_is_measured_and_said(make_napari_viewer: Any) -> None:
    _, panel, _ = training(make_napari_viewer)
    panel.run.stop.click()
    wait_for_end(panel)
    wait_until(lambda: panel.estimate_desk.expected.calibration, "the first calibration")
    panel.settings.device.setCurrentText("cpu")
    panel.settings.threads.setValue(2)
    wait_until(lambda: "CPU, 2 threads" in panel.run.device.text(), "the other number of threads")
    assert panel.estimate_desk.expected.calibration.device == "cpu"


@pytest.mark.parametrize("depth", [0, 2])
def test_the_dial_counts_what_is_painted(make_napari_viewer: Any, depth: int) -> None:
    movie = small_movie()
    frames, labels = movie.frames, movie.labels
    if depth:
        frames, labels = np.stack([frames] * depth, 1), np.stack([labels] * depth, 1)
    viewer = make_napari_viewer()
    viewer.add_image(frames, name="cells", axis_labels=("t", "z", "y", "x") if depth else ("t", "y", "x"))
    panel = open_panel(viewer)
    desk = panel.estimate_desk
    wait_until(lambda: desk.expected.calibration, "the calibration")
    marked: list[dict[str, float]] = []
    panel.run.dial.expect = marked.append
    for n in range(2):
        paint(panel, labels[n], n)
    clip = panel.data.movie.clip()

    def expected(n_planes: int) -> dict[str, float]:
        qualities = ("preview", "fast", "balanced", "best")
        return {q: sum(desk.expected.of(clip, panel.settings.tuning_config(q), n_planes)) for q in qualities}

    wait_until(lambda: marked and marked[-1] == expected(2 * max(depth, 1)), "the time of what is painted")
    assert expected(4)["balanced"] > expected(2)["balanced"] > expected(1)["balanced"]
    assert expected(4)["best"] == expected(1)["best"]

    quick(panel, steps=2)
    panel.run_desk.segment()
    assert panel.control.run.expected == desk.expected.of(clip, panel.settings.tuning_config(panel.run.dial.quality))
    wait_for_end(panel)
    panel.settings.tuning.fill({"steps": None})
    panel.settings.changed.emit()
    assert panel.run.segmenter is not None  # the round is refined next, as if it learned from one
    assert marked[-1] == expected(1)
    panel.run.choose_origin(None)
    assert marked[-1] == expected(2 * max(depth, 1))
