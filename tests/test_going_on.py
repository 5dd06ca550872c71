"""A run that is killed at any moment, or fails, goes on where it was with the same command, and ends the same."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
import torch
from toy_clip import quick, tiny_parent, toy_clip, toy_frames
from toy_files import QUICK, ToyFiles, write_cells, write_toy_files

from napari_osvos import (
    Clip,
    FineTuner,
    Segmenter,
    frame_marks,
    parallel_frames,
    pipeline,
    plane_prediction,
    read_clip,
    read_labels,
)
from napari_osvos.cli import main, segment
from napari_osvos.frame_store import FrameStore
from napari_osvos.intensity import movie_intensity
from napari_osvos.labelling import PlaneMaps
from napari_osvos.pipeline import MOST_PLANES, predict_frames
from napari_osvos.segmenter import FrameMaps


@pytest.fixture(scope="module")
def look_alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter of objects that are cut apart, in a file."""
    clip, annotations, _ = toy_clip()
    path = tmp_path_factory.mktemp("segmenter") / "toy.osvos"
    FineTuner(tiny_parent(), quick(task="look-alike")).fit(clip, annotations).save(path)
    return path


@pytest.fixture
def toy(tmp_path: Path) -> ToyFiles:
    return write_toy_files(tmp_path, n_frames=6)


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-osvos: error: ")]
    assert len(lines) == 1, lines
    return lines[0]


# -- killed ----------------------------------------------------------------------------------

# Runs the command line, and kills itself without a word when a function is called for the n-th time.
_KILLED = """
import importlib, os, signal, sys
place, count, *words = sys.argv[1:]
module, names = place.split(":")
owner = importlib.import_module(module)
*path, name = names.split(".")
for part in path:
    owner = getattr(owner, part)
real, calls = getattr(owner, name), []
def until(*given, **more):
    calls.append(1)
    if len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **more)
setattr(owner, name, until)
from napari_osvos.cli import main
sys.exit(main(words))
"""
_MOMENTS = [
    ("napari_osvos.cli.unfinished_run:write_json", 1, 0),  # the segmenter is in the folder, but does not count yet
    ("napari_osvos.frame_marks:replacing", 3, 2),  # learned; the pixels of the third frame are there, its mark is not
    ("napari_osvos.writing:_expect_end", 1, 5),  # the labels are written, but not under their name
    ("napari_osvos.frame_store:FrameStore.remove", 1, 5),  # all is written
]


def _kill_at(place: str, count: int, words: list[str]) -> None:
    code = subprocess.run([sys.executable, "-c", _KILLED, place, str(count), *words], capture_output=True).returncode
    assert code == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_segment_killed_again_and_again_ends_as_if_it_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_cells(tmp_path)

    def words(out: str) -> list[str]:
        paths = ["-o", folder / out / "labels.tif", "--save", folder / out / "cells.osvos"]
        paths += ["--probabilities", folder / out / "p.ome.zarr", "--uncertainty", folder / out / "u.tif"]
        paths += [
            "--export",
            folder / out / "cells.csv",
            "--export",
            folder / out / "RES",
            "--json",
            folder / out / "r",
        ]
        start = [folder / "movie.tif", "-a", folder / "painted.tif", "--accepted", "4"]
        return ["segment", *map(str, [*start, *paths]), "--parent", str(folder / "tiny.safetensors"), *QUICK]

    assert main(words("whole")) == 0
    store = folder / "killed" / "unfinished-labels.tif.zarr"
    learned = 0
    for place, count, finished in _MOMENTS:
        _kill_at(place, count, words("killed"))
        assert len(FrameStore(store).finished) == finished
        if learned:
            assert (store / "segmenter.osvos").stat().st_mtime_ns == learned
        learned = (store / "learned.json").is_file() and (store / "segmenter.osvos").stat().st_mtime_ns
    capsys.readouterr()
    monkeypatch.setattr(segment, "learn", None)
    monkeypatch.setattr(plane_prediction, "plane_maps", None)
    assert main(words("killed")) == 0
    assert "Going on: it has learned and 5 of 5 frames were finished." in capsys.readouterr().err
    for name in ("labels.tif", "p.ome.zarr", "u.tif"):
        one, other = (_pixels(folder / out / name) for out in ("whole", "killed"))
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for name in ("cells.csv", "RES/res_track.txt", "RES/mask003.tif"):
        assert (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes()
    assert sorted(path.name for path in (folder / "killed").iterdir()) == sorted(
        path.name for path in (folder / "whole").iterdir()
    )


def _pixels(path: Path) -> np.ndarray:
    clip = read_clip(path)
    return np.stack([clip.plane(p) for p in range(clip.n_planes)])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_while_the_folder_is_removed_all_is_done(look_alike: Path, toy: ToyFiles) -> None:
    words = ["predict", str(look_alike), str(toy.movie), "-o", str(toy.folder / "labels.tif"), "--no-track"]
    _kill_at("napari_osvos.frame_store:shutil.rmtree", 1, words)
    assert read_labels(toy.folder / "labels.tif").n_frames == 6
    assert main(words) == 2  # nothing to go on with: the labels are there
    assert not [path for path in toy.folder.iterdir() if "unfinished" in path.name and path.suffix != ".partial"]


# -- failing ---------------------------------------------------------------------------------


def _break_at(frame: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reading fail at a frame, once the intensities are known."""
    read, measure = Clip.plane, Clip.percentiles

    def percentiles(self: Clip, *given: object) -> np.ndarray:
        with monkeypatch.context() as whole:
            whole.setattr(Clip, "plane", read)
            return measure(self, *given)

    def plane(self: Clip, p: int) -> np.ndarray:
        if p == frame:
            raise OSError(f"{self.name} is cut short.")
        return read(self, p)

    monkeypatch.setattr(Clip, "plane", plane)
    monkeypatch.setattr(Clip, "percentiles", percentiles)


def test_reading_that_ends_early_keeps_what_is_finished(
    look_alike: Path, toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(look_alike), str(toy.movie), "-o", str(toy.folder / "labels.tif")]
    with monkeypatch.context() as broken:
        _break_at(4, broken)
        assert main(words) == 1
    said = capsys.readouterr().err
    assert "4 of 6 frames were finished, in unfinished-labels.tif.zarr; the same command goes on from there." in said
    assert f"error: {toy.movie} is cut short." in said
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "labels", "frames"))]
    assert main(words) == 0
    assert "Going on: 4 of 6 frames were finished." in capsys.readouterr().err
    expected = Segmenter.load(look_alike).predict(Clip(tifffile.imread(toy.movie)))
    assert np.count_nonzero(expected)
    np.testing.assert_array_equal(np.asarray(read_labels(toy.folder / "labels.tif")) > 0, expected > 0)


def test_a_full_disk_is_one_sentence_and_the_command_goes_on(
    look_alike: Path, toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(look_alike), str(toy.movie), "-o", str(toy.folder / "labels.tif")]
    replacing, calls = frame_marks.replacing, []

    def full(path: Path) -> object:
        calls.append(path)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replacing(path)

    with monkeypatch.context() as small:
        small.setattr(frame_marks, "replacing", full)
        assert main([*words, "--quiet"]) == 1
    sentence = _error(capsys)
    assert "The disk became full while frame 3 was written to" in sentence
    assert "3 of 6 frames were finished, in unfinished-labels.tif.zarr; the same command goes on" in sentence
    assert main(words) == 0
    assert not (toy.folder / "unfinished-labels.tif.zarr").exists()


def test_a_run_that_finished_nothing_leaves_nothing(
    look_alike: Path, toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(toy.folder.iterdir())
    _break_at(0, monkeypatch)
    assert main(["predict", str(look_alike), str(toy.movie), "-o", str(toy.folder / "labels.tif"), "--quiet"]) == 1
    assert "is cut short." in _error(capsys)
    assert sorted(toy.folder.iterdir()) == before


def _broken_off(look_alike: Path, toy: ToyFiles, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words of a run that has failed at its third frame."""
    words = ["predict", str(look_alike), str(toy.movie), "-o", str(toy.folder / "labels.tif"), "--quiet"]
    with monkeypatch.context() as broken:
        _break_at(2, broken)
        assert main(words) == 1
    return words


def test_other_settings_or_another_movie_are_not_mixed(
    look_alike: Path, toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = _broken_off(look_alike, toy, monkeypatch)
    capsys.readouterr()
    shutil.copy(toy.movie, toy.folder / "other.tif")
    for changed, what in (
        ([*words, "--threshold", "0.9"], "prediction"),
        ([str(toy.folder / "other.tif") if word == str(toy.movie) else word for word in words], "movie"),
    ):
        assert main(changed) == 2
        assert f"finished with another {what}; repeat its command" in _error(capsys)
    assert main([*words, "--threshold", "0.9", "--force"]) == 0
    expected = Segmenter.load(look_alike)
    expected.config = expected.config.replace(threshold=0.9)
    found = np.asarray(read_labels(toy.folder / "labels.tif"))
    np.testing.assert_array_equal(found > 0, expected.predict(Clip(tifffile.imread(toy.movie))) > 0)


def test_what_another_process_is_filling_is_not_deleted_by_force(
    look_alike: Path, toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = _broken_off(look_alike, toy, monkeypatch)
    capsys.readouterr()
    store = FrameStore(toy.folder / "unfinished-labels.tif.zarr")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        began = psutil.Process(other.pid).create_time()
        facts = {"process": {"host": socket.gethostname(), "pid": other.pid, "began": began}, "outputs": []}
        (store.path / "run.json").write_text(json.dumps(facts))
        assert main([*words, "--threshold", "0.9", "--force"]) == 2
        assert f"is being filled by another run (process {other.pid})" in _error(capsys)
        assert store.finished == (0, 1)
        other.communicate(b"\n")
    assert main([*words, "--threshold", "0.9", "--force"]) == 0


def test_what_was_there_before_is_not_overwritten_by_going_on(
    look_alike: Path, toy: ToyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = _broken_off(look_alike, toy, monkeypatch)
    capsys.readouterr()
    (toy.folder / "cells.csv").write_text("precious")
    assert main([*words, "--export", str(toy.folder / "cells.csv")]) == 2  # no output of the run that was broken off
    assert "cells.csv exists already" in _error(capsys)
    assert main(words) == 0


# -- the pipeline ----------------------------------------------------------------------------


@pytest.fixture(params=["in one thread", "labels behind the network", "frames side by side"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each way in which frames are predicted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if request.param == "in one thread" else 2)
    if request.param == "labels behind the network":
        monkeypatch.setattr(plane_prediction, "LANE_PIXELS", 0)
    yield request.param
    torch.set_num_threads(threads)


def _store(folder: Path, clip: Clip, **more: bool) -> FrameStore:
    return FrameStore.open(folder / "unfinished-x.zarr", shape=clip.labels_shape, identity={}, **more)


@pytest.mark.parametrize("depth", [None, 3])
def test_labels_are_those_of_the_frames_one_by_one(
    look_alike: Path, tmp_path: Path, depth: int | None, way: str
) -> None:
    frames, _ = toy_frames(6)
    clip = Clip(frames if depth is None else frames.reshape(2, depth, 40, 56), "TYX" if depth is None else "TZYX")
    segmenter, told = Segmenter.load(look_alike), []
    store = _store(tmp_path, clip, probabilities=True)
    order = [1, 0] if depth else [4, 2, 0, 1, 5]
    predict_frames(segmenter, clip, order, store, lambda done, total, note="": told.append((done, total)))
    assert store.finished == tuple(sorted(order))
    assert told == [(k, len(order)) for k in range(1, len(order) + 1)]
    assert np.count_nonzero(store.labels(0))
    for maps in segmenter.iter_maps(clip, order):
        prediction = segmenter.frame_prediction(maps)
        t = prediction.frame
        np.testing.assert_array_equal(store.labels(t), prediction.labels)
        np.testing.assert_array_equal(store.probability(t), prediction.probability)
        assert store.confidence[t] == prediction.confidence
        assert store.about(t).novelty == prediction.novelty


class _Counting:
    """A movie that counts what is read of it."""

    def __init__(self, n_frames: int) -> None:
        self.shape, self.dtype, self.read = (n_frames, 40, 56), np.dtype(np.uint8), 0
        self.frame = toy_frames(1)[0][0]

    def __getitem__(self, index: object) -> np.ndarray:
        self.read += 1
        return self.frame


def test_a_frame_of_nothing_but_nan_is_told_and_the_others_are_labelled(look_alike: Path, tmp_path: Path) -> None:
    frames, _ = toy_frames(4)
    holed = frames.astype(np.float32)
    holed[1], holed[3, :5] = np.nan, np.inf
    clip, segmenter = Clip(holed, frame_numbers=(5, 6, 7, 8), name="holed"), Segmenter.load(look_alike)
    store = _store(tmp_path, clip)
    with pytest.warns(UserWarning, match="^Frame 6 of holed has no finite pixel and is taken as blank; there may be"):
        predict_frames(segmenter, clip, range(4), store)
    assert [bool(store.labels(t).any()) for t in range(4)] == [True, False, True, True]


def test_reading_is_only_so_far_ahead(
    look_alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    movie, segmenter, ahead = _Counting(30), Segmenter.load(look_alike), []
    clip = Clip(movie)
    finished, predict = 0, Segmenter.frame_prediction

    def slowly(self: Segmenter, maps: FrameMaps) -> object:
        nonlocal finished
        ahead.append(movie.read - 16 - finished)  # 16 of them for the intensities
        finished += 1
        return predict(self, maps)

    monkeypatch.setattr(Segmenter, "frame_prediction", slowly)
    predict_frames(segmenter, clip, range(30), _store(tmp_path, clip))
    assert movie.read == 30 + 16
    assert max(ahead) <= MOST_PLANES + 4  # what is read, what the network works on, and what waits for its labels


def test_frames_that_are_too_large_to_wait_are_finished_one_by_one(
    look_alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "frames side by side":
        monkeypatch.setattr(Segmenter, "frames_at_once", lambda self, clip: 1)  # as for those that are too large
    movie = _Counting(6)
    clip = Clip(movie)
    monkeypatch.setattr(parallel_frames, "MAPS_BYTES", 1)
    monkeypatch.setattr(pipeline, "READ_BYTES", 1)
    store, maps_of, frames = _store(tmp_path, clip), plane_prediction.plane_maps, itertools.count()

    def looked(*given: Any, **more: Any) -> list[PlaneMaps]:
        t = next(frames)
        assert store.finished == tuple(range(t))
        assert movie.read == 6 + t + 1
        return maps_of(*given, **more)

    monkeypatch.setattr(plane_prediction, "plane_maps", looked)
    predict_frames(Segmenter.load(look_alike), clip, range(6), store)
    assert store.missing == ()
    assert next(frames) == 6


def test_memory_does_not_grow_with_the_number_of_frames(
    look_alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    segmenter, half = Segmenter.load(look_alike), np.zeros((1, 256, 256), np.float32)
    segmenter.appearance = None
    frame, labels = np.zeros((256, 256), np.uint8), np.tile(np.arange(256), (256, 1))
    monkeypatch.setattr(plane_prediction, "plane_maps", lambda *given: [PlaneMaps(half.copy(), None, None)])
    monkeypatch.setattr(Segmenter, "labels_of", lambda self, planes: labels[None].copy())
    peaks = []
    for n_frames in (20, 20, 120):  # the first loads what is loaded once
        clip = Clip(np.broadcast_to(frame, (n_frames, 256, 256)))
        store = _store(tmp_path / f"{len(peaks)}", clip)
        tracemalloc.start()
        predict_frames(segmenter, clip, range(n_frames), store)
        for t, found in enumerate(store.stack()):
            assert store.about(t).largest == found.max()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 8 * frame.size  # 100 more frames of labels alone would be 400 times their pixels


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (plane_prediction, "plane_maps", RuntimeError("broken")),
        (plane_prediction, "plane_maps", KeyboardInterrupt()),
        (Segmenter, "frame_prediction", RuntimeError("broken")),  # in another thread, where Ctrl+C never arrives
    ],
    ids=["network", "ctrl-c", "labels"],
)
def test_an_error_ends_all_threads_and_arrives(
    look_alike: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    owner: object,
    name: str,
    error: BaseException,
) -> None:
    clip, segmenter = Clip(_Counting(1000)), Segmenter.load(look_alike)
    store, real, calls = _store(tmp_path, clip), getattr(owner, name), itertools.count(1)

    def failing(*given: object, **more: object) -> object:
        if next(calls) == 5:
            raise error
        return real(*given, **more)

    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(type(error)) as caught:
        predict_frames(segmenter, clip, range(1000), store)
    assert caught.value is error
    assert (1 if isinstance(error, KeyboardInterrupt) else 4) <= len(store.finished) < 10
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "labels", "frames"))]


def test_warnings_of_threads_arrive(
    look_alike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    clip, segmenter, labels_of = Clip(_Counting(3)), Segmenter.load(look_alike), Segmenter.labels_of

    def warning(self: Segmenter, planes: object) -> np.ndarray:
        warnings.warn("odd objects", UserWarning, stacklevel=1)
        return labels_of(self, planes)

    monkeypatch.setattr(Segmenter, "labels_of", warning)
    threads = torch.get_num_threads()
    with pytest.warns(UserWarning, match="odd objects"):
        predict_frames(segmenter, clip, range(3), _store(tmp_path, clip))
    assert torch.get_num_threads() == threads


def test_frames_side_by_side_share_the_threads_out(look_alike: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, segmenter, threads = Clip(_Counting(40)), Segmenter.load(look_alike, "cpu"), torch.get_num_threads()
    inside, real = [], Segmenter.frame_prediction

    def watched(self: Segmenter, maps: FrameMaps) -> object:
        inside.append((threading.current_thread().name, torch.get_num_threads()))
        return real(self, maps)

    monkeypatch.setattr(Segmenter, "frame_prediction", watched)
    monkeypatch.setattr(plane_prediction, "MOST_LANES", 2)
    torch.set_num_threads(4)
    try:
        found = [prediction.frame for prediction in segmenter.iter_frames(clip)]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)
    assert found == list(range(40))
    assert {name for name, _ in inside} == {"frames_0", "frames_1"}
    assert {n for _, n in inside} == {2}


@pytest.mark.parametrize("bytes_free", [10**12, 10**6, 0])
def test_as_many_frames_at_once_as_there_is_memory_for(
    look_alike: Path, monkeypatch: pytest.MonkeyPatch, way: str, bytes_free: int
) -> None:
    segmenter, clip = Segmenter.load(look_alike, "cpu"), Clip(_Counting(4))
    monkeypatch.setattr(plane_prediction, "free_bytes", lambda device: bytes_free)
    wanted = 2 if way == "frames side by side" and bytes_free == 10**12 else 1
    assert segmenter.frames_at_once(clip) == wanted
    assert segmenter.frames_at_once(Clip(np.zeros((1, 4096, 4096), np.uint8))) == 1


def test_what_is_under_way_when_a_frame_cannot_be_read_is_not_lost(look_alike: Path, way: str) -> None:
    class Broken(_Counting):
        def __getitem__(self, index: Any) -> np.ndarray:
            if index[0] == 7:
                raise OSError("frame 7 cannot be read")
            return super().__getitem__(index)

    clip, found = Clip(Broken(9)), []
    whole = Clip(_Counting(9))
    movie_intensity(whole, "robust")
    clip.take_percentiles(whole.known_percentiles)
    with pytest.raises(OSError, match="frame 7 cannot be read"):
        found.extend(p.frame for p in Segmenter.load(look_alike).iter_frames(clip))
    assert found == list(range(7))


def test_ctrl_c_between_two_frames_ends_all_threads(look_alike: Path, tmp_path: Path, way: str) -> None:
    clip, seen = Clip(_Counting(50)), []

    def advance(done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise KeyboardInterrupt

    try:
        predict_frames(Segmenter.load(look_alike), clip, range(50), _store(tmp_path, clip), advance)
    except KeyboardInterrupt as error:  # the error is held, and with it everything that its frames hold
        names = [thread.name for thread in threading.enumerate()]
        seen.append((error, [name for name in names if name.startswith(("read", "labels", "frames"))]))
    assert [names for _, names in seen] == [[]]
