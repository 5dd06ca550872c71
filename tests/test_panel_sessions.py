"""Nothing that was painted or computed is lost: by other layers, undo, other folders, deleted layers, closing."""

from __future__ import annotations

import gc
import os
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

import dask.array
from panel_driver import open_panel, paint, run_events, wait_until
from test_rounds import keep

from napari_osvos._qt import recovery_desk, round_layers
from napari_osvos.session import SessionFolder, find_recoverable

SHAPE = (6, 40, 50)
STROKE = np.zeros(SHAPE[1:], np.uint16)
STROKE[5:9, 5:9] = 1


pytestmark = pytest.mark.usefixtures("sessions")


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_osvos.worker.client.Engine.start", lambda engine: None)


@pytest.fixture
def cells(make_napari_viewer: Any) -> tuple[Any, Any]:
    """A viewer with a movie, and a panel."""
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
    return viewer, open_panel(viewer)


def lost_session(
    name: str = "cells", shape: tuple[int, ...] = SHAPE, frames: Any = None, **settings: Any
) -> SessionFolder:
    """What another viewer has left behind."""
    session = SessionFolder.for_movie(name, None, shape, np.uint8)
    session.save_frames({2: STROKE} if frames is None else frames)
    session.save_settings(settings)
    session.close()
    return session


def saved(panel: Any) -> SessionFolder:
    """The session of a panel once all that was painted is on the disk."""
    panel.watch.settle()
    panel.keeper.save()
    session = panel.keeper.session
    assert panel.keeper._savers[panel.keeper._present].wait(120)
    return session


def listed(panel: Any) -> list[int]:
    return [painted.frame for painted in panel.watch.painted.frames]


# -- layers of paint -----------------------------------------------------------------------------


def test_every_layer_of_paint_has_a_session_of_its_own(cells: Any) -> None:
    _, panel = cells
    first = paint(panel, STROKE, 2)
    panel.watch.painted.set_partial(2)
    one = saved(panel)
    panel.data.new.click()
    layer = panel.data.painted_layer
    assert layer is not first
    paint(panel, STROKE * 2, 4)
    other = saved(panel)
    assert (one.frames, other.frames) == ((2,), (4,))
    first.data[2] = 0  # while it is not the one that is chosen
    first.data[3] = STROKE
    panel.data.annotations.choose(first)
    assert panel.watch.painted.partial == {2}
    wait_until(lambda: listed(panel) == [3], "the list")
    assert saved(panel) is one
    assert (one.frames, other.frames) == ((3,), (4,))


def test_a_layer_that_fits_no_more_for_a_while_keeps_what_is_known_of_it(cells: Any) -> None:
    _, panel = cells
    layer = paint(panel, STROKE, 2)
    panel.watch.painted.set_partial(2)
    session = saved(panel)
    layer.scale = (1, 3, 3)
    assert panel.watch.painted is None
    layer.scale = (1, 1, 1)
    assert panel.watch.painted.partial == {2}
    assert saved(panel) is session
    assert session.frames == (2,)


def test_paint_over_another_movie_is_saved_for_that_movie(cells: Any) -> None:
    viewer, panel = cells
    paint(panel, STROKE, 2)
    one = saved(panel)
    other = viewer.add_image(np.ones(SHAPE, np.uint8), name="other")
    panel.data.image.choose(other)
    wait_until(lambda: listed(panel) == [2], "the list")
    two = saved(panel)
    assert (two.movie.name, two.frames) == ("other", (2,))
    assert one.frames == (2,)


def test_the_session_of_a_deleted_layer_ends_and_lets_go_of_it(cells: Any) -> None:
    viewer, panel = cells
    layer = paint(panel, STROKE, 2)
    path = saved(panel).path
    paint(panel, STROKE, 4)
    movie = viewer.layers["cells"]
    references = weakref.ref(layer), weakref.ref(movie)
    viewer.layers.remove(layer)
    viewer.layers.remove(movie)
    del layer, movie
    wait_until(lambda: not SessionFolder.open(path).is_in_use, "the end of the session")
    assert SessionFolder.open(path).frames == (2, 4)
    wait_until(lambda: gc.collect() is not None and not any(ref() for ref in references), "the end of the layers")


def test_undo_and_redo_of_a_frame_that_is_not_in_view_are_noticed(cells: Any) -> None:
    viewer, panel = cells
    layer = panel.paint_desk.new_annotations()
    viewer.dims.set_current_step(0, 3)
    layer.selected_label = 2
    layer.paint((3, 10, 10), 2)
    wait_until(lambda: listed(panel) == [3], "the stroke")
    layer.undo()
    wait_until(lambda: listed(panel) == [], "the undo")
    viewer.dims.set_current_step(0, 1)
    layer.redo()
    assert layer.data[3].any()
    wait_until(lambda: listed(panel) == [3], "the redo")


def test_what_a_script_paints_is_noticed_when_its_frame_comes_into_view(cells: Any) -> None:
    viewer, panel = cells
    layer = panel.paint_desk.new_annotations()
    layer.data[4, 3:9, 3:9] = 1
    layer.refresh()
    viewer.dims.set_current_step(0, 4)
    wait_until(lambda: listed(panel) == [4], "the paint")


class Slow:
    """Labels that take their time to read."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels, self.shape, self.dtype, self.ndim = labels, labels.shape, labels.dtype, labels.ndim

    def __getitem__(self, index: Any) -> np.ndarray:
        time.sleep(0.1)
        return self.labels[index]


def test_a_run_waits_for_paint_to_be_found_and_the_viewer_does_not(cells: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, panel = cells
    begun: list[Any] = []
    monkeypatch.setattr(panel.control, "start", lambda wish, *more: begun.append(sorted(wish.frames)))
    labels = np.zeros(SHAPE, np.uint16)
    labels[5] = STROKE
    viewer.add_labels(dask.array.from_array(Slow(labels), chunks=(1, 40, 50), asarray=False))
    panel.run.start.click()
    assert begun == []
    assert "Looking for paint" in panel.progress.message.text
    wait_until(lambda: begun, "the run")
    assert begun == [[5]]
    assert panel.progress.message.text == ""


# -- the end of the panel, another folder --------------------------------------------------------


def large_round(panel: Any, viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Masks that are too large for memory; return their layer."""
    monkeypatch.setattr(round_layers, "LARGEST_IN_MEMORY", 100)
    folder = panel.keeper.session.segmenter_path(1).parent
    layers = round_layers.RoundLayers(viewer, panel.data.movie, 1, False, folder)
    layers.show()
    layers.write(0, np.ones(SHAPE[1:], np.uint16))
    layers.finish()
    return viewer.layers["cells masks 1"]


def test_large_masks_stay_when_the_panel_is_closed(cells: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, panel = cells
    layer = large_round(panel, viewer, monkeypatch)
    path = panel.keeper.session.path
    viewer.window.remove_dock_widget(panel)
    wait_until(lambda: not SessionFolder.open(path).is_in_use, "the end of the session")
    assert np.asarray(layer.data[0]).all()


def test_another_folder_takes_the_paint_and_leaves_what_is_in_use(
    cells: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    viewer, panel = cells
    layer = large_round(panel, viewer, monkeypatch)
    paint(panel, STROKE, 2)
    former = saved(panel)
    segmenter = former.segmenter_path(1)
    segmenter.write_bytes(b"x")
    panel.run.offer_segmenter("cells, round 1", segmenter)
    panel.run.choose_origin(segmenter)
    panel.keep.folder_wanted.emit(tmp_path / "elsewhere")
    assert Path(panel.keep.folder.text()).is_relative_to(tmp_path / "elsewhere")
    paint(panel, STROKE, 4)
    assert saved(panel).frames == (2, 4)
    assert saved(panel).path.parent == tmp_path / "elsewhere"
    assert panel.run.segmenter.exists()
    assert np.asarray(layer.data[0]).all()
    # what is saved elsewhere is not offered from here
    wait_until(lambda: former._state()["settled"], "the end of the former session")


def test_paint_stays_where_it_is_if_the_other_folder_cannot_be_written(cells: Any, tmp_path: Path) -> None:
    _, panel = cells
    paint(panel, STROKE, 2)
    former = saved(panel)
    (tmp_path / "file").write_text("in the way")
    panel.keep.folder_wanted.emit(tmp_path / "file")
    wait_until(lambda: "cannot be written" in panel.progress.message.text, "the complaint")
    wait_until(lambda: not former.is_in_use, "the end of the former session")
    assert former.frames == (2,)
    assert not former._state()["settled"]


def test_another_folder_is_remembered_and_searched(make_napari_viewer: Any, cells: Any, tmp_path: Path) -> None:
    viewer, panel = cells
    lost_session(frames={1: STROKE})
    panel.keep.folder_wanted.emit(tmp_path / "elsewhere")
    paint(panel, STROKE, 4)
    session = saved(panel)
    viewer.window.remove_dock_widget(panel)
    wait_until(lambda: not session.is_in_use, "the end of the session")
    other = make_napari_viewer()
    other.add_image(np.zeros(SHAPE, np.uint8), name="cells")
    again = open_panel(other)
    assert Path(again.keep.folder.text()).parent == tmp_path / "elsewhere"
    assert "(4)" in offered(again)
    again.offer.press()
    assert again.data.painted_layer.data[4].any()
    wait_until(lambda: "(1)" in again.offer.text, "the offer of the default folder")


def test_what_a_chosen_folder_holds_is_offered_after_what_is_offered_now(
    make_napari_viewer: Any, tmp_path: Path
) -> None:
    here = lost_session(frames={1: STROKE})
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
    panel = open_panel(viewer)
    assert "(1)" in offered(panel)
    os.renames(lost_session(frames={5: STROKE}).path, tmp_path / "elsewhere" / "session")
    panel.keep.folder_wanted.emit(tmp_path / "elsewhere")
    run_events(1.5)
    assert "(1)" in panel.offer.text
    panel.recovery_desk.discard()
    wait_until(lambda: "(5)" in panel.offer.text, "the offer of the other folder")
    panel.offer.press()
    assert panel.data.painted_layer.data[5].any()
    assert panel.offer.text == ""
    assert here._state()["settled"]


def test_a_folder_that_was_chosen_twice_does_not_offer_its_own_paint(
    cells: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, panel = cells
    paint(panel, STROKE, 2)
    former = saved(panel)
    keep(former.rounds, 1, channels=None)  # so that it would be offered, though the paint is there

    def find_late(*given: Any) -> Any:
        while former.is_in_use:
            time.sleep(0.002)
        return find_recoverable(*given)

    monkeypatch.setattr(recovery_desk, "find_recoverable", find_late)
    panel.keep.folder_wanted.emit(former.path.parent)
    wait_until(lambda: not former.is_in_use, "the end of the former session")
    run_events(1.5)
    assert panel.offer.text == ""
    assert saved(panel).path != former.path


# -- bringing back -------------------------------------------------------------------------------


def offered(panel: Any) -> str:
    return str(wait_until(lambda: panel.offer.text, "the offer"))


@pytest.mark.parametrize("corrected_first", [False, True])
def test_paint_comes_back_with_its_axes_and_channels(make_napari_viewer: Any, corrected_first: bool) -> None:
    shape = (6, 4, 40, 50)
    frame = np.zeros(shape[1:], np.uint16)
    frame[1] = STROKE
    lost = lost_session(shape=shape, frames={2: frame}, axes="TZYX")
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(shape, np.uint8), name="cells")
    panel = open_panel(viewer)
    offered(panel)
    assert panel.data.movie.axes.letters == "TCYX"
    if corrected_first:
        panel.data.axes.setCurrentText("TZYX")
        offered(panel)
    panel.offer.press()
    assert panel.data.movie.axes.letters == "TZYX"
    np.testing.assert_array_equal(panel.data.painted_layer.data[2], frame)
    assert lost._state()["settled"]


def test_channels_come_back(make_napari_viewer: Any) -> None:
    shape = (6, 4, 40, 50)
    lost_session(shape=shape, axes="TCYX", channels=[1, 3])
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(shape, np.uint8), name="cells")
    panel = open_panel(viewer)
    offered(panel)
    panel.offer.press()
    assert panel.data.movie.channels == (1, 3)


def test_paint_that_does_not_fit_is_offered_again(make_napari_viewer: Any) -> None:
    lost = lost_session(frames={2: STROKE, 3: STROKE[:9]})
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
    panel = open_panel(viewer)
    offered(panel)
    panel.offer.press()
    assert panel.data.painted_layer.data[2].any()
    assert "Frame 3 is of another size." in panel.progress.message.text
    assert not lost._state()["settled"]


def test_all_earlier_sessions_are_offered_one_after_the_other(make_napari_viewer: Any) -> None:
    one = lost_session(frames={1: STROKE})
    for file in one.path.rglob("*.json"):
        os.utime(file, (1, 1))  # the clock of a file system may tick more slowly than sessions are written
    two = lost_session(frames={5: STROKE}, partial=[5])
    segmenter = two.segmenter_path(1)
    segmenter.write_bytes(b"x")
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
    panel = open_panel(viewer)
    assert "(5)" in offered(panel)
    panel.offer.press()
    assert panel.watch.painted.partial == {5}
    wait_until(lambda: "(1)" in panel.offer.text, "the next offer")
    panel.offer.press()
    assert panel.data.painted_layer.data[1].any()
    assert panel.watch.painted.partial == set()
    assert panel.offer.text == ""
    assert one._state()["settled"]
    assert two._state()["settled"]
    # what was learned then can be started from
    origin = panel.run.origin
    assert segmenter in [origin.itemData(i) for i in range(origin.count())]
    assert panel.run.segmenter is None


def test_paint_of_one_movie_is_not_offered_over_another(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_session("A", frames={1: STROKE})
    find = recovery_desk.find_recoverable
    monkeypatch.setattr(recovery_desk, "find_recoverable", lambda *given: (time.sleep(0.3), find(*given))[1])
    viewer = make_napari_viewer()
    one = viewer.add_image(np.zeros(SHAPE, np.uint8), name="A")
    other = viewer.add_image(np.ones(SHAPE, np.uint8), name="B")
    panel = open_panel(viewer)
    panel.data.image.choose(one)
    panel.data.image.choose(other)
    run_events(1.5)
    assert panel.data.movie.name == "B"
    assert panel.offer.text == ""
    panel.data.image.choose(one)
    assert "of A" in offered(panel)
    panel.data.image.choose(other)
    assert panel.offer.text == ""


# -- what belongs to which movie -----------------------------------------------------------------


def test_every_movie_starts_from_its_own_rounds(cells: Any, tmp_path: Path) -> None:
    viewer, panel = cells
    path = tmp_path / "a.osvos"
    panel.run.offer_segmenter("cells, round 1", path)
    panel.run.choose_origin(path)
    assert panel.run.start.text() == "Refine"
    other = viewer.add_image(np.ones(SHAPE, np.uint8), name="other")
    panel.data.image.choose(other)
    assert panel.run.segmenter is None
    assert panel.run.start.text() == "Segment"
    panel.data.image.choose(viewer.layers["cells"])
    assert panel.run.segmenter == path


def test_runs_of_one_movie_or_one_session_never_have_the_same_number(
    cells: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    viewer, panel = cells
    numbers: list[int] = []
    monkeypatch.setattr(panel.control, "start", lambda wish, number, expected: numbers.append(number))
    paint(panel, STROKE, 2)
    panel.run_desk.segment()
    panel.run_desk.segment()
    panel.run.offer_segmenter("a", tmp_path / "a.osvos")
    panel.run.choose_origin(tmp_path / "a.osvos")
    other = viewer.add_image(np.ones(SHAPE, np.uint8), name="other")
    panel.keep.target.choose(other)
    panel.keep_desk.apply()  # its files go to the same session folder
    panel.data.new.click()
    paint(panel, STROKE, 4)
    panel.run_desk.segment()  # another session, but masks of the same movie
    panel.data.image.choose(other)
    panel.run_desk.segment()
    wait_until(lambda: not panel.run_desk.is_looking, "the paint over the other movie")
    assert numbers == [1, 2, 3, 3, 4]


def test_the_time_is_estimated_from_objects_not_from_painted_background(cells: Any) -> None:
    _, panel = cells
    labels = np.zeros(SHAPE[1:], np.uint16)
    labels[2:12, 2:12] = 1
    labels[14:, :] = 9
    paint(panel, labels, 2)
    panel.watch.settle()
    panel.watch.painted.set_partial(2)
    panel.paint_desk.list_frames()
    panel.frames.background.setValue(9)
    wait_until(lambda: 8 < panel.estimate_desk.expected.diameter < 14, "the diameter")
