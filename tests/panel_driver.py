"""What the tests of the panel share: a small movie in a real viewer, and waiting for what comes of a click."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from napari_osvos.sample_data import SimulatedMovie, simulate_movie

ENDLESS = 1_000_000
FRAMES, HEIGHT, WIDTH = 6, 96, 112


def small_movie(n_frames: int = FRAMES, seed: int = 3) -> SimulatedMovie:
    """A movie that is learned in seconds."""
    return simulate_movie("fluorescence", n_frames=n_frames, shape=(HEIGHT, WIDTH), seed=seed)


def wait_until(happened: Callable[[], Any], what: str, timeout: float = 200.0) -> Any:
    """Run the event loop until something happens."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + timeout
    while not (value := happened()):
        assert time.monotonic() < end, f"{what} did not happen within {timeout:g} s"
        QApplication.processEvents()
        time.sleep(0.002)
    return value


def run_events(seconds: float) -> None:
    """Run the event loop for some time."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, "time", seconds + 10)


def open_panel(viewer: Any) -> Any:
    """Dock a panel in a viewer, as the menu does."""
    from napari_osvos._qt.panel import Panel

    panel = Panel(viewer)
    viewer.window.add_dock_widget(panel, name="OSVOS segmentation", area="right")
    return panel


def quick(panel: Any, steps: int = 12) -> None:
    """Have the panel learn for a moment only, or without end."""
    panel.settings.tuning.fill({"steps": steps, "crop_size": 96, "crops": 1, "object_diameter": 24})
    panel.settings.changed.emit()


def paint(panel: Any, labels: np.ndarray, frame: int) -> Any:
    """Paint a frame as the user would have it, through the layer's own history, on a new layer where there is none."""
    layer = panel.data.painted_layer or panel.paint_desk.new_annotations()
    index = panel.data.movie.axes.frame_index(frame)
    where = np.nonzero(labels)
    full = [np.full(where[0].size, i) if isinstance(i, int) else None for i in index]
    rest = iter(where)
    layer.data_setitem(tuple(next(rest) if axis is None else axis for axis in full), labels[where].tolist())
    return layer


def wait_for_end(panel: Any, timeout: float = 200.0) -> str:
    """Wait until the run is over; return what the panel says."""
    wait_until(lambda: panel.control.run is None and not panel.run_desk.is_looking, "the end of the run", timeout)
    return str(panel.progress.message.text)


def region_similarity(labels: np.ndarray, truth: np.ndarray) -> float:
    """Overlap of two masks (J)."""
    a, b = labels > 0, truth > 0
    return float((a & b).sum() / max((a | b).sum(), 1))


def wait_for_objects(panel: Any, timeout: float = 200.0) -> str:
    """Wait until objects are linked or exported; return what the panel says, and fail if that failed."""
    desk = panel.tracks_desk
    failed: list[Exception] = []
    for work in (desk._linking, desk._writing):
        work.failed.connect(failed.append)
    wait_until(lambda: not desk.busy, "the end of linking and exporting", timeout)
    run_events(0.02)  # what was queued while it ended
    assert not failed, failed
    return str(panel.objects.message.text)
