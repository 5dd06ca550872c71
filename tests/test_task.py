"""What painted labels are taken to mean."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.sample_data import simulate_movie
from napari_osvos.task import choose_task, instances_of, label_values


def _task(labels: np.ndarray, frames: np.ndarray | None = None) -> str:
    movie = np.random.default_rng(0).normal(100, 5, labels.shape) if frames is None else frames
    clip = Clip(movie.astype(np.float32))
    return choose_task(Annotations.from_labels(labels).aligned_to(clip), clip)


def _squares(*sizes: int) -> np.ndarray:
    labels, x = np.zeros((1, 60, 200), np.int32), 2
    for number, size in enumerate(sizes, 1):
        labels[0, 5 : 5 + size, x : x + size] = number
        x += size + 4
    return labels


@pytest.mark.parametrize("look", ["fluorescence", "phase", "dic", "brightfield", "em"])
def test_the_cells_of_a_colony_look_alike(look: str) -> None:
    movie = simulate_movie(look, n_frames=1, shape=(128, 160), seed=2)
    assert len(np.unique(movie.labels)) > 3
    assert _task(movie.labels, movie.frames) == "look-alike"


def test_a_single_label_is_one_class() -> None:
    assert _task(_squares(10, 12, 9) > 0) == "distinct"


def test_labels_that_fall_into_several_parts_each_are_classes() -> None:
    labels = _squares(10, 12, 9, 11, 10, 12)
    assert _task(np.where(labels > 0, 1 + labels % 2, 0)) == "distinct"


def test_a_mouse_and_a_ball_are_distinct_by_size() -> None:
    assert _task(_squares(40, 8)) == "distinct"


def test_objects_of_one_size_are_distinct_by_brightness() -> None:
    labels = _squares(20, 20)
    frames = np.random.default_rng(0).normal(100, 5, labels.shape) + 100 * (labels == 2)
    assert _task(labels, frames) == "distinct"
    assert _task(labels) == "look-alike"


def test_many_labels_are_never_distinct() -> None:
    labels = np.zeros((1, 60, 200), np.int32)
    for i in range(20):
        labels[0, 2 : 4 + 2 * (i % 5 + 1), 9 * i + 1 : 9 * i + 6] = i + 1
    assert _task(labels) == "look-alike"


def test_parts_of_a_single_label_are_its_instances() -> None:
    labels = _squares(10, 12, 9)
    single = Annotations.from_labels(np.where(labels > 0, 5, 0))
    assert label_values(single) == (5,)
    np.testing.assert_array_equal(instances_of(single, 0), labels[0])
    np.testing.assert_array_equal(instances_of(Annotations.from_labels(labels), 0), labels[0])
