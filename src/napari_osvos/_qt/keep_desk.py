"""Saving, loading and applying what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication

from napari_osvos._qt.background import Background
from napari_osvos._qt.files import command_of, copy_file, save_labels
from napari_osvos._qt.keep_section import KeepSection
from napari_osvos._qt.movie_layer import guessed_axes
from napari_osvos._qt.present_round import PresentRound
from napari_osvos._qt.run_desk import RunDesk
from napari_osvos._qt.run_section import RunSection
from napari_osvos._qt.session_keeper import SessionKeeper


class KeepDesk(QObject):
    """Does what the buttons of `KeepSection` say, with the present round and the chosen segmenter."""

    def __init__(
        self,
        section: KeepSection,
        runs: RunSection,
        desk: RunDesk,
        keeper: SessionKeeper,
        present: PresentRound,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._section, self._runs, self._desk, self._present = section, runs, desk, present
        self._writing = Background(self)
        self._writing.done.connect(self._said)
        self._writing.failed.connect(self._failed)
        self._asking = Background(self)
        self._asking.done.connect(self._copy)
        self._asking.failed.connect(self._failed)
        present.changed.connect(self.allow)
        desk.control.state_changed.connect(self.allow)
        runs.origin.currentIndexChanged.connect(self.allow)
        section.labels_wanted.connect(self.save_labels)
        section.segmenter_wanted.connect(self.save_segmenter)
        section.load_wanted.connect(self.load_segmenter)
        section.folder_wanted.connect(keeper.move_to)
        section.apply_wanted.connect(self.apply)
        section.command_wanted.connect(self.copy_command)
        keeper.folder_changed.connect(section.show_folder)
        if keeper.session is not None:
            section.show_folder(keeper.session.path)

    def allow(self, event: Any = None) -> None:
        """Enable the buttons that there is something for."""
        busy = self._desk.control.run is not None
        self._section.allow(
            labels=self._present.layers is not None,
            command=self._present.run is not None,
            segmenter=self._runs.segmenter is not None,
            busy=busy,
        )
        self._section.name_round(self._present.in_words)

    def save_labels(self, path: Path) -> None:
        """Write the masks of the round."""
        layers = self._present.layers
        if layers is not None:
            self._section.message.say("Saving ...")
            self._writing.start(lambda: save_labels(path, layers))

    def save_segmenter(self, path: Path) -> None:
        """Copy the chosen segmenter."""
        source = self._runs.segmenter
        if source is not None:
            self._section.message.say("Saving ...")
            self._writing.start(lambda: copy_file(source, path))

    def load_segmenter(self, path: Path) -> None:
        """Offer a segmenter file to start from; whether it is one, the engine will say."""
        if not path.is_file():
            self._failed(FileNotFoundError(f"{path} does not exist."))
            return
        self._runs.offer_segmenter(path.name, path)
        self._runs.choose_origin(path)
        self._section.message.say(f"{path.name} is what Apply uses and where Refine starts from.", "done")
        self.allow()

    def apply(self) -> None:
        """Segment the chosen layer with the chosen segmenter."""
        layer = self._section.target.layer
        if layer is not None:
            try:
                self._desk.apply(layer, guessed_axes(layer))
            except ValueError as error:
                self._failed(error)

    def copy_command(self) -> None:
        """Copy the command of the round; what it needs is written to the session folder first."""
        run = self._present.run
        if run is not None:
            self._section.message.say("Writing what the command needs ...")
            which = self._present.in_words
            self._asking.start(lambda: (which, command_of(run)))

    def _copy(self, copied: tuple[str, str]) -> None:
        which, command = copied
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(command)
        self._section.message.say(f"The command of {which} is on the clipboard.", "done", details=command)

    def _said(self, sentence: str) -> None:
        self._section.message.say(sentence, "done")

    def _failed(self, error: Exception) -> None:
        self._section.message.say(str(error), "error")
