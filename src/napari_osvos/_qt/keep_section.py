"""What is kept of a run: labels, the segmenter, a command; and the session folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QGridLayout, QHBoxLayout, QLabel, QLineEdit, QPushButton, QToolButton, QWidget

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.layer_combo import LayerCombo
from napari_osvos._qt.messages import Message
from napari_osvos._qt.save_dialog import ask_where

_LABELS_HELP = "Write the masks of the round that ended or was shown last as a TIFF stack or as OME-Zarr"
_COMMAND_HELP = "Copy the command line that gives the same labels without a screen"


class KeepSection(QWidget):
    """Save, load, apply, copy.

    Signals
    -------
    labels_wanted, segmenter_wanted, load_wanted, folder_wanted : Path
        Save labels or segmenter there, load a segmenter, keep sessions there.
    apply_wanted
        Segment the layer of `target` with the segmenter as it is.
    command_wanted
        Copy the command that does the same.
    """

    labels_wanted = Signal(object)
    segmenter_wanted = Signal(object)
    load_wanted = Signal(object)
    folder_wanted = Signal(object)
    apply_wanted = Signal()
    command_wanted = Signal()

    def __init__(self, viewer: Any, connections: Connections, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.save_labels = QPushButton("Save labels ...")
        self.save_segmenter = QPushButton("Save segmenter ...")
        self.save_segmenter.setToolTip("Keep what was learned in a file, for other movies and for the command line")
        self.load_segmenter = QPushButton("Load segmenter ...")
        self.load_segmenter.setToolTip("Take a segmenter from a file: to apply it, or to learn on from it")
        self.copy_command = QPushButton("Copy as command")
        self.target = LayerCombo(viewer, Image, "no image", connections)
        self.apply = QPushButton("Apply")
        self.apply.setToolTip("Segment this layer with the segmenter as it is, without learning")
        self.folder = QLineEdit(readOnly=True)
        self.folder.setToolTip("Your paint, the settings and the segmenters are saved here every few seconds")
        self.change = QToolButton(text="...")
        self.change.setToolTip("Keep your paint in another folder from now on; what runs have written stays here")
        self.open = QToolButton(text="Open")
        self.open.setToolTip("Show the folder")
        self.message = Message()
        self._lay_out()
        self.save_labels.clicked.connect(self._ask_labels)
        self.save_segmenter.clicked.connect(self._ask_segmenter)
        self.load_segmenter.clicked.connect(self._ask_load)
        self.change.clicked.connect(self._ask_folder)
        self.open.clicked.connect(self._open_folder)
        self.apply.clicked.connect(self.apply_wanted)
        self.copy_command.clicked.connect(self.command_wanted)
        self.name_round("")
        self.allow(labels=False, command=False, segmenter=False, busy=False)

    def _lay_out(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.save_labels, 0, 0)
        grid.addWidget(self.copy_command, 0, 1)
        grid.addWidget(self.save_segmenter, 1, 0)
        grid.addWidget(self.load_segmenter, 1, 1)
        target = QHBoxLayout()
        target.addWidget(QLabel("Apply to"))
        target.addWidget(self.target, 1)
        target.addWidget(self.apply)
        grid.addLayout(target, 2, 0, 1, 2)
        folder = QHBoxLayout()
        folder.addWidget(QLabel("Session"))
        folder.addWidget(self.folder, 1)
        folder.addWidget(self.change)
        folder.addWidget(self.open)
        grid.addLayout(folder, 3, 0, 1, 2)
        grid.addWidget(self.message, 4, 0, 1, 2)

    def name_round(self, words: str) -> None:
        """Say of which round labels are saved and the command is copied; empty words for none."""
        self.save_labels.setToolTip(f"{_LABELS_HELP}\nNow: {words}" if words else _LABELS_HELP)
        self.copy_command.setToolTip(f"{_COMMAND_HELP}\nNow: {words}" if words else _COMMAND_HELP)

    def allow(self, *, labels: bool, command: bool, segmenter: bool, busy: bool) -> None:
        """Enable what there is something for.

        Parameters
        ----------
        labels, command, segmenter : bool
            Whether there are masks to save, a run to repeat, and a segmenter to save and apply.
        busy : bool
            Whether a run is going on.
        """
        self.save_labels.setEnabled(labels)
        self.copy_command.setEnabled(command and not busy)
        self.save_segmenter.setEnabled(segmenter)
        self.load_segmenter.setEnabled(not busy)
        self.apply.setEnabled(segmenter and not busy)

    def show_folder(self, path: Path) -> None:
        """Show where the session is saved."""
        self.folder.setText(str(path))
        self.folder.setCursorPosition(len(str(path)))  # its end says more than its beginning

    def _ask_labels(self) -> None:
        path = ask_where(self, "Save labels", "labels", {"TIFF stack": "tif", "OME-Zarr": "ome.zarr"})
        if path is not None:
            self.labels_wanted.emit(path)

    def _ask_segmenter(self) -> None:
        path = ask_where(self, "Save segmenter", "cells", {"Segmenter": "osvos"})
        if path is not None:
            self.segmenter_wanted.emit(path)

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load segmenter", "", "Segmenter (*.osvos)")
        if path:
            self.load_wanted.emit(Path(path))

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Keep sessions in", self.folder.text())
        if path:
            self.folder_wanted.emit(Path(path))

    def _open_folder(self) -> None:
        folder = Path(self.folder.text())
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
