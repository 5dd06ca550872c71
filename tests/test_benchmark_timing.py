"""Where the seconds of a measurement go."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from napari_osvos.benchmark_timing import Stopwatch, TimedMeaning, timed_clip
from napari_osvos.clip import Clip
from napari_osvos.labelling import LabelMeaning, PlaneMaps


def test_parts_within_parts_add_up() -> None:
    watch, began = Stopwatch(), time.perf_counter()
    with watch.part("adapt"):
        time.sleep(0.02)
        with watch.part("read"):
            time.sleep(0.02)
        time.sleep(0.02)
    total = time.perf_counter() - began
    assert watch.of("adapt") >= 0.04
    assert watch.of("read") >= 0.02
    assert watch.of("adapt") + watch.of("read") <= total
    assert watch.of("predict") == 0


def test_parts_of_several_threads_are_all_counted() -> None:
    watch, both = Stopwatch(), threading.Barrier(3)

    def work() -> None:
        with watch.part("post"):
            both.wait()
            time.sleep(0.02)

    others = [threading.Thread(target=work) for _ in range(2)]
    with watch.part("predict"):
        for other in others:
            other.start()
        both.wait()
        for other in others:
            other.join()
    assert watch.of("post") >= 0.04
    assert watch.of("predict") >= 0.02


@pytest.mark.parametrize(("shape", "axes"), [((3, 5, 7), None), ((3, 2, 5, 7), "TZYX"), ((3, 5, 7, 3), "TYXS")])
def test_a_movie_whose_reading_is_counted_is_the_same_movie(shape: tuple[int, ...], axes: str | None) -> None:
    array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    clip, watch = Clip(array, axes, frame_numbers=[4, 5, 9], name="toy"), Stopwatch()
    timed = timed_clip(clip, watch)
    assert (timed.labels_shape, timed.has_depth, timed.frame_numbers) == (clip.labels_shape, clip.has_depth, (4, 5, 9))
    assert (timed.dtype, timed.n_channels, timed.name) == (clip.dtype, clip.n_channels, "toy")
    assert watch.of("read") == 0
    for p in range(clip.n_planes):
        np.testing.assert_array_equal(timed.plane(p), clip.plane(p))
    np.testing.assert_array_equal(timed.intensity_range(), clip.intensity_range())
    assert watch.of("read") > 0


def test_making_labels_is_counted_and_changes_none() -> None:
    watch, meaning = Stopwatch(), LabelMeaning("look-alike", radius=3.0)
    maps = [PlaneMaps(np.pad(np.ones((1, 6, 6), np.float32), ((0, 0), (3, 3), (3, 3))), None, None)]
    timed = TimedMeaning.of(meaning, watch)
    np.testing.assert_array_equal(timed.labels(maps, 0.5), meaning.labels(maps, 0.5))
    assert timed.to_dict() == meaning.to_dict()
    assert watch.of("post") > 0
