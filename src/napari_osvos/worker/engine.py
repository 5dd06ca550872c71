"""The engine as it is in its own process: one run at a time on the main thread, wishes and planes come in others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from napari_osvos.clip import Clip
from napari_osvos.device import describe_device, resolve_device
from napari_osvos.finetune import FineTuner
from napari_osvos.memory import Shortage, free_memory
from napari_osvos.parent import ParentNetwork
from napari_osvos.provenance import frames_learned_from
from napari_osvos.segmenter import Segmenter
from napari_osvos.suggest import FrameReview
from napari_osvos.worker.cluster_filling import ClusterFilling
from napari_osvos.worker.controls import Controls, RunCancelled
from napari_osvos.worker.events import (
    Calibrated,
    Cancelled,
    Event,
    Finished,
    FrameDone,
    Noted,
    Preview,
    TrainingDone,
)
from napari_osvos.worker.failures import failure
from napari_osvos.worker.filling import Filling
from napari_osvos.worker.gpu import engine_ready
from napari_osvos.worker.learning import Previews, learn
from napari_osvos.worker.mailbox import Mailbox
from napari_osvos.worker.packing import Movie, Order, Wishes, open_movie, pack_event, unpack_request
from napari_osvos.worker.remote_planes import RemotePlanes
from napari_osvos.worker.speed import calibrate

UNREAD = 16
"""Arrays that may wait for the client before the engine waits for it."""


class Speaker(Protocol):
    """What a task of Appose offers to tell the other side something."""

    def update(self, *, info: dict[str, Any]) -> None:
        """Send plain data."""


class EngineProcess:
    """What the tasks that the client sends call.

    Parameters
    ----------
    mailbox : Mailbox
        Through which arrays travel.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.controls = Controls()
        self._threads = torch.get_num_threads()
        self._parents: dict[str, ParentNetwork] = {}
        self._movie: Movie | None = None
        self._planes: RemotePlanes | None = None
        self._clip: Clip | None = None
        self._run = 0

    # -- called on the main thread ---------------------------------------------------------------

    def report_ready(self, task: Speaker) -> None:
        """Load the default parent and tell the client what this machine has."""
        self._parent("lite")
        task.update(info={"run": 0, **pack_event(engine_ready(), self.mailbox)})

    def calibrate(self, task: Speaker, device: str, threads: int | None) -> None:
        """Measure the speed, unless a run is wanted."""
        run = self.controls.wishes.run
        self._set_threads(threads)
        where = resolve_device(device)
        calibration = calibrate(self._parent("lite"), where, lambda: self.controls.wishes.run == run)
        free_memory()
        if calibration is not None:
            event = Calibrated(calibration, device, threads, describe_device(where))
            task.update(info={"run": 0, **pack_event(event, self.mailbox)})

    def run(self, task: Speaker, request: Mapping[str, Any]) -> None:
        """Do what a request says and tell about it; never raises."""
        order = unpack_request(request)
        self._run = order.wishes.run
        self.controls.update(order.wishes)

        def tell(event: Event) -> None:
            if isinstance(event, Preview | FrameDone):
                self.controls.wait_until(lambda: self.mailbox.unread() < UNREAD, 0.02)
            task.update(info={"run": order.wishes.run, **pack_event(event, self.mailbox)})

        device, last = "", Event()
        try:
            self._set_threads(order.threads)
            device = str(resolve_device(order.device))
            last = self._do(order, device, tell, task)
        except RunCancelled:
            last = Cancelled()
        except Exception as error:
            last = failure(error, device)
        free_memory()  # only here is the error gone, and with it what it kept alive
        task.update(info={"run": order.wishes.run, **pack_event(last, self.mailbox)})

    # -- called on other threads -----------------------------------------------------------------

    def steer(self, wishes: Mapping[str, Any]) -> None:
        """Take in what the user wants now."""
        self.controls.update(Wishes(**wishes))

    def deliver(self, run: int, plane: int, address: str, complaint: str) -> None:
        """Take in a plane that was asked for, or why it cannot be had."""
        if run != self._run or self._planes is None:
            Mailbox.discard(address)
        elif complaint:
            self._planes.deliver(plane, None, complaint)
        else:
            self._planes.deliver(plane, Mailbox.take(address))

    # --------------------------------------------------------------------------------------------

    def _do(self, order: Order, device: str, tell: Any, task: Speaker) -> Finished:
        began = time.perf_counter()
        clip, planes = self._open(order.movie)
        planes.connect(lambda wanted: task.update(info={"run": order.wishes.run, "want": wanted}))
        self.controls.check()
        start: ParentNetwork | Segmenter
        start = Segmenter.load(order.start, device) if order.start else self._parent(order.parent)
        if order.prediction is not None:
            order.prediction.check(start.net.config, None if order.annotations is None else order.tuning)
        shortage = Shortage(lambda sentence: tell(Noted(sentence)))
        if order.annotations is not None:
            tuner = FineTuner(start, order.tuning, device)
            tuner.shortage = shortage
            previews = Previews(tuner, clip, planes, self.controls, tell, order.prediction, order.probabilities)
            segmenter, steps, seconds, stopped = learn(tuner, clip, order.annotations, previews, self.controls, tell)
            segmenter.config = order.prediction or segmenter.config
            if order.keep is not None:
                segmenter.save(order.keep)
            tell(TrainingDone(steps, seconds, stopped, order.keep, tuner.remarks))
        else:
            assert isinstance(start, Segmenter)  # a request has paint or a segmenter
            segmenter, start.shortage = start, shortage
            segmenter.config = order.prediction or segmenter.config
        known = order.accepted.union(frames_learned_from(segmenter.provenance, clip))
        review = FrameReview.of(segmenter, clip, known)
        cluster = None
        if order.scheduler:
            where = (order.scheduler, segmenter, clip, order.file, order.device, self.controls)
            cluster = ClusterFilling(*where, with_probability=order.probabilities or order.uncertainty)
        parts: dict[str, Any] = {"accepted": order.accepted, "review": review, "cluster": cluster}
        filling = Filling(segmenter, clip, planes, self.controls, **parts)
        stopped = filling.run(tell, order.probabilities, order.uncertainty)
        return Finished(
            filling.done,
            time.perf_counter() - began,
            stopped,
            segmenter.provenance,
            review.ranking(),
            review.expected(),
        )

    def _open(self, movie: Movie) -> tuple[Clip, RemotePlanes]:
        """Return the movie, with the planes and percentiles that an earlier run had of it."""
        if self._clip is None or self._planes is None or not movie.token or movie != self._movie:
            self._planes = RemotePlanes(movie, self.controls)
            self._clip = open_movie(movie, self._planes)
            self._movie = movie
        return self._clip, self._planes

    def _set_threads(self, threads: int | None) -> None:
        wanted = threads or self._threads
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def _parent(self, name: str) -> ParentNetwork:
        if name in ParentNetwork.bundled_names():
            if name not in self._parents:
                self._parents[name] = ParentNetwork.bundled(name)
            return self._parents[name]
        if Path(name).suffix or Path(name).exists():
            return ParentNetwork.load(name)
        return ParentNetwork.bundled(name)  # says which there are
