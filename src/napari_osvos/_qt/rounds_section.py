"""The list of rounds, the loss curve of the one that is selected, and what can be done with them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_osvos._qt.letter_keys import LetterlessTree
from napari_osvos._qt.loss_plot import LossPlot
from napari_osvos._qt.messages import Message

_COLUMNS = ("Round", "Quality", "Painted", "Expected J", "Time")
_HINT = "Every run is kept here as a round, to compare it with others and to go back to it."
_HEADER = "QHeaderView::section { background: transparent; border: none; padding: 1px 8px 1px 2px; }"
MOST_ROWS = 5
PLOT_HEIGHT = 104  # pixels


@dataclass(frozen=True)
class RoundRow:
    """A row of the list.

    Attributes
    ----------
    key
        By which it is known again.
    columns : tuple of str
        Number, quality, painted frames, expected J, time.
    details : str
        Shown beside the mouse.
    losses : tuple of (int, float)
        Its loss curve: step and loss.
    """

    key: Hashable
    columns: tuple[str, ...]
    details: str = ""
    losses: tuple[tuple[int, float], ...] = ()


class RoundsSection(QWidget):
    """Rounds, the newest first.

    Signals
    -------
    selection_changed
    show_wanted, revert_wanted, delete_wanted
        The button was pressed.
    compare_wanted : bool
        Whether to show where two rounds differ.
    delete_confirmed, delete_refused
        The question whether to delete was answered.
    """

    selection_changed = Signal()
    show_wanted = Signal()
    compare_wanted = Signal(bool)
    revert_wanted = Signal()
    delete_wanted = Signal()
    delete_confirmed = Signal()
    delete_refused = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.hint = QLabel(_HINT, wordWrap=True)
        self.list = LetterlessTree()
        self.list.setHeaderLabels(list(_COLUMNS))
        self.list.setRootIsDecorated(False)
        self.list.setStyleSheet("QTreeWidget::item { padding: 2px 0; }")
        self.list.setUniformRowHeights(True)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setAccessibleName("Rounds")
        header = self.list.header()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
            header.setMinimumSectionSize(20)
            header.setStretchLastSection(False)
            header.setStyleSheet(_HEADER)
        self.plot = LossPlot()
        self.plot.setFixedHeight(PLOT_HEIGHT)
        self.plot.setToolTip("The loss curve of the round that is selected")
        self.show_masks = QPushButton("Show")
        self.show_masks.setToolTip("Show the masks of the round that is selected, and hide those of the others")
        self.compare = QPushButton("Compare", checkable=True)
        self.compare.setToolTip(
            "Show where two rounds differ: the two that are selected, or the one that is and the one before.\n"
            "Shift-R flips between their masks."
        )
        self.revert = QPushButton("Revert")
        self.revert.setToolTip(
            "Go back to a round: its paint in a layer of its own, its settings and where it started from.\n"
            "What is painted now stays in its layer, which is hidden."
        )
        self.delete = QPushButton("Delete")
        self.delete.setToolTip("Delete what is selected, for good")
        self.legend = QLabel(wordWrap=True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.message = Message()
        self._rows: tuple[RoundRow, ...] = ()
        self._lay_out()
        self.list.itemSelectionChanged.connect(self._take_selection)
        self.list.itemDoubleClicked.connect(lambda item: self.show_wanted.emit())
        self.show_masks.clicked.connect(self.show_wanted)
        self.compare.clicked.connect(self.compare_wanted)
        self.revert.clicked.connect(self.revert_wanted)
        self.delete.clicked.connect(self.delete_wanted)
        self.message.acted.connect(self.delete_confirmed)
        self.message.refused.connect(self.delete_refused)
        self.show_rounds(())

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for button in (self.show_masks, self.compare, self.revert, self.delete):
            button.setMinimumWidth(20)
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.hint)
        column.addWidget(self.list)
        column.addLayout(buttons)
        for widget in (self.legend, self.message, self.plot):
            column.addWidget(widget)
        self.legend.hide()

    @property
    def selected(self) -> list[Hashable]:
        """Keys of the rows that are selected, from the top."""
        items = [self.list.topLevelItem(i) for i in range(self.list.topLevelItemCount())]
        return [row.key for row, item in zip(self._rows, items, strict=True) if item is not None and item.isSelected()]

    def select(self, keys: Sequence[Hashable]) -> None:
        """Select rows."""
        blocked = self.list.blockSignals(True)
        for i, row in enumerate(self._rows):
            item = self.list.topLevelItem(i)
            if item is not None:
                item.setSelected(row.key in keys)
        self.list.blockSignals(blocked)
        self._take_selection()

    def show_rounds(self, rows: Sequence[RoundRow]) -> None:
        """List the rounds; one that is new is selected, else what was selected stays so.

        Parameters
        ----------
        rows : sequence of RoundRow
            From the top.
        """
        if tuple(rows) == self._rows and self._rows:
            return
        known, selected = {row.key for row in self._rows}, self.selected
        blocked = self.list.blockSignals(True)
        self._rows = tuple(rows)
        self.list.clear()
        for row in rows:
            item = QTreeWidgetItem(list(row.columns))
            for column in range(len(_COLUMNS)):
                item.setToolTip(column, row.details)
            self.list.addTopLevelItem(item)
        self.list.blockSignals(blocked)
        for widget in (self.list, self.show_masks, self.compare, self.revert, self.delete):
            widget.setVisible(bool(rows))
        self.hint.setVisible(not rows)
        self._fit_height()
        new = [row.key for row in rows if row.key not in known]
        self.select(new[:1] or selected or [row.key for row in rows[:1]])

    def _fit_height(self) -> None:
        header = self.list.header()
        row = self.list.sizeHintForRow(0) if self._rows else 0
        above = header.sizeHint().height() if header is not None else 0
        rows = min(max(len(self._rows), 1), MOST_ROWS)
        self.list.setFixedHeight(above + row * rows + 2 * self.list.frameWidth() + 4)

    def _take_selection(self) -> None:
        selected = set(self.selected)
        curves = [row.losses for row in self._rows if row.key in selected]
        self.plot.clear()
        if len(curves) == 1:
            for step, loss in curves[0]:
                self.plot.add(step, loss)
            self.plot.draw()
        self.plot.setVisible(len(curves) == 1 and len(curves[0]) > 1)
        self.selection_changed.emit()

    def allow(self, *, show: bool, compare: bool, revert: bool, delete: bool) -> None:
        """Enable what can be done with what is selected."""
        for button, on in (
            (self.show_masks, show),
            (self.compare, compare),
            (self.revert, revert),
            (self.delete, delete),
        ):
            button.setEnabled(on)

    def show_legend(self, words: Sequence[tuple[str, str]]) -> None:
        """Say what the colours of the difference mean.

        Parameters
        ----------
        words : sequence of (str, str)
            Colour, as HTML writes it, and what it means; empty hides the legend.
        """
        parts = (f'<span style="color: {colour}">■</span>&nbsp;{text.replace(" ", "&nbsp;")}' for colour, text in words)
        self.legend.setText(" &nbsp; ".join(parts))
        self.legend.setVisible(bool(words))
        self.compare.setChecked(bool(words))
