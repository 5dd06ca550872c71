"""Runs of a real engine process: it learns, previews, fills, follows the view, pauses, is stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from engine_desk import ENDLESS, Desk, SlowFrames, until
from toy_clip import overlap, toy_clip, toy_frames
from toy_files import QUICK, write_toy_files
from waiting import standstill

from napari_osvos import Segmenter, read_clip, read_labels
from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig, PredictConfig
from napari_osvos.worker import Request
from napari_osvos.worker.events import (
    Calibrated,
    Finished,
    FrameDone,
    Preview,
    TrainingDone,
    TrainingProgress,
)

# -- a run, from beginning to end ----------------------------------------------------------------


# Each runs in an engine process.
pytestmark = pytest.mark.slow


def test_a_run_learns_previews_and_fills_outwards(desk: Desk) -> None:
    desk.begin(steps=ENDLESS, frame_in_view=3, probabilities=True)
    preview = desk.log.wait_for(Preview)
    desk.engine.stop_and_keep()  # a quick machine would be done before the first preview, whatever the steps
    last = desk.log.wait_for(Finished)
    kinds = [type(event) for event in desk.log.events]
    assert kinds.index(Preview) < kinds.index(TrainingDone) < kinds.index(FrameDone) < kinds.index(Finished)
    assert set(desk.log.previewed) == {3}
    assert desk.log.frames == [3, 4, 2, 1, 0]
    assert (last.frames, last.stopped) == (5, False)
    assert preview.labels.shape == (40, 56)
    assert preview.probability is not None
    assert preview.probability.dtype == np.float16


def test_a_run_learns_to_its_last_step_and_keeps_what_it_has_learned(desk: Desk, tmp_path: Path) -> None:
    _, _, truth = toy_clip(5)
    last = desk.run(steps=150, keep=tmp_path / "new" / "toy.osvos", probabilities=True)
    assert isinstance(last, Finished), last
    assert last.provenance["annotated_frames"] == [0]
    progress = desk.log.of(TrainingProgress)
    assert (progress[0].step, progress[-1].step, progress[-1].steps) == (1, 150, 150)
    assert progress[-1].seconds_left == 0
    done = desk.log.of(TrainingDone)[0]
    assert (done.steps, done.stopped_early, done.segmenter) == (150, False, tmp_path / "new" / "toy.osvos")
    segmenter = Segmenter.load(tmp_path / "new" / "toy.osvos", "cpu")
    for event in desk.log.of(FrameDone):
        assert event.labels.dtype == np.uint16
        assert overlap(event.labels, truth[event.frame]) > 0.8
        assert event.probability is not None
        assert event.probability.dtype == np.float32
        assert 0 < event.confidence <= 1
    assert [event.done for event in desk.log.of(FrameDone)] == [1, 2, 3, 4, 5]
    assert desk.log.of(FrameDone)[-1].seconds_left == 0
    assert segmenter.provenance == last.provenance


def test_the_speed_is_measured_as_it_is_asked_for(desk: Desk) -> None:
    desk.engine.calibrate("cpu", 3)
    desk.engine.calibrate("cpu", 2)
    until(lambda: any(event.threads == 2 for event in desk.log.of(Calibrated)))
    told = desk.log.of(Calibrated)[-1]
    assert (told.device, told.calibration.device) == ("cpu", "cpu")
    assert told.device_words.startswith("CPU, 2 threads")
    assert told.calibration.seconds_per_step > 0
    desk.engine.calibrate()


def test_labels_are_those_of_the_command_line_bit_for_bit(desk: Desk, tmp_path: Path) -> None:
    toy = write_toy_files(tmp_path)
    words = ["segment", toy.movie, "-a", toy.painted, "-o", tmp_path / "labels.tif", "--parent", toy.parent]
    words += [*QUICK, "--probabilities", tmp_path / "p.tif", "--save", tmp_path / "cli.osvos", "--threads", "1"]
    subprocess.run([sys.executable, "-m", "napari_osvos", *map(str, words)], check=True, capture_output=True)
    settings = {"steps": 30, "crops": 2, "crop_size": 48, "learning_rate": 0.02, "object_diameter": 24.0}
    request = Request(
        read_clip(toy.movie),
        Annotations.from_labels(read_labels(toy.painted)),
        FineTuneConfig(**settings, average_decay=0.9),
        parent=str(toy.parent),
        device="cpu",
        threads=1,
        frame_in_view=2,
        probabilities=True,
        keep=tmp_path / "engine.osvos",
    )
    desk.log.clear()
    desk.engine.run(request)
    desk.log.wait_for(Finished)
    labels, probabilities = tifffile.imread(tmp_path / "labels.tif"), tifffile.imread(tmp_path / "p.tif")
    assert len(desk.log.of(FrameDone)) == len(labels)
    for event in desk.log.of(FrameDone):
        np.testing.assert_array_equal(event.labels, labels[event.frame])
        np.testing.assert_array_equal(event.probability, probabilities[event.frame])
    one, other = (Segmenter.load(tmp_path / f"{name}.osvos", "cpu") for name in ("cli", "engine"))
    assert all((a == b).all() for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True))


def test_refining_goes_on_from_the_kept_network_and_reads_no_plane_twice(desk: Desk, tmp_path: Path) -> None:
    frames, truth = toy_frames(5)
    movie = SlowFrames(frames)
    clip = Clip(movie, name="toy")
    desk.run(clip, steps=60, keep=tmp_path / "one.osvos", movie_token="toy")
    assert sorted(movie.reads) == [0, 1, 2, 3, 4]
    painted = Annotations.from_labels(truth, frames=(0, 3))
    more = {"start": tmp_path / "one.osvos", "keep": tmp_path / "two.osvos", "movie_token": "toy"}
    last = desk.run(clip, painted, steps=20, **more)
    assert isinstance(last, Finished), last
    assert last.provenance["continued"]
    assert len(movie.reads) == 5
    assert len(desk.log.of(FrameDone)) == 5
    desk.run(clip, steps=2, movie_token="another")
    assert len(movie.reads) == 10


def test_a_kept_segmenter_is_applied_without_paint(desk: Desk, tmp_path: Path) -> None:
    desk.run(steps=60, keep=tmp_path / "toy.osvos")
    labels = {event.frame: event.labels for event in desk.log.of(FrameDone)}
    last = desk.run(None, None, start=tmp_path / "toy.osvos", prediction=PredictConfig(threshold=0.999))
    assert isinstance(last, Finished), last
    assert not desk.log.of(TrainingDone, Preview, TrainingProgress)
    strict = {event.frame: event.labels for event in desk.log.of(FrameDone)}
    assert all((strict[t] <= labels[t]).all() and strict[t].sum() < labels[t].sum() for t in labels)
    desk.run(None, None, start=tmp_path / "toy.osvos")
    assert all((event.labels == labels[event.frame]).all() for event in desk.log.of(FrameDone))


def test_accepted_frames_are_not_predicted_and_annotated_ones_not_suggested(desk: Desk, tmp_path: Path) -> None:
    _, truth = toy_frames(5)
    painted = Annotations.from_labels(truth, frames=(0, 3), corrected=(3,))
    more = {"accepted": frozenset({3}), "uncertainty": True, "keep": tmp_path / "toy.osvos"}
    last = desk.run(None, painted, steps=20, frame_in_view=3, **more)
    assert isinstance(last, Finished), last
    assert sorted(desk.log.frames) == [0, 1, 2, 4]
    assert desk.log.frames[0] == 4  # the nearest to the frame in view
    assert [(event.done, event.total) for event in desk.log.of(FrameDone)] == [(n, 4) for n in (1, 2, 3, 4)]
    assert {event.uncertainty.dtype for event in desk.log.of(FrameDone)} == {np.dtype(np.float16)}
    assert {event.probability for event in desk.log.of(FrameDone)} == {None}
    assert last.frames == 4
    assert {suggestion.frame for suggestion in last.suggestions} == {1, 2, 4}
    gains = [suggestion.gain for suggestion in last.suggestions]
    assert gains == sorted(gains, reverse=True)
    for name, suggested in (("toy", {1, 2, 4}), ("another", {0, 1, 2, 3, 4})):
        last = desk.run(Clip(toy_frames(5)[0], name=name), None, start=tmp_path / "toy.osvos")
        assert isinstance(last, Finished), last
        assert {suggestion.frame for suggestion in last.suggestions} == suggested
    last = desk.run(None, None, start=tmp_path / "toy.osvos", accepted=frozenset(range(5)))
    assert isinstance(last, Finished), last
    assert (last.frames, last.suggestions, desk.log.frames) == (0, (), [])


def test_a_movie_with_depth_is_segmented_frame_by_frame(desk: Desk) -> None:
    frames, truth = toy_frames(6)
    clip = Clip(frames.reshape(3, 2, 40, 56), "TZYX")
    painted = Annotations.from_labels(np.where(np.arange(6)[:, None, None] == 0, truth, 0).reshape(3, 2, 40, 56))
    desk.begin(clip, painted, steps=ENDLESS, frame_in_view=1, z_in_view=1)
    preview = desk.log.wait_for(Preview)
    assert (preview.frame, preview.z) == (1, 1)
    desk.engine.cancel()
    desk.log.wait_for_end()
    last = desk.run(clip, painted, steps=120, frame_in_view=1, z_in_view=1)
    assert isinstance(last, Finished), last
    assert desk.log.frames == [1, 2, 0]
    for event in desk.log.of(FrameDone):
        assert event.labels.shape == (2, 40, 56)
        assert overlap(event.labels, truth.reshape(3, 2, 40, 56)[event.frame]) > 0.7


# -- what the user may want meanwhile ------------------------------------------------------------


def test_the_preview_follows_the_view_also_in_a_pause(desk: Desk) -> None:
    desk.begin(steps=ENDLESS)
    desk.log.wait_for(Preview)
    desk.engine.view(4)
    until(lambda: 4 in desk.log.previewed)
    desk.engine.pause()
    desk.engine.view(2)
    until(lambda: desk.log.previewed[-1] == 2)  # what was wished before is heeded by now, the pause too
    steps = len(desk.log.of(TrainingProgress))
    desk.engine.view(77)  # which the movie does not have
    desk.engine.view(1)
    until(lambda: desk.log.previewed[-1] == 1)
    assert len(desk.log.of(TrainingProgress)) == steps
    desk.engine.resume()
    until(lambda: len(desk.log.of(TrainingProgress)) > steps)


def test_stop_and_keep_ends_learning_then_filling(desk: Desk, tmp_path: Path) -> None:
    frames, _ = toy_frames(5)
    movie = SlowFrames(frames)
    desk.begin(Clip(movie), steps=ENDLESS, keep=tmp_path / "toy.osvos")
    desk.log.wait_for(Preview)
    movie.seconds = 1.0  # from now on; the filling has to wait for planes
    assert len(movie.reads) == 5  # but those are there already: another movie has more
    desk.engine.stop_and_keep()
    last = desk.log.wait_for(Finished)
    done = desk.log.of(TrainingDone)[0]
    assert done.stopped_early
    assert 0 < done.steps < ENDLESS
    assert (tmp_path / "toy.osvos").is_file()
    assert (last.frames, last.stopped) == (5, False)

    slow = Clip(SlowFrames(np.concatenate([frames] * 8), 0.3))
    desk.begin(slow, None, start=tmp_path / "toy.osvos")
    desk.log.wait_for(FrameDone, count=2)
    desk.engine.stop_and_keep()
    last = desk.log.wait_for(Finished)
    assert last.stopped
    assert last.frames == len(desk.log.frames) < 40


def test_filling_goes_where_the_view_goes(desk: Desk, tmp_path: Path) -> None:
    frames, _ = toy_frames(5)
    desk.run(steps=2, keep=tmp_path / "toy.osvos")
    desk.begin(Clip(SlowFrames(np.concatenate([frames] * 6), 0.1)), None, start=tmp_path / "toy.osvos", frame_in_view=2)
    desk.log.wait_for(FrameDone, count=3)
    assert desk.log.frames[:3] == [2, 3, 1]
    desk.engine.pause()  # or a slow machine would be far ahead by the time that it hears of the view
    before = standstill(lambda: len(desk.log.frames))
    desk.engine.view(20)
    desk.engine.resume()
    desk.log.wait_for(FrameDone, count=before + 5)
    there = desk.log.frames.index(20)
    assert there <= before + 1  # one may have been at work
    assert desk.log.frames[there : there + 3] == [20, 21, 19]
    desk.engine.pause()
    count = standstill(lambda: len(desk.log.frames))
    time.sleep(0.5)
    assert len(desk.log.frames) == count
    desk.engine.resume()
    desk.log.wait_for(FrameDone, count=count + 2)


def test_one_run_at_a_time(desk: Desk) -> None:
    desk.begin(steps=ENDLESS)
    with pytest.raises(ValueError, match="busy with a run; wait for its end or cancel it"):
        desk.engine.run(desk.request())
    desk.log.wait_for(TrainingProgress)
