"""Objects through time: linked after each round, drawn as tracks, and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_osvos._qt.background import Background
from napari_osvos._qt.files import labels_of
from napari_osvos._qt.objects_section import ObjectsSection
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.save_dialog import ask_where
from napari_osvos._qt.track_layer import can_be_drawn, show_tracks
from napari_osvos.exporting import EXPORTS, export
from napari_osvos.labels import Labels
from napari_osvos.linking import Linking
from napari_osvos.painted_frames import annotations_of
from napari_osvos.tracking import TrackedMovie, as_tracks, track

LOOK_ALIKE = "look-alike"


class TracksDesk(QObject):
    """Links the objects of a round, shows its tracks, and writes exports.

    Signals
    -------
    linked : Run
        Its masks hold other labels.
    """

    linked = Signal(object)
    _told = Signal(str, int, int)

    def __init__(
        self, viewer: Any, section: ObjectsSection, control: RunControl, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._section, self._control = viewer, section, control
        self.last: Run | None = None
        self._linkings: WeakKeyDictionary[Any, Linking] = WeakKeyDictionary()  # the last one of each movie layer
        self._layers: WeakKeyDictionary[Run, Any] = WeakKeyDictionary()
        self._linking = Background(self)
        self._linking.done.connect(self._show)
        self._linking.failed.connect(self._failed)
        self._writing = Background(self)
        self._writing.done.connect(lambda path: section.message.say(f"Exported to {path}.", "done"))
        self._writing.failed.connect(self._failed)
        self._told.connect(self._tell)
        section.offer({kind: f"{of.says[0].upper()}{of.says[1:]}" for kind, of in EXPORTS.items()})
        section.link_wanted.connect(self.link)
        section.export_wanted.connect(self._ask)
        control.ended.connect(self._take_run)
        control.state_changed.connect(self.allow)

    # -- linking -------------------------------------------------------------------------------

    def _take_run(self, run: Run) -> None:
        self.last = run
        self.allow()
        if run.task == LOOK_ALIKE:
            self._section.message.say(f"Round {run.number}: many look-alike objects, numbered anew in each frame.")
        elif run.task:
            self._section.message.say(
                f"Round {run.number}: objects or classes of their own, with the labels you painted."
            )
        if self._section.follow.isChecked():
            self.link()

    def allow(self, event: Any = None) -> None:
        """Enable the buttons that there is something for."""
        idle = self._control.run is None and self.last is not None
        self._section.allow(link=idle and self._is_linkable, export=idle)

    @property
    def _is_linkable(self) -> bool:
        run = self.last
        return run is not None and run.task == LOOK_ALIKE and run.wish.movie.axes.n_frames > 1

    @property
    def busy(self) -> bool:
        """Whether objects are being linked or exported."""
        return self._linking.busy or self._writing.busy

    def link(self) -> None:
        """Link the objects of the last round, as they are in its masks now."""
        run = self.last
        if run is None or not self._is_linkable:
            return
        run.follows = True
        self._section.message.say("Following objects ...")
        previous = self._linkings.get(run.wish.movie.layer)
        self._linking.start(lambda: (run, self._linked(run, previous)))

    def _linked(self, run: Run, previous: Linking | None) -> TrackedMovie:
        axes, array = run.wish.movie.axes, labels_of(run)
        found = Labels(_Frames(run, array), _letters(run), name="the masks")
        painted = None
        if run.wish.frames:
            painted = annotations_of(
                run.wish.frames, axes, partial=run.wish.partial, background_label=run.wish.background_label
            )
        tracked = track(
            found,
            painted,
            scale=scale_of(run),
            previous=previous,
            progress=lambda done, total: self._told.emit("Following objects", done, total),
        )
        largest = max(tracked.lineage, default=0)
        if largest > np.iinfo(array.dtype).max:
            raise ValueError(f"There are {largest} objects; the masks hold {np.iinfo(array.dtype).max} labels at most.")
        for t, frame in enumerate(tracked.labels):
            axes.write_frame(array, t, frame)
        # From here on the masks are the ids: reading them again is all that relabelling would do.
        return TrackedMovie(found, tracked.lineage, tracked.linking)

    def _show(self, outcome: tuple[Run, TrackedMovie]) -> None:
        run, run.tracked = outcome[0], outcome[1]
        assert run.tracked is not None
        if run.tracked.linking is not None:
            self._linkings[run.wish.movie.layer] = run.tracked.linking
        if run.layers.labels_layer is not None:
            run.layers.labels_layer.refresh()
        self.linked.emit(run)
        self._layers[run] = show_tracks(self._viewer, run, scale_of(run), self._layers.get(run))
        words = f"Round {run.number}: many look-alike objects, {run.tracked.in_words}."
        self._section.message.say(words, "done")

    def forget(self, run: Run) -> None:
        """Take the tracks of a round away that was deleted."""
        layer = self._layers.pop(run, None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        if self.last is run:
            self.last = None
            self._section.message.clear()
            self.allow()

    # -- exports -------------------------------------------------------------------------------

    def _ask(self, kind: str) -> None:
        ending = EXPORTS[kind].endings[0].lstrip(".")
        path = ask_where(
            self._section, "Export", "tracks" if kind == "tracks" else "cells", {EXPORTS[kind].says: ending}
        )
        if path is not None:
            self.export(kind, path)

    def export(self, kind: str, path: Path) -> None:
        """Write the objects of the last round, as they are in its masks now; what is there is replaced."""
        run = self.last
        if run is None:
            return
        self._section.message.say("Exporting ...")
        movie = run.wish.movie

        def write() -> Path:
            labels = Labels(_Frames(run, labels_of(run)), _letters(run), name="the masks")
            lineage = as_tracks(labels).lineage if run.tracked is None else run.tracked.lineage
            return export(
                path,
                labels,
                lineage,
                movie.clip(),
                kind=kind,
                scale=micrometres_of(run),
                seconds_per_frame=seconds_of(run),
                overwrite=True,
                progress=lambda done, total: self._told.emit("Exporting", done, total),
            )

        self._writing.start(write)

    # -- what is said --------------------------------------------------------------------------

    def _tell(self, what: str, done: int, total: int) -> None:
        self._section.message.say(f"{what}, frame {done} of {total} ...")

    def _failed(self, error: Exception) -> None:
        self._section.message.say(str(error), "error")


class _Frames:
    """Masks of a run as an array (T, Y, X) or (T, Z, Y, X), a frame at a time."""

    def __init__(self, run: Run, array: Any) -> None:
        self._axes, self._array = run.wish.movie.axes, array
        self.shape: tuple[int, ...] = tuple(self._axes.labels_shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, index: Any) -> Any:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(first, slice):
            return np.stack([self[(t, *rest)] for t in range(*first.indices(self.shape[0]))])
        frame = self._axes.read_frame(self._array, int(first))
        return frame[tuple(rest)] if rest else frame


def _letters(run: Run) -> str:
    return "TZYX" if len(run.wish.movie.axes.labels_shape) == 4 else "TYX"


def scale_of(run: Run) -> tuple[float, ...] | None:
    """Return the size of a voxel of a stack, (Z, Y, X), for linking; None where only ratios of 1 matter."""
    scale = _spatial(run, run.wish.movie.placement()["scale"])
    return tuple(map(float, scale)) if len(scale) == 3 and len(set(scale)) > 1 else None


def micrometres_of(run: Run) -> tuple[float, ...] | None:
    """Return the size of a pixel of the masks in micrometres, on the axes of a frame; None if the units are pixels."""
    placement = run.wish.movie.placement()
    pairs = zip(_spatial(run, placement["scale"]), _spatial(run, placement.get("units", ())), strict=False)
    sizes = [_in(size, unit, "micrometer") for size, unit in pairs]
    return tuple(size for size in sizes if size is not None) if sizes and None not in sizes else None


def seconds_of(run: Run) -> float | None:
    """Return the time between two frames in seconds; None if the units of the first axis are none of time."""
    placement = run.wish.movie.placement()
    units = placement.get("units", ())
    return _in(placement["scale"][0], units[0], "second") if units and can_be_drawn(run) else None


def _in(size: float, unit: Any, wanted: str) -> float | None:
    try:
        return float((size * unit).to(wanted).magnitude)
    except (AttributeError, ValueError, TypeError):  # pixels have no length, and pint's error is a TypeError
        return None


def _spatial(run: Run, entries: Any) -> tuple[Any, ...]:
    return tuple(entries)[-(len(run.wish.movie.axes.labels_shape) - 1) :]
