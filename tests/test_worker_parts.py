"""The parts of the engine and of its client, each by itself."""

from __future__ import annotations

import gc
import io
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_desk import remote
from test_import import SCREEN_AND_TORCH, modules_after
from toy_clip import overlap, quick, tiny_parent, toy_clip

from napari_osvos.certainty import pixel_uncertainty
from napari_osvos.config import FineTuneConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.segmenter import Segmenter
from napari_osvos.worker import events, gpu
from napari_osvos.worker.__main__ import Tasks, WholeLines
from napari_osvos.worker.calibration import Calibration, estimated_seconds
from napari_osvos.worker.controls import Controls, RunCancelled, nearest_frame
from napari_osvos.worker.event_queue import EventQueue
from napari_osvos.worker.failures import failure
from napari_osvos.worker.filling import Filling
from napari_osvos.worker.learning import Previews, learn
from napari_osvos.worker.mailbox import Mailbox
from napari_osvos.worker.packing import (
    Wishes,
    pack_event,
)
from napari_osvos.worker.request import Request
from napari_osvos.worker.speed import calibrate


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    for name in ("fast", "spare"):
        (tmp_path / name).mkdir()
    return Mailbox([tmp_path / "fast", tmp_path / "spare"])


# -- requests and estimates ----------------------------------------------------------------------


def test_requests_that_cannot_be_are_refused() -> None:
    clip, annotations, _ = toy_clip()
    with pytest.raises(ValueError, match="nothing to segment with: paint a frame or choose a segmenter"):
        Request(clip)
    with pytest.raises(ValueError, match="frame in view is 3; toy has frames 0 to 2"):
        Request(clip, annotations, frame_in_view=3)
    with pytest.raises(ValueError, match="slice in view is 1; toy has slices 0 to 0"):
        Request(clip, annotations, z_in_view=1)
    with pytest.raises(ValueError, match="number of threads is 0"):
        Request(clip, annotations, threads=0)
    with pytest.raises(ValueError, match="An accepted frame is 3; toy has frames 0 to 2"):
        Request(clip, annotations, accepted=frozenset({1, 3}))


def test_the_estimate_can_be_worked_out_by_hand() -> None:
    speed = Calibration("cpu", seconds_per_step=0.1, seconds_per_megapixel=0.5)
    fast = FineTuneConfig(quality="fast", steps=40)
    common = {"n_planes": 10, "plane_shape": (1000, 1000)}
    assert estimated_seconds(speed, fast, **common) == pytest.approx((4.0, 5.0))
    assert estimated_seconds(speed, fast, **common, zoom=2.0) == pytest.approx((4.0, 20.0))
    assert estimated_seconds(speed, fast.replace(quality="best"), **common) == pytest.approx((4.0, 20.0))
    assert estimated_seconds(speed, fast.replace(crops=4, crop_size=128), **common) == pytest.approx((2.0, 5.0))
    assert estimated_seconds(speed, fast.replace(seconds=7.0), **common, flips=True) == pytest.approx((7.0, 20.0))
    assert estimated_seconds(speed, None, **common) == pytest.approx((0.0, 5.0))
    by_quality = fast.replace(steps=None)  # 36 updates, and twice as many of four planes
    assert estimated_seconds(speed, by_quality, **common) == pytest.approx((3.6, 5.0))
    assert estimated_seconds(speed, by_quality, **common, n_annotated=4) == pytest.approx((7.2, 5.0))
    published = fast.replace(quality="published")  # frames at three scales; of several passes all are whole
    assert estimated_seconds(speed, published, **common) == pytest.approx((60.0 * (1 + 0.8**2 + 0.5**2) / 3, 5.0))
    assert estimated_seconds(speed, published.replace(passes=5), **common) == pytest.approx((300.0, 5.0))


@pytest.mark.parametrize("changes", [{}, {"object_diameter": 64.0}, {"object_diameter": 4.0}, {"quality": "published"}])
def test_the_expected_zoom_is_that_of_fine_tuning(changes: dict[str, Any]) -> None:
    clip, annotations, _ = toy_clip()
    tuner = FineTuner(tiny_parent(), quick(steps=1, **changes), device="cpu")
    tuner.fit(clip, annotations)
    assert tuner.zoom == pytest.approx(tuner.config.zoom(annotations.object_diameter()))


def test_calibration_measures_and_ends_when_a_run_is_wanted() -> None:
    cpu = torch.device("cpu")
    speed = calibrate(tiny_parent(), cpu, lambda: True)
    assert speed is not None
    assert speed.device == "cpu"
    assert 0 < speed.seconds_per_step < 10
    assert 0 < speed.seconds_per_megapixel < 100
    assert calibrate(tiny_parent(), cpu, lambda: False) is None


# -- what the user wants -------------------------------------------------------------------------


def test_wishes_that_come_late_do_not_undo_later_ones() -> None:
    controls = Controls()
    controls.update(Wishes(1, 5, frame=3))
    controls.update(Wishes(1, 4, frame=9, cancelled=True))
    assert controls.wishes == Wishes(1, 5, frame=3)
    controls.check()


def test_a_pause_ends_with_its_end_and_looks_at_what_changes() -> None:
    controls = Controls()
    controls.update(Wishes(1, 1, paused=True))
    frames: list[int] = []
    coming = iter([Wishes(1, 2, frame=4, paused=True), Wishes(1, 3, frame=5)])

    def look() -> None:
        frames.append(controls.wishes.frame)
        threading.Thread(target=controls.update, args=(next(coming),)).start()

    controls.wait_while_paused(look)
    assert frames == [0, 4]
    controls.update(Wishes(1, 4, paused=True, cancelled=True))
    with pytest.raises(RunCancelled):
        controls.wait_while_paused()


def test_frames_are_filled_outwards_from_the_view() -> None:
    left = set(range(7))
    order = []
    for view in (3, 3, 3, 3, 0, 0, 0):
        order.append(nearest_frame(left, view))
        left.remove(order[-1])
    assert order == [3, 4, 2, 5, 0, 1, 6]


# -- learning and filling ------------------------------------------------------------------------


def _learned(previews_after_every_step: bool, **wishes: Any) -> tuple[Segmenter, list[events.Event]]:
    clip, annotations, _ = toy_clip()
    controls = Controls()
    controls.update(Wishes(1, 1, frame=1, **wishes))
    there, planes, _ = remote(clip, controls)
    tuner = FineTuner(tiny_parent(), quick(steps=12), device="cpu")
    told: list[events.Event] = []
    previews = Previews(tuner, there, planes, controls, told.append, None, probabilities=True)
    planes.plane(1)
    previews._is_due = lambda: previews_after_every_step  # type: ignore[method-assign]
    return learn(tuner, there, annotations, previews, controls, told.append)[0], told


def test_previews_change_nothing_of_what_is_learned() -> None:
    quiet, told = _learned(False)
    assert not any(isinstance(event, events.Preview) for event in told)
    shown, told = _learned(True)
    previews = [event for event in told if isinstance(event, events.Preview)]
    assert [event.step for event in previews] == list(range(1, 12))  # then comes the frame itself
    assert {(event.frame, event.z, event.labels.shape, event.labels.dtype.name) for event in previews} == {
        (1, None, (40, 56), "uint16")
    }
    for name, weights in quiet.net.state_dict().items():
        assert torch.equal(weights, shown.net.state_dict()[name]), name
    assert previews[-1].probability is not None
    probability = dict(shown.iter_probabilities(toy_clip()[0], [1]))[1]
    np.testing.assert_allclose(previews[-1].probability, probability, atol=0.1)
    assert overlap(previews[-1].labels, probability >= 0.5) > 0.5


def test_learning_can_be_ended_before_its_last_step_but_not_before_its_first() -> None:
    _, told = _learned(False, stop_learning=True)
    last = told[-1]
    assert isinstance(last, events.TrainingProgress)
    assert (last.step, last.steps) == (1, 12)


class Seen:
    """A review that keeps what it is shown."""

    def __init__(self) -> None:
        self.frames: list[int] = []

    def add(self, prediction: Any) -> None:
        self.frames.append(prediction.frame)


@pytest.mark.parametrize(("accepted", "filled"), [((), [0, 1, 2]), ((1,), [0, 2]), ((0, 1, 2), [])])
def test_accepted_frames_are_not_predicted(accepted: tuple[int, ...], filled: list[int]) -> None:
    controls, seen, told = Controls(), Seen(), []
    clip, planes, asked = remote(toy_clip()[0], controls)
    segmenter = Segmenter(tiny_parent().net, device="cpu")
    filling = Filling(segmenter, clip, planes, controls, accepted=accepted, review=seen)  # type: ignore[arg-type]
    assert filling.run(told.append, probabilities=True, uncertainty=True) is False
    assert [event.frame for event in told] == seen.frames == filled
    assert {event.total for event in told} <= {len(filled)}
    assert bool(asked) == bool(filled)
    for event in told:
        np.testing.assert_array_equal(event.uncertainty, pixel_uncertainty(event.probability))


def test_frames_that_are_predicted_at_once_are_told_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr("napari_osvos.plane_prediction.ONE_BY_ONE", ())
    monkeypatch.setattr("napari_osvos.plane_prediction.MOST_PLANES", 3)
    controls, told = Controls(), []
    clip, planes, _ = remote(toy_clip(n_frames=7)[0], controls)
    controls.update(Wishes(turn=1, frame=4))
    assert Filling(Segmenter(tiny_parent().net, device="cpu"), clip, planes, controls).run(told.append, False) is False
    assert [event.frame for event in told] == [4, 5, 3, 6, 2, 1, 0]
    assert [event.done for event in told] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.seconds_left == 0 for event in told] == [False] * 6 + [True]


def test_the_uncertainty_of_a_pixel_can_be_worked_out_by_hand() -> None:
    uncertainty = pixel_uncertainty(np.array([[0.0, 0.25, 0.5, 1.0]], np.float32))
    assert uncertainty.dtype == np.float16
    np.testing.assert_array_equal(uncertainty, [[0, 0.5, 1, 0]])


# -- what is said when something goes wrong ------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "device", "message"),
    [
        (ValueError("The paint is empty."), "cpu", "The paint is empty."),
        (FileNotFoundError("There is no file a.osvos."), "cpu", "There is no file a.osvos."),
        (KeyError("x"), "cpu", "The engine met an error that was not foreseen: KeyError: 'x'."),
        (RuntimeError("bad\nlong story"), "cpu", "The engine met an error that was not foreseen: RuntimeError: bad."),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to ..."),
            "cuda:0",
            "The GPU has not enough memory for this: close other programs that use it or choose a smaller crop size "
            "or tile, or compute on the CPU.",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"),
            "cpu",
            "The computer has not enough memory for this: close other programs that use it or choose a smaller crop "
            "size or tile.",
        ),
    ],
)
def test_every_error_becomes_one_sentence(error: Exception, device: str, message: str) -> None:
    assert failure(error, device).message == message


@pytest.mark.parametrize("driver", [None, "/usr/bin/nvidia-smi"])
@pytest.mark.parametrize("cuda", [None, "13.0"])
@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_why_there_is_no_gpu_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, cuda: str | None, platform: str
) -> None:
    monkeypatch.setattr(gpu.shutil, "which", lambda name: driver)
    monkeypatch.setattr(gpu.torch.version, "cuda", cuda)
    monkeypatch.setattr(gpu.sys, "platform", platform)
    why, remedy = gpu.why_not_gpu()
    assert why.endswith(".")
    assert bool(remedy) == (driver is not None and cuda is None and platform == "linux")


# -- threads -------------------------------------------------------------------------------------


def test_a_mistake_of_the_listener_does_not_end_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[events.Event] = []
    over = threading.Event()

    def listen(event: events.Event) -> None:
        heard.append(event)
        if len(heard) == 1:
            raise LookupError("a mistake")
        over.set()

    queue = EventQueue(listen)
    queue.put(events.Failed("one", ""))
    queue.put(events.Failed("unwanted", ""), lambda: False)
    queue.put(events.Cancelled())
    assert over.wait(10)
    assert [type(event) for event in heard] == [events.Failed, events.Cancelled]
    assert "a mistake" in capsys.readouterr().err
    queue.close()


def test_a_closed_queue_lets_go_of_its_listener(mailbox: Mailbox) -> None:
    class Listener:
        def hear(self, event: events.Event) -> None:
            """Nothing."""

    listener = Listener()
    gone = weakref.ref(listener)
    queue = EventQueue(listener.hear)
    queue.put(events.Cancelled())
    queue.close()
    queue.put(pack_event(events.Preview(0, None, np.zeros((2, 2), np.uint8), None, 1), mailbox))
    del listener
    deadline = time.monotonic() + 10
    while gone() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    assert gone() is None


def test_lines_of_several_threads_do_not_mix() -> None:
    stream = io.StringIO()
    lines = WholeLines(stream)

    def write(word: str) -> None:
        for _ in range(200):
            for letter in word:
                lines.write(letter)
            lines.write("\n")

    threads = [threading.Thread(target=write, args=(letter * 50,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stream.getvalue().split()) == sorted([letter * 50 for letter in "abc"] * 200)


def test_tasks_may_come_while_others_are_looked_through() -> None:
    tasks = Tasks(a=1, b=2)
    for name, _ in tasks.items():
        tasks[name * 2] = 3
    assert len(tasks) == 4


@pytest.mark.parametrize("home", ["worker", "worker.client", "worker.request", "worker.events", "worker.calibration"])
def test_the_client_loads_neither_torch_nor_a_screen(home: str) -> None:
    name = "from napari_osvos.worker import Engine, Request" if home == "worker" else f"import napari_osvos.{home}"
    assert not modules_after(name) & SCREEN_AND_TORCH
