"""Frames of a movie predicted into a store: reading, network, labels and writing at once, in threads."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_osvos.certainty import pixel_uncertainty
from napari_osvos.clip import Clip
from napari_osvos.frame_store import FrameStore
from napari_osvos.intensity import movie_intensity
from napari_osvos.parallel_frames import each_frame, submit
from napari_osvos.segmenter import FramePrediction, Segmenter

# Planes that were read may lie in memory, beside those of the frames that are being predicted: so many and so large.
MOST_PLANES = 4
READ_BYTES = 128e6


class Advance(Protocol):
    """Takes how far a job is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Say that so many steps of so many are done, with a note such as the loss."""


def predict_frames(
    segmenter: Segmenter, clip: Clip, positions: Sequence[int], store: FrameStore, advance: Advance | None = None
) -> None:
    """Predict frames and write each to a store as it is finished; the labels are those of `Segmenter.iter_frames`.

    What was finished when this ends, in whatever way, is in the store; all threads have ended then, too.

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
    planes = (p for t in positions for p in range(t * clip.depth, (t + 1) * clip.depth))
    reader = ThreadPoolExecutor(1, "read")

    def write(prediction: FramePrediction) -> None:
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

    movie_intensity(clip, segmenter.net.config.intensities)  # known from here on, or reading would be out of turn
    try:
        with closing(each_frame(segmenter, ReadAhead(clip, planes, reader), positions, write)) as written:
            for done, _ in enumerate(written, start=1):
                if advance is not None:  # where it fails, as by Ctrl+C, threads end all the same
                    advance(done, len(positions))
    finally:
        reader.shutdown(cancel_futures=True)


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
        last: npt.NDArray[Any] = submit(self._reader, self._clip.plane, p).result()  # too large to ask ahead, or again
        return last

    def _ask(self) -> None:
        while len(self._coming) < self._most:
            p = next(self._planes, None)
            if p is None:
                return
            self._coming.append((p, submit(self._reader, self._clip.plane, p)))
