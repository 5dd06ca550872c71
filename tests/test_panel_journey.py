"""The whole way: open the sample, paint, segment, see previews, get a layer, refine it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import ENDLESS, open_panel, paint, quick, region_similarity, small_movie, wait_for_end, wait_until

pytestmark = pytest.mark.usefixtures("sessions")


def test_a_painted_frame_becomes_a_segmented_movie_and_a_second_one_makes_it_better(make_napari_viewer: Any) -> None:
    movie = small_movie()
    viewer = make_napari_viewer()
    image = viewer.add_image(movie.frames, name="cells", scale=(1, 0.5, 0.5), translate=(0, 3, 4))
    panel = open_panel(viewer)
    quick(panel, steps=ENDLESS)
    panel.data.new.click()
    painted_layer = viewer.layers["cells annotations"]
    assert viewer.layers.selection == {painted_layer}
    assert painted_layer.mode == "paint"
    paint(panel, np.where(movie.labels[0] == movie.labels[0].max(), 1, 0), 0)  # one cell of many
    wait_until(lambda: panel.watch.painted.frames, "the list of frames")
    assert panel.frames.list.topLevelItemCount() == 1
    before = painted_layer.data.copy()
    previews: list[int] = []
    losses: list[float] = []
    panel.bridge.told.connect(lambda news: previews.extend(e.frame for e in news if type(e).__name__ == "Preview"))
    panel.control.learned.connect(lambda points: losses.extend(point.loss for point in points))

    panel.run.start.click()
    wait_until(lambda: previews, "a preview while the network learns")
    assert panel.run.cancel.isVisibleTo(panel)
    wait_until(lambda: len(losses) >= 2, "the losses")
    panel.run.stop.click()
    said = wait_for_end(panel)

    assert said.startswith(f"{len(movie.frames)} frames are in 'cells masks 1'")
    assert panel.progress.plot.points
    first = viewer.layers["cells masks 1"]
    np.testing.assert_array_equal(painted_layer.data, before)
    assert first.data.shape == movie.frames.shape
    np.testing.assert_allclose(first.scale, image.scale)
    np.testing.assert_allclose(first.translate, image.translate)
    assert first.units == image.units
    poor = region_similarity(first.data[1:], movie.labels[1:])

    paint(panel, movie.labels[0], 0)
    paint(panel, movie.labels[4], 4)
    quick(panel, steps=40)
    assert panel.run.start.text() == "Refine"
    panel.run.start.click()
    wait_for_end(panel)
    second = viewer.layers["cells masks 2"]
    assert "cells masks 1" in viewer.layers
    better = region_similarity(second.data[1:4], movie.labels[1:4])
    assert better > max(poor, 0.7)
    assert [panel.frames.list.topLevelItem(i).text(0) for i in range(2)] == ["0", "4"]


def test_previews_follow_the_slider_and_the_frame_in_view_is_filled_first(make_napari_viewer: Any) -> None:
    movie = small_movie(n_frames=8)
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel, steps=ENDLESS)
    paint(panel, movie.labels[0], 0)
    viewer.dims.set_current_step(0, 5)
    previews: list[int] = []
    filled: list[int] = []

    def note(news: list[Any]) -> None:
        previews.extend(e.frame for e in news if type(e).__name__ == "Preview")
        filled.extend(e.frame for e in news if type(e).__name__ == "FrameDone")

    panel.bridge.told.connect(note)
    panel.run_desk.segment()
    wait_until(lambda: 5 in previews, "a preview of frame 5")
    layer = wait_until(lambda: panel.control.run.layers.labels_layer, "the layer")
    assert layer.data[5].any()
    viewer.dims.set_current_step(0, 2)
    wait_until(lambda: 2 in previews, "a preview of frame 2")
    panel.run.stop.click()
    wait_for_end(panel)
    assert filled[0] == 2
    assert sorted(filled) == list(range(8))
    assert "8 frames" in panel.progress.message.text


def test_probabilities_are_a_layer_on_request(make_napari_viewer: Any) -> None:
    movie = small_movie(n_frames=3)
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel)
    panel.settings.probabilities.setChecked(True)
    paint(panel, movie.labels[0], 0)
    panel.run_desk.segment()
    wait_for_end(panel)
    probability = viewer.layers["cells probabilities 1"].data
    masks = viewer.layers["cells masks 1"].data
    assert probability.dtype == np.float32
    assert 0 <= probability.min() < probability.max() <= 1
    assert probability[masks > 0].mean() > probability[masks == 0].mean()
