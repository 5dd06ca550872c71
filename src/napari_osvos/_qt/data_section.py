"""Which movie, how its axes read, which channels, and which layer is painted on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.layer_combo import LayerCombo
from napari_osvos._qt.letter_keys import LetterlessCombo
from napari_osvos._qt.messages import Message
from napari_osvos._qt.movie_layer import MovieLayer, guessed_axes, pixels_of
from napari_osvos.layer_axes import LayerAxes, axes_choices

MOST_CHANNELS = 3


class DataSection(QWidget):
    """The movie and the layer that holds its paint.

    Signals
    -------
    movie_changed
        Another image layer, other axes or other channels.
    annotations_changed
        Another layer to paint on, or its fit is another.
    mend_wanted
        The button that mends a layer that does not fit was pressed.
    new_wanted
        The button that makes a layer to paint on was pressed.
    """

    movie_changed = Signal()
    annotations_changed = Signal()
    mend_wanted = Signal()
    new_wanted = Signal()

    def __init__(self, viewer: Any, connections: Connections, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._connections = Connections()
        self.movie: MovieLayer | None = None
        self.image = LayerCombo(viewer, Image, "open a movie first", connections)
        self.axes = LetterlessCombo()
        self.axes.setToolTip("How the axes of the layer are read; choose another reading if this one is wrong.")
        self.axes.setSizeAdjustPolicy(LetterlessCombo.SizeAdjustPolicy.AdjustToContents)
        self.words = QLabel(wordWrap=True)
        self.channels = ChannelPicker()
        self.annotations = LayerCombo(viewer, Labels, "none yet", connections)
        self.new = QPushButton("New")
        self.new.setToolTip("Make a layer to paint on: of the right shape and place, with the brush ready (Shift-N)")
        self.message = Message()
        self._labels = {name: QLabel(name) for name in ("Image", "Axes", "Channels", "Annotations")}
        self._lay_out()
        self.image.chosen.connect(self._take_image)
        self.axes.currentIndexChanged.connect(self._take_axes)
        self.channels.changed.connect(self._take_channels)
        self.annotations.chosen.connect(self.check_fit)
        self.new.clicked.connect(self.new_wanted)
        self.message.acted.connect(self.mend_wanted)
        self._take_image()

    def _lay_out(self) -> None:
        painted = QHBoxLayout()
        painted.addWidget(self.annotations, 1)
        painted.addWidget(self.new)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        for row, name in ((0, "Image"), (1, "Axes"), (3, "Channels"), (4, "Annotations")):
            grid.addWidget(self._labels[name], row, 0)
        grid.addWidget(self.image, 0, 1)
        grid.addWidget(self.axes, 1, 1)
        grid.addWidget(self.words, 2, 0, 1, 2)
        grid.addWidget(self.channels, 3, 1)
        grid.addLayout(painted, 4, 1)
        grid.addWidget(self.message, 5, 0, 1, 2)
        for name, field in (("Image", self.image), ("Axes", self.axes), ("Annotations", self.annotations)):
            self._labels[name].setBuddy(field)

    # -- the movie -----------------------------------------------------------------------------

    def _take_image(self) -> None:
        self._connections.disconnect_all()
        layer = self.image.layer
        if layer is not None:
            self._connections.connect(layer.events.data, self._reread)
            self._connections.connect_if_there(layer.events, "axis_labels", self._reread)
        self._reread()

    def _reread(self, event: Any = None) -> None:
        """Guess the axes of the layer anew, keeping those chosen where they still fit."""
        layer = self.image.layer
        former = self.movie.axes.letters if self.movie is not None and self.movie.layer is layer else None
        choices: list[LayerAxes] = []
        complaint = ""
        if layer is not None:
            try:
                guess = guessed_axes(layer)
                others = axes_choices(pixels_of(layer).shape, bool(layer.rgb))
                choices = [guess, *(choice for choice in others if choice.letters != guess.letters)]
            except ValueError as error:
                complaint = str(error)
        blocked = self.axes.blockSignals(True)
        self.axes.clear()
        for choice in choices:
            self.axes.addItem(choice.letters.replace("S", "RGB"), choice)
            self.axes.setItemData(self.axes.count() - 1, choice.in_words, 3)  # Qt.ItemDataRole.ToolTipRole
        kept = next((i for i, choice in enumerate(choices) if choice.letters == former), 0)
        self.axes.setCurrentIndex(kept)
        self.axes.blockSignals(blocked)
        self.axes.setEnabled(len(choices) > 1)
        self.message.say(complaint, "warning")
        self._take_axes()

    def _take_axes(self, index: int = 0) -> None:
        axes = self.axes.currentData()
        for widget in (self.axes, self.words, self._labels["Axes"]):
            widget.setVisible(axes is not None)
        self.words.setText("" if axes is None else axes.in_words)
        count = 1 if axes is None or axes.channel_axis is None else axes.n_channels
        self.channels.offer(count)
        self.channels.setVisible(count > 1)
        self._labels["Channels"].setVisible(count > 1)
        self._take_channels()

    def _take_channels(self) -> None:
        axes = self.axes.currentData()
        self.movie = None if axes is None else MovieLayer(self.image.layer, axes, self.channels.chosen)
        self.new.setEnabled(self.movie is not None)
        self.movie_changed.emit()
        self.check_fit()

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Read the axes and take the channels as a session had them, where the layer allows that."""
        letters = [self.axes.itemData(i).letters for i in range(self.axes.count())]
        if plain.get("axes") in letters:
            self.axes.setCurrentIndex(letters.index(plain["axes"]))
        self.channels.choose(plain.get("channels") or ())

    # -- the paint -----------------------------------------------------------------------------

    def check_fit(self, event: Any = None) -> None:
        """Say whether the layer to paint on fits the movie."""
        if self.movie is None:
            self.annotations_changed.emit()
            return
        layer = self.annotations.layer
        misfit = None if layer is None else self.movie.misfit(layer)
        if misfit is None:
            self.message.clear()
        else:
            self.message.say(misfit.sentence, "warning", action=misfit.remedy or "")
        self.annotations_changed.emit()

    @property
    def painted_layer(self) -> Any:
        """The layer that is painted on, if there is one and it fits; else None."""
        layer = self.annotations.layer
        if layer is None or self.movie is None or self.movie.misfit(layer) is not None:
            return None
        return layer

    def leave(self) -> None:
        """Let go of the layers."""
        self._connections.disconnect_all()
        self.image.leave()
        self.annotations.leave()
        self.movie = None


class ChannelPicker(QWidget):
    """Choose up to three channels.

    Signals
    -------
    changed
        Others are chosen.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._buttons: list[QPushButton] = []

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """The chosen channels, rising; None when there is one only."""
        if len(self._buttons) < 2:
            return None
        return tuple(c for c, button in enumerate(self._buttons) if button.isChecked())

    def offer(self, count: int) -> None:
        """Offer so many channels, the first three chosen; a choice among as many as before is kept."""
        if count == max(len(self._buttons), 1):
            return
        for button in self._buttons:
            self._grid.removeWidget(button)
            button.deleteLater()
        self._buttons = []
        for c in range(count if count > 1 else 0):
            button = QPushButton(str(c), checkable=True)
            button.setChecked(c < MOST_CHANNELS)
            button.setToolTip(f"Use channel {c}; up to {MOST_CHANNELS} can be used together.")
            button.setFixedWidth(34)
            button.toggled.connect(self._toggled)
            self._grid.addWidget(button, c // 6, c % 6)
            self._buttons.append(button)
        self._grid.setColumnStretch(6, 1)

    def choose(self, channels: Collection[int]) -> None:
        """Choose channels; nothing happens where they are too many or not there."""
        if not 0 < len(channels) <= MOST_CHANNELS or not set(channels) <= set(range(len(self._buttons))):
            return
        for c, button in enumerate(self._buttons):
            blocked = button.blockSignals(True)
            button.setChecked(c in channels)
            button.blockSignals(blocked)
        self.changed.emit()

    def _toggled(self, checked: bool) -> None:
        """Keep between one and three chosen."""
        chosen = [button for button in self._buttons if button.isChecked()]
        touched = self.sender()
        if not chosen and isinstance(touched, QPushButton):
            touched.setChecked(True)
            return
        if len(chosen) > MOST_CHANNELS:
            surplus = next(button for button in reversed(chosen) if button is not touched)
            surplus.setChecked(False)
            return
        self.changed.emit()
