"""Frames of a run predicted by the workers of a cluster, in the order in which the view wants them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.clip import Clip
from napari_osvos.command_line import reading_of
from napari_osvos.intensity import movie_intensity
from napari_osvos.segmenter import FramePrediction, Segmenter
from napari_osvos.worker.controls import Controls, nearest_frame
from napari_osvos.worker.request import MovieFile

if TYPE_CHECKING:
    from napari_osvos.cluster_tasks import Movie


class ClusterLost(Exception):
    """The cluster is not there, or not any more; the message is a sentence."""


class ClusterFilling:
    """Has a cluster predict frames of a movie.

    Workers read the movie by its path where they all find the same there; else each frame is sent to the worker that
    predicts it.

    Parameters
    ----------
    scheduler : str
        See `napari_osvos.cluster_link.address_of`.
    segmenter : Segmenter
        Which is sent once.
    clip : Clip
        The movie.
    file : MovieFile or None
        Where it may be.
    device : str
        Where workers compute, see `napari_osvos.device.resolve_device`.
    controls : Controls
        Which frame is in view.
    with_probability : bool
        Whether predictions come with their probabilities.
    """

    def __init__(
        self,
        scheduler: str,
        segmenter: Segmenter,
        clip: Clip,
        file: MovieFile | None,
        device: str,
        controls: Controls,
        with_probability: bool,
    ) -> None:
        self.scheduler, self.segmenter, self.clip, self.file = scheduler, segmenter, clip, file
        self.device, self.controls, self.with_probability = device, controls, with_probability

    def predictions(self, left: Collection[int]) -> Iterator[FramePrediction]:
        """Yield predictions of frames as they come.

        Parameters
        ----------
        left : collection of int
            The frames to predict; the caller takes out what was yielded. A frame that fails stays in it.

        Raises
        ------
        ClusterLost
            If the cluster cannot be used, or is lost.
        RunCancelled, FillingStopped
            If the user wants no more.
        """
        from napari_osvos.cluster_link import ClusterChoice, connected

        try:
            with connected(ClusterChoice(self.scheduler), patient=False) as client:
                yield from self._predictions(client, left)
        except (ValueError, ConnectionError) as error:
            reason = str(error).rstrip(".")
            raise ClusterLost(f"{reason}. The frames that are left are predicted on this computer.") from error

    def _predictions(self, client: Any, left: Collection[int]) -> Iterator[FramePrediction]:
        from napari_osvos.cluster_flow import Broadcast, Call, Flow, Parcel
        from napari_osvos.cluster_tasks import Terms, predict_frame, reason_of, segmenter_bytes

        movie_intensity(self.clip, self.segmenter.net.config.intensities)  # measured here, and not by each worker
        known, terms = self.clip.known_percentiles, Terms(self.device)
        payload, movie = Broadcast(segmenter_bytes(self.segmenter)), self._movie_of(client)
        given: set[int] = set()

        def next_call() -> Call | None:
            waiting = [t for t in left if t not in given]
            if not waiting:
                return None
            t = nearest_frame(waiting, self.controls.wishes.frame)
            given.add(t)
            pixels = movie or Parcel(self._planes(t))
            return Call(predict_frame, (payload, pixels, t, terms, known, self.with_probability), t, "predict")

        flow = Flow(client, self.controls.wait_while_paused)
        refused: dict[int, str] = {}
        with contextlib.closing(flow.run(next_call)) as calls:
            for call, outcome in calls:
                if isinstance(outcome, FramePrediction):
                    yield outcome
                else:
                    refused[call.about] = reason_of(outcome)
        if refused:
            t = min(refused)
            number, more = self.clip.frame_numbers[t], f" and {len(refused) - 1} more" * (len(refused) > 1)
            raise ConnectionError(f"The cluster could not predict frame {number}{more}: {refused[t]}")

    def _movie_of(self, client: Any) -> Movie | None:
        """Return the movie by its path, if every worker finds it there."""
        from napari_osvos.cluster_tasks import Movie, can_read

        if self.file is None:
            return None
        path, clip = self.file.path, self.clip
        reading = reading_of(path, clip, self.file.axes or "", self.file.channels)
        if reading is None:
            return None
        movie = Movie(str(path), reading["axes"], reading["channels"])
        found = client.run(can_read, movie, clip.labels_shape, clip.n_channels, clip.dtype.str, on_error="return")
        return movie if found and all(one is True for one in found.values()) else None

    def _planes(self, t: int) -> np.ndarray[Any, Any]:
        """Return the pixels of a frame, (1, Y, X, C) or (1, Z, Y, X, C)."""
        planes = np.stack([self.clip.plane(p) for p in range(t * self.clip.depth, (t + 1) * self.clip.depth)])
        return planes[None] if self.clip.has_depth else planes
