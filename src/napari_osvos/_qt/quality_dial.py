"""The dial of quality, marked with the time that a run takes on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSlider, QWidget

# From quick to accurate; `published` repeats the paper and is found under the advanced settings.
DIAL = ("preview", "fast", "balanced", "best")
_WORDS = {
    "preview": "Preview: a first look; only the last layers learn.",
    "fast": "Fast: good masks of objects that stand out.",
    "balanced": "Balanced: for most movies.",
    "best": "Best: learns longest and averages four views of each frame.",
}


def time_in_words(seconds: float) -> str:
    """Spell out a time: ``5 s``, ``2 min``, ``1.5 h``."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class QualityDial(QWidget):
    """Choose how long a run may take.

    Signals
    -------
    changed
        Another quality is chosen.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, len(DIAL) - 1)
        self.slider.setPageStep(1)
        self.slider.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.slider.setTickInterval(1)
        self.slider.setAccessibleName("Quality")
        self.words = QLabel()
        self.words.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        label = QLabel("&Quality")
        label.setBuddy(self.slider)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(label, 0, 0)
        grid.addWidget(self.words, 0, 1)
        grid.addWidget(self.slider, 1, 0, 1, 2)
        marks = QHBoxLayout()
        for i, quality in enumerate(DIAL):
            if i:
                marks.addStretch(1)
            mark = QLabel(quality)
            mark.setEnabled(False)  # paler: the words above say it
            marks.addWidget(mark)
        grid.addLayout(marks, 2, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        grid.setVerticalSpacing(2)
        self._seconds: dict[str, float] = {}
        self.slider.valueChanged.connect(self._moved)
        self.quality = "balanced"

    @property
    def quality(self) -> str:
        """The chosen quality."""
        return DIAL[self.slider.value()]

    @quality.setter
    def quality(self, quality: str) -> None:
        if quality in DIAL:
            self.slider.setValue(DIAL.index(quality))
        self._describe()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take the time that each quality will need on this machine, in seconds."""
        self._seconds = dict(seconds)
        self._describe()

    def _moved(self, value: int) -> None:
        self._describe()
        self.changed.emit()

    def _describe(self) -> None:
        name = self.quality.capitalize()
        seconds = self._seconds.get(self.quality)
        self.words.setText(name if seconds is None else f"{name} · about {time_in_words(seconds)}")
        lines = [_WORDS[self.quality]]
        lines += [f"{q.capitalize()}: about {time_in_words(s)}" for q, s in self._seconds.items()]
        self.slider.setToolTip("\n".join(lines))
        self.words.setToolTip(self.slider.toolTip())
