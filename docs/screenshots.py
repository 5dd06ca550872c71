"""Renew the pictures of the panel in ``docs/images``: from the sample in the menu to the segmented movie.

Run it with a screen, or in a virtual one::

    xvfb-run -a -s "-screen 0 1400x1000x24" python docs/screenshots.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES = Path(__file__).parent / "images"
WINDOW = (1180, 860)  # pixels
ANIMATION_WIDTH = 500
MOST_FRAMES = 30


def wait(until: Callable[[], Any], timeout: float = 300, every: Callable[[], None] | None = None) -> None:
    """Run the event loop until something is so."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + timeout
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s in vain")
        QApplication.processEvents()
        if every is not None:
            every()
        time.sleep(0.005)


def rest(seconds: float) -> None:
    """Run the event loop for a while, so that everything is drawn."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


class Camera:
    """Takes pictures of the window."""

    def __init__(self, viewer: Any, folder: Path) -> None:
        self._viewer, self._folder = viewer, folder
        self._film: list[tuple[float, Image.Image]] = []
        canvas = viewer.window._qt_viewer.canvas.native
        self._left = canvas.mapTo(viewer.window._qt_window, canvas.rect().topLeft()).x()

    def picture(self) -> Image.Image:
        """The window as it is now."""
        return Image.fromarray(self._viewer.screenshot(canvas_only=False, flash=False)[..., :3])

    def save(self, name: str) -> None:
        """Write a picture, in 200 colours, which are enough."""
        rest(0.4)
        self.picture().quantize(200, dither=Image.Dither.NONE).save(self._folder / f"{name}.png", optimize=True)

    def roll(self, every: float = 0.3) -> None:
        """Add to the film, if it is time."""
        now = time.monotonic()
        if not self._film or now - self._film[-1][0] >= every:
            picture = self.picture()
            picture = picture.crop((self._left, 0, picture.width, picture.height))
            height = round(picture.height * ANIMATION_WIDTH / picture.width)
            self._film.append((now, picture.resize((ANIMATION_WIDTH, height), Image.Resampling.LANCZOS)))

    def save_film(self, name: str, colours: int = 56) -> None:
        """Write the film as a GIF: no more pictures than needed, the last one stays for a while."""
        picked = np.unique(np.linspace(0, len(self._film) - 1, MOST_FRAMES).round().astype(int))
        some = [self._film[i][1] for i in (0, len(self._film) // 2, len(self._film) - 1)]
        montage = Image.fromarray(np.concatenate([np.asarray(picture) for picture in some]))
        palette = Image.new("P", (1, 1))  # half of it what covers most pixels (greys), half what covers most colours
        halves = (
            montage.quantize(colours, method) for method in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE)
        )
        palette.putpalette([value for half in halves for value in (half.getpalette() or [])[: 3 * colours]])
        frames = [self._film[i][1].quantize(palette=palette, dither=Image.Dither.NONE) for i in picked]
        frames[0].save(
            self._folder / f"{name}.gif",
            save_all=True,
            append_images=frames[1:],
            duration=[160] * (len(frames) - 1) + [2500],
            loop=0,
            optimize=True,
        )


def main() -> None:
    """Open the sample, segment it, take pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=IMAGES)
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--theme", default="dark", choices=("dark", "light"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_OSVOS_SESSIONS"] = sessions
        take_pictures(given)


def take_pictures(given: argparse.Namespace) -> None:
    """Go the way of the tutorial."""
    import napari
    from qtpy.QtWidgets import QApplication, QScrollArea

    viewer = napari.Viewer(show=True)
    viewer.theme = given.theme
    viewer.window._qt_window.resize(*WINDOW)
    viewer.open_sample("napari-osvos", "simulated")
    _, panel = viewer.window.add_plugin_dock_widget("napari-osvos", "OSVOS segmentation")
    viewer.dims.set_current_step(0, 0)
    rest(1)
    viewer.reset_view()
    camera = Camera(viewer, given.folder)
    wait(lambda: panel.estimate_desk.expected.calibration is not None and panel.watch.painted.frames)
    camera.save("panel-painted")

    panel.run.dial.quality = given.quality
    for _ in range(4):  # the film begins with the paint
        camera.roll(every=0)
    viewer.dims.set_current_step(0, 12)
    rest(0.5)
    camera.roll()
    panel.run_desk.segment()
    learned = len(viewer.layers)
    wait(lambda: panel.control.run.phase == "filling" or panel.progress.bar.value() > 300, every=camera.roll)
    camera.save("panel-learning")
    wait(lambda: panel.control.run is None or panel.control.run.phase == "filling", every=camera.roll)
    viewer.dims.set_current_step(0, 16)
    wait(lambda: panel.control.run is None, every=camera.roll)
    assert len(viewer.layers) > learned
    for frame in range(16, 24):
        viewer.dims.set_current_step(0, frame)
        rest(0.05)
        camera.roll(every=0)
    camera.save_film("panel-run")
    wait(lambda: not panel.tracks_desk.busy)
    rest(0.5)
    viewer.layers["annotations"].visible = False
    viewer.dims.set_current_step(0, 16)
    rest(0.5)
    camera.save("panel-result")
    panel.next_part.desk.go_next()
    scroll = panel.findChild(QScrollArea)
    scroll.verticalScrollBar().setValue(panel.next.mapTo(scroll.widget(), panel.next.rect().topLeft()).y() - 250)
    camera.save("panel-next")
    viewer.close()
    QApplication.processEvents()


if __name__ == "__main__":
    main()
