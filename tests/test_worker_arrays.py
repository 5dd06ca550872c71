"""How planes, paint, requests and events get from one process to the other."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from engine_desk import movie_of, remote
from toy_clip import quick, toy_frames

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import PredictConfig
from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.intensity import PERCENTILES
from napari_osvos.suggest import Suggestion
from napari_osvos.worker import events
from napari_osvos.worker.calibration import Calibration
from napari_osvos.worker.controls import Controls, FillingStopped, RunCancelled
from napari_osvos.worker.mailbox import Mailbox
from napari_osvos.worker.packing import (
    Movie,
    Wishes,
    pack_event,
    pack_request,
    unpack_event,
    unpack_request,
)
from napari_osvos.worker.remote_planes import PlaneCache, RemotePlanes
from napari_osvos.worker.request import Request

# -- arrays between processes --------------------------------------------------------------------


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    for name in ("fast", "spare"):
        (tmp_path / name).mkdir()
    return Mailbox([tmp_path / "fast", tmp_path / "spare"])


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i4", "<f2", "<f4", "<f8", "?"])
def test_an_array_arrives_as_it_was_and_leaves_nothing_behind(mailbox: Mailbox, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)[:, ::2]
    address = mailbox.post(array)
    assert mailbox.unread() == 1
    taken = Mailbox.take(address)
    assert taken.dtype == array.dtype
    np.testing.assert_array_equal(taken, array)
    assert mailbox.unread() == 0
    with pytest.raises(OSError, match=r"\.npy"):
        Mailbox.take(address)


def test_what_the_fast_folder_does_not_take_goes_to_the_spare_one(mailbox: Mailbox) -> None:
    os.rmdir(mailbox.folders[0])
    address = mailbox.post(np.arange(3))
    assert Path(address).parent == mailbox.folders[1]
    assert mailbox.unread() == 1
    mailbox.remove()
    with pytest.raises(OSError, match="No such file"):
        mailbox.post(np.arange(3))
    assert mailbox.unread() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_memory_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    mailbox = Mailbox([tmp_path])
    (tmp_path / f"{os.getpid()}-0.npy").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left|requested and 0 written|full"):
        mailbox.post(np.zeros(100_000))
    assert list(tmp_path.iterdir()) == []


def test_new_mailboxes_are_private(tmp_path: Path) -> None:
    mailbox = Mailbox.create(memory=tmp_path)
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in mailbox.folders)
    mailbox.remove()
    assert not any(folder.exists() for folder in mailbox.folders)


def test_a_request_arrives_as_it_was(mailbox: Mailbox) -> None:
    frames, truth = toy_frames(4)
    paint = truth.copy()
    paint[1, :5] = 2
    paint[2, :5] = 9
    options = {"partial": (1,), "corrected": (2,), "background_label": 2, "void_label": 9}
    annotations = Annotations.from_labels(paint, frames=(0, 1, 2), **options)
    clip = Clip(frames, frame_numbers=(3, 5, 7, 9), name="a movie")
    request = Request(
        clip, annotations, quick(seed=3), PredictConfig(flips=True), "tiny.safetensors", device="cpu", threads=2,
        frame_in_view=2, probabilities=True, keep=Path("kept.osvos"), movie_token="a",
        accepted=frozenset({0, 2}), uncertainty=True,
    )  # fmt: skip
    order = unpack_request(json.loads(json.dumps(pack_request(request, Wishes(4, 7, 2), mailbox))))
    assert mailbox.unread() == 0
    assert (order.wishes, order.tuning, order.prediction) == (Wishes(4, 7, 2), request.tuning, request.prediction)
    assert (order.parent, order.start, order.device, order.threads) == (
        str(Path.cwd() / "tiny.safetensors"),
        None,
        "cpu",
        2,
    )
    assert (order.probabilities, order.keep) == (True, Path.cwd() / "kept.osvos")
    assert (order.accepted, order.uncertainty) == ({0, 2}, True)
    assert order.movie == Movie("a", "a movie", (4, 40, 56, 1), "|u1", (3, 5, 7, 9))
    assert order.annotations is not None
    assert order.annotations.planes == annotations.planes
    assert (order.annotations.frame_numbers, order.annotations.depth) == (annotations.frame_numbers, 1)
    for p in annotations:
        assert order.annotations.is_partial(p) == annotations.is_partial(p)
        assert order.annotations.weight(p) == annotations.weight(p) == (2.0 if p == 2 else 1.0)
        assert order.annotations[p].labels.dtype == annotations[p].labels.dtype
        np.testing.assert_array_equal(order.annotations.labels(p), annotations.labels(p))
        np.testing.assert_array_equal(order.annotations.known(p), annotations.known(p))


def test_events_arrive_as_they_were(mailbox: Mailbox) -> None:
    labels = np.eye(4, dtype=np.uint16)
    told: list[events.Event] = [
        events.EngineReady("cpu", "CPU", ("cpu",), "why", "how", 1.5),
        events.Calibrated(Calibration("cpu", 0.1, 0.2), "auto", None, "CPU, 2 threads"),
        events.TrainingProgress(1, 2, 0.5, 0.1, 0.2),
        events.TrainingDone(3, 0.5, False, Path("a.osvos")),
        events.TrainingDone(3, 0.5, False, None, ("A remark.", "Another.")),
        events.Finished(3, 1.0, True, {"parent": {"name": "lite"}}),
        events.Finished(
            3, 1.0, False, {}, (Suggestion(7, 0.5, 0.25, "borders uncertain"),), ExpectedAccuracy(0.9, 0.8, 0.95)
        ),
        events.Failed("A sentence.", "Traceback"),
        events.Cancelled(),
    ]
    for event in told:
        assert unpack_event(json.loads(json.dumps(pack_event(event, mailbox)))) == event
    frame = events.FrameDone(2, labels, labels.astype(np.float32), 0.9, 1, 3, 2.0, labels.astype(np.float16))
    there = unpack_event(pack_event(frame, mailbox))
    assert isinstance(there, events.FrameDone)
    np.testing.assert_array_equal(there.labels, labels)
    np.testing.assert_array_equal(there.probability, labels)
    assert there.probability.dtype == np.float32
    assert there.uncertainty is not None
    np.testing.assert_array_equal(there.uncertainty, labels)
    assert there.uncertainty.dtype == np.float16
    assert mailbox.unread() == 0


# -- planes from another process -----------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 250, (3, 2, 6, 8))


@pytest.mark.parametrize(
    ("array", "axes", "channels"),
    [
        (PIXELS[:, 0].astype(np.uint8), "TYX", None),
        (PIXELS.astype(">u2"), "TZYX", None),
        (PIXELS.astype(np.float32) / 3, "TCYX", (1,)),
        (PIXELS.transpose(1, 0, 2, 3).astype(np.int64), "CTYX", (1, 0)),
        (PIXELS[:, 0] > 99, "TYX", None),
        (PIXELS[0, 0].astype(np.uint16), "YX", None),
        (np.stack([PIXELS] * 4, -1).astype(np.uint8), "TZYXS", None),
    ],
)
def test_a_clip_over_remote_planes_is_the_same(array: np.ndarray, axes: str, channels: tuple[int, ...] | None) -> None:
    clip = Clip(array, axes, channels=channels)
    there, _, asked = remote(clip)
    assert (there.labels_shape, there.n_channels, there.dtype) == (clip.labels_shape, clip.n_channels, clip.dtype)
    for p in range(clip.n_planes):
        assert there.plane(p).dtype == clip.plane(p).dtype
        np.testing.assert_array_equal(there.plane(p), clip.plane(p))
    np.testing.assert_array_equal(there.percentiles(PERCENTILES), clip.percentiles(PERCENTILES))
    assert sorted(asked) == list(range(clip.n_planes))  # each once


def test_planes_beyond_the_limit_are_asked_for_again() -> None:
    clip = Clip(PIXELS[:, 0].astype(np.uint8))
    there, _, asked = remote(clip, cache_bytes=100)
    for p in (0, 0, 1, 1, 2, 0):
        np.testing.assert_array_equal(there.plane(p), clip.plane(p))
    assert asked == [0, 1, 2, 0]


def test_the_cache_keeps_what_was_used_last() -> None:
    cache = PlaneCache(limit=30)
    for p in (0, 1, 2):
        cache[p] = np.zeros(10, np.uint8)
    assert cache[0] is not None
    cache[3] = np.zeros(10, np.uint8)
    assert [p in cache for p in range(4)] == [True, False, True, True]
    cache[4] = np.zeros(100, np.uint8)
    assert [p in cache for p in range(5)] == [False, False, False, False, True]
    assert cache.size == 100


def test_what_is_fetched_in_advance_is_not_asked_for_twice() -> None:
    clip = Clip(PIXELS[:, 0].astype(np.uint8))
    there, planes, asked = remote(clip)
    planes.prefetch([1, 2])
    there.plane(1)
    assert asked == [1, 2]
    _, planes, asked = remote(clip, cache_bytes=100)
    planes.prefetch([1, 2])
    assert asked == []  # there would be no room


def test_a_plane_that_cannot_be_read_is_an_error_once_it_is_wanted() -> None:
    planes = RemotePlanes(movie_of(Clip(PIXELS[:, 0])), Controls())
    planes.connect(lambda wanted: planes.deliver(wanted[0], None, "Frame 1 cannot be read."))
    planes.prefetch([1])
    with pytest.raises(OSError, match="Frame 1 cannot be read."):
        planes.plane(1)
    planes.connect(lambda wanted: planes.deliver(wanted[0], np.zeros((6, 8, 1))))
    assert planes.plane(1).shape == (6, 8, 1)  # another run may have more luck


@pytest.mark.parametrize(("wish", "error"), [("cancelled", RunCancelled), ("stop_filling", FillingStopped)])
def test_waiting_for_a_plane_ends_when_the_user_wants_no_more(wish: str, error: type[Exception]) -> None:
    controls = Controls()
    planes = RemotePlanes(movie_of(Clip(PIXELS[:, 0])), controls)  # whose planes never come
    threading.Timer(0.1, controls.update, (Wishes(1, 1, **{wish: True}),)).start()
    began = time.perf_counter()
    with pytest.raises(error):
        planes.plane(0)
    assert time.perf_counter() - began < 30
