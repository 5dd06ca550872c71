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


class _OpenParts(threading.local):
    """The parts that are open in a thread, innermost last, and since when its time is not counted yet."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.mark = 0.0


class Stopwatch:
    """Seconds by part; the time of a part within another is its own and not the other's, so they add up.

    Parts of another thread are counted beside those of this one: with several threads the sum is more than the time.

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
        self._here = _OpenParts()
        self._lock = threading.Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time within as that of a part."""
        self._charge()
        self._here.parts.append(name)
        try:
            yield
        finally:
            self._charge()
            self._here.parts.pop()

    def of(self, name: str) -> float:
        """Return the seconds of a part, 0 where there was none."""
        return self.seconds.get(name, 0.0)

    def _charge(self) -> None:
        now, here = time.perf_counter(), self._here
        if here.parts:
            with self._lock:
                self.seconds[here.parts[-1]] = self.of(here.parts[-1]) + now - here.mark
        here.mark = now


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
