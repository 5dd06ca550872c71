"""Puts the confidence strip under the time slider of its viewer, in line with it, and takes it away again."""

from __future__ import annotations

import contextlib
from typing import Any

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QScrollBar, QStyle, QStyleOptionSlider, QWidget

from napari_osvos._qt.confidence_strip import ConfidenceStrip
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos.strip import StripScale

# napari's own names for the sliders and for one of them; there is no public way to them.
SLIDERS, SLIDER = "QtDims", "QtDimSliderWidget"
NAME = "OSVOS confidence"


class StripPlace(QObject):
    """Keeps the strip where it belongs.

    It goes right under the sliders of the window. Where those are not found, as in a napari that is built otherwise, it
    becomes a dock below the picture.

    Parameters
    ----------
    viewer : napari.Viewer
    strip : ConfidenceStrip
    """

    def __init__(self, viewer: Any, strip: ConfidenceStrip, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self.strip = viewer, strip
        self._movie: MovieLayer | None = None
        self._sliders: QWidget | None = None
        self._dock: Any = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.align)
        strip.resized.connect(self.align_soon)
        strip.hide()

    def show(self, movie: MovieLayer | None, beside: QWidget) -> None:
        """Show the strip for a movie; None hides it.

        Parameters
        ----------
        movie : MovieLayer or None
        beside : QWidget
            The panel, in whose window the sliders are.
        """
        self._movie = movie
        if movie is not None and self._sliders is None and self._dock is None:
            self._put(beside)
        self.align()

    def align(self) -> None:
        """Lay the frames out under the positions that the handle of the time slider has on them."""
        slider = self._time_slider()
        scale = None if slider is None else self._scale_under(slider)
        if scale is None and self._dock is not None and self._movie is not None:
            n_frames = self._movie.axes.n_frames
            pitch = max(self.strip.width(), n_frames / 100) / n_frames
            scale = StripScale(pitch / 2, pitch, n_frames)
        if scale is not None:
            self.strip.fit(scale)
        self.strip.setVisible(scale is not None)
        if self._dock is not None:
            self._dock.setVisible(scale is not None)

    def align_soon(self, event: Any = None) -> None:
        """Align it once Qt has laid out what changed."""
        self._soon.start(0)

    def leave(self) -> None:
        """Take the strip out of the window; may be called again, and after Qt has destroyed the window."""
        with contextlib.suppress(RuntimeError):
            self._soon.stop()
        self._movie = None
        sliders, self._sliders = self._sliders, None
        dock, self._dock = self._dock, None
        with contextlib.suppress(RuntimeError):
            if sliders is not None:
                sliders.removeEventFilter(self)
        with contextlib.suppress(Exception):
            if dock is not None:
                self._viewer.window.remove_dock_widget(dock)
        with contextlib.suppress(RuntimeError):
            self.strip.hide()
            self.strip.setParent(None)
            self.strip.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the sliders when they are laid out anew."""
        if event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest, QEvent.Type.Show):
            self.align_soon()
        return False

    # -- the window ----------------------------------------------------------------------------

    def _put(self, beside: QWidget) -> None:
        window = beside
        while window.parentWidget() is not None:
            window = window.parentWidget()
        sliders = next((w for w in window.findChildren(QWidget) if type(w).__name__ == SLIDERS), None)
        layout = None if sliders is None else sliders.parentWidget().layout()
        place = -1 if layout is None else layout.indexOf(sliders)
        if sliders is not None and layout is not None and place >= 0 and hasattr(layout, "insertWidget"):
            layout.insertWidget(place + 1, self.strip)
            self._sliders = sliders
            sliders.installEventFilter(self)
        elif window is not beside:
            self._dock = self._viewer.window.add_dock_widget(self.strip, name=NAME, area="bottom")

    def _time_slider(self) -> QScrollBar | None:
        """The slider of the movie's time axis, if it is shown."""
        movie = self._movie
        if movie is None or self._sliders is None or movie.axes.time_axis is None:
            return None
        axis = self._viewer.dims.ndim - movie.axes.ndim + movie.axes.time_axis
        for widget in self._sliders.findChildren(QWidget):
            its_axis = getattr(widget, "axis", None) if type(widget).__name__ == SLIDER else None
            if its_axis == axis and widget.isVisibleTo(self._sliders):  # others may wait to be deleted
                return widget.findChild(QScrollBar)
        return None

    def _scale_under(self, slider: QScrollBar) -> StripScale | None:
        assert self._movie is not None
        layer, axes, dims = self._movie.layer, self._movie.axes, self._viewer.dims
        if axes.n_frames < 2 or slider.maximum() < 1:
            return None
        option = QStyleOptionSlider()
        slider.initStyleOption(option)
        style, control = slider.style(), QStyle.ComplexControl.CC_ScrollBar
        groove = style.subControlRect(control, option, QStyle.SubControl.SC_ScrollBarGroove, slider)
        handle = style.subControlRect(control, option, QStyle.SubControl.SC_ScrollBarSlider, slider)
        left = slider.mapTo(self.strip.parentWidget(), groove.topLeft()).x() - self.strip.x()
        step = (groove.width() - handle.width()) / slider.maximum()
        # other layers may begin earlier, last longer, or be finer in time
        start, _, size = dims.range[dims.ndim - axes.ndim + axes.time_axis]
        times = [layer.data_to_world(axes.position_of(t))[axes.time_axis] for t in (0, 1)]
        first = left + handle.width() / 2 + (times[0] - start) / size * step
        pitch = (times[1] - times[0]) / size * step
        return StripScale(float(first), float(pitch), axes.n_frames) if pitch > 0 else None
