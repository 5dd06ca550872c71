"""How quick the engine is: starting, the first preview, arrays between the processes, cancel.

    python benchmarks/engine.py --threads 2

Prints a table in Markdown; `docs/engine.md` holds one. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import shared_memory

import numpy as np

from napari_osvos import Annotations, Clip, FineTuneConfig, PredictConfig
from napari_osvos.worker import Engine, Request
from napari_osvos.worker.events import (
    Calibrated,
    Cancelled,
    EngineDied,
    EngineReady,
    Event,
    Failed,
    Finished,
    Preview,
    TrainingDone,
    TrainingProgress,
)
from napari_osvos.worker.mailbox import Mailbox

REPEATS = 3
LAST = (Finished, Failed, Cancelled, EngineDied)


class Watch:
    """Knows when each kind of event came first since `begin`."""

    def __init__(self) -> None:
        self.times: dict[type[Event], float] = {}
        self.calibrated: Calibrated | None = None
        self._began = 0.0
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.times.setdefault(type(event), time.perf_counter() - self._began)
            if isinstance(event, Calibrated):
                self.calibrated = event
            self._changed.notify_all()
        if isinstance(event, Failed | EngineDied):
            print(event.message, event.details, file=sys.stderr)

    def begin(self) -> None:
        """Forget what came, and start the clock."""
        self.times.clear()
        self._began = time.perf_counter()

    def wait_for(self, kind: type[Event], timeout: float = 600.0) -> float:
        """Return when the first event of a kind came, in seconds since `begin`."""
        with self._changed:
            if not self._changed.wait_for(lambda: kind in self.times, timeout):
                raise TimeoutError(f"No {kind.__name__} came in {timeout:.0f} s.")
        return self.times[kind]


def movie(edge: int, n_frames: int = 24) -> tuple[Clip, Annotations]:
    """Discs of 56 pixels that move right, over noise, and the paint of the first frame."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:edge, :edge]
    first = ((y % 110 - 55) ** 2 + (x % 110 - 55) ** 2 <= 28**2).astype(np.uint16)
    truth = np.stack([np.roll(first, 3 * t, 1) for t in range(n_frames)])
    noise = rng.normal(0, 300, (edge, edge)).astype(np.float32)
    frames = np.stack([(2000 + 3000 * t + np.roll(noise, i)).astype(np.uint16) for i, t in enumerate(truth)])
    return Clip(frames, name="discs"), Annotations.from_labels(truth, frames=(0,))


def median_ms(action: Callable[[], object], repeats: int = 21) -> float:
    """Return the median time of an action in milliseconds."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds)


def say(name: str, told: str) -> None:
    """Print a line of the table."""
    print(f"| {name} | {told} |", flush=True)


def copying(edge: int) -> None:
    """Time one plane of uint16 on its way: through the mailbox, and through shared memory that is used again."""
    plane = np.random.default_rng(0).integers(0, 65535, (edge, edge, 1)).astype(np.uint16)
    mailbox = Mailbox.create()
    posted: list[str] = []
    out = median_ms(lambda: posted.append(mailbox.post(plane)))
    into = median_ms(lambda: Mailbox.take(posted.pop()))
    mailbox.remove()
    memory = shared_memory.SharedMemory(create=True, size=plane.nbytes)
    there = np.ndarray(plane.shape, plane.dtype, buffer=memory.buf)
    shared = median_ms(functools.partial(np.copyto, there, plane)), median_ms(there.copy)
    del there
    gc.collect()
    memory.close()
    memory.unlink()
    say(f"one plane of {edge} x {edge} uint16: write, read", f"{out:.1f} ms, {into:.1f} ms")
    say("the same through one block of shared memory, used again", f"{shared[0]:.1f} ms, {shared[1]:.1f} ms")


def imports() -> None:
    """Time what a start consists of, in a fresh interpreter."""
    probe = """
import time; began = time.perf_counter()
import numpy, torch; print(time.perf_counter() - began); began = time.perf_counter()
import napari_osvos.worker.engine; print(time.perf_counter() - began)
from napari_osvos import ParentNetwork; began = time.perf_counter()
ParentNetwork.bundled(); print(time.perf_counter() - began)
"""
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    names = ("import of numpy and torch", "import of the engine's own modules", "loading the parent")
    for name, seconds in zip(names, told, strict=True):
        say(name, f"{float(seconds):.2f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="where to compute (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="threads of the CPU (default: as torch has it)")
    given = parser.parse_args()
    say("what", "time")
    say("---", "---")
    imports()
    watch = Watch()
    engine = Engine(watch)
    watch.begin()
    engine.start()
    say("`Engine.start()` to `EngineReady`", f"{watch.wait_for(EngineReady):.2f} s")
    say("to `Calibrated`", f"{watch.wait_for(Calibrated):.2f} s")
    assert watch.calibrated is not None
    speed = watch.calibrated.calibration
    told = f"{speed.seconds_per_step:.3f} s a step, {speed.seconds_per_megapixel:.2f} s a megapixel"
    say(f"calibration ({speed.device})", told)

    def run(edge: int, wait_for: type[Event], steps: int | None = None) -> tuple[float, float]:
        """Seconds from run() to an event, and from cancel() to its end."""
        clip, annotations = movies[edge]
        tuning = FineTuneConfig(steps=steps)
        watch.begin()
        engine.run(
            Request(
                clip, annotations, tuning, PredictConfig(), device=given.device, threads=given.threads, frame_in_view=5
            )
        )
        there = watch.wait_for(wait_for)
        time.sleep(0.1)
        watch.begin()
        engine.cancel()
        cancelled = watch.wait_for(Cancelled)
        watch.begin()
        if not engine.is_ready:
            watch.wait_for(EngineReady)
        return there, cancelled

    movies = {512: movie(512), 2048: movie(2048, 6)}
    previews = [run(512, Preview) for _ in range(REPEATS)]
    say("`run()` to the first preview, 512 x 512", f"{statistics.median(first for first, _ in previews):.2f} s")
    learning = [run(512, TrainingProgress)[1] for _ in range(REPEATS)]
    say("`cancel()` while learning", f"{statistics.median(learning):.2f} s")
    for edge in movies:
        filling = [run(edge, TrainingDone, steps=1)[1] for _ in range(REPEATS)]
        say(f"`cancel()` while filling, {edge} x {edge}", f"{statistics.median(filling):.2f} s")
    say("`run()` to the first preview, 2048 x 2048", f"{run(2048, Preview)[0]:.2f} s")
    engine.close()
    for edge in (512, 2048):
        copying(edge)


if __name__ == "__main__":
    main()
