"""Objects in the panel: what a label is, one colour per cell through time, tracks, exports, linking again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import open_panel, paint, quick, region_similarity, small_movie, wait_for_end, wait_for_objects

from napari_osvos.sample_data import SimulatedMovie

pytestmark = pytest.mark.usefixtures("sessions")


def _segmented(make_napari_viewer: Any, movie: SimulatedMovie, steps: int = 60, **changes: Any) -> Any:
    """A panel after a run on the cells of frame 0, and what it says."""
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells", scale=(30, 0.5, 0.5), units=("second", "micrometer", "micrometer"))
    panel = open_panel(viewer)
    quick(panel, steps=steps)
    for name, value in changes.items():
        setattr(panel.frames.task, name, value)
    paint(panel, movie.labels[0], 0)
    panel.run_desk.segment()
    wait_for_end(panel)
    wait_for_objects(panel)
    return viewer, panel


def test_a_painted_cell_keeps_its_label_and_its_track_in_every_frame(make_napari_viewer: Any) -> None:
    movie = small_movie(4)
    movie.labels[movie.labels == 1] = 77
    viewer, panel = _segmented(make_napari_viewer, movie)
    masks, tracks = viewer.layers["cells masks 1"], viewer.layers["cells tracks 1"]
    assert panel.tracks_desk.last.task == "look-alike"
    assert "tracks" in panel.objects.message.text
    for t in range(4):
        mine, truth = masks.data[t] == 77, movie.labels[t] == 77
        assert region_similarity(mine, truth) > 0.5
    ids = set(np.unique(masks.data).tolist()) - {0}
    assert set(tracks.data[:, 0].astype(int).tolist()) == ids
    np.testing.assert_allclose(tracks.scale, masks.scale)
    row = tracks.data[(tracks.data[:, 0] == 77) & (tracks.data[:, 1] == 2)][0]
    np.testing.assert_allclose(row[2:], np.argwhere(masks.data[2] == 77).mean(0), atol=1e-6)


def test_linking_again_after_a_correction_leaves_the_other_labels(make_napari_viewer: Any) -> None:
    movie = small_movie(4)
    viewer, panel = _segmented(make_napari_viewer, movie)
    masks = viewer.layers["cells masks 1"]
    before = masks.data.copy()
    lineage = panel.tracks_desk.last.tracked.lineage
    # without its sister, a daughter would be her mother
    ids = [id for id in np.unique(before[2]).tolist() if id and not lineage[id].mother]
    masks.data[2][before[2] == ids[0]] = 900  # as a hand would draw it anew, with another label
    masks.data[2][before[2] == ids[-1]] = 0
    panel.objects.link.click()
    wait_for_objects(panel)
    rest = before[2] != ids[-1]
    np.testing.assert_array_equal(masks.data[2][rest], before[2][rest])
    for t in (0, 1, 3):
        np.testing.assert_array_equal(masks.data[t], before[t])
    assert sum(layer.name.startswith("cells tracks") for layer in viewer.layers) == 1


def test_objects_are_exported(make_napari_viewer: Any, tmp_path: Path) -> None:
    viewer, panel = _segmented(make_napari_viewer, small_movie(3))
    masks = viewer.layers["cells masks 1"].data
    for kind, name in (("measurements", "cells.csv"), ("ctc", "folder"), ("geff", "cells.geff"), ("gif", "cells.gif")):
        panel.tracks_desk.export(kind, tmp_path / name)
        wait_for_objects(panel)
        assert (tmp_path / name).exists()
        assert name in panel.objects.message.text
    with open(tmp_path / "cells.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(set(np.unique(frame).tolist()) - {0}) for frame in masks)
    assert float(rows[-1]["time_s"]) == 60  # two frames of half a minute
    counted = np.count_nonzero(masks[int(rows[0]["frame"])] == int(rows[0]["track_id"]))
    assert float(rows[0]["area_um2"]) == pytest.approx(counted * 0.25)


def test_distinct_objects_keep_their_labels_and_have_no_tracks_layer(make_napari_viewer: Any) -> None:
    movie = small_movie(2)
    movie.labels[:] = np.where(movie.labels > 0, 1 + movie.labels % 2, 0)
    viewer, panel = _segmented(make_napari_viewer, movie, steps=12, task="distinct")
    assert panel.tracks_desk.last.task == "distinct"
    assert set(np.unique(viewer.layers["cells masks 1"].data)) <= {0, 1, 2}
    assert not panel.objects.link.isEnabled()
    assert panel.objects.export.isEnabled()
    assert "cells tracks 1" not in viewer.layers


def test_objects_are_followed_only_if_wanted(make_napari_viewer: Any) -> None:
    movie = small_movie(2)
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel)
    panel.objects.follow.setChecked(False)
    paint(panel, movie.labels[0], 0)
    panel.run_desk.segment()
    wait_for_end(panel)
    assert panel.tracks_desk.last.tracked is None
    assert "cells tracks 1" not in viewer.layers
    assert panel.objects.link.isEnabled()
