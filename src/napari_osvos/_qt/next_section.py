"""How good the masks are, which frame to annotate next, and the buttons that correct and accept a frame."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_osvos._qt.messages import Message

_HINT = "After a run, this says how good the masks are, and which frame to annotate next."


class NextSection(QWidget):
    """Says which frame to annotate next.

    Signals
    -------
    next_wanted
        Go to the frame whose annotation would help most.
    adopt_wanted
        Take the prediction of the frame in view over as paint.
    accept_wanted
        Accept the frame in view, or no longer.
    """

    next_wanted = Signal()
    adopt_wanted = Signal()
    accept_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.accuracy = QLabel(wordWrap=True)
        self.accuracy.setToolTip(
            "Measured on paint that was held back while the network learned. J is the overlap of masks, F1 counts "
            "objects; 1 is best."
        )
        self.suggestion = QLabel(_HINT, wordWrap=True)
        self.suggestion.setToolTip("The arrow over the strip under the time slider points at it.")
        self.go = QPushButton("Go there")
        self.go.setToolTip("Go to the frame whose annotation would help most; again: the next best (N)")
        self.adopt = QPushButton("Adopt frame")
        self.adopt.setToolTip(
            "Copy the masks of the frame in view into the annotations, to be corrected; Ctrl+Z takes them away (A)"
        )
        self.accept = QPushButton("Accept frame", checkable=True)
        self.accept.setToolTip(
            "Lock the frame in view: it is learned from, and no run overwrites it; again: unlock it (Shift-A)"
        )
        self.message = Message()
        self.notice = Message()
        buttons = QHBoxLayout()
        for button in (self.go, self.adopt, self.accept):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.notice)
        column.addWidget(self.accuracy)
        column.addWidget(self.suggestion)
        column.addLayout(buttons)
        column.addWidget(self.message)
        self.go.clicked.connect(self.next_wanted)
        self.adopt.clicked.connect(self.adopt_wanted)
        self.accept.clicked.connect(self.accept_wanted)
        self.show_words("", "")

    def show_words(self, accuracy: str, suggestion: str) -> None:
        """Say how good the masks are, and what to annotate next; where both are empty, what will stand here."""
        self.accuracy.setText(accuracy)
        self.accuracy.setVisible(bool(accuracy))
        self.suggestion.setText(suggestion or _HINT)

    def allow(self, *, go: bool, adopt: bool, accept: bool, accepted: bool) -> None:
        """Enable the buttons that there is something for.

        Parameters
        ----------
        go, adopt, accept : bool
        accepted : bool
            Whether the frame in view is.
        """
        self.go.setEnabled(go)
        self.adopt.setEnabled(adopt)
        self.accept.setEnabled(accept)
        self.accept.setChecked(accepted)
        self.accept.setText("Accepted" if accepted else "Accept frame")
