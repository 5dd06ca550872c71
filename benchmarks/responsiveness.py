"""How long the viewer is held up while a movie is segmented: by the panel, and by training in a thread worker.

A timer of 5 ms ticks in the viewer's thread; how much later than that a tick comes is how long a stroke or a click
would have waited. Meanwhile the time slider is moved every half second. Three runs, each in a process of its own:

- ``viewer``: no segmentation; a Labels layer of the size of the movie is added and the slider moved, which is what
  napari itself costs;
- ``panel``: the panel, whose engine is a process of its own, at full load;
- ``thread``: the same training and prediction in a `napari.qt.threading.thread_worker` of the viewer's process.

Run it with a screen, or in a virtual one: ``xvfb-run -a python benchmarks/responsiveness.py --quality fast``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

TICK = 0.005  # s
MODES = ("viewer", "panel", "thread")


class Ticker:
    """Notes when the viewer's thread comes to its timer."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.times: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(int(TICK * 1000))
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        self.times.append(time.perf_counter())

    def start(self) -> None:
        """Begin."""
        self.times = []
        self._timer.start()

    def blocks(self) -> np.ndarray:
        """End; return by how many seconds each tick came late."""
        self._timer.stop()
        return np.maximum(np.diff(self.times) - TICK, 0)


def run_events(until: Callable[[], bool], viewer: Any) -> None:
    """Run the event loop, moving the slider every half second."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    mover, looker = QTimer(), QTimer()
    mover.timeout.connect(
        lambda: viewer.dims.set_current_step(0, (viewer.dims.current_step[0] + 7) % viewer.dims.nsteps[0])
    )
    looker.timeout.connect(lambda: loop.quit() if until() else None)
    mover.start(500)
    looker.start(20)
    loop.exec_() if hasattr(loop, "exec_") else loop.exec()
    mover.stop()
    looker.stop()


def measure(mode: str, given: argparse.Namespace) -> dict[str, float]:
    """Open a viewer, segment, return seconds."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_osvos import simulate_movie

    movie = simulate_movie("fluorescence", n_frames=min(given.frames, 12), shape=(given.size, given.size))
    repeats = -(-given.frames // len(movie.frames))
    frames = np.concatenate([movie.frames] * repeats)[: given.frames]
    painted = np.zeros(frames.shape, np.uint16)
    painted[0] = movie.labels[0]
    viewer = napari.Viewer(show=True)
    viewer.add_image(frames, name="cells")
    viewer.add_labels(painted, name="annotations")
    ticker = Ticker()
    start = {"viewer": only_viewer, "panel": with_panel, "thread": with_thread}[mode]
    ready, begin, over = start(viewer, given, frames, painted)
    run_events(ready, viewer)
    settled = time.perf_counter() + 1
    run_events(lambda: time.perf_counter() > settled, viewer)
    ticker.start()
    began = time.perf_counter()
    QTimer.singleShot(100, begin)  # as a click: from within the event loop, so that what it takes is measured as well
    run_events(lambda: time.perf_counter() > began + 0.5 and over(), viewer)
    seconds = time.perf_counter() - began
    late = ticker.blocks()
    viewer.close()
    return {
        "seconds": seconds,
        "longest": float(late.max()),
        "99th percentile": float(np.percentile(late, 99)),
        "share above 50 ms": float(late[late > 0.05].sum() / seconds),
        "blocks above 100 ms": float((late > 0.1).sum()),
    }


Stages = tuple[Callable[[], bool], Callable[[], Any], Callable[[], bool]]


def only_viewer(viewer: Any, given: argparse.Namespace, frames: np.ndarray, painted: np.ndarray) -> Stages:
    """Nothing but a new Labels layer."""
    end = [float("inf")]

    def begin() -> None:
        end[0] = time.perf_counter() + 10
        viewer.add_labels(np.zeros(frames.shape, np.uint16))

    return lambda: True, begin, lambda: time.perf_counter() > end[0]


def with_panel(viewer: Any, given: argparse.Namespace, frames: np.ndarray, painted: np.ndarray) -> Stages:
    """The panel and its engine."""
    from napari_osvos._qt.panel import Panel

    panel = Panel(viewer)
    viewer.window.add_dock_widget(panel, name="OSVOS segmentation", area="right")
    panel.run.dial.quality = given.quality
    if given.steps:
        panel.settings.tuning.fill({"steps": given.steps})

    def ready() -> bool:
        painted = panel.watch.painted
        return bool(panel.estimate_desk.expected.calibration and painted is not None and painted.frames)

    return ready, panel.run_desk.segment, lambda: panel.control.run is None


def with_thread(viewer: Any, given: argparse.Namespace, frames: np.ndarray, painted: np.ndarray) -> Stages:
    """The same in a thread of the viewer's process."""
    from napari.qt.threading import thread_worker

    from napari_osvos import Annotations, Clip, FineTuneConfig, FineTuner, ParentNetwork

    parent = ParentNetwork.bundled()
    layers: list[Any] = []
    over = [False]

    @thread_worker  # type: ignore[untyped-decorator]
    def work() -> Iterator[tuple[int, np.ndarray] | None]:
        clip = Clip(frames)
        tuner = FineTuner(parent, FineTuneConfig(quality=given.quality, steps=given.steps))
        for _ in tuner.steps(clip, Annotations.from_labels(painted)):
            yield None
        yield from tuner.segmenter.iter_labels(clip)

    def show(frame: tuple[int, np.ndarray] | None) -> None:
        if frame is not None:
            layers[0].data[frame[0]] = frame[1]
            if frame[0] == viewer.dims.current_step[0]:
                layers[0].refresh()

    worker = work()
    worker.yielded.connect(show)
    worker.finished.connect(lambda: over.__setitem__(0, True))

    def begin() -> None:
        worker.start()
        layers.append(viewer.add_labels(np.zeros(frames.shape, np.uint16), name="masks"))

    return lambda: True, begin, lambda: over[0]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, default=512, help="pixels along each edge")
    parser.add_argument("--quality", default="fast")
    parser.add_argument("--steps", type=int, help="updates of the weights, instead of those of the quality")
    parser.add_argument("--only", choices=MODES, help="measure this in this process and print JSON")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given)))
        return
    print(f"{given.frames} x {given.size} x {given.size}, quality {given.quality}, {os.cpu_count()} cores, ", end="")
    print(f"{platform.machine()}, Python {platform.python_version()}; load before: {os.getloadavg()[0]:.1f}\n")
    print("| | run (s) | longest block (ms) | 99th percentile (ms) | time in blocks > 50 ms | blocks > 100 ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for mode in MODES:
        finished = subprocess.run(
            [sys.executable, *sys.argv, "--only", mode], stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(finished.stdout.splitlines()[-1])
        print(
            f"| {mode} | {found['seconds']:.1f} | {1000 * found['longest']:.0f} | "
            f"{1000 * found['99th percentile']:.1f} | {100 * found['share above 50 ms']:.1f} % | "
            f"{found['blocks above 100 ms']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
