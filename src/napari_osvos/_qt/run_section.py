"""Quality, where to start from, where it computes, and the buttons that start and end a run."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QWidget

from napari_osvos._qt.letter_keys import LetterlessCombo
from napari_osvos._qt.messages import Message
from napari_osvos._qt.quality_dial import QualityDial

_PARENTS = Path(__file__).parents[1] / "parents"


class RunSection(QWidget):
    """Starts, pauses and ends runs.

    Signals
    -------
    start_wanted, pause_wanted, stop_wanted, cancel_wanted
        The button was pressed.
    """

    start_wanted = Signal()
    pause_wanted = Signal()
    stop_wanted = Signal()
    cancel_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.dial = QualityDial()
        self.origin = LetterlessCombo()
        self.origin.setSizeAdjustPolicy(LetterlessCombo.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.origin.setMinimumContentsLength(10)
        self.origin.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.origin.setToolTip(
            "Where learning begins: at a network that knows cells in general, or at what an earlier round has learned "
            "(then a run refines it)."
        )
        for path in sorted(_PARENTS.glob("*.safetensors")):
            self.origin.addItem(f"general network ({path.stem})", path.stem)
        self.start = QPushButton("Segment")
        self.start.setObjectName("osvos_start")
        self.start.setMinimumHeight(34)
        self.start.setStyleSheet("QPushButton#osvos_start { font-weight: bold; }")
        self.pause = QPushButton("Pause")
        self.pause.setToolTip("Halt, and go on later")
        self.stop = QPushButton("Stop and keep")
        self.stop.setToolTip("While it learns: learn no more and fill the movie. While it fills: keep the frames done.")
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("End the run at once (Shift-X); frames that are filled stay, else its layer goes")
        self.device = QLabel("The engine is starting ...", wordWrap=True)
        self.why = QToolButton(text="Why not the GPU?", checkable=True)
        self.why.setToolTip("Say why it does not compute on a graphics card, and what would change that")
        self.why_message = Message()
        self._lay_out()
        self.why.toggled.connect(self.why_message.setVisible)
        self.why.toggled.connect(self._explain)
        self.start.clicked.connect(self.start_wanted)
        self.pause.clicked.connect(self.pause_wanted)
        self.stop.clicked.connect(self.stop_wanted)
        self.cancel.clicked.connect(self.cancel_wanted)
        self.origin.currentIndexChanged.connect(self._name_start)
        self._why, self._remedy = "", ""
        self.tell_device("The engine is starting ...", "", "")
        self.show_state("idle")
        self._name_start()

    def _lay_out(self) -> None:
        origin = QHBoxLayout()
        label = QLabel("Start &from")
        label.setBuddy(self.origin)
        origin.addWidget(label)
        origin.addWidget(self.origin, 1)
        buttons = QHBoxLayout()
        for button in (self.pause, self.stop, self.cancel):
            buttons.addWidget(button)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.dial, 0, 0)
        grid.addLayout(origin, 1, 0)
        grid.addWidget(self.start, 2, 0)
        grid.addLayout(buttons, 3, 0)
        device = QHBoxLayout()
        device.addWidget(self.device, 1)
        device.addWidget(self.why)
        grid.addLayout(device, 4, 0)
        grid.addWidget(self.why_message, 5, 0)

    # -- where to start from -------------------------------------------------------------------

    @property
    def parent_name(self) -> str:
        """The general network to start from; the first one where an earlier round is chosen."""
        chosen = self.origin.currentData()
        return chosen if isinstance(chosen, str) else str(self.origin.itemData(0))

    @property
    def segmenter(self) -> Path | None:
        """The segmenter to learn on from; None to start from a general network."""
        chosen = self.origin.currentData()
        return chosen if isinstance(chosen, Path) else None

    def offer_segmenter(self, words: str, path: Path) -> None:
        """Offer a segmenter to start from."""
        if self._place_of(path) is None:
            self.origin.addItem(words, path)
            self.origin.setItemData(self.origin.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole)

    def withdraw_segmenter(self, path: Path) -> None:
        """Offer a segmenter no more."""
        place = self._place_of(path)
        if place is not None:
            self.origin.removeItem(place)

    def choose_origin(self, origin: str | Path | None) -> None:
        """Choose what to start from: a general network by its name, a segmenter that is offered; None: the usual."""
        self.origin.setCurrentIndex(self._place_of(origin) or 0)

    def _place_of(self, origin: str | Path | None) -> int | None:
        return next((i for i in range(self.origin.count()) if self.origin.itemData(i) == origin), None)

    def _name_start(self, index: int = 0) -> None:
        refines = self.segmenter is not None
        self.start.setText("Refine" if refines else "Segment")
        self.start.setToolTip(
            "Learn on from the earlier round with all that is painted now, as a new round (Shift-S)"
            if refines
            else "Learn from the painted frames and segment the whole movie (Shift-S)"
        )

    # -- the engine ----------------------------------------------------------------------------

    def tell_device(self, words: str, why_not_gpu: str, remedy: str) -> None:
        """Say where it computes; and if not on a GPU, why, and the command that would change it."""
        self.device.setText(words)
        self._why, self._remedy = why_not_gpu, remedy
        self.why.setVisible(bool(why_not_gpu))
        self.why.setChecked(False)
        self.why_message.clear()

    def _explain(self, wanted: bool) -> None:
        if wanted:
            self.why_message.say(self._why, details=self._remedy)
            self.why_message.unfold()
        else:
            self.why_message.clear()

    def show_state(self, state: str) -> None:
        """Show the buttons of a state: ``idle``, ``learning``, ``filling`` or ``paused``."""
        idle = state == "idle"
        self.start.setVisible(idle)
        for button in (self.pause, self.stop, self.cancel):
            button.setVisible(not idle)
        self.pause.setText("Go on" if state == "paused" else "Pause")
        self.dial.setEnabled(idle)
        self.origin.setEnabled(idle)
