"""Frames of a movie predicted at the same time: OSVOS sees each by itself, so it may.

On a CPU a frame has a thread of its own for all it takes, network and labels, and the threads of torch are shared out
among as many frames as that. Where frames are large, and in front of a GPU, the network works in the caller's thread,
and labels are made in others. With one thread of torch everything is done in that of the caller.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch

from napari_osvos.device import fast_precision
from napari_osvos.intensity import movie_intensity

if TYPE_CHECKING:
    import numpy as np

    from napari_osvos.clip import Clip
    from napari_osvos.segmenter import FrameMaps, FramePrediction, Segmenter

T = TypeVar("T")
MAPS_BYTES = 256e6
"""What the network is done with, and waits for its labels, may take so much memory."""
MOST_FINISHERS = 4
"""Making labels takes one core: beside a network on the same cores one thread is enough, a GPU keeps some busy."""


def each_frame(
    segmenter: Segmenter, clip: Clip, frames: Iterable[int], use: Callable[[FramePrediction], T]
) -> Generator[T]:
    """Yield what `use` makes of the prediction of each frame, in the order of the frames.

    Frames are asked for, and read, in the caller's thread, a few ahead of the one that is yielded. Where one fails,
    those that are under way are yielded before the error is raised. All threads have ended when this has.

    Parameters
    ----------
    segmenter : Segmenter
        Which predicts.
    clip : Clip
        The movie.
    frames : iterable of int
        Positions.
    use : callable
        Takes a `FramePrediction`; called in any thread, and in several at once.

    Raises
    ------
    OSError, ValueError
        If a frame cannot be read.
    """
    threads = segmenter.frames_at_once(clip)
    begin = _side_by_side if threads > 1 else _behind
    if threads > 1:
        fast_precision(segmenter.device)  # is found out with a number of threads of its own
        pool = _sharing_torch(threads)
    else:
        threads = _finishers(segmenter.device)
        pool = ThreadPoolExecutor(threads, "labels") if threads else _Here()

    def finish(maps_of: Callable[[], FrameMaps]) -> T:
        return use(segmenter.frame_prediction(maps_of()))

    under_way: deque[Future[T]] = deque()
    failure: Exception | None = None
    try:
        try:
            for maps_of, most in begin(segmenter, clip, frames, threads):
                under_way.append(submit(pool, finish, maps_of))
                del maps_of  # or what it holds would stay until the next frame is there
                while under_way and (len(under_way) > most or under_way[0].done()):
                    yield under_way.popleft().result()
        except Exception as error:
            failure = error
        while under_way:
            try:
                used = under_way.popleft().result()
            except Exception as error:
                failure = failure or error
            else:
                yield used
                del used
    finally:  # Ctrl+C: what has begun comes to its end, nothing else begins
        pool.shutdown(cancel_futures=True)
    if failure is not None:
        raise failure


def submit(pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a function in a thread, with the caller's context: how warnings are shown is part of it."""
    return pool.submit(contextvars.copy_context().run, function, *arguments)


Begun: TypeAlias = "Iterator[tuple[Callable[[], FrameMaps], int]]"
"""For each frame what makes its maps, or has them, and how many frames may be under way."""


def _side_by_side(segmenter: Segmenter, clip: Clip, frames: Iterable[int], threads: int) -> Begun:
    """Read each frame; all else is for its thread."""
    for t in frames:
        movie_intensity(clip, segmenter.net.config.intensities)  # the clip knows it from here on: threads do not read
        planes = [clip.plane(p) for p in range(t * clip.depth, (t + 1) * clip.depth)]
        # One waits, lest a thread has nothing to do. Where memory ran short, frames go one by one.
        yield partial(segmenter.frame_maps, clip, t, planes), threads if segmenter.shortage.tile is None else 0


def _behind(segmenter: Segmenter, clip: Clip, frames: Iterable[int], threads: int) -> Begun:
    """Pass each frame through the network; its labels are for a thread."""
    for maps in segmenter.iter_maps(clip, frames):
        n_bytes = sum(_n_bytes(plane) for plane in maps.planes)
        yield lambda maps=maps: maps, min(threads + 1, int(MAPS_BYTES // n_bytes))  # type: ignore[misc]


def _finishers(device: torch.device) -> int:
    if device.type == "cpu":  # who wants one thread wants no other beside it
        return min(1, torch.get_num_threads() - 1)
    return max(1, min(MOST_FINISHERS, (os.cpu_count() or 1) - 1))


class _Here(ThreadPoolExecutor):
    """A pool of no threads: what is submitted is done."""

    def __init__(self) -> None:
        super().__init__(1)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do it."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _sharing_torch(lanes: int) -> ThreadPoolExecutor:
    """Return a pool of so many threads, among which the threads of torch are shared out."""
    threads = torch.get_num_threads()
    together = threading.Barrier(lanes + 1)

    def share() -> None:
        torch.get_num_threads()  # a thread that never asked would take over what was set last, once it computes
        torch.set_num_threads(max(1, threads // lanes))
        together.wait()

    pool = ThreadPoolExecutor(lanes, "frames")
    for _ in range(lanes):
        pool.submit(share)
    together.wait()
    # Each thread has its own number; those that begin later shall have that of the caller.
    torch.set_num_threads(threads)
    return pool


def _n_bytes(maps: Any) -> int:
    parts: tuple[np.ndarray | None, ...] = (maps.classes, maps.contour, maps.distance)
    return sum(part.nbytes for part in parts if part is not None)
