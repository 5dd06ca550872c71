"""The loss curve, drawn while the network learns."""

from __future__ import annotations

import os

import qtpy
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

# pyqtgraph takes the first binding that it finds imported: there must be no doubt that it is napari's.
os.environ.setdefault("PYQTGRAPH_QT_LIB", qtpy.API_NAME)

import pyqtgraph

# A curve of more points than the panel has pixels is drawn no better, only slower.
MOST_POINTS = 600


class LossPlot(QWidget):
    """Loss over steps: what each step lost, pale, and its running mean."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plot = pyqtgraph.PlotWidget()
        self._plot.setMenuEnabled(False)
        self._plot.hideButtons()
        self._plot.setMouseEnabled(x=False, y=False)
        for side, words in (("left", "loss"), ("bottom", "step")):
            self._plot.getAxis(side).enableAutoSIPrefix(False)
            self._plot.getAxis(side).setLabel(words)
        self._plot.getAxis("left").setWidth(44)
        self._plot.getAxis("bottom").setHeight(38)
        self._plot.setLimits(yMin=0)
        self._each = self._plot.plot([], [])
        self._mean = self._plot.plot([], [])
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._means: list[float] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self.setFixedHeight(130)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("How wrong the network still is on what you painted, step by step; lower is better.")
        self.colour("#262930", "#f0f1f2", "#3d8bd4")

    @property
    def points(self) -> list[tuple[int, float]]:
        """What is drawn: (step, loss)."""
        return list(zip(self._steps, self._losses, strict=True))

    def colour(self, background: str, text: str, curve: str) -> None:
        """Take the colours of a theme."""
        self._plot.setBackground(background)
        for side in ("left", "bottom"):
            self._plot.getAxis(side).setPen(text)
            self._plot.getAxis(side).setTextPen(text)
        pale = pyqtgraph.mkColor(curve)
        pale.setAlpha(90)
        self._each.setPen(pyqtgraph.mkPen(pale, width=1))
        self._mean.setPen(pyqtgraph.mkPen(curve, width=2))

    def clear(self) -> None:
        """Begin a new curve."""
        self._steps, self._losses, self._means = [], [], []
        self.draw()

    def add(self, step: int, loss: float) -> None:
        """Add a point; it shows at the next `draw`."""
        if self._steps and step <= self._steps[-1]:
            return
        mean = self._means[-1] * 0.8 + loss * 0.2 if self._means else loss
        self._steps.append(step)
        self._losses.append(loss)
        self._means.append(mean)

    def draw(self) -> None:
        """Draw the curve as it stands."""
        every = max(1, len(self._steps) // MOST_POINTS)
        self._each.setData(self._steps[::every], self._losses[::every])
        self._mean.setData(self._steps[::every], self._means[::every])
