"""What the workers of a cluster do: one thing at a time in each, with all threads that it was given."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from napari_osvos.clip import Clip
from napari_osvos.cluster_link import installed, version_complaint
from napari_osvos.device import cpu_computes_in, precision_name, resolve_device
from napari_osvos.frame_store import FrameStore
from napari_osvos.io import read_clip
from napari_osvos.pipeline import predict_frames
from napari_osvos.segmenter import FramePrediction, Segmenter

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 4
"""Segmenters and open movies that a worker keeps for the next call."""
_turn, _keeping = threading.Lock(), threading.Lock()
_kept: OrderedDict[Any, Any] = OrderedDict()
loads: list[str] = []
"""Digest of each segmenter that this process has loaded, in order."""
K = TypeVar("K")


@dataclass(frozen=True)
class Terms:
    """How all workers compute, so that labels do not depend on which of them made a frame.

    Attributes
    ----------
    device : str
        See `napari_osvos.device.resolve_device`.
    precision : str
        ``float32`` or ``bfloat16``, on a CPU; a GPU has its own.
    versions : dict
        See `napari_osvos.cluster_link.installed`.
    """

    device: str = "auto"
    precision: str = field(default_factory=lambda: precision_name(torch.device("cpu")))
    versions: dict[str, str] = field(default_factory=installed)


@dataclass(frozen=True)
class Movie:
    """A movie that a worker opens by its path.

    Attributes
    ----------
    path : str
        Absolute.
    axes : str or None
    channels : tuple of int or None
        See `napari_osvos.read_clip`.
    percentiles : dict
        See `Clip.known_percentiles`.
    """

    path: str
    axes: str | None = None
    channels: tuple[int, ...] | None = None
    percentiles: Mapping[Any, Any] = field(default_factory=dict)

    def open(self) -> Clip:
        """Return the movie, which stays open for the next call unless it is written anew."""
        path = Path(self.path)
        changed = path.stat().st_mtime_ns if path.exists() else 0
        key = ("movie", self.path, self.axes, self.channels, changed)
        clip = _keep(key, lambda: read_clip(path, axes=self.axes, channels=self.channels))
        clip.take_percentiles(self.percentiles)
        return clip


@contextlib.contextmanager
def turn(terms: Terms) -> Iterator[torch.device]:
    """Wait until no other call computes in this process, and yield the device to compute on.

    Raises
    ------
    ValueError
        If this worker has another version, or no such device.
    """
    from distributed import get_worker

    worker = get_worker()
    complaint = version_complaint(terms.versions, "client")
    if complaint:
        raise ValueError(complaint)
    with _turn, cpu_computes_in(terms.precision):
        torch.set_num_threads(worker.state.nthreads)
        yield device_of(terms.device, worker.name)


def device_of(device: str, worker: object) -> torch.device:
    """Return the device of a worker: of several GPUs, workers with the names 0, 1, 2 ... take turns."""
    found, gpus = resolve_device(device), torch.cuda.device_count()
    if found.type == "cuda" and device in ("auto", "cuda") and gpus > 1 and str(worker).isdecimal():
        return torch.device(f"cuda:{int(str(worker)) % gpus}")
    return found


def predict_into(
    segmenter: bytes, movie: Movie, store: str, frames: Sequence[int], terms: Terms
) -> tuple[float, dict[int, str]]:
    """Predict frames of a movie into its store; those that are there already are left as they are.

    Returns
    -------
    seconds : float
        Spent on them.
    failures : dict
        {position: why this frame could not be segmented}; the others are finished.
    """
    with turn(terms) as device:
        began = time.perf_counter()
        clip, network = movie.open(), open_segmenter(segmenter, device)
        frames_store = FrameStore(store)  # not kept: another run may have begun another one there
        failures: dict[int, str] = {}
        try:
            predict_frames(network, clip, _missing(frames_store, frames), frames_store)
        except Exception:  # which frame it was shows when each is tried by itself
            for t in _missing(frames_store, frames):
                try:
                    predict_frames(network, clip, [t], frames_store)
                except Exception as error:
                    failures[t] = reason_of(error)
        return time.perf_counter() - began, failures


def predict_frame(
    segmenter: bytes,
    movie: Movie | NDArray[Any],
    frame: int,
    terms: Terms,
    percentiles: Mapping[Any, Any],
    with_probability: bool,
) -> FramePrediction:
    """Return the prediction of one frame; it is small without its probability.

    Parameters
    ----------
    movie : Movie or (1, Y, X, C) or (1, Z, Y, X, C) array
        The movie, or the frame.
    """
    with turn(terms) as device:
        network = open_segmenter(segmenter, device)
        if isinstance(movie, Movie):
            clip, position = movie.open(), frame
        else:
            clip, position = Clip(movie, "TZYXC" if movie.ndim == 5 else "TYXC"), 0
        clip.take_percentiles(percentiles)
        prediction = network.frame_prediction(next(network.iter_maps(clip, [position])))
    probability = prediction.probability if with_probability else np.zeros(0, np.float32)
    return replace(prediction, frame=frame, probability=probability)


def can_read(movie: Movie, shape: tuple[int, ...], n_channels: int, dtype: str) -> bool:
    """Whether this worker finds a movie of this shape where the client did."""
    try:
        clip = movie.open()
    except (OSError, ValueError):
        return False
    return (clip.labels_shape, clip.n_channels, clip.dtype.str) == (shape, n_channels, dtype)


def segmenter_bytes(segmenter: Segmenter) -> bytes:
    """Return the file that `Segmenter.save` would write."""
    with tempfile.TemporaryDirectory(prefix="napari-osvos-") as folder:
        path = Path(folder, "segmenter.osvos")
        segmenter.save(path)
        return path.read_bytes()


def open_segmenter(payload: bytes, device: torch.device) -> Segmenter:
    """Return the segmenter of a file's bytes, which is loaded once."""
    digest = hashlib.sha256(payload).hexdigest()

    def load() -> Segmenter:
        loads.append(digest)
        with tempfile.TemporaryDirectory(prefix="napari-osvos-") as folder:
            path = Path(folder, "segmenter.osvos")
            path.write_bytes(payload)
            return Segmenter.load(path, device)

    return _keep(("segmenter", digest, str(device)), load)


def reason_of(error: BaseException) -> str:
    """Return the first line of an error, without its full stop."""
    if type(error).__name__ == "KilledWorker":
        return "each worker that tried has ended in the middle of it, perhaps for lack of memory"
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return first or type(error).__name__


def _missing(store: FrameStore, frames: Sequence[int]) -> list[int]:
    finished = set(store.finished)
    return [t for t in frames if t not in finished]


def _keep(key: Any, make: Callable[[], K]) -> K:
    with _keeping:  # whether a movie can be read is asked out of turn
        if key not in _kept:
            _kept[key] = make()
        _kept.move_to_end(key)
        while sum(kept[0] == key[0] for kept in _kept) > KEPT:
            del _kept[next(kept for kept in _kept if kept[0] == key[0])]
        found: K = _kept[key]
        return found
