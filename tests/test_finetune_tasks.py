"""What the tiny network learns of many look-alike objects and of a few distinct ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_clip import VARIED, overlap, quick, tiny_parent

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.instances import panoptic_quality
from napari_osvos.sample_data import simulate_movie
from napari_osvos.segmenter import Segmenter


def _tuner(**changes: Any) -> FineTuner:
    return FineTuner(tiny_parent(), quick(**changes), device="cpu", augment=VARIED)


def test_cells_that_look_alike_come_out_one_by_one() -> None:
    movie = simulate_movie("fluorescence", n_frames=2, shape=(96, 112), seed=3)
    clip, annotations = Clip(movie.frames), Annotations.from_labels(movie.labels, frames=[0])
    segmenter = _tuner(steps=60).fit(clip, annotations)
    assert segmenter.meaning.task == "look-alike"
    assert segmenter.net.config.heads == ("foreground", "contour", "distance")
    assert segmenter.meaning.separation.smallest > 0
    labels = segmenter.predict(clip)
    assert panoptic_quality(labels[1], movie.labels[1].astype(np.int32)) > 0.5
    assert labels[1].max() > 1


def _two_kinds() -> tuple[Clip, np.ndarray]:
    """Bright squares are 4 and dark ones 9, on grey; three of each, elsewhere in each frame."""
    labels = np.zeros((2, 64, 80), np.int32)
    for t in range(2):
        for i in range(6):
            y, x = 4 + 20 * (i % 3) + 3 * t, 8 + 36 * (i // 3) + 2 * t
            labels[t, y : y + 14, x : x + 14] = 4 if i % 2 else 9
    noise = np.random.default_rng(0).normal(0, 4, labels.shape)
    return Clip((100 + 60 * (labels == 4) - 60 * (labels == 9) + noise).astype(np.float32)), labels


def test_distinct_objects_keep_the_labels_they_were_painted_with() -> None:
    clip, labels = _two_kinds()
    segmenter = _tuner(steps=60).fit(clip, Annotations.from_labels(labels, frames=[0]))
    assert segmenter.meaning.task == "distinct"
    assert segmenter.meaning.values == (4, 9)
    found = segmenter.predict(clip)[1]
    assert set(np.unique(found)) <= {0, 4, 9}
    for value in (4, 9):
        assert overlap(found == value, labels[1] == value) > 0.6
    painted_5 = _tuner(steps=4).fit(clip, Annotations.from_labels(np.where(labels == 4, 5, 0), frames=[0]))
    assert set(np.unique(painted_5.predict(clip))) <= {0, 5}


def test_going_on_keeps_the_task_and_adds_a_new_label(tmp_path: Path) -> None:
    clip, labels = _two_kinds()
    first = _tuner(steps=20).fit(clip, Annotations.from_labels(labels, frames=[0]))
    first.save(tmp_path / "two.osvos")
    again = Segmenter.load(tmp_path / "two.osvos", "cpu")
    assert again.meaning == first.meaning
    more = np.where(labels == 9, 9, 0)
    more[:, 60:, :10] = 12
    second = FineTuner(again, FineTuneConfig(steps=2, crop_size=64), "cpu")
    assert second.fit(clip, Annotations.from_labels(more, frames=[1])).meaning.values == (4, 9, 12)


def test_the_task_can_be_set() -> None:
    clip, labels = _two_kinds()
    annotations = Annotations.from_labels(labels, frames=[0])
    alike = _tuner(steps=2, task="look-alike").fit(clip, annotations)
    assert alike.meaning.task == "look-alike"
    assert alike.meaning.values == (1,)
    with pytest.raises(ValueError, match="'published' tells objects from background only, but 2 distinct labels"):
        _tuner(quality="published", task="distinct", steps=1).fit(clip, annotations)
    many = labels.copy()
    many[0, 0, :20] = np.arange(20, 40)
    with pytest.raises(ValueError, match="22 labels are painted; at most 16 can be distinct"):
        _tuner(task="distinct", steps=1).fit(clip, Annotations.from_labels(many, frames=[0]))
