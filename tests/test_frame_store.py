"""The folder of frames that are finished: whole or not at all, gone on with or not mixed."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_osvos import frame_marks, frame_store, machine, read_labels
from napari_osvos.frame_store import FrameStore
from napari_osvos.labels import values_in
from napari_osvos.machine import aside, tidy
from napari_osvos.path_facts import path_facts
from napari_osvos.predict_job import PredictJob
from napari_osvos.unfinished import check_unclaimed, claim, own_outputs, unfinished_path
from napari_osvos.writing import replacing_folder

SHAPE = (4, 30, 20)
IDENTITY = {"movie": {"path": "a.tif"}, "segmenter": "12", "prediction": {}}


def _frame(t: int) -> np.ndarray:
    frame = np.zeros(SHAPE[1:], np.uint16)
    frame[t : t + 3, 2:5] = t + 1
    return frame


def _open(folder: Path, **more: object) -> FrameStore:
    return FrameStore.open(folder / "unfinished-x.zarr", **{"shape": SHAPE, "identity": IDENTITY, **more})  # type: ignore[arg-type]


def test_frames_are_gone_on_with(tmp_path: Path) -> None:
    store = _open(tmp_path, probabilities=True, uncertainty=True)
    assert store.missing == (0, 1, 2, 3)
    probability = np.linspace(0, 1, 600, dtype=np.float32).reshape(SHAPE[1:])
    half = probability.astype(np.float16)
    store.write(2, _frame(2), confidence=0.75, probability=probability, uncertainty=half, novelty=0.1, seconds=2)
    store.write(0, _frame(0), confidence=None, probability=probability, uncertainty=half)
    again = _open(tmp_path, probabilities=True, uncertainty=True)
    assert again.finished == (0, 2)
    assert again.missing == (1, 3)
    assert again.confidence == {2: 0.75}
    about = again.about(2)
    assert (about.novelty, about.seconds, about.largest, about.n_objects) == (0.1, 2, 3, 1)
    np.testing.assert_array_equal(again.labels(2), _frame(2))
    np.testing.assert_array_equal(again.probability(2), probability)
    np.testing.assert_array_equal(again.pixel_uncertainty(2), half)
    stack = again.stack(frame_numbers=(10, 11, 12, 13))
    assert stack.frame_numbers == (10, 12)
    np.testing.assert_array_equal(np.asarray(stack), [_frame(0), _frame(2)])
    with pytest.raises(KeyError):
        again.labels(1)


def test_a_store_is_an_image_that_opens_while_it_is_filled(tmp_path: Path) -> None:
    store = _open(tmp_path, frame_numbers=(5, 6, 7, 8))
    store.write(1, _frame(1), confidence=0.5)
    opened = read_labels(store.path)
    assert opened.shape == SHAPE
    assert opened.frame_numbers == (5, 6, 7, 8)
    np.testing.assert_array_equal(np.asarray(opened), [0 * _frame(0), _frame(1), 0 * _frame(0), 0 * _frame(0)])


def test_large_labels_of_stacks(tmp_path: Path) -> None:
    store = _open(tmp_path, shape=(2, 3, 5, 4))
    frame = np.arange(60).reshape(3, 5, 4) * 70_000_000
    store.write(1, frame, confidence=1)
    assert store.about(1).largest == 59 * 70_000_000
    np.testing.assert_array_equal(np.asarray(store._labels[1]), frame)
    with pytest.raises(ValueError, match=r"labels of frame 0 are \(3, 5\) pixels; frames are \(3, 5, 4\)"):
        store.write(0, frame[..., 0], confidence=1)
    with pytest.raises(ValueError, match="no frame at position 2; it has 2 frames"):
        store.write(2, frame, confidence=1)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"identity": {**IDENTITY, "segmenter": "13"}}, "segmenter"),
        ({"identity": {**IDENTITY, "movie": {"path": "b.tif"}, "prediction": {"flips": True}}}, "movie, prediction"),
        ({"shape": (5, 30, 20)}, "movie"),
        ({"probabilities": True}, "choice of files"),
    ],
)
def test_what_follows_from_something_else_is_not_mixed(tmp_path: Path, more: dict[str, object], what: str) -> None:
    _open(tmp_path).write(1, _frame(1), confidence=0.5)
    with pytest.raises(ValueError, match=f"finished with another {what}; repeat .* --force"):
        _open(tmp_path, **more)
    assert _open(tmp_path).finished == (1,)
    assert _open(tmp_path, overwrite=True).finished == (1,)  # the same one is not begun afresh
    assert _open(tmp_path, **more, overwrite=True).finished == ()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "unfinished-x.zarr"
    folder.mkdir()
    (folder / "precious").touch()
    (folder / "zarr.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="is no folder of unfinished frames"):
            _open(tmp_path, overwrite=overwrite)
    assert (folder / "precious").exists()


def test_what_a_power_cut_damaged_is_missing_again(tmp_path: Path) -> None:
    store = _open(tmp_path)
    for t in range(4):
        store.write(t, _frame(t), confidence=0.5)
    chunks = sorted(path for path in (store.path / "0" / "c").rglob("*") if path.is_file())
    chunks[0].write_bytes(b"")  # the mark came to the disk, its pixels did not
    chunks[1].unlink()
    (store.path / "frames" / "00002.json").write_text("{")
    again, seen = _open(tmp_path), []
    assert again.drop_damaged(lambda *given: seen.append(given)) == (0, 1, 2)
    assert again.missing == (0, 1, 2)
    assert seen[-1] == (4, 4)


def test_a_power_cut_that_damaged_the_probabilities_alone_is_seen(tmp_path: Path) -> None:
    store, probability = _open(tmp_path, probabilities=True), np.full(SHAPE[1:], 0.5, np.float32)
    for t in range(2):
        store.write(t, _frame(t), confidence=0.5, probability=probability)
    (store.path / "probability" / "0" / "c" / "1" / "0" / "0").write_bytes(b"")
    assert _open(tmp_path, probabilities=True).drop_damaged() == (1,)


def test_a_store_that_was_removed_does_not_come_back_by_halves(tmp_path: Path) -> None:
    """As when a client is stopped while a worker is still at a frame of it."""
    store = _open(tmp_path)
    worker = FrameStore(store.path)
    store.remove()
    with pytest.raises(FileNotFoundError, match="There is no folder .*unfinished-x.zarr any more; frame 1"):
        worker.write(1, _frame(1), confidence=0.5)
    assert not list(tmp_path.iterdir())
    assert _open(tmp_path).finished == ()


def test_a_full_disk_is_a_sentence_and_the_frame_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _open(tmp_path)
    store.write(0, _frame(0), confidence=0.5)
    with monkeypatch.context() as full:
        full.setattr(frame_marks, "replacing", _no_space)
        with pytest.raises(OSError, match="became full while frame 1 was written to .*unfinished-x") as caught:
            store.write(1, _frame(1), confidence=0.5)
    assert caught.value.errno == errno.ENOSPC
    assert store.finished == (0,)
    store.write(1, _frame(1), confidence=0.5)
    assert store.finished == (0, 1)


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


_FILL = """
import sys, numpy as np
from napari_osvos.frame_store import FrameStore
store = FrameStore(sys.argv[1])
for t in range(int(sys.argv[2]), store.n_frames, 2):
    store.write(t, np.full(store.shape[1:], t + 1), confidence=t / 100)
"""


def test_two_processes_fill_one_store(tmp_path: Path) -> None:
    store = _open(tmp_path, shape=(20, 30, 20))
    runs = [subprocess.Popen([sys.executable, "-c", _FILL, str(store.path), str(first)]) for first in (0, 1)]
    assert [run.wait(120) for run in runs] == [0, 0]
    assert store.missing == ()
    assert [frame[0, 0] for frame in store.stack()] == list(range(1, 21))
    assert store.drop_damaged() == ()


# -- whose it is, and what dead processes leave ----------------------------------------------


def test_the_folder_lies_beside_the_output() -> None:
    assert unfinished_path("out/labels.tif") == Path("out/unfinished-labels.tif.zarr")
    assert unfinished_path("labels.ome.zarr") == Path("unfinished-labels.ome.zarr")


def test_only_one_process_fills_a_folder(tmp_path: Path) -> None:
    folder = _open(tmp_path).path
    code = "import sys; from napari_osvos.unfinished import claim; claim(sys.argv[1], []); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ValueError, match=rf"being filled by another run \(process {other.pid}\)"):
            claim(folder, [])
        other.communicate(b"\n")
    claim(folder, [tmp_path / "labels.tif"])  # it has ended
    claim(folder, [tmp_path / "labels.json"])
    assert own_outputs(folder) == {tmp_path / "labels.tif", tmp_path / "labels.json"}
    assert own_outputs(tmp_path / "nowhere") == frozenset()


def test_a_run_that_ended_and_was_not_asked_how_holds_no_folder(tmp_path: Path) -> None:
    folder = _open(tmp_path).path
    code = "import sys; from napari_osvos.unfinished import claim; claim(sys.argv[1], []); print(flush=True)"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.read()
        _wait_for_end(other.pid)
        claim(folder, [])


def _wait_for_end(pid: int) -> None:
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_a_process_that_took_over_the_number_of_a_dead_one_holds_no_folder(tmp_path: Path) -> None:
    folder = _open(tmp_path).path
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        began = psutil.Process(other.pid).create_time()
        for earlier, is_it in ((1, True), (3600, False)):  # clocks are set by a second or so
            process = {"host": socket.gethostname(), "pid": other.pid, "began": began - earlier}
            (folder / "run.json").write_text(json.dumps({"process": process}))
            with pytest.raises(ValueError, match="being filled") if is_it else nullcontext():
                check_unclaimed(folder)
        other.communicate(b"\n")


@pytest.fixture
def alive() -> Iterator[int]:
    """A process that runs."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


@pytest.fixture
def dead() -> Iterator[int]:
    """A process that has ended, which its parent has not noticed."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        _wait_for_end(process.pid)
        yield process.pid


def _of(monkeypatch: pytest.MonkeyPatch, path: Path, state: str, pid: int, host: str = "here") -> Path:
    """Return the name that a process would write to."""
    with monkeypatch.context() as other:
        other.setattr(machine.os, "getpid", lambda: pid)
        other.setattr(machine.socket, "gethostname", lambda: host)
        return aside(path, state)


def test_leftovers_of_dead_processes_are_tidied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: int, dead: int
) -> None:
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "here")
    path = tmp_path / "x.zarr"
    left, moved = (_of(monkeypatch, path, state, dead) for state in ("partial", "old"))
    for folder in (left, moved):
        folder.mkdir()
    (left / "zarr.json").touch()
    (moved / "precious").touch()
    names = (".y.1-0123abcd.partial", ".x.zarr.partial", "x")
    others = [_of(monkeypatch, path, "partial", alive), *(tmp_path / name for name in names)]
    for other in others:
        other.touch()
    tidy(path)
    assert sorted(tmp_path.iterdir()) == sorted([*others, path])
    assert (path / "precious").exists()


def test_processes_of_two_computers_do_not_get_in_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.zarr"
    theirs = _of(monkeypatch, path, "partial", os.getpid(), "there")
    with replacing_folder(path) as mine:
        mine.mkdir()
        assert theirs != mine
        (theirs / "0").mkdir(parents=True)
    assert sorted(tmp_path.iterdir()) == sorted([theirs, path])
    long_ago = time.time() - 2 * machine.ABANDONED
    os.utime(theirs, (long_ago, long_ago))
    tidy(path)
    assert theirs.exists()  # what is in it was written just now
    os.utime(theirs / "0", (long_ago, long_ago))
    tidy(path)
    assert not theirs.exists()


# -- a job as plain data ---------------------------------------------------------------------


def test_a_job_goes_through_json(tmp_path: Path) -> None:
    job = PredictJob("a.tif", "s.osvos", "out/x.ome.zarr", channels=(0, 2), settings={"flips": True}, uncertainty=True)
    assert PredictJob.from_dict(json.loads(json.dumps(job.to_dict()))) == job
    assert job.unfinished == Path("out/unfinished-x.ome.zarr")


def test_a_movie_that_changes_is_another(tmp_path: Path) -> None:
    folder = tmp_path / "movie"
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "0").write_bytes(b"12")
    before = path_facts(folder)
    assert (before["files"], before["bytes"]) == (1, 2)
    assert path_facts(folder) == before
    kept = FrameStore.open(folder / "unfinished-x.zarr", shape=SHAPE, identity=IDENTITY)
    claim(kept.path, [])
    kept.write(1, _frame(1), confidence=0.5)
    assert path_facts(folder) == before  # labels of the movie that are beside its frames are none of it
    (folder / "c" / "1").write_bytes(b"3")
    assert path_facts(folder) != before


@pytest.mark.slow
def test_what_is_kept_of_a_frame_takes_no_copies_of_it(tmp_path: Path) -> None:
    rng, shape = np.random.default_rng(0), (1, 2048, 2048)
    labels = rng.integers(0, 2**17, shape[1:]).astype(np.uint32)
    store = FrameStore.open(tmp_path / "unfinished-x.zarr", shape=shape, identity=IDENTITY)
    tracemalloc.start()
    try:
        assert frame_store._checksum(labels) == zlib.crc32(labels.tobytes())
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        frame_store._checksum(labels)
        assert tracemalloc.get_traced_memory()[1] - before < labels.nbytes / 8
    finally:
        tracemalloc.stop()
    store.write(0, labels, confidence=None)
    assert store.about(0).largest == labels.max()
    assert store.about(0).n_objects == len(np.unique(labels[labels > 0]))
    np.testing.assert_array_equal(store.labels(0), labels)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (7, 3000), (3000, 2000), (3, 40, 50)])
def test_values_are_collected_strip_by_strip(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint32)
    np.testing.assert_array_equal(values_in(labels), np.unique(labels))
