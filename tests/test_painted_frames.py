"""Which frames hold paint: kept up to date stroke by stroke, and made into annotations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import zarr

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.labels import Labels
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.painted_frames import PaintedFrame, PaintedFrames, annotations_of

AXES = LayerAxes("TYX", (6, 9, 7))


def look_at_all(painted: PaintedFrames) -> None:
    while painted.n_waiting:
        painted.update(1.0)


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((6, 9, 7), np.uint16)
    labels[1, 1:3, 1:3] = 4
    labels[1, 5:8, 4:6] = 5
    labels[4, 1:3, 1:3] = 1
    labels[4, 5:8, 4:6] = 1
    return labels


def test_paint_that_is_there_is_found(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    assert painted.n_waiting == 6
    assert painted.frames == ()
    look_at_all(painted)
    assert painted.n_waiting == 0
    # frame 4 has a single label in two places: two objects
    assert painted.frames == (PaintedFrame(1, 2), PaintedFrame(4, 2))


def test_a_stroke_is_noticed_where_it_is_told_and_nothing_else_is_read(labels: np.ndarray) -> None:
    read: list[int] = []

    class Watched(np.ndarray):
        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            read.append(index[0])
            return np.asarray(super().__getitem__(index))

    painted = PaintedFrames(labels.view(Watched), AXES, scan=False)
    assert painted.n_waiting == 0
    labels[2, 4, 4] = 3
    painted.mark_changed([2])
    assert painted.update(10.0)
    assert painted.frames == (PaintedFrame(2, 1),)
    assert set(read) == {2}
    assert not painted.update()


def test_what_is_erased_leaves_the_list(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    look_at_all(painted)
    painted.take_unsaved()
    labels[1] = 0
    painted.mark_changed([1])
    assert painted.update(10.0)
    assert [found.frame for found in painted.frames] == [4]
    assert painted.take_unsaved() == {1: None}


def test_unsaved_frames_are_copies_and_come_once(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    look_at_all(painted)
    unsaved = painted.take_unsaved()
    assert sorted(unsaved) == [1, 4]
    assert painted.take_unsaved() == {}
    assert unsaved[1] is not None
    np.testing.assert_array_equal(unsaved[1], labels[1])
    labels[1] = 9
    assert unsaved[1].max() == 5


def test_the_frame_painted_last_is_looked_at_first(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    labels[5, 0, 0] = 1
    painted.mark_changed([3, 5])
    while not painted.frames:
        painted.update(0.0)
    assert painted.frames == (PaintedFrame(5, 1),)
    assert painted.n_waiting > 0


def test_painting_on_while_a_frame_is_looked_at(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES, scan=False)
    painted.mark_changed([1])
    painted.update(0.0)  # only begun
    labels[1, 8, 0] = 8
    painted.mark_changed([1])
    look_at_all(painted)
    assert painted.frames == (PaintedFrame(1, 3),)
    saved = painted.take_unsaved()[1]
    assert saved is not None
    assert saved[8, 0] == 8


def test_partial_frames_are_remembered_while_unpainted(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    painted.set_partial(2)
    painted.set_partial(4)
    look_at_all(painted)
    assert painted.frames == (PaintedFrame(1, 2), PaintedFrame(4, 2, partial=True))
    labels[2, 0, 0] = 1
    painted.mark_changed([2])
    look_at_all(painted)
    assert painted.frames[1] == PaintedFrame(2, 1, partial=True)
    painted.set_partial(4, False)
    assert painted.partial == {2}


def test_accepted_and_corrected_frames_are_remembered_while_unpainted(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    painted.set_accepted(1)
    painted.set_corrected(1)
    painted.set_corrected(2)
    look_at_all(painted)
    assert painted.frames == (PaintedFrame(1, 2, accepted=True, corrected=True), PaintedFrame(4, 2))
    assert (painted.accepted, painted.corrected) == ({1}, {1, 2})
    painted.set_accepted(1, False)
    assert painted.frames[0] == PaintedFrame(1, 2, corrected=True)
    annotations = annotations_of(painted.copies(), AXES, corrected=painted.corrected)
    assert [annotations.weight(p) for p in annotations] == [2.0, 1.0]


def test_frames_that_were_marked_are_finished_and_the_others_wait_on(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    painted.mark_changed([4])
    painted.finish()
    assert [found.frame for found in painted.frames] == [4]
    assert painted.n_waiting == 5


def test_a_frame_that_is_as_it_was_is_not_saved_again(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    look_at_all(painted)
    painted.take_unsaved()
    painted.mark_changed([1, 4])
    labels[4, 8, 0] = 1
    painted.finish()
    assert painted.frames == (PaintedFrame(1, 2), PaintedFrame(4, 3))
    assert list(painted.take_unsaved()) == [4]


def test_another_array_is_looked_at_from_the_start(labels: np.ndarray) -> None:
    painted = PaintedFrames(labels, AXES)
    look_at_all(painted)
    other = np.zeros_like(labels)
    other[0, 0, 0] = 2
    painted.replace_labels(other)
    look_at_all(painted)
    assert painted.frames == (PaintedFrame(0, 1),)
    assert painted.take_unsaved()[4] is None
    with pytest.raises(ValueError, match="must be"):
        painted.replace_labels(other[:2])


def test_frames_that_are_not_there_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no frame 6; frames are 0 to 5"):
        PaintedFrames(labels, AXES).mark_changed([6])


def test_labels_of_a_zarr_layer_and_of_channels_between() -> None:
    axes = LayerAxes("TCYX", (3, 2, 9, 7))
    stored = zarr.create_array(
        zarr.storage.MemoryStore(), shape=axes.labels_layer_shape, dtype="uint16", chunks=(1, 1, 9, 7)
    )
    stored[2, 0, 1:3, 1:3] = 6
    painted = PaintedFrames(stored, axes)
    look_at_all(painted)
    assert painted.frames == (PaintedFrame(2, 1),)
    assert painted.copies()[2].shape == (9, 7)


def test_a_large_scan_gives_way(labels: np.ndarray) -> None:
    axes = LayerAxes("TYX", (40, 512, 512))
    large = np.zeros(axes.shape, np.uint8)
    large[:, ::3, ::3] = 1  # thousands of parts in every frame
    painted = PaintedFrames(large, axes)
    calls = 0
    while painted.n_waiting:
        painted.update(0.0)
        calls += 1
    assert calls > 3 * 40  # a frame is looked at in pieces, whatever the time that each takes
    assert painted.frames[7] == PaintedFrame(7, 171 * 171)


def test_annotations_are_those_of_the_whole_labels(labels: np.ndarray) -> None:
    clip = Clip(np.zeros((6, 9, 7), np.uint8), "TYX")
    painted = PaintedFrames(labels, AXES)
    look_at_all(painted)
    ours = annotations_of(painted.copies(), AXES, partial=[4, 5]).aligned_to(clip)
    whole = Annotations.from_labels(Labels(labels), partial=[4]).aligned_to(clip)
    assert ours.frames == whole.frames == (1, 4)
    for p in whole:
        np.testing.assert_array_equal(ours.labels(p), whole.labels(p))
        np.testing.assert_array_equal(ours.known(p), whole.known(p))


def test_annotations_of_stacks_take_the_painted_slices() -> None:
    axes = LayerAxes("TZYX", (4, 3, 9, 7))
    labels = np.zeros(axes.shape, np.uint16)
    labels[2, 1, 1:4, 1:4] = 70
    clip = Clip(np.zeros(axes.shape, np.uint8), "TZYX")
    annotations = annotations_of({2: labels[2]}, axes).aligned_to(clip)
    assert annotations.planes == (2 * 3 + 1,)


def test_a_label_may_paint_background(drawn: Callable[..., np.ndarray]) -> None:
    paint = drawn("12. ... ...")[0]
    axes = LayerAxes("TYX", (5, 3, 3))
    annotations = annotations_of({3: paint}, axes, partial=[3], background_label=2)
    plane = annotations.aligned_to(Clip(np.zeros((5, 3, 3)), "TYX"))
    np.testing.assert_array_equal(plane.labels(3), drawn("1.. ... ...")[0])
    np.testing.assert_array_equal(plane.known(3), drawn("11. ... ...")[0].astype(bool))


def test_nothing_painted_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="the annotations is empty: no frame holds a painted object"):
        annotations_of({}, AXES)
    with pytest.raises(ValueError, match="is empty"):
        annotations_of({1: np.zeros((9, 7), np.uint8)}, AXES)
