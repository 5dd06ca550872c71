"""Drives a panel through rounds without its engine: what the engine tells is said by the test."""

from __future__ import annotations

from typing import Any

import numpy as np
from panel_driver import open_panel, paint, wait_until

from napari_osvos.expected_accuracy import ExpectedAccuracy
from napari_osvos.rounds import RoundFolder
from napari_osvos.worker.events import Event, Finished, FrameDone, TrainingDone, TrainingProgress

SHAPE = (5, 20, 30)
STROKE = np.zeros(SHAPE[1:], np.uint16)
STROKE[5:9, 5:9] = 1
IN_PART = STROKE.copy()
IN_PART[15:] = 9  # some background
EXPECTED = ExpectedAccuracy(0.91, 0.85, 0.94, source="8 blocks of frame 2")


def open_movie(viewer: Any) -> tuple[Any, Any]:
    """Open the movie and a panel in a viewer."""
    viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
    panel = open_panel(viewer)
    panel.objects.follow.setChecked(False)
    return viewer, panel


def tell(panel: Any, *events: Event) -> None:
    for event in events:
        panel.bridge.take(event)


def begin(panel: Any) -> Any:
    """Press the button; return the run."""
    panel.watch.settle()
    panel.run.start.click()
    run = wait_until(lambda: panel.control.run, "the run")
    wait_until(lambda: run.layers.labels_layer is not None, "its layer")
    return run


def block(run: Any, frame: int) -> None:
    """Have no room on the disk for the masks of a frame: a file is where their folder would be."""
    folder = run.wish.session.rounds.masks(run.number) / "c" / str(frame)
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")


def learn(panel: Any, run: Any, steps: int = 3) -> None:
    """Say that the engine has learned something."""
    tell(panel, *(TrainingProgress(step, steps, 1 / step, 0.1, 0.0) for step in range(1, steps + 1)))
    run.wish.session.segmenter_path(run.number).write_bytes(b"weights")
    tell(panel, TrainingDone(steps, 2.0, False, run.wish.session.segmenter_path(run.number)))
    wait_until(lambda: run.segmenter is not None, "the segmenter")


def segment(panel: Any, label: int = 1, frames: tuple[int, ...] = (0, 1, 2, 3, 4), steps: int = 3) -> Any:
    """A run from its beginning to its end that finds one object, further to the right the later the round."""
    run = begin(panel)
    learn(panel, run, steps)
    found = np.zeros(SHAPE[1:], np.uint16)
    found[4:10, 4 + run.number : 10 + run.number] = label
    for t in frames:
        tell(panel, FrameDone(t, found, None, 0.9, t + 1, len(frames), 0.0))
    tell(panel, Finished(len(frames), 3.0, False, {"task": "look-alike"}, (), EXPECTED))
    wait_until(lambda: panel.control.run is None, "the end of the run")
    return run


def saved(panel: Any) -> RoundFolder:
    """The rounds of the present session once all is on the disk."""
    panel.round_keeper.save()
    panel.round_keeper.saver.wait(120)
    folder: RoundFolder = panel.keeper.session.rounds
    return folder


def set_partial(panel: Any, frame: int) -> None:
    panel.watch.settle()
    panel.watch.painted.set_partial(frame)
    panel.paint_desk.list_frames()
    panel.frames.background.setValue(9)


def rows(panel: Any) -> list[tuple[str, ...]]:
    tree = panel.rounds.list
    items = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
    return [tuple(item.text(column) for column in range(tree.columnCount())) for item in items]


def select(panel: Any, *numbers: int) -> None:
    panel.rounds.select([kept for kept in panel.round_keeper.rounds if kept.about.number in numbers])


def press(viewer: Any, key: str) -> None:
    {str(bound): function for bound, function in viewer.keymap.items()}[key](viewer)


def two_rounds(opened: Any) -> tuple[Any, Any]:
    viewer, panel = opened()
    paint(panel, STROKE, 2)
    segment(panel)
    paint(panel, STROKE, 4)
    panel.run.dial.quality = "fast"
    segment(panel, label=7)
    return viewer, panel


def shown_masks(viewer: Any) -> list[int]:
    """The rounds whose masks are seen."""
    found = [layer for layer in viewer.layers if layer.name.startswith("cells masks") and layer.visible]
    return sorted(int(layer.name.split()[-1]) for layer in found)
