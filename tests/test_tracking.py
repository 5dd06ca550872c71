"""Labels of frames become a linked movie, also those of some frames and of frames that are kept compressed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos import Annotations, Lineage, Track, track
from napari_osvos.labels import Labels
from napari_osvos.tracking import as_tracks, painted_ids, painted_on


def _two(n_frames: int = 4) -> np.ndarray:
    """(T, 12, 16): two squares that stay, numbered 1 and 2 in even frames, 2 and 1 in odd ones."""
    frames = np.zeros((n_frames, 12, 16), np.uint16)
    for t, frame in enumerate(frames):
        frame[2:6, 2:6], frame[7:11, 9:13] = 1 + t % 2, 2 - t % 2
    return frames


def test_numbers_of_frames_become_ids() -> None:
    tracked = track(_two())
    assert tracked.lineage == Lineage([Track(1, 0, 3), Track(2, 0, 3)])
    assert tracked.in_words == "2 tracks, 0 divisions"
    labels = np.asarray(tracked.labels)
    np.testing.assert_array_equal(labels, np.broadcast_to(labels[0], labels.shape))


def test_ids_outlive_another_linking() -> None:
    frames = _two()
    before = track(frames)
    frames = frames.copy()
    frames[2, 2:6, 2:6] = 0  # the frame is corrected: one object is not there, another is new
    frames[2, 0:2, 12:16] = 7
    after = track(frames, previous=before.linking)
    first, second = np.asarray(before.labels), np.asarray(after.labels)
    np.testing.assert_array_equal(first[[0, 1, 3]], second[[0, 1, 3]])
    assert second[2].max() == 3


def test_labels_that_are_ids_live_from_first_to_last() -> None:
    labels = Labels(_two()[:3], frame_numbers=(4, 8, 9))
    assert as_tracks(labels).lineage == Lineage([Track(1, 4, 9), Track(2, 4, 9)])
    assert not as_tracks(np.zeros((2, 3, 3), int)).lineage


def test_paint_of_frames_that_are_left_out_keeps_its_ids_for_itself() -> None:
    frames = _two(5)
    painted = np.zeros_like(frames)
    painted[1, 2:6, 2:6], painted[4, 7:11, 9:13] = 50, 60
    annotations = painted_on(Annotations.from_labels(painted), [1, 2, 3])
    tracked = track(frames[1:4], annotations)
    assert set(tracked.lineage) == {50, 61}
    assert tracked.lineage[50] == Track(50, 0, 2)


@pytest.mark.parametrize(("second", "named"), [(0, True), (7, False), (8, True)])
def test_one_label_in_several_parts_is_no_id(second: int, named: bool) -> None:
    painted = np.zeros((2, 2, 8, 8), np.uint8)
    painted[0, :, 1:3, 1:3] = 7
    painted[0, 1, 5:7, 5:7] = second
    annotations = Annotations.from_labels(painted)
    assert (painted_ids(annotations) is annotations) is named
