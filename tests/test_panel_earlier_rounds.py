"""Rounds of earlier sessions: there again after a crash, adopted, refined, and damaged ones told."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import open_panel, paint, quick, run_events, small_movie, wait_for_end, wait_for_objects, wait_until
from round_driver import SHAPE, STROKE, press, rows, saved, segment, select, two_rounds
from test_rounds import FULL, keep

from napari_osvos.session import SessionFolder

pytestmark = pytest.mark.usefixtures("sessions")


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
import numpy as np
from panel_driver import open_panel, paint
from round_driver import SHAPE, STROKE, saved, segment
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
