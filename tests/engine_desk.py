"""What the tests of the engine share: a listener, a slow movie, an engine with a tiny parent, planes from a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from toy_clip import quick, tiny_parent, toy_clip

from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig
from napari_osvos.worker import Engine, Request
from napari_osvos.worker.controls import Controls
from napari_osvos.worker.events import Cancelled, EngineDied, Event, Failed, Finished, FrameDone, Preview
from napari_osvos.worker.packing import Movie, open_movie
from napari_osvos.worker.remote_planes import RemotePlanes

ENDLESS = 1_000_000
AnyEvent = TypeVar("AnyEvent", bound=Event)
LAST = (Finished, Failed, Cancelled, EngineDied)


class EngineLog:
    """Called with every event; ``seconds`` holds when each came, by ``time.monotonic``."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seconds: list[float] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self.seconds.append(time.monotonic())
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self.events.clear()
            self.seconds.clear()

    def of(self, *kinds: type[AnyEvent]) -> list[AnyEvent]:
        return [event for event in self.events if isinstance(event, kinds)]

    def wait_for(self, *kinds: type[AnyEvent], count: int = 1, timeout: float = 240.0) -> AnyEvent:
        """Return the last event of these kinds once there are so many; fail at once when the run ends badly."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.of(*kinds)) >= count or self.of(*LAST), timeout)
            found = self.of(*kinds)
            assert done, f"No {kinds} came in {timeout} s, but {self.events}"
            assert len(found) >= count, f"No {kinds} came, but {self.events[-3:]}"
            return found[-1]

    def wait_for_end(self, timeout: float = 240.0) -> Event:
        """Return the last event of the run."""
        return self.wait_for(*LAST, timeout=timeout)

    @property
    def frames(self) -> list[int]:
        return [event.frame for event in self.of(FrameDone)]

    @property
    def previewed(self) -> list[int]:
        return [event.frame for event in self.of(Preview)]


class SlowFrames:
    """A movie that takes its time to read: an array that counts what is read of it."""

    def __init__(self, pixels: np.ndarray, seconds: float = 0.0) -> None:
        self.pixels, self.seconds = pixels, seconds
        self.shape, self.dtype = pixels.shape, pixels.dtype
        self.reads: list[int] = []

    def __getitem__(self, index: Any) -> np.ndarray:
        self.reads.append(index[0])
        time.sleep(self.seconds)
        return self.pixels[index]


class Desk:
    """An engine, what it told, and the tiny parent."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.log = EngineLog()
        self.engine = Engine(self.log)

    def request(self, clip: Clip | None = None, annotations: Any = "first", **changes: Any) -> Request:
        toy, painted, _ = toy_clip(5)
        tuning = quick(**{name: changes.pop(name) for name in list(changes) if name in FineTuneConfig.__annotations__})
        if annotations == "first":
            annotations = painted
        return Request(clip or toy, annotations, tuning, parent=str(self.parent), device="cpu", **changes)

    def run(self, *given: Any, **changes: Any) -> Event:
        """Run to the end."""
        self.log.clear()
        self.engine.run(self.request(*given, **changes))
        return self.log.wait_for_end()

    def begin(self, *given: Any, **changes: Any) -> None:
        self.log.clear()
        self.engine.run(self.request(*given, **changes))


def until(reached: Callable[[], bool], timeout: float = 240.0) -> None:
    deadline = time.monotonic() + timeout
    while not reached():
        assert time.monotonic() < deadline, "It did not happen."
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def open_desk(folder: Path) -> Iterator[Desk]:
    """A desk, for as long as it is needed."""
    tiny_parent().save(folder / "tiny.safetensors")
    desk = Desk(folder / "tiny.safetensors")
    yield desk
    desk.engine.close()


def at_rest(desk: Desk) -> Iterator[Desk]:
    """A desk whose engine is ready, and which has nothing to do at the end of the test."""
    desk.log.clear()
    desk.engine.start()
    until(lambda: desk.engine.is_ready)
    yield desk
    told = len(desk.log.of(*LAST))
    if desk.engine.is_busy:
        desk.engine.cancel()
        desk.log.wait_for(*LAST, count=told + 1)  # or the next test would hear of it
    until(lambda: not desk.engine.is_busy)


def movie_of(clip: Clip, token: str = "") -> Movie:
    """All of a clip but its pixels."""
    return Movie(token, clip.name, (*clip.labels_shape, clip.n_channels), clip.dtype.str, None)


def remote(clip: Clip, controls: Controls | None = None, **more: Any) -> tuple[Clip, RemotePlanes, list[int]]:
    """A clip whose planes are those of another, delivered by threads; which were asked for."""
    movie = movie_of(clip)
    planes = RemotePlanes(movie, controls or Controls(), **more)
    asked: list[int] = []

    def ask(wanted: list[int]) -> None:
        asked.extend(wanted)
        for p in wanted:
            threading.Thread(target=lambda p=p: planes.deliver(p, clip.plane(p))).start()

    planes.connect(ask)
    return open_movie(movie, planes), planes, asked
