"""What the seconds of a measurement go into: reading, adapting, predicting, and making labels of what was predicted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from napari_osvos.clip import Clip
from napari_osvos.labelling import LabelMeaning, PlaneMaps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ, ADAPT, PREDICT, POST = "read", "adapt", "predict", "post"


class Stopwatch:
    """Seconds by part, which add up to the time in which any part was open.

    The time of a part within another of the same thread is its own and not the other's. Time in which several threads
    are in parts is shared out equally among the threads: while two make labels and that of the caller predicts, or
    waits for them, a third goes to predicting.

    Attributes
    ----------
    seconds : dict
        {part: seconds}, of those that ended.

    Examples
    --------
    >>> watch = Stopwatch()
    >>> with watch.part("adapt"), watch.part("read"):
    ...     pass
    >>> sorted(watch.seconds)
    ['adapt', 'read']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: dict[int, list[str]] = {}  # the parts that are open in each thread, innermost last
        self._mark = 0.0  # since when time is not counted yet
        self._lock = threading.Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time within as that of a part."""
        thread = threading.get_ident()
        with self._lock:
            self._charge()
            self._open.setdefault(thread, []).append(name)
        try:
            yield
        finally:
            with self._lock:
                self._charge()
                self._open[thread].pop()
                if not self._open[thread]:
                    del self._open[thread]

    def of(self, name: str) -> float:
        """Return the seconds of a part, 0 where there was none."""
        return self.seconds.get(name, 0.0)

    def _charge(self) -> None:
        now = time.perf_counter()
        for parts in self._open.values():
            self.seconds[parts[-1]] = self.of(parts[-1]) + (now - self._mark) / len(self._open)
        self._mark = now


class _TimedPlanes:
    """The planes of a clip as an array over T, Z, Y, X and C."""

    def __init__(self, clip: Clip, watch: Stopwatch) -> None:
        self._clip, self._watch = clip, watch
        depth = (clip.depth,) if clip.has_depth else ()
        self.shape: tuple[int, ...] = (clip.n_frames, *depth, *clip.plane_shape, clip.n_channels)
        self.dtype = clip.dtype

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        n_lead = 2 if self._clip.has_depth else 1
        t, z = (*index[:n_lead], 0)[:2]
        with self._watch.part(READ):
            plane = self._clip.plane(t * self._clip.depth + z)
        part: NDArray[Any] = plane[index[n_lead:]]
        return part


def timed_clip(clip: Clip, watch: Stopwatch) -> Clip:
    """Return the same movie, whose reading is counted."""
    axes = "TZYXC" if clip.has_depth else "TYXC"
    numbers = clip.frame_numbers if clip.has_numbers else None
    return Clip(_TimedPlanes(clip, watch), axes, frame_numbers=numbers, name=clip.name)


@dataclass(frozen=True)
class TimedMeaning(LabelMeaning):
    """The meaning of labels, whose making is counted.

    Attributes
    ----------
    watch : Stopwatch
        Counts it.
    """

    watch: Stopwatch = field(default_factory=Stopwatch, compare=False)

    @classmethod
    def of(cls, meaning: LabelMeaning, watch: Stopwatch) -> TimedMeaning:
        """Return the same meaning, counted."""
        return cls(**{spec.name: getattr(meaning, spec.name) for spec in fields(LabelMeaning)}, watch=watch)

    def labels(self, planes: Sequence[PlaneMaps], threshold: float, snapped: bool = False) -> NDArray[np.int32]:
        """Return the labels of a frame, as `LabelMeaning.labels`."""
        with self.watch.part(POST):
            return super().labels(planes, threshold, snapped)
