"""The filling part of a run: the frame in view first, then outwards from it, in whatever order the view moves."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Generator, Iterator
from typing import TYPE_CHECKING

from napari_osvos.certainty import pixel_uncertainty
from napari_osvos.clip import Clip
from napari_osvos.plane_prediction import MOST_PLANES
from napari_osvos.segmenter import FramePrediction, Segmenter
from napari_osvos.worker.cluster_filling import ClusterFilling, ClusterLost
from napari_osvos.worker.controls import Controls, FillingStopped, nearest_frame
from napari_osvos.worker.events import FrameDone, Noted
from napari_osvos.worker.learning import Tell
from napari_osvos.worker.remote_planes import RemotePlanes

if TYPE_CHECKING:
    from napari_osvos.suggest import FrameReview

PACE_FRAMES = 2 * MOST_PLANES
"""Frames whose time tells how long the others will take: those that are predicted at once also come at once."""


class Filling:
    """Predicts every frame of a movie but the accepted ones.

    Parameters
    ----------
    segmenter : Segmenter
        Which predicts.
    clip : Clip
        The movie, over `planes`.
    planes : RemotePlanes
        The next frame is asked for while the present one is predicted.
    controls : Controls
        Which frame is in view.
    accepted : collection of int
        Positions of frames that are left alone.
    review : FrameReview, optional
        Shown every prediction.
    cluster : ClusterFilling, optional
        Predicts as long as it can; what it leaves, `segmenter` does.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        clip: Clip,
        planes: RemotePlanes,
        controls: Controls,
        *,
        accepted: Collection[int] = (),
        review: FrameReview | None = None,
        cluster: ClusterFilling | None = None,
    ) -> None:
        self.segmenter, self.clip, self.planes, self.controls = segmenter, clip, planes, controls
        self.left = set(range(clip.n_frames)).difference(accepted)
        self.review, self.cluster = review, cluster
        self.done = 0

    def run(self, tell: Tell, probabilities: bool, uncertainty: bool = False) -> bool:
        """Predict until no frame is left; return whether the user ended it before.

        Parameters
        ----------
        tell : callable
            Takes each `FrameDone`, and `Noted` if the cluster is lost.
        probabilities, uncertainty : bool
            Whether they are sent too.

        Raises
        ------
        RunCancelled
            If the user cancels.
        OSError
            If a plane cannot be read.
        """
        total = len(self.left)
        recent: deque[float] = deque(maxlen=PACE_FRAMES)
        began = time.perf_counter()
        predictions = self._predictions(tell)
        try:
            for prediction in predictions:
                if self.review is not None:
                    self.review.add(prediction)
                recent.append(time.perf_counter() - began)
                left = len(self.left) - 1
                tell(
                    FrameDone(
                        prediction.frame,
                        prediction.labels,
                        prediction.probability if probabilities else None,
                        prediction.confidence,
                        self.done + 1,
                        total,
                        sum(recent) / len(recent) * left,
                        pixel_uncertainty(prediction.probability) if uncertainty else None,
                    )
                )
                self.left.discard(prediction.frame)
                self.done += 1
                self.controls.wait_while_paused()
                began = time.perf_counter()
        except FillingStopped:
            return bool(self.left)
        finally:
            predictions.close()
        return False

    def _predictions(self, tell: Tell) -> Generator[FramePrediction]:
        if self.cluster is not None:
            try:
                yield from self.cluster.predictions(self.left)
            except ClusterLost as lost:
                tell(Noted(str(lost)))
        yield from self.segmenter.iter_frames(self.clip, self._order())

    def _order(self) -> Iterator[int]:
        waiting = set(self.left)  # several are taken before the first of them is done
        while waiting:
            self.controls.wait_while_paused()
            view = self.controls.wishes.frame
            t = nearest_frame(waiting, view)
            waiting.discard(t)
            frames = [t, nearest_frame(waiting, view)] if waiting else [t]
            depth = self.clip.depth
            self.planes.prefetch(p for frame in frames for p in range(frame * depth, (frame + 1) * depth))
            yield t
