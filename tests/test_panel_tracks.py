"""Objects in the panel while they are being followed, before they were, over channels, and of which round."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import open_panel, paint, run_events, wait_for_objects, wait_until
from test_panel_rounds import begin, learn, tell

from napari_osvos._qt import run_objects
from napari_osvos._qt.run_objects import micrometres_of, scale_of, seconds_of
from napari_osvos.exporting import EXPORTS
from napari_osvos.io import read_labels
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.worker.events import Cancelled, Finished, FrameDone

LENGTHS = {"T": 4, "Z": 3, "C": 2, "Y": 24, "X": 32}
SCALES = {"T": 30.0, "Z": 4.0, "C": 1.0, "Y": 0.5, "X": 0.25}
UNITS = {"T": "second", "Z": "micrometer", "C": "pixel", "Y": "micrometer", "X": "micrometer"}
TRACKS_NEEDED = ("ctc", "geff", "tracks", "measurements", "davis")


pytestmark = pytest.mark.usefixtures("sessions")


@pytest.fixture
def opened(make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    """Opens a movie and a panel, whose engine only takes requests: what it tells, the test says."""
    monkeypatch.setattr("napari_osvos.worker.client.Engine.start", lambda engine: None)
    monkeypatch.setattr("napari_osvos.worker.client.Engine.run", lambda engine, request: None)

    def open(letters: str = "TYX", follow: bool = True) -> tuple[Any, Any]:
        viewer = make_napari_viewer()
        viewer.add_image(
            np.zeros([LENGTHS[letter] for letter in letters], np.uint8),
            name="cells",
            scale=[SCALES[letter] for letter in letters],
            units=[UNITS[letter] for letter in letters],
            axis_labels=[letter.lower() for letter in letters],
        )
        panel = open_panel(viewer)
        panel.objects.follow.setChecked(follow)
        return viewer, panel

    return open


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Lets linking write what it found: before, it has read all masks."""
    opens, link = threading.Event(), run_objects.track

    def track(*given: Any, **settings: Any) -> Any:
        tracked = link(*given, **settings)
        assert opens.wait(60)
        return tracked

    monkeypatch.setattr(run_objects, "track", track)
    return opens


def found(axes: Any, frame: int, shift: int = 0) -> np.ndarray:
    """Two objects that stay where they are, and change their numbers with each frame."""
    labels = np.zeros(axes.labels_shape[1:], np.uint16)
    labels[..., 3:9, 4 + shift : 10 + shift] = 1 + frame % 2
    labels[..., 13:20, 15:22] = 2 - frame % 2
    return labels


def segment(panel: Any, end: Any = None, task: str = "look-alike", shift: int = 0) -> Any:
    """A run from its beginning to its end; nothing is waited for behind that."""
    axes = panel.data.movie.axes
    paint(panel, found(axes, 0), 0)
    run = begin(panel)
    learn(panel, run)
    for t in range(axes.n_frames):
        tell(panel, FrameDone(t, found(axes, t, shift), None, 0.9, t + 1, axes.n_frames, 0.0))
    tell(panel, Finished(axes.n_frames, 3.0, False, {"task": task}, ()) if end is None else end)
    wait_until(lambda: panel.control.run is None, "the end of the run")
    return run


def enabled(panel: Any) -> tuple[bool, bool]:
    return panel.objects.link.isEnabled(), panel.objects.export.isEnabled()


# -- while objects are followed ------------------------------------------------------------------


def test_nothing_is_linked_or_exported_while_objects_are_followed(
    opened: Any, gate: threading.Event, tmp_path: Path
) -> None:
    _, panel = opened()
    segment(panel)
    assert panel.tracks_desk.busy
    assert enabled(panel) == (False, False)
    panel.tracks_desk.export("measurements", tmp_path / "cells.csv")
    gate.set()
    wait_for_objects(panel)
    assert not (tmp_path / "cells.csv").exists()
    assert enabled(panel) == (True, True)
    panel.tracks_desk.export("measurements", tmp_path / "cells.csv")
    assert enabled(panel) == (False, False)
    assert "round 1 of 'cells'" in wait_for_objects(panel)
    assert enabled(panel) == (True, True)
    with open(tmp_path / "cells.csv", newline="") as stream:
        assert {float(row["displacement_um"] or 0) for row in csv.DictReader(stream)} == {0.0}


def test_buttons_come_back_where_following_fails(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **settings: Any) -> Any:
        raise OSError("The disk is gone.")

    monkeypatch.setattr(run_objects, "track", fails)
    _, panel = opened()
    segment(panel)
    wait_until(lambda: panel.objects.message.text == "The disk is gone.", "the sentence")
    assert enabled(panel) == (True, True)


def test_what_is_painted_while_objects_are_followed_stays_an_object(opened: Any, gate: threading.Event) -> None:
    viewer, panel = opened()
    segment(panel)
    masks = viewer.layers["cells masks 1"]
    masks.data_setitem((np.array([2, 2]), np.array([22, 22]), np.array([2, 3])), [9, 9])
    heard: list[Any] = []
    panel.tracks_desk.linked.connect(heard.append)
    gate.set()
    wait_for_objects(panel)
    assert heard == [panel.tracks_desk.last]
    ids = set(panel.tracks_desk.last.tracked.lineage)
    for place in ((5, 6), (15, 18)):
        assert set(masks.data[:, *place].tolist()) <= ids
        assert np.ptp(masks.data[:, *place]) == 0
    stroke = set(masks.data[2, 22, 2:4].tolist())
    assert len(stroke) == 1
    assert not stroke & {0, *ids}
    panel.objects.link.click()
    wait_for_objects(panel)
    assert set(np.unique(masks.data).tolist()) == {0, *panel.tracks_desk.last.tracked.lineage}


def test_labels_that_are_saved_while_they_are_linked_are_whole(
    opened: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opens, write = threading.Event(), LayerAxes.write_frame
    viewer, panel = opened(follow=False)
    segment(panel)

    def write_frame(axes: Any, labels: Any, frame: int, values: Any) -> None:
        assert frame < 2 or opens.wait(60)
        write(axes, labels, frame, values)

    monkeypatch.setattr(LayerAxes, "write_frame", write_frame)
    panel.objects.link.click()
    masks = viewer.layers["cells masks 1"].data
    wait_until(lambda: panel.tracks_desk.last.tracked is None and masks[1, 5, 6] == masks[0, 5, 6], "two frames")
    panel.keep_desk.save_labels(tmp_path / "labels.tif")
    run_events(0.3)
    opens.set()
    wait_until(lambda: "labels.tif" in panel.keep.message.text, "the labels on the disk")
    wait_for_objects(panel)
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "labels.tif")), masks)


def test_a_round_that_is_deleted_while_its_objects_are_followed_leaves_nothing(
    opened: Any, gate: threading.Event
) -> None:
    viewer, panel = opened()
    segment(panel)
    panel.round_keeper.delete(panel.round_keeper.rounds[0])
    gate.set()
    wait_for_objects(panel)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells annotations"]
    assert panel.objects.message.text == ""
    assert enabled(panel) == (False, False)


# -- what was not followed -----------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True])
def test_objects_that_nobody_followed_are_not_exported_as_tracks(opened: Any, tmp_path: Path, cancelled: bool) -> None:
    viewer, panel = opened(follow=cancelled)
    segment(panel, Cancelled() if cancelled else None)
    assert "cells tracks 1" not in viewer.layers
    assert {kind for kind, of in EXPORTS.items() if of.tells_tracks} == set(TRACKS_NEEDED)
    for kind in TRACKS_NEEDED:
        path = tmp_path / f"{kind}{EXPORTS[kind].endings[0]}"
        panel.tracks_desk.export(kind, path)
        said = wait_for_objects(panel)
        assert said.startswith("The objects of round 1 of 'cells' are numbered anew in each frame")
        assert not path.exists()
    panel.tracks_desk.export("tif", tmp_path / "labels.tif")
    wait_for_objects(panel)
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "labels.tif")), viewer.layers["cells masks 1"].data)
    panel.objects.link.click()
    wait_for_objects(panel)
    panel.tracks_desk.export("tracks", tmp_path / "cells.tracks.csv")
    wait_for_objects(panel)
    with open(tmp_path / "cells.tracks.csv", newline="") as stream:
        assert [int(row["frames_shown"]) for row in csv.DictReader(stream)] == [4, 4]


def test_distinct_objects_are_tracks_already(opened: Any, tmp_path: Path) -> None:
    _, panel = opened()
    segment(panel, task="distinct")
    assert enabled(panel) == (False, True)
    panel.tracks_desk.export("tracks", tmp_path / "cells.tracks.csv")
    wait_for_objects(panel)
    assert (tmp_path / "cells.tracks.csv").exists()


# -- channels and other axes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letters", "voxel", "columns"),
    [
        ("TYX", None, "TYX"),
        ("TCYX", None, "TCYX"),
        ("CTYX", None, "TYX"),
        ("TYXC", None, "TYXC"),
        ("TZYX", (4, 0.5, 0.25), "TZYX"),
        ("TZCYX", (4, 0.5, 0.25), ""),
        ("ZTYX", (4, 0.5, 0.25), ""),
    ],
)
def test_units_and_tracks_are_right_whatever_the_axes(
    opened: Any, tmp_path: Path, letters: str, voxel: Any, columns: str
) -> None:
    viewer, panel = opened(letters)
    run = segment(panel)
    words = wait_for_objects(panel)
    assert scale_of(run) == voxel
    assert micrometres_of(run) == (voxel or (0.5, 0.25))
    assert seconds_of(run) == 30
    assert "2 tracks" in words
    assert ("no Tracks layer" in words) == (not columns)
    assert ("cells tracks 1" in viewer.layers) == bool(columns)
    panel.tracks_desk.export("measurements", tmp_path / "cells.csv")
    wait_for_objects(panel)
    with open(tmp_path / "cells.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {float(row["time_s"]) for row in rows} == {0, 30, 60, 90}
    if columns:
        tracks, masks = viewer.layers["cells tracks 1"], viewer.layers["cells masks 1"]
        np.testing.assert_array_equal(tracks.scale, masks.scale)
        np.testing.assert_array_equal(tracks.translate, masks.translate)
        for row in tracks.data:
            assert masks.data[tuple(np.round(row[1:]).astype(int))] == row[0]
        viewer.dims.set_point(viewer.dims.ndim - len(letters) + letters.index("T"), 30)
        viewer.screenshot(canvas_only=True, flash=False)


# -- of which round ------------------------------------------------------------------------------


def saved_labels(panel: Any, path: Path) -> np.ndarray:
    """What Save labels writes."""
    panel.keep_desk.save_labels(path)
    wait_until(lambda: path.name in panel.keep.message.text, "the labels on the disk")
    return np.asarray(read_labels(path))


def offers(panel: Any) -> tuple[bool, ...]:
    keep, objects = panel.keep, panel.objects
    return tuple(one.isEnabled() for one in (keep.save_labels, keep.copy_command, objects.link, objects.export))


def test_what_is_saved_and_exported_is_of_the_chosen_movie(opened: Any, tmp_path: Path) -> None:
    viewer, panel = opened()
    cells = viewer.layers["cells"]
    segment(panel)
    wait_for_objects(panel)
    other = viewer.add_image(cells.data.copy(), name="other")
    panel.data.image.choose(other)
    assert offers(panel) == (False,) * 4
    segment(panel, shift=1)
    wait_for_objects(panel)
    assert offers(panel) == (True,) * 4
    assert "of 'other'" in panel.keep.save_labels.toolTip()
    panel.data.image.choose(cells)
    assert offers(panel) == (True,) * 4
    for button in (panel.keep.save_labels, panel.keep.copy_command, panel.objects.link, panel.objects.export):
        assert "round 1 of 'cells'" in button.toolTip()
    np.testing.assert_array_equal(saved_labels(panel, tmp_path / "a.tif"), viewer.layers["cells masks 1"].data)
    assert "round 1 of 'cells'" in panel.keep.message.text
    panel.tracks_desk.export("tif", tmp_path / "b.tif")
    assert "round 1 of 'cells'" in wait_for_objects(panel)
    viewer.layers.remove(cells)
    assert panel.present.run is not None
    assert panel.present.run.wish.movie.layer is other


def test_what_is_saved_and_exported_is_the_round_that_is_shown(opened: Any, tmp_path: Path) -> None:
    _, panel = opened()
    first = segment(panel)
    wait_for_objects(panel)
    second = segment(panel, shift=1)
    wait_for_objects(panel)
    assert panel.tracks_desk.last is second
    rounds = panel.round_keeper.rounds
    panel.rounds_desk.show_round(rounds[0])
    assert panel.tracks_desk.last is first
    np.testing.assert_array_equal(saved_labels(panel, tmp_path / "a.tif"), first.layers.labels)
    panel.rounds_desk.show_round(rounds[1])
    assert panel.tracks_desk.last is second
    panel.round_keeper.delete(rounds[1])
    assert panel.tracks_desk.last is first
    assert offers(panel) == (True,) * 4
    panel.round_keeper.delete(rounds[0])
    assert offers(panel) == (False,) * 4


def test_masks_of_an_earlier_session_can_be_saved_once_they_are_shown(opened: Any, tmp_path: Path) -> None:
    _, panel = opened(follow=False)
    run = segment(panel)
    panel.round_keeper.save()
    panel.round_keeper.saver.wait(120)
    session = panel.keeper.session.path
    masks = run.layers.labels.copy()
    panel.close_down()
    _, panel = opened()
    wait_until(lambda: panel.offer.action == "Bring it back", "the offer")
    panel.offer.press()
    kept = wait_until(lambda: panel.round_keeper.rounds, "the rounds")[0]
    assert kept.folder.path.parent == session
    panel.rounds_desk.show_round(kept)
    wait_until(lambda: panel.keep.save_labels.isEnabled(), "the masks")
    assert offers(panel) == (True, False, False, False)
    np.testing.assert_array_equal(saved_labels(panel, tmp_path / "a.tif"), masks)
