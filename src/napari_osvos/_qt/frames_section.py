"""The list of annotated frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QSpinBox,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_osvos._qt.letter_keys import LetterlessTree
from napari_osvos._qt.objects_section import TaskRow
from napari_osvos.painted_frames import PaintedFrame

_HINT = (
    "Paint the objects of one frame, each with its own label (M: next label). What you leave unpainted is background."
)
_ACCEPTED = "Tick a frame that is right as it is: it is learned from, and no run overwrites it (Shift-A)."
_CORRECTED = "Its paint is a corrected prediction, which weighs more."
_PARTIAL = "Tick a frame that you painted in part only: its unpainted pixels are then unknown, not background."
# The header takes the colours of the theme rather than those of the system.
_HEADER = "QHeaderView::section { background: transparent; border: none; padding: 1px 8px 1px 2px; }"
MOST_ROWS = 6


class FramesSection(QWidget):
    """Painted frames: click one to go there, tick it if it is painted in part only, or if it is final.

    Signals
    -------
    wanted : int
        Go to this frame.
    partial_set : int, bool
        The frame is painted in part only, or completely.
    accepted_set : int, bool
        The frame is final, or no longer.
    background_changed
        Another label paints background.
    """

    wanted = Signal(int)
    partial_set = Signal(int, bool)
    accepted_set = Signal(int, bool)
    background_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.hint = QLabel(_HINT, wordWrap=True)
        self.list = LetterlessTree()
        self.list.setColumnCount(4)
        self.list.setHeaderLabels(["Frame", "Objects", "In part", "Accepted"])
        self.list.setRootIsDecorated(False)
        self.list.setUniformRowHeights(True)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setAccessibleName("Annotated frames")
        self.list.setToolTip(f"Click a frame to go there. {_PARTIAL}")
        header = self.list.header()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setStretchLastSection(True)
            header.setStyleSheet(_HEADER)
        self.background = QSpinBox(minimum=0, maximum=65535)
        self.background.setSpecialValueText("none")
        self.background.setToolTip(
            "In a frame painted in part, paint some background with this label, so that the network knows what it is.\n"
            "In a frame painted in full, it is background as well."
        )
        self._background_row = QWidget()
        row = QHBoxLayout(self._background_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Label that paints background"), 1)
        row.addWidget(self.background)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self.task = TaskRow()
        for widget in (self.hint, self.list, self._background_row, self.task):
            column.addWidget(widget)
        self.list.itemClicked.connect(self._clicked)
        self.list.itemActivated.connect(self._clicked)
        self._shown: tuple[PaintedFrame, ...] = ()
        self._any_partial = False
        self.background.valueChanged.connect(self._show_background)
        self.background.valueChanged.connect(self.background_changed)
        self.show_frames(())

    @property
    def background_label(self) -> int | None:
        """The label that paints background; None without. It does so in frames painted in full, too."""
        return self.background.value() or None

    def show_frames(self, frames: Sequence[PaintedFrame], in_view: int | None = None) -> None:
        """List the painted frames, the one in view highlighted."""
        frames = tuple(frames)
        blocked = self.list.blockSignals(True)
        if frames != self._shown:
            self._shown = frames
            self.list.clear()
            for painted in frames:
                objects = f"{painted.n_objects}, corrected" if painted.corrected else str(painted.n_objects)
                item = QTreeWidgetItem([str(painted.frame), objects, "", ""])
                item.setData(0, Qt.ItemDataRole.UserRole, painted.frame)
                if painted.corrected:
                    item.setToolTip(1, _CORRECTED)
                self.list.addTopLevelItem(item)
                self._put_box(item, 2, painted.partial, _PARTIAL, self._ticked_partial)
                self._put_box(item, 3, painted.accepted, _ACCEPTED, self._ticked_accepted)
            self._fit_height()
        current = next((i for i, painted in enumerate(frames) if painted.frame == in_view), None)
        self.list.setCurrentItem(None if current is None else self.list.topLevelItem(current))
        self.list.blockSignals(blocked)
        self.hint.setVisible(not frames)
        self.list.setVisible(bool(frames))
        self._any_partial = any(painted.partial for painted in frames)
        self._show_background()

    def _show_background(self, value: int = 0) -> None:
        """Ask for the label that paints background where it is needed, and say it as long as there is one."""
        self._background_row.setVisible(self._any_partial or self.background_label is not None)

    def _fit_height(self) -> None:
        header = self.list.header()
        row = max(self.list.sizeHintForRow(0), 18)
        above = header.sizeHint().height() if header is not None else 0
        rows = min(max(len(self._shown), 1), MOST_ROWS)
        self.list.setFixedHeight(above + row * rows + 2 * self.list.frameWidth() + 4)

    def _clicked(self, item: QTreeWidgetItem, column: int) -> None:
        if column < 2:
            self.wanted.emit(int(item.data(0, Qt.ItemDataRole.UserRole)))

    def _put_box(self, item: QTreeWidgetItem, column: int, ticked: bool, words: str, take: Any) -> None:
        box = QCheckBox()
        box.setChecked(ticked)
        box.setToolTip(words)
        box.setProperty("frame", item.data(0, Qt.ItemDataRole.UserRole))
        box.toggled.connect(take)
        self.list.setItemWidget(item, column, box)

    def _ticked_partial(self, partial: bool) -> None:
        self._tell(self.partial_set, partial)

    def _ticked_accepted(self, accepted: bool) -> None:
        self._tell(self.accepted_set, accepted)

    def _tell(self, signal: Any, ticked: bool) -> None:
        box = self.sender()
        if box is not None:
            frame = int(box.property("frame"))
            self._shown = ()  # the list is made anew even if the tick is refused
            signal.emit(frame, ticked)
