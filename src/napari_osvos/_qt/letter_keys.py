"""Lists and choices that leave letters to the viewer, whose keys they are, instead of searching for them."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox, QTreeWidget


class LetterlessTree(QTreeWidget):
    """A list that takes the arrows and the like only."""

    def keyPressEvent(self, event: Any) -> None:
        """Pass letters on."""
        if event.text().isalpha():
            event.ignore()
        else:
            super().keyPressEvent(event)


class LetterlessCombo(QComboBox):
    """A choice that takes the arrows and the like only; letters search in its list once that is unfolded."""

    def keyPressEvent(self, event: Any) -> None:
        """Pass letters on."""
        if event.text().isalpha():
            event.ignore()
        else:
            super().keyPressEvent(event)
