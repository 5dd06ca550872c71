"""What is kept: sessions that survive a crash, segmenters, labels, and the command that does the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import open_panel, paint, quick, run_events, small_movie, wait_for_end, wait_for_objects, wait_until
from qtpy.QtWidgets import QApplication

from napari_osvos.io import read_labels
from napari_osvos.session import SessionFolder

pytestmark = pytest.mark.usefixtures("sessions")


def segmented(make_napari_viewer: Any, source: Path | None = None) -> tuple[Any, Any, Any]:
    """A viewer with a movie that was segmented."""
    movie = small_movie(n_frames=4)
    viewer = make_napari_viewer()
    if source is None:
        viewer.add_image(movie.frames, name="cells")
    else:
        tifffile.imwrite(source, movie.frames, imagej=True, metadata={"axes": "TYX"})
        viewer.open(str(source), plugin="napari", name="cells")
    panel = open_panel(viewer)
    quick(panel, steps=10)
    panel.settings.offer_devices(["cpu"])
    panel.settings.device.setCurrentText("cpu")  # the command computes with the same numbers
    paint(panel, movie.labels[0], 0)
    panel.run_desk.segment()
    wait_for_end(panel)
    wait_for_objects(panel)
    return viewer, panel, movie


def said_by(panel: Any, word: str) -> Any:
    return wait_until(lambda: word in panel.keep.message.text, f"a sentence with {word!r}")


@pytest.mark.parametrize("from_file", [True, False])
def test_the_copied_command_gives_the_same_labels(make_napari_viewer: Any, tmp_path: Path, from_file: bool) -> None:
    viewer, panel, _ = segmented(make_napari_viewer, tmp_path / "cells.tif" if from_file else None)
    assert panel.keep.copy_command.isEnabled()
    panel.keep.copy_command.click()
    said_by(panel, "clipboard")
    command = QApplication.clipboard().text()
    assert command.startswith("napari-osvos segment ")
    assert ("cells.tif" in command) == from_file
    words = command.replace("napari-osvos", f"{sys.executable} -m napari_osvos", 1)
    subprocess.run(words, shell=True, check=True, capture_output=True)
    output = next(Path(panel.keeper.session.command_folder).glob("labels1*"))
    labels = read_labels(output)
    np.testing.assert_array_equal(np.asarray(labels), viewer.layers["cells masks 1"].data)


def test_segmenter_and_labels_are_saved_loaded_and_applied(make_napari_viewer: Any, tmp_path: Path) -> None:
    viewer, panel, movie = segmented(make_napari_viewer)
    panel.keep_desk.save_labels(tmp_path / "labels.tif")
    said_by(panel, "labels.tif")
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "labels.tif")), viewer.layers["cells masks 1"].data)
    panel.keep_desk.save_segmenter(tmp_path / "cells.osvos")
    said_by(panel, "cells.osvos")
    other = viewer.add_image(movie.frames[::-1].copy(), name="other")
    panel.run.choose_origin(None)
    assert not panel.keep.apply.isEnabled()
    panel.keep_desk.load_segmenter(tmp_path / "cells.osvos")
    panel.keep.target.choose(other)
    panel.keep.apply.click()
    wait_for_end(panel)
    applied = viewer.layers["other masks 2"].data  # one number for all that goes to one session folder
    wait_for_objects(panel)  # backwards in time the same objects are linked otherwise
    np.testing.assert_array_equal(applied[::-1] > 0, viewer.layers["cells masks 1"].data > 0)
    panel.keep_desk.load_segmenter(tmp_path / "labels.tif")
    panel.keep.apply.click()
    assert "labels.tif" in wait_for_end(panel)


def test_paint_of_a_crashed_session_is_brought_back(make_napari_viewer: Any, tmp_path: Path) -> None:
    movie = small_movie(n_frames=4)
    lost = SessionFolder.for_movie("cells", None, movie.frames.shape, movie.frames.dtype)
    lost.save_frames({2: movie.labels[2].astype(np.uint16)})
    lost.save_settings({"quality": "fast", "partial": [2]})
    lost.close()
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    wait_until(lambda: panel.offer.text, "the offer")
    assert panel.offer.action == "Bring it back"
    panel.offer.press()
    layer = wait_until(lambda: panel.data.painted_layer, "the layer")
    np.testing.assert_array_equal(layer.data[2], movie.labels[2])
    assert panel.run.dial.quality == "fast"
    assert panel.watch.painted.partial == {2}
    assert panel.offer.text == ""


def test_paint_and_settings_are_saved_while_the_panel_is_open(make_napari_viewer: Any, tmp_path: Path) -> None:
    movie = small_movie(n_frames=4)
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    paint(panel, movie.labels[3], 3)
    panel.run.dial.quality = "best"
    folder = Path(panel.keep.folder.text())
    assert folder == panel.keeper.session.path
    wait_until(lambda: folder.exists() and SessionFolder.open(folder).frames == (3,), "the paint on disk")
    saved = SessionFolder.open(folder)
    np.testing.assert_array_equal(saved.read_frame(3), movie.labels[3])
    wait_until(lambda: SessionFolder.open(folder).settings().get("quality") == "best", "the settings on disk")


def test_a_sample_opened_again_is_no_loss_to_be_made_good(make_napari_viewer: Any) -> None:
    movie = small_movie(n_frames=4)
    painted = np.zeros_like(movie.labels)
    painted[0] = movie.labels[0]
    lost = SessionFolder.for_movie("cells", None, movie.frames.shape, movie.frames.dtype)
    lost.save_frames({0: painted[0]})
    lost.close()
    viewer = make_napari_viewer()
    panel = open_panel(viewer)
    viewer.add_image(movie.frames, name="cells")
    viewer.add_labels(painted, name="annotations")
    run_events(1.5)
    assert panel.offer.text == ""
