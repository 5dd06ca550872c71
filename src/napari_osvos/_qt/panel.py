"""The dock widget "OSVOS segmentation"."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from napari.utils.theme import get_theme
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_osvos._qt.connections import Connections
from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.engine_bridge import EngineBridge
from napari_osvos._qt.estimate_desk import EstimateDesk
from napari_osvos._qt.fold import Fold
from napari_osvos._qt.frames_section import FramesSection
from napari_osvos._qt.keep_desk import KeepDesk
from napari_osvos._qt.keep_section import KeepSection
from napari_osvos._qt.kept_round import KeptRound
from napari_osvos._qt.messages import Message
from napari_osvos._qt.next_part import NextPart
from napari_osvos._qt.next_section import NextSection
from napari_osvos._qt.objects_section import ObjectsSection
from napari_osvos._qt.origin_desk import OriginDesk
from napari_osvos._qt.paint_desk import PaintDesk
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.present_round import PresentRound
from napari_osvos._qt.progress_section import ProgressSection
from napari_osvos._qt.recovery_desk import RecoveryDesk
from napari_osvos._qt.revert_desk import RevertDesk
from napari_osvos._qt.round_keeper import RoundKeeper
from napari_osvos._qt.rounds_desk import RoundsDesk
from napari_osvos._qt.rounds_section import RoundsSection
from napari_osvos._qt.run_control import RunControl
from napari_osvos._qt.run_desk import RunDesk
from napari_osvos._qt.run_section import RunSection
from napari_osvos._qt.session_keeper import SessionKeeper
from napari_osvos._qt.settings_section import SettingsSection
from napari_osvos._qt.shortcuts import Shortcuts
from napari_osvos._qt.tracks_desk import TracksDesk
from napari_osvos._qt.wish_desk import WishDesk
from napari_osvos.session import SessionFolder
from napari_osvos.session_rounds import round_folders

# The masks of a large movie may take this long to be saved when the window is closed.
LAST_SAVE = 60.0  # s


class Panel(QWidget):
    """Paint, segment, see it learn, refine.

    Everything it started or connected to ends with it: when its dock is closed, and when the viewer is.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer: Any = napari_viewer
        self._connections = Connections()
        self._closed = False
        self.offer = Message()
        self.data = DataSection(napari_viewer, self._connections)
        self.frames = FramesSection()
        self.run = RunSection()
        self.progress = ProgressSection()
        self.next = NextSection()
        self.settings = SettingsSection()
        self.objects = ObjectsSection()
        self.rounds = RoundsSection()
        self.keep = KeepSection(napari_viewer, self._connections)
        self._lay_out()
        self.bridge = EngineBridge(self)
        self.watch = PaintWatch(napari_viewer, self)
        self.keeper = SessionKeeper(napari_viewer, self.watch, self.plain_settings, self._connections, self)
        self.control = RunControl(napari_viewer, self.bridge, self)
        self.paint_desk = PaintDesk(
            napari_viewer, self.data, self.frames, self.watch, self.keeper, self._connections, self
        )
        self.recovery_desk = RecoveryDesk(
            napari_viewer, self.data, self.offer, self.paint_desk, self.watch, self.keeper, self
        )
        self.origin_desk = OriginDesk(self.data, self.run, self.control, self.recovery_desk, self)
        self.estimate_desk = EstimateDesk(
            self.data, self.frames, self.run, self.settings, self.watch, self.bridge, self
        )
        wishes = WishDesk(self.data, self.frames, self.run, self.settings, self.watch, self.keeper)
        self.run_desk = RunDesk(wishes, self.run, self.progress, self.watch, self.estimate_desk, self.control, self)
        self.present = PresentRound(napari_viewer, self.data, self.control, self._connections, self)
        self.tracks_desk = TracksDesk(napari_viewer, self.objects, self.control, self.present, self)
        self.keep_desk = KeepDesk(self.keep, self.run, self.run_desk, self.keeper, self.present, self)
        self.round_keeper = RoundKeeper(
            napari_viewer, self.data, self.control, self.keeper, self.plain_settings, self._connections, self
        )
        self.rounds_desk = RoundsDesk(napari_viewer, self.data, self.rounds, self.round_keeper, self)
        self.revert_desk = RevertDesk(
            napari_viewer,
            self.data,
            self.run,
            self.rounds,
            self.rounds_desk,
            self.paint_desk,
            self.watch,
            self.restore_plain,
            self,
        )
        self.next_part = NextPart(
            napari_viewer,
            self.next,
            self.data,
            self.frames,
            self.watch,
            self.control,
            self.paint_desk,
            self.round_keeper,
            self._connections,
            self,
        )
        self._connect_rounds()
        self.keeper.said.connect(self.run_desk.say)
        self.recovery_desk.said.connect(self.run_desk.say)
        self.recovery_desk.restored.connect(self.restore_settings)
        self._connections.connect(napari_viewer.events.theme, self._take_theme)
        self._take_theme()
        self._shortcuts = Shortcuts(
            napari_viewer,
            {
                "Shift-S": self.run_desk.segment,
                "Shift-X": self.control.cancel,
                "Shift-N": self.paint_desk.new_annotations,
                "Shift-R": self.rounds_desk.flip,
                **self.next_part.keys,
            },
        )
        # what has to end even if Qt takes the panel down without a word, as when the window is destroyed
        self.destroyed.connect(_Farewell(self))
        QTimer.singleShot(0, self._start_engine)

    def _start_engine(self) -> None:
        if not self._closed:  # at once after it was opened, even
            self.bridge.engine.start()

    def sizeHint(self) -> QSize:
        """A width at which nothing is cropped."""
        return QSize(360, 720)

    def _lay_out(self) -> None:
        column = QVBoxLayout()
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(6)
        column.addWidget(self.offer)
        for title, section in (("Movie", self.data), ("Annotated frames", self.frames), ("Segment", self.run)):
            column.addWidget(_heading(title))
            column.addWidget(section)
        column.addWidget(self.progress)
        column.addWidget(_heading("Annotate next"))
        column.addWidget(self.next)
        column.addWidget(_heading("Objects"))
        column.addWidget(self.objects)
        column.addWidget(_heading("Rounds"))
        column.addWidget(self.rounds)
        self.keep_fold, self.settings_fold = Fold("Keep", self.keep), Fold("More settings", self.settings)
        column.addWidget(self.keep_fold)
        column.addWidget(self.settings_fold)
        column.addStretch(1)
        inner = QWidget()
        inner.setLayout(column)
        scroll = QScrollArea(widgetResizable=True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(300)

    def _connect_rounds(self) -> None:
        self.recovery_desk.restored.connect(self._take_earlier_rounds)
        self.round_keeper.deleted.connect(self._forget_round)
        self.round_keeper.changed.connect(self._offer_rounds)
        self.rounds_desk.shown.connect(self.next_part.take_round)
        self.rounds_desk.shown.connect(self.present.take_shown)
        self.rounds.selection_changed.connect(self._show_one_curve)
        self.tracks_desk.linked.connect(self.round_keeper.refresh)

    def _take_earlier_rounds(self, session: SessionFolder) -> None:
        if self.data.movie is not None:
            highest = max(folder.highest for folder in round_folders(session))
            self.run_desk.count_from(self.data.movie.layer, highest)
        self.round_keeper.take_session(session)

    def _offer_rounds(self) -> None:
        self.next_part.desk.offer(self.round_keeper.rounds)

    def _show_one_curve(self) -> None:
        if self.control.state == "idle" and self.rounds.plot.points:  # the round shows what its run has drawn
            self.progress.plot.hide()

    def _forget_round(self, kept: KeptRound) -> None:
        self.origin_desk.forget(kept.segmenter)
        if kept.run is not None:
            self.tracks_desk.forget(kept.run)
        self.present.forget(kept)
        self.next_part.desk.forget(kept, kept.run)

    # -- settings ------------------------------------------------------------------------------

    def plain_settings(self) -> dict[str, Any]:
        """Return what is set in the panel, as plain data for the session folder."""
        movie, painted = self.data.movie, self.watch.painted
        return {
            "quality": self.run.dial.quality,
            "axes": None if movie is None else movie.axes.letters,
            "channels": None if movie is None or movie.channels is None else list(movie.channels),
            "partial": sorted(painted.partial) if painted is not None else [],
            "accepted": sorted(painted.accepted) if painted is not None else [],
            "corrected": sorted(painted.corrected) if painted is not None else [],
            "background_label": self.frames.background.value(),
            "task": self.frames.task.task,
            "follow": self.objects.follow.isChecked(),
            "advanced": self.settings.plain(),
        }

    def restore_settings(self, session: SessionFolder) -> None:
        """Set what a session has saved of `plain_settings`."""
        self.restore_plain(session.settings())

    def restore_plain(self, plain: Mapping[str, Any]) -> None:
        """Set what `plain_settings` returned; what is missing or damaged stays as it is."""
        self.run.dial.quality = str(plain.get("quality", self.run.dial.quality))
        self.frames.background.setValue(int(plain.get("background_label") or 0))
        self.frames.task.task = str(plain.get("task", "auto"))
        self.objects.follow.setChecked(bool(plain.get("follow", True)))
        advanced = plain.get("advanced")
        if isinstance(advanced, dict):
            self.settings.restore(advanced)
        if self.watch.painted is not None:
            for name, mark in (
                ("partial", self.watch.painted.set_partial),
                ("accepted", self.watch.painted.set_accepted),
                ("corrected", self.watch.painted.set_corrected),
            ):
                for frame in plain.get(name) or ():
                    mark(int(frame), True)
            self.paint_desk.list_frames()
            self.next_part.desk.refresh()

    def _take_theme(self, event: Any = None) -> None:
        theme = get_theme(self._viewer.theme)
        background, text, curve = (getattr(theme, name).as_hex() for name in ("background", "text", "current"))
        for plot in (self.progress.plot, self.rounds.plot):
            plot.colour(background, text, curve)
        self.next_part.strip.colour(theme.foreground.as_hex(), text)

    # -- the end -------------------------------------------------------------------------------

    def close_down(self) -> None:
        """End the run, the engine and the session, and let go of the viewer; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._connections.disconnect_all()
        self._shortcuts.release()
        self.control.close()
        self.next_part.leave()
        self.progress.end()
        self.rounds_desk.difference.close()
        self.round_keeper.close()
        self.keeper.close()
        self.bridge.close()
        self.paint_desk.leave()
        self.data.leave()
        self.keep.target.leave()

    def event(self, event: QEvent) -> bool:
        """Close down when the dock is closed: napari then takes the panel out of it."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and not self._closed:
            self.close_down()
            self.deleteLater()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Close down when it was a window of its own."""
        self.close_down()
        super().closeEvent(event)


class _Farewell:
    """Saves the last strokes and ends what is not Qt's, after Qt has destroyed the panel.

    That is all that comes when the window is closed: neither layers nor the panel are told of it.
    """

    def __init__(self, panel: Panel) -> None:
        self._connections = panel._connections
        self._shortcuts = panel._shortcuts
        self._keeper = panel.keeper
        self._engine = panel.bridge.engine
        self._strip = panel.next_part.strip
        self._rounds = panel.round_keeper

    def __call__(self, destroyed: Any = None) -> None:
        self._engine.close()
        self._connections.disconnect_all()
        with contextlib.suppress(Exception):
            self._shortcuts.release()
        with contextlib.suppress(RuntimeError):  # it went with its window
            self._strip.deleteLater()
        with contextlib.suppress(Exception):  # masks that cannot be read must not keep the paint from being saved
            self._rounds.save()
        with contextlib.suppress(Exception):
            self._keeper.save_last()
        self._keeper.end_sessions()
        self._rounds.saver.close()
        with contextlib.suppress(TimeoutError):  # once Python is ending, zarr writes nothing more
            self._rounds.saver.wait(LAST_SAVE)


def _heading(title: str) -> QLabel:
    heading = QLabel(title)
    font = heading.font()
    font.setBold(True)
    heading.setFont(font)
    return heading
