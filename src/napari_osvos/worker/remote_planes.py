"""The planes of a movie that another process holds, as an array that a `Clip` can stand in front of."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.worker.controls import Controls
from napari_osvos.worker.packing import Movie

CACHE_BYTES = 512 * 2**20


class PlaneCache:
    """The planes used last, up to a number of bytes; the one that came last is always there."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.size = 0
        self._planes: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()

    def __contains__(self, p: int) -> bool:
        return p in self._planes

    def __getitem__(self, p: int) -> npt.NDArray[Any]:
        self._planes.move_to_end(p)
        return self._planes[p]

    def __setitem__(self, p: int, plane: npt.NDArray[Any]) -> None:
        if p in self._planes:
            self.size -= self._planes.pop(p).nbytes
        self._planes[p] = plane
        self.size += plane.nbytes
        while self.size > self.limit and len(self._planes) > 1:
            self.size -= self._planes.popitem(last=False)[1].nbytes


class RemotePlanes:
    """An array whose planes are asked for when they are indexed, and kept for a while.

    Parameters
    ----------
    movie : Movie
        Shape and dtype.
    controls : Controls
        Waiting for a plane ends when the user wants no more.
    cache_bytes : int
        Bytes of planes that are kept.
    """

    def __init__(self, movie: Movie, controls: Controls, cache_bytes: int = CACHE_BYTES) -> None:
        self.shape = movie.shape
        self.dtype = np.dtype(movie.dtype)
        self._depth = movie.shape[1] if len(movie.shape) == 5 else 1
        self._controls = controls
        self._cache = PlaneCache(cache_bytes)
        self._asked: set[int] = set()
        self._complaints: dict[int, str] = {}
        self._ask: Callable[[list[int]], None] = lambda planes: None

    def connect(self, ask: Callable[[list[int]], None]) -> None:
        """Ask for planes by this function from now on; what was asked for before will not come."""
        with self._controls.changed:
            self._asked.clear()
            self._complaints.clear()
            self._ask = ask

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        t, *z, _, _, channels = index
        return self.plane(t * self._depth + (z[0] if z else 0))[..., channels]

    def plane(self, p: int) -> npt.NDArray[Any]:
        """Return a plane (Y, X, C), asking for it if need be.

        Raises
        ------
        OSError
            If it cannot be read where the movie is.
        RunCancelled, FillingStopped
            If the user wants no more.
        """
        self._controls.check()
        self._request([p])
        with self._controls.changed:
            self._controls.wait_until(lambda: self.is_there(p) or p not in self._asked)
            if p in self._complaints:
                raise OSError(self._complaints[p])
            if p in self._cache:
                return self._cache[p]
        return self.plane(p)  # it came and had to make room for others

    def prefetch(self, planes: Iterable[int]) -> None:
        """Ask for planes that will be wanted soon, without waiting; not where hardly any could be kept."""
        if 4 * math.prod(self.shape[-3:]) * self.dtype.itemsize <= self._cache.limit:
            self._request(planes)

    def is_there(self, p: int) -> bool:
        """Whether plane `p`, or the complaint about it, can be had without waiting."""
        with self._controls.changed:
            return p in self._cache or p in self._complaints

    def deliver(self, p: int, plane: npt.NDArray[Any] | None, complaint: str = "") -> None:
        """Take in a plane (Y, X, C), or why there is none."""
        with self._controls.changed:
            self._asked.discard(p)
            if plane is None:
                self._complaints[p] = complaint
            else:
                self._cache[p] = plane
            self._controls.changed.notify_all()

    def _request(self, planes: Iterable[int]) -> None:
        with self._controls.changed:
            missing = [p for p in planes if p not in self._asked and not self.is_there(p)]
            self._asked.update(missing)
        if missing:
            self._ask(missing)
