"""Which frames of a Labels layer hold paint, kept up to date stroke by stroke without looking at the whole movie."""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.annotations import Annotations
from napari_osvos.labels import Labels
from napari_osvos.layer_axes import LayerAxes
from napari_osvos.object_count import counting

_NAME = "the annotations"


@dataclass(frozen=True)
class PaintedFrame:
    """A frame that holds paint.

    Attributes
    ----------
    frame
        Position in the movie.
    n_objects
        Different labels, or, where a single one is painted, its connected parts; through all slices of a frame.
    partial
        Whether unpainted pixels are unknown rather than background.
    accepted
        Whether its labels are final: it trains, and no run overwrites it.
    corrected
        Whether its paint is a corrected prediction, which weighs more.
    """

    frame: int
    n_objects: int
    partial: bool = False
    accepted: bool = False
    corrected: bool = False


class PaintedFrames:
    """The painted frames of a Labels layer.

    Tell it what changed with `mark_changed`, and call `update` from a timer: it looks at the frames that wait, for no
    longer than it is given. For use in one thread (that of the viewer).

    Parameters
    ----------
    labels : array
        The array of the layer, of `LayerAxes.labels_layer_shape`; it is read again at every update.
    axes : LayerAxes
        Of the image layer.
    scan : bool
        Whether it may hold paint already: all frames wait to be looked at.
    """

    def __init__(self, labels: Any, axes: LayerAxes, *, scan: bool = True) -> None:
        self._labels, self.axes = labels, axes
        self._found: dict[int, int] = {}  # frame -> number of objects
        self._sums: dict[int, int] = {}  # frame -> checksum of the paint that was found there
        self._partial: set[int] = set()
        self._accepted: set[int] = set()
        self._corrected: set[int] = set()
        self._unsaved: dict[int, npt.NDArray[Any] | None] = {}
        # two queues, as dicts that keep their order: painted since (the last one first), and never looked at
        self._changed: dict[int, None] = {}
        self._unseen: dict[int, None] = dict.fromkeys(range(axes.n_frames)) if scan else {}
        self._look: tuple[int, Generator[None, None, int]] | None = None

    @property
    def frames(self) -> tuple[PaintedFrame, ...]:
        """What is known so far, by rising frame."""
        return tuple(
            PaintedFrame(t, n, t in self._partial, t in self._accepted, t in self._corrected)
            for t, n in sorted(self._found.items())
        )

    @property
    def n_waiting(self) -> int:
        """How many frames wait to be looked at; 0 when `frames` is up to date."""
        return len(self._changed.keys() | self._unseen.keys())

    def mark_changed(self, frames: Iterable[int] | None = None) -> None:
        """Note that pixels of these frames changed; None: any may have. Looks at nothing and takes microseconds."""
        for frame in range(self.axes.n_frames) if frames is None else frames:
            if not 0 <= frame < self.axes.n_frames:
                raise ValueError(f"There is no frame {frame}; frames are 0 to {self.axes.n_frames - 1}.")
            self._changed.pop(frame, None)
            self._changed[frame] = None
            if self._look and self._look[0] == frame:
                self._look = None  # what is being looked at is no longer so

    def replace_labels(self, labels: Any) -> None:
        """Take another array of the same shape (``layer.data = ...``); all frames wait to be looked at."""
        if tuple(labels.shape) != self.axes.labels_layer_shape:
            raise ValueError(f"The labels have shape {labels.shape}; it must be {self.axes.labels_layer_shape}.")
        self._labels, self._look = labels, None
        self._changed.clear()
        self._unseen = dict.fromkeys(range(self.axes.n_frames))

    def update(self, budget: float = 0.01) -> bool:
        """Look at waiting frames, those painted last first.

        Parameters
        ----------
        budget : float
            Seconds after which it stops; large frames are looked at in strips, so it ends a few ms later at most
            (reading a frame of a zarr or dask layer may take longer).

        Returns
        -------
        bool
            Whether `frames` changed.
        """
        end = time.perf_counter() + budget
        before = dict(self._found)
        while self.n_waiting:
            if self._look is None:
                frame = next(reversed(self._changed)) if self._changed else next(iter(self._unseen))
                self._look = frame, self._looking_at(frame)
            frame, look = self._look
            try:
                next(look)
            except StopIteration as done:
                self._look = None
                self._changed.pop(frame, None)
                self._unseen.pop(frame, None)
                if done.value:
                    self._found[frame] = done.value
                else:
                    self._found.pop(frame, None)
            if time.perf_counter() > end:
                break
        return self._found != before

    def _looking_at(self, frame: int) -> Generator[None, None, int]:
        """Look at a frame piece by piece and return how many objects it holds."""
        view = self._labels[self.axes.frame_index(frame)]
        known = frame in self._found or self._unsaved.get(frame) is not None
        if isinstance(view, np.ndarray) and not known and not view.any():
            return 0  # most frames of most movies: no copy is made
        labels = self.axes.read_frame(self._labels, frame)
        yield
        if not labels.any():
            if known:
                self._unsaved[frame] = None
            return 0
        yield
        checksum = zlib.crc32(labels.data)
        if frame in self._found and self._sums[frame] == checksum:
            return self._found[frame]  # it was looked at for nothing: no need to save it again
        yield
        n_objects = yield from counting(labels)
        self._unsaved[frame], self._sums[frame] = labels, checksum
        return n_objects

    def finish(self) -> None:
        """Look at the frames that were marked, however long it takes; those never looked at wait on."""
        while self._changed:
            self.update(0.0)

    def set_partial(self, frame: int, partial: bool = True) -> None:
        """Say whether unpainted pixels of a frame are unknown; remembered even while it holds no paint."""
        (self._partial.add if partial else self._partial.discard)(frame)

    @property
    def partial(self) -> frozenset[int]:
        """The frames that are partial, painted or not."""
        return frozenset(self._partial)

    def set_accepted(self, frame: int, accepted: bool = True) -> None:
        """Say whether the labels of a frame are final; remembered even while it holds no paint."""
        (self._accepted.add if accepted else self._accepted.discard)(frame)

    @property
    def accepted(self) -> frozenset[int]:
        """The frames that are accepted, painted or not."""
        return frozenset(self._accepted)

    def set_corrected(self, frame: int, corrected: bool = True) -> None:
        """Say whether the paint of a frame is a corrected prediction; remembered even while it holds no paint."""
        (self._corrected.add if corrected else self._corrected.discard)(frame)

    @property
    def corrected(self) -> frozenset[int]:
        """The frames that are corrected, painted or not."""
        return frozenset(self._corrected)

    def take_unsaved(self) -> dict[int, npt.NDArray[Any] | None]:
        """Return the frames whose paint changed since the last call.

        Frames that wait are not among them: they come once `update` has looked at them.

        Returns
        -------
        dict
            {frame: copy of its labels, (Y, X) or (Z, Y, X); None where nothing is painted any more}. What
            `SessionFolder.save_frames` and `Autosaver.save` take.
        """
        taken, self._unsaved = self._unsaved, {}
        return taken

    def copies(self) -> dict[int, npt.NDArray[Any]]:
        """Return a copy of the labels of every frame in `frames`."""
        return {frame: self.axes.read_frame(self._labels, frame) for frame in sorted(self._found)}


def annotations_of(
    frames: Mapping[int, npt.NDArray[Any]],
    axes: LayerAxes,
    *,
    partial: Collection[int] = (),
    corrected: Collection[int] = (),
    background_label: int | None = None,
) -> Annotations:
    """Make annotations out of the painted frames of a Labels layer, as the command line makes them out of a file.

    Parameters
    ----------
    frames : mapping
        {frame: labels (Y, X) or (Z, Y, X)}, as `PaintedFrames.copies` returns them.
    axes : LayerAxes
        Of the image layer.
    partial, corrected, background_label
        As `Annotations.from_labels`; `partial` and `corrected` by frame, painted or not.

    Raises
    ------
    ValueError
        If nothing is painted, or a value is no label (negative, or above 2,147,483,647).
    """
    painted = _Stack({t: np.asarray(frames[t]) for t in sorted(frames)})
    letters = "TZYX" if axes.has_depth else "TYX"
    if not painted.frames:
        raise ValueError(f"{_NAME} is empty: no frame holds a painted object.")
    labels = Labels(painted, letters, frame_numbers=painted.frames, name=_NAME)
    return Annotations.from_labels(
        labels,
        partial=[t for t in partial if t in frames],
        corrected=[t for t in corrected if t in frames],
        background_label=background_label,
        name=_NAME,
    )


class _Stack:
    """Frames in memory as one array, which is not made."""

    def __init__(self, frames: dict[int, npt.NDArray[Any]]) -> None:
        self.frames = tuple(frames)
        self._planes = list(frames.values())
        self.shape = (len(frames), *(self._planes[0].shape if frames else ()))
        self.dtype = np.result_type(*self._planes) if frames else np.dtype(np.uint16)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        t, *rest = index
        return np.asarray(self._planes[t][tuple(rest)])
