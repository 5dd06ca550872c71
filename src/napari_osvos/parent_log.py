"""What a parent in training shows of itself: a table, a plot that keeps up, and TensorBoard's files if wanted."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from napari_osvos.machine import replacing

EVERY = 50
"""Steps whose mean loss makes a row."""
PLOT_EVERY = 30.0
"""Seconds after which a plot is renewed, however few steps there were."""


class LogRow(NamedTuple):
    """Mean loss of some steps, up to `step`; seconds are those since the first one."""

    step: int
    loss: float
    learning_rate: float
    seconds: float


class ParentLog:
    """The log of a parent in training, which goes on where an earlier one ended.

    Parameters
    ----------
    folder : Path
        Receives ``log.csv`` and ``loss.png``, and ``tensorboard`` if asked for.
    step : int
        The step to go on from; rows beyond it are dropped.
    recent : list of float
        Losses that are in no row yet; kept up to date.
    tensorboard : bool
        Whether to write the same for TensorBoard.

    Raises
    ------
    ValueError
        If TensorBoard is asked for, and what writes its files is not installed.
    """

    def __init__(self, folder: Path, step: int, recent: list[float], tensorboard: bool = False) -> None:
        self._path, self._plot, self._recent = folder / "log.csv", folder / "loss.png", recent
        self._step, self._plotted = step, float("-inf")
        self.rows = [row for row in _read(self._path) if row.step <= step] if step else []
        self._events: Any = open_events(folder / "tensorboard", step) if tensorboard else None
        _write(self._path, self.rows)
        self._stream = open(self._path, "a", newline="")  # noqa: SIM115, closed by `__exit__`

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if self._events is not None:
            self._events.close()

    def add(self, step: int, loss: float, learning_rate: float, seconds: float, *, last: bool = False) -> None:
        """Take in the loss of a step; a row is written after each 50 of them, and after the last."""
        self._step = step
        self._recent.append(loss)
        if step % EVERY and not last:
            return
        row = LogRow(step, float(np.mean(self._recent)), learning_rate, round(seconds, 2))
        self.rows.append(row)
        csv.writer(self._stream).writerow(row)
        self._stream.flush()
        self._recent.clear()
        if self._events is not None:
            self._events.add_scalar("loss", row.loss, step)
            self._events.add_scalar("learning_rate", row.learning_rate, step)
            self._events.flush()

    def curve(self, points: int = 40) -> list[tuple[int, float]]:
        """Return some of the steps and their losses."""
        return [(row.step, round(row.loss, 4)) for row in self.rows[:: max(1, len(self.rows) // points)]]

    def plot(self, *, at_once: bool = True) -> None:
        """Draw the rows so far, and the steps that are in none yet.

        Parameters
        ----------
        at_once : bool
            Otherwise only where this run has drawn none yet, or none for 30 seconds.
        """
        if at_once or monotonic() - self._plotted >= PLOT_EVERY:
            first = self._step - len(self._recent) + 1
            plot_losses(self.rows, self._plot, list(enumerate(self._recent, first)))
            self._plotted = monotonic()


def open_events(folder: Path, step: int = 0) -> Any:
    """Return a writer of files that TensorBoard shows; what it shows of steps after `step` is taken back.

    Raises
    ------
    ValueError
        If tensorboardX is not installed.
    """
    try:
        writers = importlib.import_module("tensorboardX")  # an extra, which type checks can do without
    except ImportError:
        raise ValueError(
            "The log for TensorBoard needs one more package: pip install napari-osvos[tensorboard]."
        ) from None
    return writers.SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _read(path: Path) -> list[LogRow]:
    if not path.exists():
        return []
    with open(path, newline="") as stream:
        rows = [row for row in list(csv.reader(stream))[1:] if len(row) == 4]  # the last may be cut short
        return [LogRow(int(r[0]), float(r[1]), float(r[2]), float(r[3])) for r in rows]


def _write(path: Path, rows: Sequence[LogRow]) -> None:
    with replacing(path) as partial, open(partial, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(LogRow._fields)
        writer.writerows(rows)


def plot_losses(rows: Sequence[LogRow], path: str | Path, recent: Sequence[tuple[int, float]] = ()) -> None:
    """Draw the loss against the steps to a PNG file, whole or not at all; `recent` are steps that are in no row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([row.step for row in rows], [row.loss for row in rows], lw=1, marker=".", markersize=3)
    if recent:
        axes.plot(*zip(*recent, strict=True), lw=0.5, marker=".", markersize=2, color="0.6", label="single steps")
        axes.legend(frameon=False)
    axes.set(xlabel="step", ylabel=f"loss (mean of {EVERY} steps)", yscale="log")
    axes.grid(alpha=0.3)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
