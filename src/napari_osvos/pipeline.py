"""Frames of a movie predicted into a store: reading, network, labels and writing at once, in threads."""

from __future__ import annotations

import contextvars
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_osvos.certainty import pixel_uncertainty
from napari_osvos.clip import Clip
from napari_osvos.frame_store import FrameStore
from napari_osvos.segmenter import FrameMaps, Segmenter, movie_intensity

# What may lie in memory beyond the frame that the network works on: planes that were read, and maps of whole frames.
READ_BYTES = 128e6
MAPS_BYTES = 256e6
MOST_PLANES = 4
# Making labels takes one core: beside a network on the same cores one thread is enough, a GPU keeps some busy.
MOST_FINISHERS = 4


class Advance(Protocol):
    """Takes how far a job is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Say that so many steps of so many are done, with a note such as the loss."""


def predict_frames(
    segmenter: Segmenter, clip: Clip, positions: Sequence[int], store: FrameStore, advance: Advance | None = None
) -> None:
    """Predict frames and write each to a store as it is finished; the labels are those of `Segmenter.iter_frames`.

    The network works in the calling thread. What was finished when this ends, in whatever way, is in the store; all
    threads have ended then, too.

    Parameters
    ----------
    segmenter : Segmenter
        Which predicts.
    clip : Clip
        The movie.
    positions : sequence of int
        Of the frames to predict.
    store : FrameStore
        Of the movie. Takes probabilities and uncertainties if it was opened with them.
    advance : callable, optional
        Told the frames done and their number.

    Raises
    ------
    OSError, ValueError
        If a frame cannot be read or written.
    """
    n_finishers = 1
    if segmenter.device.type != "cpu":
        n_finishers = max(1, min(MOST_FINISHERS, (os.cpu_count() or 1) - 1))
    planes = (p for t in positions for p in range(t * clip.depth, (t + 1) * clip.depth))
    reader, finisher = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(n_finishers, "labels")
    under_way: deque[Future[None]] = deque()
    done = 0

    def finish(maps: FrameMaps) -> None:
        prediction = segmenter.frame_prediction(maps)
        probability = prediction.probability
        store.write(
            prediction.frame,
            prediction.labels,
            confidence=prediction.confidence,
            probability=probability if store.probabilities else None,
            uncertainty=pixel_uncertainty(probability) if store.uncertainty else None,
            novelty=prediction.novelty,
            seconds=prediction.seconds,
        )

    def settle(most: int) -> None:
        """Wait until at most so many frames are under way."""
        nonlocal done
        while under_way and (len(under_way) > most or under_way[0].done()):
            under_way.popleft().result()
            done += 1
            if advance is not None:
                advance(done, len(positions))

    try:
        movie_intensity(clip, segmenter.net.config.intensities)  # known from here on, or reading would be out of turn
        for maps in segmenter.iter_maps(ReadAhead(clip, planes, reader), positions):
            n_bytes = sum(_n_bytes(plane) for plane in maps.planes)
            under_way.append(_submit(finisher, finish, maps))
            del maps
            settle(min(n_finishers + 1, int(MAPS_BYTES // n_bytes)))
        settle(0)
    except Exception:
        reader.shutdown(wait=False, cancel_futures=True)
        finisher.shutdown()  # what the network is done with shall not be lost
        raise
    finally:  # Ctrl+C: what has begun comes to its end, nothing else begins
        for pool in (reader, finisher):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (reader, finisher):
            pool.shutdown()


class ReadAhead(Clip):
    """A movie whose next planes are read in another thread, while the last one is looked at.

    Parameters
    ----------
    clip : Clip
        The movie; nobody else reads it meanwhile.
    planes : iterator of int
        Planes in the order in which they will be asked for.
    reader : ThreadPoolExecutor
        Of one thread.
    """

    def __init__(self, clip: Clip, planes: Iterator[int], reader: ThreadPoolExecutor) -> None:
        self.__dict__.update(clip.__dict__)  # the same movie, with what is known of its intensities
        self._clip, self._planes, self._reader = clip, planes, reader
        n_bytes = int(np.prod(clip.plane_shape)) * clip.n_channels * clip.dtype.itemsize
        self._most = min(MOST_PLANES, int(READ_BYTES // n_bytes))
        self._coming: deque[tuple[int, Future[npt.NDArray[Any]]]] = deque()
        self._is_told = False

    def plane(self, p: int) -> npt.NDArray[Any]:
        """Read one plane, as `Clip.plane`; warn of the first that holds nothing."""
        pixels = self._next(p)
        if pixels.dtype.kind == "f" and not self._is_told and not np.isfinite(pixels).any():
            self._is_told = True  # one sentence for all: what was never recorded is often the rest of the movie
            number = self.frame_numbers[p // self.depth]
            warnings.warn(
                f"Frame {number} of {self.name} has no finite pixel and is taken as blank; there may be others.",
                stacklevel=2,
            )
        return pixels

    def _next(self, p: int) -> npt.NDArray[Any]:
        self._ask()
        if any(coming == p for coming, _ in self._coming):
            while self._coming[0][0] != p:
                self._coming.popleft()
            pixels: npt.NDArray[Any] = self._coming.popleft()[1].result()
            self._ask()
            return pixels
        last: npt.NDArray[Any] = _submit(self._reader, self._clip.plane, p).result()  # too large to ask ahead, or again
        return last

    def _ask(self) -> None:
        while len(self._coming) < self._most:
            p = next(self._planes, None)
            if p is None:
                return
            self._coming.append((p, _submit(self._reader, self._clip.plane, p)))


def _submit(pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Run a function in a thread, with the caller's context: how warnings are shown is part of it."""
    return pool.submit(contextvars.copy_context().run, function, *arguments)


def _n_bytes(maps: Any) -> int:
    parts = (maps.classes, maps.contour, maps.distance)
    return sum(part.nbytes for part in parts if part is not None)
