"""A part of the panel that unfolds."""

from __future__ import annotations

from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible


class Fold(QCollapsible):
    """A title that folds what stands below it; folded at first.

    The arrow is a letter of the title: unlike superqt's own, it takes the colour of the theme.
    """

    def __init__(self, title: str, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(title, parent, expandedIcon=QIcon(), collapsedIcon=QIcon())
        self._title = title
        self.setDuration(0)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.content().layout().setContentsMargins(0, 4, 0, 4)
        self.addWidget(content)
        self.toggled.connect(self._name)
        self._name(False)
        self.toggleButton().setToolTip(f"Show or hide {title.lower()}")

    def _name(self, unfolded: bool) -> None:
        self.setText(f"{'▾' if unfolded else '▸'} {self._title}")
