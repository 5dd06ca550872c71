"""The part of the panel that says where to paint next, and corrects and accepts frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QWidget

from napari_osvos._qt.confidence_strip import ConfidenceStrip
from napari_osvos._qt.connections import Connections
from napari_osvos._qt.correct_desk import CorrectDesk
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.frames_section import FramesSection
from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.mask_veil import MaskVeil
from napari_osvos._qt.next_desk import NextDesk
from napari_osvos._qt.next_section import NextSection
from napari_osvos._qt.paint_desk import PaintDesk
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.prediction import Predictions
from napari_osvos._qt.remark_desk import RemarkDesk
from napari_osvos._qt.round_keeper import RoundKeeper
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.strip_place import StripPlace


class NextPart(QObject):
    """Puts the strip, the section and what stands behind them together.

    Parameters
    ----------
    viewer : napari.Viewer
    section : NextSection
    data, frames
        The controls that it depends on.
    watch : PaintWatch
    control : RunControl
    paint_desk : PaintDesk
    rounds : RoundKeeper
        What can be adopted.
    connections : Connections
        What ends when the panel is closed.
    panel : QWidget
        In whose window the strip is put.
    """

    def __init__(
        self,
        viewer: Any,
        section: NextSection,
        data: DataSection,
        frames: FramesSection,
        watch: PaintWatch,
        control: RunControl,
        paint_desk: PaintDesk,
        rounds: RoundKeeper,
        connections: Connections,
        panel: QWidget,
    ) -> None:
        super().__init__(panel)
        self.strip = ConfidenceStrip()
        place = StripPlace(viewer, self.strip, self)
        self.desk = NextDesk(viewer, section, place, data, watch, control, connections, panel)
        self.veil = MaskVeil(viewer, data, watch, control, rounds, connections, self)
        self.correct = CorrectDesk(viewer, data, watch, paint_desk, Predictions(rounds), self.veil, self)
        self.remarks = RemarkDesk(section.notice, watch, control, frames, self)
        section.adopt_wanted.connect(self.correct.adopt)
        section.accept_wanted.connect(self.correct.toggle_accepted)
        frames.accepted_set.connect(self.correct.set_accepted)
        frames.partial_set.connect(self.desk.refresh)
        self.correct.said.connect(section.message.say)
        self.correct.marked.connect(self.desk.refresh)

    def take_round(self, kept: KeptRound) -> None:
        """Go by a round whose masks were chosen to be shown."""
        self.veil.let_masks_be()
        self.desk.take_round(kept)

    @property
    def keys(self) -> dict[str, Callable[[], None]]:
        """What the keys do, as `Shortcuts` takes them.

        The key map of a layer wins over that of the viewer: one of Labels, Image and Tracks uses none of these; Points
        and Shapes use A and Shift-A themselves while such a layer is selected.
        """
        return {"N": self.desk.go_next, "A": self.correct.adopt, "Shift-A": self.correct.toggle_accepted}

    def leave(self) -> None:
        """Take the strip out of the window, and show masks that were out of sight."""
        self.veil.leave()
        self.desk.leave()
