"""How runs and engines end: cancelled whatever they do, failed, killed, closed, with their client gone."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from engine_desk import ENDLESS, Desk, EngineLog, SlowFrames, is_gone, until
from toy_clip import tiny_parent, toy_frames

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.device import available_devices
from napari_osvos.worker import Engine, Request, client
from napari_osvos.worker.connection import SPINS, Connection
from napari_osvos.worker.events import (
    Calibrated,
    Cancelled,
    EngineDied,
    EngineReady,
    Failed,
    Finished,
    Preview,
    TrainingProgress,
)

# Each starts engine processes and waits for their end.
pytestmark = pytest.mark.slow
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parent") / "tiny.safetensors"
    tiny_parent().save(path)
    return path


# -- cancel, whatever it does --------------------------------------------------------------------


def _training(desk: Desk) -> None:
    desk.begin(steps=ENDLESS)
    desk.log.wait_for(TrainingProgress, count=3)


def _paused(desk: Desk) -> None:
    _training(desk)
    desk.engine.pause()
    time.sleep(0.3)


def _waiting_for_a_plane(desk: Desk) -> None:
    movie = SlowFrames(toy_frames(5)[0], 30.0)
    desk.begin(Clip(movie), steps=5)
    until(lambda: bool(movie.reads))


def _predicting_a_huge_frame(desk: Desk) -> None:
    frames = np.zeros((2, 1024, 1024), np.uint8)
    frames[:, 100:104, 100:104] = 200
    painted = Annotations.from_labels(frames // 200, frames=(0,))
    desk.begin(Clip(frames), painted, steps=1, object_diameter=64.0, largest_zoom=8.0)
    desk.log.wait_for(TrainingProgress)
    time.sleep(0.3)


def _stopped_by_the_system(desk: Desk) -> None:
    _training(desk)
    assert desk.engine.pid is not None
    os.kill(desk.engine.pid, signal.SIGSTOP)


def _starting(desk: Desk) -> None:
    assert desk.engine.pid is not None
    psutil.Process(desk.engine.pid).kill()
    desk.log.wait_for(EngineDied)
    desk.begin(steps=ENDLESS)
    assert not desk.engine.is_ready


@pytest.mark.parametrize(
    "state",
    [
        _training,
        _paused,
        _waiting_for_a_plane,
        _predicting_a_huge_frame,
        pytest.param(_stopped_by_the_system, marks=posix_only),
        _starting,
    ],
)
def test_cancel_waits_for_nothing_and_the_next_run_works(desk: Desk, state: Any) -> None:
    state(desk)
    began = time.monotonic()
    desk.engine.cancel()
    desk.engine.cancel()
    last = desk.log.wait_for_end()
    assert isinstance(last, Cancelled), last
    there = desk.log.events.index(last)
    # half a second where nothing else is at work; what it interrupts would go on for much longer, or for ever
    assert desk.log.seconds[there] - began < 15.0
    assert not desk.engine.is_busy
    time.sleep(0.3)
    assert all(isinstance(event, EngineReady | Calibrated) for event in desk.log.events[there + 1 :])
    assert isinstance(desk.run(steps=3), Finished)


def test_a_process_that_answers_is_not_killed_by_cancel(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "GRACE", 60.0)  # however busy the machine is
    pid = desk.engine.pid
    _training(desk)
    desk.engine.cancel()
    assert isinstance(desk.log.wait_for_end(), Cancelled)
    assert desk.engine.pid == pid
    assert desk.engine.is_ready


# -- when something goes wrong -------------------------------------------------------------------


@posix_only
def test_a_killed_engine_says_so_once_and_the_next_run_works(desk: Desk) -> None:
    _training(desk)
    assert desk.engine.pid is not None
    os.kill(desk.engine.pid, signal.SIGKILL)
    last = desk.log.wait_for_end()
    assert isinstance(last, EngineDied), last
    assert last.message == ("The engine was ended by the signal SIGKILL; the computer has probably run out of memory.")
    time.sleep(0.3)
    assert len(desk.log.of(EngineDied)) == 1
    assert not desk.engine.is_alive
    assert not desk.engine.is_busy
    assert desk.engine.pid is None
    desk.log.clear()
    assert isinstance(desk.run(steps=3), Finished)
    pid = desk.engine.pid
    assert pid is not None
    # on a busy machine it might measure otherwise than the first one, and its labels would differ
    assert psutil.Process(pid).environ()["NAPARI_OSVOS_PRECISION"] in ("float32", "bfloat16")


class GoneFrames(SlowFrames):
    """A movie whose file is gone after the first frame."""

    def __getitem__(self, index: Any) -> np.ndarray:
        if index[0] == 2:
            raise RuntimeError("the file is gone\nor something")
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": Clip(GoneFrames(toy_frames()[0]), name="toy")}, "Frame 2 of toy cannot be read: the file is gone."),
        (
            {"clip": Clip(np.zeros((3, 20, 20)), name="toy")},
            "the annotations is 40 x 56 pixels but toy is 20 x 20; both must be of one size.",
        ),
        ({"annotations": None, "start": Path("/nowhere/a.osvos")}, "There is no file /nowhere/a.osvos."),
        (
            {"device": "cuda:77"},
            f"There is no device 'cuda:77' on this machine; there are auto, {', '.join(available_devices())}.",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(desk: Desk, changes: dict[str, Any], message: str) -> None:
    request = desk.request(steps=2)
    desk.log.clear()
    desk.engine.run(Request(**(vars(request) | changes)))
    last = desk.log.wait_for_end()
    assert isinstance(last, Failed), last
    assert last.message == message
    assert "Traceback" in last.details
    pid = desk.engine.pid
    assert isinstance(desk.run(steps=2), Finished)
    assert desk.engine.pid == pid


def test_an_unknown_parent_is_one_sentence(desk: Desk) -> None:
    request = desk.request(steps=2)
    desk.log.clear()
    desk.engine.run(Request(**(vars(request) | {"parent": "big"})))
    last = desk.log.wait_for_end()
    assert isinstance(last, Failed), last
    assert last.message.startswith("There is no bundled parent 'big'; there are lite")


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('this torch is broken')")
    log = EngineLog()
    engine = Engine(log)
    sys.path.insert(0, str(tmp_path))
    try:
        engine.start()
        died = log.wait_for(EngineDied)
    finally:
        sys.path.remove(str(tmp_path))
        engine.close()
    assert died.message == ("The engine has ended unexpectedly with exit code 1: ImportError: this torch is broken.")
    assert "this torch is broken" in died.details


# -- processes -----------------------------------------------------------------------------------


def test_two_engines_do_not_disturb_each_other(desk: Desk, parent: Path) -> None:
    other = Desk(parent)
    _training(desk)
    assert isinstance(other.run(steps=20), Finished)  # queued until it is ready
    assert other.log.of(EngineReady)
    other.engine.close()
    count = len(desk.log.of(TrainingProgress))
    until(lambda: len(desk.log.of(TrainingProgress)) > count)
    assert not desk.log.of(EngineDied, Failed)


def test_closing_leaves_nothing_behind(desk: Desk, parent: Path) -> None:
    assert desk.engine.is_ready  # the threads of that one are not counted
    threads = set(threading.enumerate())
    own = Desk(parent)
    own.begin(steps=ENDLESS)
    own.log.wait_for(Preview)
    ready = own.log.of(EngineReady)[0]
    assert ready.devices[-1] == "cpu"
    assert 0 < ready.start_seconds < 120
    connection = own.engine._now.connection
    assert connection is not None
    pid, folders = own.engine.pid, connection.mailbox.folders
    assert pid is not None
    assert all(folder.is_dir() for folder in folders)
    began = time.monotonic()
    own.engine.close()
    assert time.monotonic() - began < 10
    until(lambda: is_gone(pid))  # killed processes, too, need a turn on a busy machine
    until(lambda: not any(folder.exists() for folder in folders))
    assert not own.engine.is_alive
    assert not own.engine.is_busy
    own.engine.close()
    with pytest.raises(RuntimeError, match="The engine is closed."):
        own.engine.start()
    with pytest.raises(RuntimeError, match="The engine is closed."):
        own.engine.run(own.request())
    log, engine = weakref.ref(own.log), weakref.ref(own.engine)
    del own, connection
    until(lambda: gc.collect() is not None and log() is None and engine() is None)
    until(lambda: set(threading.enumerate()) <= threads)


def test_closing_while_it_starts_leaves_nothing_behind() -> None:
    log = EngineLog()
    engine = Engine(log)
    engine.start()
    connection = engine._now.connection
    assert isinstance(connection, Connection)
    engine.close()
    connection.wait(10)
    assert not connection.is_alive
    assert connection.pid is None or is_gone(connection.pid)
    assert not any(folder.exists() for folder in connection.mailbox.folders)
    assert log.events == []


@posix_only
def test_ctrl_c_in_the_terminal_of_the_viewer_does_not_end_the_engine(desk: Desk) -> None:
    _training(desk)
    assert desk.engine.pid is not None
    os.kill(desk.engine.pid, signal.SIGINT)
    count = len(desk.log.of(TrainingProgress))
    until(lambda: len(desk.log.of(TrainingProgress)) > count + 3)


def test_the_engine_has_the_paths_of_the_client_and_gives_way_to_it(desk: Desk) -> None:
    assert desk.engine.pid is not None
    process = psutil.Process(desk.engine.pid)
    assert process.environ()["PYTHONPATH"].split(os.pathsep) == [os.path.abspath(path) for path in sys.path]
    assert process.environ()["GOMP_SPINCOUNT"] == str(SPINS)
    if sys.platform != "win32":
        assert os.getpgid(desk.engine.pid) != os.getpgid(0)  # what a terminal does to its programs, it does to napari
        assert process.nice() > psutil.Process().nice() or process.nice() == 19


# A script as users write them: no guard against being imported again, nothing closed at the end.
SCRIPT = """
import sys, threading
print("once", flush=True)
from napari_osvos import Annotations, Clip, FineTuneConfig
from napari_osvos.worker import Engine, Request, client
import numpy as np
over = threading.Event()
def listen(event):
    if type(event).__name__ == {event!r}:
        print(type(event).__name__, engine.pid, flush=True)
        over.set()
engine = Engine(listen)
frames = np.zeros((2, 64, 64), np.uint8)
frames[:, 10:30, 10:30] = 200
painted = Annotations.from_labels(frames // 200, frames=(0,))
engine.run(Request(Clip(frames), painted, FineTuneConfig(steps={steps}, crop_size=48), parent={parent!r}, device="cpu"))
over.wait()
connection = engine._now.connection
print(*connection.mailbox.folders, flush=True)
{last}
"""


def _script(tmp_path: Path, **words: Any) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(**words))
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("event", "steps"), [("Finished", 2), ("TrainingProgress", ENDLESS)])
def test_a_script_without_a_guard_runs_once_and_ends_with_its_last_line(
    tmp_path: Path, parent: Path, event: str, steps: int
) -> None:
    script = _script(tmp_path, event=event, steps=steps, parent=str(parent), last="")
    out, err = script.communicate(timeout=120)
    once, told, folders = out.splitlines()
    assert (once, script.returncode, err) == ("once", 0, "")
    assert told.startswith(event)
    until(lambda: is_gone(int(told.split()[1])))
    assert not any(Path(folder).exists() for folder in folders.split())


@posix_only
def test_the_engine_ends_when_its_client_is_killed(tmp_path: Path, parent: Path) -> None:
    words = {"event": "TrainingProgress", "steps": ENDLESS, "parent": str(parent)}
    script = _script(tmp_path, **words, last="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    out, _ = script.communicate(timeout=120)
    _, told, folders = out.splitlines()
    assert script.returncode == -signal.SIGKILL
    until(lambda: is_gone(int(told.split()[1])))
    until(lambda: not any(Path(folder).exists() for folder in folders.split()))
