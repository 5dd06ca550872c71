"""A choice among the layers of a viewer that follows them as they come, go and change their names."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.letter_keys import LetterlessCombo

# In the metadata of layers that hold masks and probabilities.
FILLED_BY_A_RUN = "napari-osvos round"


class LayerCombo(LetterlessCombo):
    """Choose a layer of one kind.

    Parameters
    ----------
    viewer : napari.Viewer
    kind : type
        Class of the layers to choose from.
    nothing : str
        What stands there when there is no such layer.
    connections : Connections
        What ends when the panel is closed.

    Signals
    -------
    chosen
        The layer that is chosen became another one, by hand or because the former went away.
    """

    chosen = Signal()

    def __init__(
        self, viewer: Any, kind: type, nothing: str, connections: Connections, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._kind, self._nothing = viewer, kind, nothing
        self.setPlaceholderText(nothing)
        self._layers: list[Any] = []
        self._layer: Any = None
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)  # a long name must not widen the panel
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.currentIndexChanged.connect(self._take)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
            connections.connect(event, self.refill)
        connections.connect_if_there(viewer.layers.events, "renamed", self.refill)
        self.refill()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self._layer

    def choose(self, layer: Any) -> None:
        """Choose a layer; one that is not in the list is passed over."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def leave(self) -> None:
        """Let go of the layers."""
        self._layers, self._layer = [], None

    def refill(self, event: Any = None) -> None:
        """List the layers anew, keeping the choice where it is still there."""
        self._layers = [layer for layer in self._viewer.layers if isinstance(layer, self._kind)]
        blocked = self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in self._layers] or [self._nothing])
        if self._layer in self._layers:
            self.setCurrentIndex(self._layers.index(self._layer))
        elif self._layers:
            self.setCurrentIndex(self._preferred())  # -1 leaves it open
        self.blockSignals(blocked)
        self.setEnabled(bool(self._layers))
        self._take(self.currentIndex())

    def _preferred(self) -> int:
        """The selected layer, else the first; never one that a run has filled, which is chosen by hand only."""
        own = [i for i, layer in enumerate(self._layers) if FILLED_BY_A_RUN not in layer.metadata]
        selected = self._viewer.layers.selection
        return next((i for i in own if self._layers[i] in selected), own[0] if own else -1)

    def _take(self, index: int) -> None:
        layer = self._layers[index] if 0 <= index < len(self._layers) else None
        self.setToolTip(layer.name if layer is not None else self._nothing)
        if layer is not self._layer:
            self._layer = layer
            self.chosen.emit()
