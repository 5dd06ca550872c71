"""The panel and the layers of a viewer: axes, channels, layers to paint on, what does not fit and how it is mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

import dask.array
import zarr
from panel_driver import open_panel, paint, run_events, wait_until
from qtpy.QtWidgets import QScrollArea


@pytest.fixture
def open_movie(make_napari_viewer: Any, sessions: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens a panel on an image; the engine is not needed here and does not start."""
    monkeypatch.setattr("napari_osvos.worker.client.Engine.start", lambda engine: None)
    viewer = make_napari_viewer()

    def open_it(array: Any, **layer: Any) -> tuple[Any, Any, Any]:
        image = viewer.add_image(array, **{"name": "cells", **layer})
        return viewer, image, open_panel(viewer)

    return open_it


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "layer", "words", "annotation_shape"),
    [
        ((6, 40, 50), {}, "6 frames (T) x 40 x 50 pixels", (6, 40, 50)),
        ((40, 50), {}, "40 x 50 pixels", (40, 50)),
        ((6, 40, 50, 3), {"rgb": True}, "6 frames (T)", (6, 40, 50)),
        ((6, 2, 40, 50), {}, "2 channels (C)", (6, 1, 40, 50)),
        ((6, 5, 40, 50), {}, "5 slices (Z)", (6, 5, 40, 50)),
        ((6, 1, 40, 50), {}, "6 frames (T)", (6, 1, 40, 50)),
    ],
)
def test_a_layer_to_paint_on_has_the_shape_of_the_movie(
    open_movie: Any, shape: tuple[int, ...], layer: dict[str, Any], words: str, annotation_shape: tuple[int, ...]
) -> None:
    viewer, _, panel = open_movie(zeros(*shape), **layer)
    assert words in panel.data.words.text()
    panel.data.new.click()
    annotations = panel.data.annotations.layer
    assert annotations.data.shape == annotation_shape
    assert panel.data.movie.misfit(annotations) is None
    assert viewer.layers.selection == {annotations}
    assert annotations.mode == "paint"
    assert annotations.brush_size >= 3
    # one may paint wherever the slider stands
    for step in np.ndindex(*shape[: -3 if layer.get("rgb") else -2]):
        viewer.dims.current_step = (*step, 0, 0)
        position = annotations.world_to_data(viewer.dims.point)
        inside = [-0.5 <= p < n - 0.5 for p, n in zip(position, annotations.data.shape, strict=True)]
        assert all(inside[:-2])


def test_the_layer_lies_where_the_image_lies(open_movie: Any) -> None:
    _, image, panel = open_movie(
        zeros(6, 40, 50),
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        units=("s", "um", "um"),
        axis_labels=("t", "y", "x"),
    )
    layer = panel.paint_desk.new_annotations()
    np.testing.assert_allclose(layer.scale, image.scale)
    np.testing.assert_allclose(layer.translate, image.translate)
    assert layer.units == image.units
    assert layer.axis_labels == image.axis_labels


def test_axes_can_be_corrected_and_channels_chosen(open_movie: Any) -> None:
    _, _, panel = open_movie(zeros(6, 4, 40, 50))
    combo = panel.data.axes
    letters = [combo.itemText(i) for i in range(combo.count())]
    assert {"TCYX", "TZYX"} <= set(letters)
    combo.setCurrentIndex(letters.index("TZYX"))
    assert panel.data.movie.axes.letters == "TZYX"
    assert not panel.data.channels.isVisibleTo(panel)
    combo.setCurrentIndex(letters.index("TCYX"))
    assert panel.data.channels.isVisibleTo(panel)
    assert panel.data.movie.channels == (0, 1, 2)
    panel.data.channels._buttons[3].click()  # a fourth takes the place of another
    assert len(panel.data.movie.channels) == 3
    assert 3 in panel.data.movie.channels
    assert panel.data.movie.clip().n_channels == 3


def test_a_picture_painted_over_a_movie_is_mended(open_movie: Any) -> None:
    viewer, _, panel = open_movie(zeros(6, 40, 50))
    paint_2d = np.zeros((40, 50), np.uint8)
    paint_2d[5:9, 6:12] = 3
    flat = viewer.add_labels(paint_2d, name="drawn")
    viewer.dims.set_current_step(0, 4)
    panel.data.annotations.choose(flat)
    assert "drawn" in panel.data.message.text
    assert "(6, 40, 50)" in panel.data.message.action
    panel.data.message.press()
    mended = panel.data.annotations.layer
    assert mended is not flat
    assert panel.data.message.text == ""
    np.testing.assert_array_equal(mended.data[4], paint_2d)
    assert not mended.data[[0, 1, 2, 3, 5]].any()
    np.testing.assert_array_equal(flat.data, paint_2d)
    wait_until(lambda: panel.watch.painted.frames, "the list of frames")
    assert panel.watch.painted.frames[0].frame == 4


def test_another_scale_and_another_length_are_explained(open_movie: Any) -> None:
    viewer, image, panel = open_movie(zeros(6, 40, 50), scale=(1, 0.5, 0.5))
    elsewhere = viewer.add_labels(zeros(6, 40, 50), name="elsewhere")
    panel.data.annotations.choose(elsewhere)
    assert panel.data.message.action
    panel.data.message.press()
    np.testing.assert_allclose(elsewhere.scale, image.scale)
    assert panel.data.message.text == ""
    long = zeros(9, 40, 50)
    long[7, 3:6, 3:6] = 1
    longer = viewer.add_labels(long, name="longer", scale=(1, 0.5, 0.5))
    panel.data.annotations.choose(longer)
    assert "longer" in panel.data.message.text
    panel.data.message.press()
    assert panel.data.annotations.layer is longer  # there is paint on a frame that the movie has not
    assert "7" in panel.data.message.text


def test_nothing_painted_and_no_layer_are_said_in_one_sentence(open_movie: Any) -> None:
    viewer, _, panel = open_movie(zeros(6, 40, 50))
    panel.run_desk.segment()
    assert "New" in panel.progress.message.text
    panel.data.new.click()
    panel.run_desk.segment()
    assert panel.progress.message.text == "Nothing is painted yet; paint the objects of one frame."
    viewer.layers.clear()
    panel.run_desk.segment()
    assert "no movie" in panel.progress.message.text


def test_strokes_undo_and_scripts_show_in_the_list(open_movie: Any) -> None:
    viewer, _, panel = open_movie(zeros(6, 40, 50))
    layer = panel.paint_desk.new_annotations()
    viewer.dims.set_current_step(0, 3)
    layer.selected_label = 2
    layer.paint((3, 10, 10), 2)
    wait_until(lambda: [f.frame for f in panel.watch.painted.frames] == [3], "the stroke")
    layer.undo()
    wait_until(lambda: not panel.watch.painted.frames, "the undo")
    layer.data[1, 4:8, 4:8] = 1  # by a script
    viewer.dims.set_current_step(0, 1)
    layer.refresh()
    wait_until(lambda: [f.frame for f in panel.watch.painted.frames] == [1], "the script")


def test_the_list_leads_to_frames_and_knows_partial_ones(open_movie: Any) -> None:
    viewer, _, panel = open_movie(zeros(6, 5, 40, 50), scale=(2, 3, 1, 1))
    layer = panel.paint_desk.new_annotations()
    layer.data[4, 2, 5:9, 5:9] = 7
    layer.data[4, 2, 15:19, 5:9] = 8
    panel.watch.settle()
    panel.watch.painted.mark_changed()
    panel.watch.settle()
    tree = panel.frames.list
    assert (tree.topLevelItem(0).text(0), tree.topLevelItem(0).text(1)) == ("4", "2")
    viewer.dims.set_current_step(0, 0)
    tree.itemClicked.emit(tree.topLevelItem(0), 0)
    assert panel.data.movie.in_view(viewer)[0] == 4
    assert not panel.frames.background.isVisibleTo(panel)
    tree.itemWidget(tree.topLevelItem(0), 2).click()
    assert panel.watch.painted.partial == {4}
    assert panel.frames.background.isVisibleTo(panel)


class Counted:
    """An array that counts what is read of it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype(np.uint8)
        self.size, self.largest = int(np.prod(shape)), 0

    def __getitem__(self, index: Any) -> np.ndarray:
        taken = np.broadcast_to(np.uint8(0), self.shape)[index]
        self.largest = max(self.largest, taken.size)
        return np.array(taken)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise AssertionError("the whole movie was asked for")


def test_a_huge_movie_opens_without_being_read(open_movie: Any) -> None:
    pixels = Counted((1000, 2048, 2048))
    array = dask.array.from_array(pixels, chunks=(1, 2048, 2048), asarray=False)
    _, _, panel = open_movie(array, contrast_limits=(0, 1))
    panel.data.new.click()
    run_events(0.3)
    assert pixels.largest <= 2048 * 2048
    layer = panel.data.annotations.layer
    assert layer.data.shape == (1000, 2048, 2048)
    layer.paint((500, 100, 100), 1)
    wait_until(lambda: [f.frame for f in panel.watch.painted.frames] == [500], "the stroke")
    assert panel.data.movie.clip().plane(3).shape == (2048, 2048, 1)


def test_zarr_and_multiscale_use_the_full_level(open_movie: Any, tmp_path: Any) -> None:
    full = zarr.create_array(str(tmp_path / "full.zarr"), shape=(4, 64, 64), dtype="u1", chunks=(1, 64, 64))
    full[2] = 9
    half = np.asarray(full)[:, ::2, ::2]
    _, _, panel = open_movie([full, half], multiscale=True, contrast_limits=(0, 9))
    assert panel.data.movie.axes.labels_shape == (4, 64, 64)
    assert panel.data.movie.clip().plane(2).max() == 9
    panel.data.new.click()
    assert panel.data.annotations.layer.data.shape == (4, 64, 64)


def test_names_and_layers_may_change_under_the_panel(open_movie: Any) -> None:
    viewer, image, panel = open_movie(zeros(6, 40, 50))
    image.name = "renamed"
    assert panel.data.image.currentText() == "renamed"
    layer = paint(panel, np.eye(40, 50, dtype=np.uint16), 1)
    panel.watch.settle()
    image.data = zeros(8, 40, 50)
    assert panel.data.movie.axes.n_frames == 8
    assert "annotations" in panel.data.message.text  # which now are too short
    image.data = zeros(6, 40, 50)
    assert panel.data.painted_layer is layer
    viewer.layers.remove(layer)
    assert panel.data.painted_layer is None
    viewer.layers.remove(image)
    assert panel.data.movie is None
    assert not panel.data.new.isEnabled()


def test_nothing_is_cropped_at_320_pixels(open_movie: Any) -> None:
    _, _, panel = open_movie(zeros(6, 4, 40, 50), name="a name that is far too long to fit into a narrow panel")
    panel.paint_desk.new_annotations().data[0, 0, 3:9, 3:9] = 1
    panel.watch.painted.mark_changed()
    panel.watch.settle()
    panel.offer.say("A long sentence. " * 5, action="Bring it back", refusal="No, thanks")
    inner = panel.findChild(QScrollArea).widget()
    assert inner.minimumSizeHint().width() <= 320
