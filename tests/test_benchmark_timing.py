"""Where the seconds of a measurement go."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from napari_osvos import benchmark_timing
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


def test_time_of_several_threads_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, now = Stopwatch(), 0.0
    monkeypatch.setattr(benchmark_timing, "time", SimpleNamespace(perf_counter=lambda: now))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other, watch.part("predict"):
        first, second = watch.part("post"), watch.part("post")
        now = 3.0
        one.submit(first.__enter__).result()
        now = 6.0  # 1.5 s each
        other.submit(second.__enter__).result()
        now = 12.0  # 2 s each
        other.submit(second.__exit__, None, None, None).result()
        now = 14.0  # 1 s each
        with watch.part("read"):
            now = 15.0  # half a second, the caller reads
        one.submit(first.__exit__, None, None, None).result()
        now = 20.0
    assert watch.seconds == {"predict": 3 + 1.5 + 2 + 1 + 5, "post": 1.5 + 4 + 1 + 0.5, "read": 0.5}
    assert sum(watch.seconds.values()) == 20


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
