"""What the labels mean, and the objects followed through time."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_osvos._qt.letter_keys import LetterlessCombo
from napari_osvos._qt.messages import Message

_TASKS = {
    "auto": ("decided from the paint", "Many labels of one kind are cells, a few that differ are distinct objects"),
    "look-alike": ("one of many objects", "Cells and the like: told apart by their borders, followed through time"),
    "distinct": ("an object of its own", "A mouse and a ball, or classes: each label is learned by itself"),
}
_LINK_HELP = "After you corrected masks by hand: follow the objects anew; all others keep their labels"
_EXPORT_HELP = "Write tracks, measurements or a movie for other programs"


class TaskRow(QWidget):
    """The question what each label is.

    Signals
    -------
    changed
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.combo = LetterlessCombo()
        for task, (words, help) in _TASKS.items():
            self.combo.addItem(words, task)
            self.combo.setItemData(self.combo.count() - 1, help, 3)  # Qt.ToolTipRole
        self.combo.setToolTip(
            "One of many objects that look alike, as cells do: they come out one by one.\n"
            "An object of its own: it keeps its label in every frame."
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        words = QLabel("Each label is")
        words.setBuddy(self.combo)
        row.addWidget(words)
        row.addWidget(self.combo, 1)
        self.combo.currentIndexChanged.connect(self.changed)

    @property
    def task(self) -> str:
        """``auto``, ``look-alike`` or ``distinct``."""
        return str(self.combo.currentData())

    @task.setter
    def task(self, task: str) -> None:
        self.combo.setCurrentIndex(max(0, self.combo.findData(task)))


class ObjectsSection(QWidget):
    """Objects through time, and everything that leaves the program.

    Signals
    -------
    link_wanted
        Link the objects of the round again.
    export_wanted : str
        Write them as a kind of `napari_osvos.exporting.EXPORTS`.
    """

    link_wanted = Signal()
    export_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.follow = QCheckBox("Follow objects through time")
        self.follow.setChecked(True)
        self.follow.setToolTip(
            "Give each of many objects one label and one colour in all frames, and show tracks with divisions.\n"
            "Labels that you painted stay as they are."
        )
        self.link = QPushButton("Link again")
        self.export = QPushButton("Export")
        self.menu = QMenu(self.export)
        self.export.setMenu(self.menu)
        self.message = Message()
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.link, 0, 0)
        grid.addWidget(self.export, 0, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.follow)
        column.addLayout(grid)
        column.addWidget(self.message)
        self.link.clicked.connect(self.link_wanted)
        self.name_round("")
        self.allow(link=False, export=False)

    def offer(self, kinds: dict[str, str]) -> None:
        """Fill the menu of exports.

        Parameters
        ----------
        kinds : dict of str to str
            Words of each kind.
        """
        for kind, words in kinds.items():
            action = self.menu.addAction(f"{words} ...")
            if action is not None:
                action.setData(kind)
                action.triggered.connect(lambda checked=False, kind=kind: self.export_wanted.emit(kind))

    def name_round(self, words: str) -> None:
        """Say which round is linked and exported; empty words for none."""
        self.link.setToolTip(f"{_LINK_HELP}\nNow: {words}" if words else _LINK_HELP)
        self.export.setToolTip(f"{_EXPORT_HELP}\nNow: {words}" if words else _EXPORT_HELP)

    def allow(self, *, link: bool, export: bool) -> None:
        """Enable what there is something for."""
        self.link.setEnabled(link)
        self.export.setEnabled(export)
