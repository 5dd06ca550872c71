"""Saving rounds in a thread of its own, so that the viewer never waits for the disk."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from napari_osvos.layer_axes import LayerAxes
from napari_osvos.paint_folder import unwritable
from napari_osvos.round_masks import MaskWriter
from napari_osvos.round_record import Round
from napari_osvos.rounds import RoundFolder


class LiveMasks(Protocol):
    """Masks that a run fills and the user corrects, while they are saved."""

    @property
    def axes(self) -> LayerAxes:
        """Of the movie."""

    @property
    def present_labels(self) -> Any:
        """Array of `LayerAxes.labels_layer_shape`."""

    @property
    def is_in_file(self) -> bool:
        """Whether this array is the file itself, because it is too large for memory."""

    def take_changed(self) -> tuple[set[int], frozenset[int]]:
        """Return the frames that changed since the last call, and all that are filled."""

    def mark_changed(self, frames: Any = None) -> None:
        """Note that frames changed, or all."""


class RoundSaver:
    """Saves and deletes rounds in the background, in order; Python ends only once all is done.

    Parameters
    ----------
    on_error : callable
        Called from the background thread with one sentence when a round cannot be written: once, until it works again.
        Masks that could not be saved are tried again with the next `save`.
    """

    def __init__(self, on_error: Callable[[str], None]) -> None:
        self._on_error = on_error
        self._told = False
        self._writers: dict[Path, MaskWriter] = {}
        self._saved: dict[Path, Round] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="napari-osvos rounds")
        self._last: Future[None] | None = None

    def save(
        self,
        folder: RoundFolder,
        round: Round,
        masks: LiveMasks | None = None,
        paint: Mapping[int, npt.NDArray[Any]] | None = None,
    ) -> None:
        """Have a round saved; returns at once.

        Parameters
        ----------
        folder : RoundFolder
            Where to.
        round : Round
            What is said of it. Its `filled` is taken from the masks, if they are given.
        masks : LiveMasks, optional
            Of which the frames that changed are saved.
        paint : mapping, optional
            What it learns from; not to be changed afterwards.
        """
        self._do(lambda: self._save(folder, round, masks, paint))

    def delete(self, folder: RoundFolder, number: int) -> None:
        """Have a round deleted; returns at once."""
        self._writers.pop(folder.masks(number), None)
        self._saved.pop(folder.file(number, ".json"), None)
        self._do(lambda: folder.delete(number))

    def wait(self, timeout: float = 10.0) -> None:
        """Wait until all is done that was asked for.

        Raises
        ------
        TimeoutError
            If that takes longer.
        """
        if self._last is not None:
            self._last.result(timeout)

    def close(self) -> None:
        """Take nothing more; what was asked for is done still."""
        self._pool.shutdown(wait=False)

    def _do(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # closed, or Python is ending
            self._last = self._pool.submit(self._try, work)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._told = False
        except Exception as error:  # whatever it was, the next round is to be tried
            if not self._told:
                self._told = True
                self._on_error(str(error))

    def _save(
        self,
        folder: RoundFolder,
        round: Round,
        masks: LiveMasks | None,
        paint: Mapping[int, npt.NDArray[Any]] | None,
    ) -> None:
        if paint:
            folder.save_paint(round.number, paint)
        if masks is not None:
            round = dataclasses.replace(round, filled=self._save_masks(folder.masks(round.number), masks))
        path = folder.file(round.number, ".json")
        if self._saved.get(path) != round:
            folder.save(round)
            self._saved[path] = round

    def _save_masks(self, path: Path, masks: LiveMasks) -> tuple[int, ...]:
        changed, filled = masks.take_changed()
        if not masks.is_in_file:
            writer = self._writers.setdefault(path, MaskWriter(path, masks.axes))
            try:
                writer.write(masks.present_labels, changed & filled)
            except BaseException as error:
                masks.mark_changed(changed)
                if isinstance(error, OSError):
                    raise unwritable(path.parents[1], error) from error
                raise
        return tuple(sorted(filled))
