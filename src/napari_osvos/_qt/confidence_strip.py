"""A thin strip under the time slider: how sure each frame is, which are painted, and which to annotate next."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from napari.utils.colormaps import ensure_colormap
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_osvos.strip import StripScale, doubts

# Its lightness rises evenly, so that it can be read without telling colours apart; the ends are cut off, so that
# neither a sure frame is black nor a doubtful one white.
COLOURS = "inferno"
SUREST, LEAST_SURE = 0.12, 0.92
TOP, BAR, BOTTOM = 8, 9, 8  # heights: of the arrow, the coloured bar, the marks


@dataclass(frozen=True)
class StripContent:
    """What the strip shows of a movie.

    Attributes
    ----------
    n_frames : int
    confidences : mapping
        {frame: J to expect}; the others are not filled yet.
    painted, accepted : collection of int
        Frames that are marked.
    suggested : int or None
        Where the arrow stands.
    reasons : mapping
        {frame: why to annotate it}.
    """

    n_frames: int
    confidences: Mapping[int, float] = field(default_factory=dict)
    painted: Collection[int] = ()
    accepted: Collection[int] = ()
    suggested: int | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)

    def words(self, frame: int) -> str:
        """What is known of a frame, in a sentence."""
        if frame in self.accepted:
            return f"Frame {frame} is accepted: no run overwrites it."
        confidence = self.confidences.get(frame)
        words = f"Frame {frame}, painted" if frame in self.painted else f"Frame {frame}"
        words += ": not segmented yet" if confidence is None else f": expect J {confidence:.2f}"
        reason = self.reasons.get(frame)
        return f"{words}, {reason}." if reason and frame not in self.painted else f"{words}."


class ConfidenceStrip(QWidget):
    """The strip. Click it to go to a frame; rest on it to read about one.

    Signals
    -------
    wanted : int
        Go to this frame.
    resized
        It is laid out anew.
    """

    wanted = Signal(int)
    resized = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.content = StripContent(1)
        self.scale: StripScale | None = None
        self._background, self._text = QColor("#262930"), QColor("#f0f1f2")
        self._image: QImage | None = None
        steps = ensure_colormap(COLOURS).map(np.linspace(SUREST, LEAST_SURE, 256))
        self._table = (np.asarray(steps)[:, :3] * 255).round().astype(np.uint8)
        self.setFixedHeight(TOP + BAR + BOTTOM)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setAccessibleName("Confidence of each frame")
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(200, TOP + BAR + BOTTOM)

    # -- what it shows -------------------------------------------------------------------------

    def show_content(self, content: StripContent) -> None:
        """Show what is known of a movie."""
        if content != self.content:
            self.content, self._image = content, None
            self.update()

    def fit(self, scale: StripScale) -> None:
        """Lay the frames out."""
        if scale != self.scale:
            self.scale, self._image = scale, None
            self.update()

    def colour(self, background: str, text: str) -> None:
        """Take the colours of a theme: of frames that are not filled, and of the marks."""
        self._background, self._text, self._image = QColor(background), QColor(text), None
        self.update()

    def colours(self) -> np.ndarray:
        """The colour of each column of pixels, (width, 3) uint8; what is not known has that of the theme."""
        assert self.scale is not None
        values = self.scale.columns(doubts(self.content.confidences, self.content.n_frames), self.width())
        row = np.empty((self.width(), 3), np.uint8)
        row[:] = (self._background.red(), self._background.green(), self._background.blue())
        known = ~np.isnan(values)
        row[known] = self._table[(values[known] * 255).round().astype(np.intp)]
        return row

    # -- events --------------------------------------------------------------------------------

    def paintEvent(self, event: Any) -> None:
        """Draw the bar, the marks and the arrow."""
        if self.scale is None or self.width() < 1:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_bar(painter)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._text)
        for frame in self.content.painted:
            if frame in self.content.accepted:
                self._paint_lock(painter, self.scale.centre(frame))
            else:
                painter.drawEllipse(QPointF(self.scale.centre(frame), TOP + BAR + 4), 2.2, 2.2)
        if self.content.suggested is not None:
            x = self.scale.centre(self.content.suggested)
            painter.drawPolygon(QPolygonF([QPointF(x - 5, 0.5), QPointF(x + 5, 0.5), QPointF(x, TOP - 0.5)]))
        painter.end()

    def _paint_bar(self, painter: QPainter) -> None:
        assert self.scale is not None
        if self._image is None or self._image.width() != self.width():
            row = np.ascontiguousarray(self.colours())
            self._image = QImage(row.data, row.shape[0], 1, row.nbytes, QImage.Format.Format_RGB888).copy()
        left = max(self.scale.span(0)[0], 0.0)
        right = min(self.scale.span(self.content.n_frames - 1)[1], float(self.width()))
        place = QRectF(left, TOP, right - left, BAR)
        painter.drawImage(place, self._image, QRectF(left, 0, right - left, 1))

    def _paint_lock(self, painter: QPainter, x: float) -> None:
        y = TOP + BAR + 1.0
        painter.drawRect(QRectF(x - 3, y + 3, 6, 4))
        painter.save()
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(self._text, 1.2))
        painter.drawArc(QRectF(x - 2, y + 0.5, 4, 5), 0, 180 * 16)
        painter.restore()

    def resizeEvent(self, event: Any) -> None:
        """Tell that the frames lie elsewhere."""
        self._image = None
        super().resizeEvent(event)
        self.resized.emit()

    def mousePressEvent(self, event: Any) -> None:
        """Go to the frame that was clicked."""
        if self.scale is not None and event.button() == Qt.MouseButton.LeftButton:
            self.wanted.emit(self.scale.frame_at(event.position().x()))

    def mouseMoveEvent(self, event: Any) -> None:
        """Scrub while the button is down."""
        if self.scale is not None and event.buttons() & Qt.MouseButton.LeftButton:
            self.wanted.emit(self.scale.frame_at(event.position().x()))

    def event(self, event: QEvent) -> bool:
        """Say what is known of the frame under the pointer."""
        if event.type() == QEvent.Type.ToolTip and self.scale is not None:
            words = self.content.words(self.scale.frame_at(event.pos().x()))
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return bool(super().event(event))
