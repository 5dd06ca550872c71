"""How far a run is: a bar with the time left, here and in napari's activity dock, and the loss curve."""

from __future__ import annotations

import time
from typing import Any

from napari.utils import progress
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_osvos._qt.loss_plot import LossPlot
from napari_osvos._qt.messages import Message
from napari_osvos._qt.quality_dial import time_in_words

# napari draws the whole window anew whenever its activity dock changes.
ACTIVITY_INTERVAL = 0.5  # s
FULL = 1000  # the bars count per mille


class ProgressSection(QWidget):
    """Hidden until the first run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = QProgressBar()
        self.bar.setRange(0, FULL)
        self.bar.setMinimumHeight(22)
        self.plot = LossPlot()
        self.message = Message()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.bar, self.plot, self.message):
            column.addWidget(widget)
        self.bar.hide()
        self.plot.hide()
        self._activity: Any = None
        self._told = 0.0

    def begin(self, what: str, *, learns: bool) -> None:
        """Show an empty bar.

        Parameters
        ----------
        what : str
            In napari's activity dock.
        learns : bool
            Whether there will be a loss curve.
        """
        self.end()
        self.message.clear()
        self.bar.show()
        self.plot.setVisible(learns)
        if learns:
            self.plot.clear()
        self._activity = progress(total=FULL, desc=what)
        self.show_progress(0.0, "Starting ...")

    def show_progress(self, share: float, what: str, seconds_left: float | None = None) -> None:
        """Show how far it is.

        Parameters
        ----------
        share : float
            Of what there is to do, 0 to 1.
        what : str
            What is being done.
        seconds_left : float, optional
            For the whole of it.
        """
        value = min(max(round(share * FULL), 0), FULL)
        self.bar.setValue(value)
        left = "" if seconds_left is None else f" · {time_in_words(seconds_left)} left"
        self.bar.setFormat(f"{what}{left}")
        self.bar.setToolTip(self.bar.format())
        now, activity = time.monotonic(), self._activity
        if activity is not None and now - self._told > ACTIVITY_INTERVAL:
            self._told = now
            activity.set_description(f"{what}{left}")
            if activity is self._activity:  # napari handles events in there, of which one may be the end
                activity.update(value - activity.n)

    def end(self) -> None:
        """Take the bars away; the curve stays until the next run, or until its round shows it."""
        self.bar.hide()
        if self._activity is not None:
            self._activity.close()
            self._activity = None
