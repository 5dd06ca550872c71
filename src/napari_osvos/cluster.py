"""Prediction on a dask cluster: frames are its tasks, and its workers write them where the client finds them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.clip import Clip
from napari_osvos.cluster_flow import AHEAD, Broadcast, Call, Flow
from napari_osvos.cluster_tasks import Movie, Terms, predict_into, reason_of, segmenter_bytes
from napari_osvos.frame_store import FrameStore
from napari_osvos.intensity import movie_intensity
from napari_osvos.pipeline import Advance
from napari_osvos.segmenter import Segmenter

if TYPE_CHECKING:
    from napari_osvos.predict_job import PredictJob

CALL_SECONDS = 2.0
"""What one call is to take: far more than to hand it out, little enough to lose."""
MOST_FRAMES = 64
LEAST_PART = 8
"""How many times less than usual the last calls do, so that all workers end together."""
FIRST_PIXELS = 2_000_000
"""Pixels of a call before it is known how long they take."""


class ClusterSegmenter:
    """A segmenter on a cluster, which gets it once.

    Parameters
    ----------
    client : distributed.Client
        As `napari_osvos.cluster_link.connected` yields it.
    segmenter : Segmenter
        Its settings are those of the prediction.
    terms : Terms, optional
        How workers compute.
    """

    def __init__(self, client: Any, segmenter: Segmenter, terms: Terms | None = None) -> None:
        self.client, self.segmenter = client, segmenter
        self.terms = terms or Terms()
        self.payload = Broadcast(segmenter_bytes(segmenter))

    def predict_frames(
        self,
        job: PredictJob,
        clip: Clip,
        positions: Sequence[int],
        store: FrameStore,
        advance: Advance | None = None,
    ) -> None:
        """Predict frames into a store, as `napari_osvos.pipeline.predict_frames`; the labels are the same.

        Workers read the movie and write the store by path. A frame that fails is tried once more by itself; all others
        are finished before that is told. A worker that ends costs the frames that it was at, which another does.

        Parameters
        ----------
        job : PredictJob
            How the movie is read.
        clip, positions, store, advance
            As there.

        Raises
        ------
        OSError
            If frames could not be segmented; the sentence names the first.
        ConnectionError
            If the scheduler is lost; what was finished is in the store.
        """
        movie_intensity(clip, self.segmenter.net.config.intensities)  # measured here once, and not by each worker
        axes, channels = job.axes, job.channels
        movie = Movie(str(Path(job.movie).resolve()), axes, channels, clip.known_percentiles)
        work = _Work(positions, clip, lambda: len(self.client.nthreads()))
        where = (movie, str(store.path.resolve()))

        def next_call() -> Call | None:
            frames = work.take()
            if not frames:
                return None
            return Call(predict_into, (self.payload, *where, frames, self.terms), frames, "predict")

        for call, outcome in Flow(self.client).run(next_call):
            if isinstance(outcome, Exception):
                work.note(call.about, 0.0, dict.fromkeys(call.about, reason_of(outcome)))
            else:
                work.note(call.about, *outcome)
            if advance is not None:
                advance(work.done, len(positions))
        if work.failures:
            raise OSError(work.complaint(clip, store))


class _Work:
    """Which frames are still to be handed out, and how many at a time."""

    def __init__(self, positions: Sequence[int], clip: Clip, n_workers: Callable[[], int]) -> None:
        self._left = deque(positions)
        self._alone: deque[int] = deque()
        self._n_workers = n_workers
        self._at_once = max(1, FIRST_PIXELS // max(1, math.prod(clip.labels_shape[1:])))
        self._least = 1  # until it is known how long a frame takes
        self.done = 0
        self.failures: dict[int, str] = {}

    def take(self) -> tuple[int, ...]:
        if self._left:
            share = math.ceil(len(self._left) / (AHEAD * max(1, self._n_workers())))  # all are to end together
            count = min(self._at_once, max(share, self._least), MOST_FRAMES)
            return tuple(self._left.popleft() for _ in range(min(count, len(self._left))))
        return (self._alone.popleft(),) if self._alone else ()

    def note(self, frames: Sequence[int], seconds: float, failures: dict[int, str]) -> None:
        self.done += len(frames) - len(failures)
        if seconds > 0 and not failures:
            self._at_once = max(1, round(CALL_SECONDS * len(frames) / seconds))
            self._least = self._at_once // LEAST_PART
        for t, reason in failures.items():
            if t not in self.failures:
                self._alone.append(t)  # once more: a disk or a worker may have been busy
            self.failures[t] = reason
        for t in set(frames) - failures.keys():
            self.failures.pop(t, None)

    def complaint(self, clip: Clip, store: FrameStore) -> str:
        """Say which frames could not be segmented."""
        first = min(self.failures)
        more = len(self.failures) - 1
        others = f", nor could {more} other frame{'s' * (more > 1)}" if more else ""
        return (
            f"Frame {clip.frame_numbers[first]} of {clip.name} could not be segmented{others}: {self.failures[first]}. "
            f"The {len(store.finished)} finished frames are in {store.path}; the same command goes on from there."
        )
