"""One sentence in the panel, with a button that mends what it says and details that unfold."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import QApplication, QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

# A stripe of this colour says what kind of message it is; both are readable on dark and on light.
_STRIPES = {"info": "#3d8bd4", "warning": "#d99000", "error": "#d9482b", "done": "#3f9b4f"}

MOST_LINES = 10


class Message(QFrame):
    """A sentence, hidden while there is none.

    Signals
    -------
    acted, refused
        The button, or the one beside it, was pressed.
    """

    acted = Signal()
    refused = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("osvos_message")
        self._words = QLabel(wordWrap=True)
        self._words.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self._action = QPushButton()
        self._action.clicked.connect(self.acted)
        self._refusal = QPushButton()
        self._refusal.clicked.connect(self.refused)
        self._more = QPushButton("Details", checkable=True)
        self._more.setToolTip("Show or hide the details")
        self._details = QPlainTextEdit(readOnly=True)
        self._details.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._copy = QPushButton("Copy")
        self._copy.setToolTip("Copy the details to the clipboard")
        buttons = QHBoxLayout()
        buttons.addWidget(self._action)
        buttons.addWidget(self._refusal)
        buttons.addStretch(1)
        buttons.addWidget(self._copy)
        buttons.addWidget(self._more)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 4, 4)
        column.setSpacing(4)
        column.addWidget(self._words)
        column.addLayout(buttons)
        column.addWidget(self._details)
        self._more.toggled.connect(self._unfold)
        self._copy.clicked.connect(self._copy_details)
        self.clear()

    @property
    def text(self) -> str:
        """The sentence that is shown; empty when there is none."""
        return str(self._words.text())

    @property
    def details(self) -> str:
        """The details that can be unfolded."""
        return str(self._details.toPlainText())

    @property
    def action(self) -> str:
        """What the button says; empty when there is none."""
        return self._action.text() if not self._action.isHidden() else ""

    def say(self, sentence: str, kind: str = "info", *, details: str = "", action: str = "", refusal: str = "") -> None:
        """Show a sentence.

        Parameters
        ----------
        sentence : str
            What to say; nothing hides the message.
        kind : str
            ``info``, ``warning``, ``error`` or ``done``.
        details : str
            What unfolds, for example a traceback.
        action : str
            What the button says; without it there is none.
        refusal : str
            What the button beside it says.
        """
        self._words.setText(sentence)
        self._action.setText(action)
        self._action.setToolTip(action)
        self._action.setVisible(bool(action))
        self._refusal.setText(refusal)
        self._refusal.setVisible(bool(refusal))
        self._details.setPlainText(details)
        lines = min(max(len(details.splitlines()), 2), MOST_LINES) + 1  # a long one is wrapped
        self._details.setFixedHeight(self._details.fontMetrics().lineSpacing() * lines)
        self._more.setChecked(False)
        self._more.setVisible(bool(details))
        self._unfold(False)
        self.setStyleSheet(f"QFrame#osvos_message {{ border: none; border-left: 3px solid {_STRIPES[kind]}; }}")
        self.setVisible(bool(sentence))

    def clear(self) -> None:
        """Hide the message."""
        self.say("")

    def unfold(self) -> None:
        """Show the details."""
        self._more.setChecked(bool(self.details))

    def press(self) -> None:
        """Do what the button does."""
        self._action.click()

    def _unfold(self, unfolded: bool) -> None:
        self._details.setVisible(unfolded)
        self._copy.setVisible(unfolded)

    def _copy_details(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.details)
