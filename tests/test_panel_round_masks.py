"""Masks of rounds that do not fit into memory, or not onto the disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

from panel_driver import open_panel, paint, quick, small_movie, wait_for_end, wait_until
from round_driver import STROKE, begin, block, learn, saved, tell, two_rounds

from napari_osvos._qt import round_layers, rounds_desk
from napari_osvos.worker.events import Finished, FrameDone, Preview

pytestmark = pytest.mark.usefixtures("sessions")


def test_masks_that_are_too_large_for_memory_are_not_copied(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (round_layers, rounds_desk):
        monkeypatch.setattr(module, "LARGEST_IN_MEMORY", 100)
    viewer, panel = two_rounds(opened)
    folder = saved(panel)
    masks = viewer.layers["cells masks 1"].data
    assert Path(masks.store.root) == folder.masks(1)
    assert folder.read(1).filled == (0, 1, 2, 3, 4)
    kept = panel.round_keeper.rounds[0]
    masks[3] = 5  # the preview of a frame that a killed run did not come to
    kept.about = dataclasses.replace(kept.about, filled=(0, 1, 2, 4))
    array, _ = rounds_desk._read(kept, panel.data.movie)
    assert not isinstance(array, np.ndarray)
    assert not array[3].any()
    assert array[4].any()


def test_a_frame_that_cannot_be_stored_ends_filling_and_is_said(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_layers, "LARGEST_IN_MEMORY", 100)
    movie = small_movie()
    viewer = make_napari_viewer()
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel)
    paint(panel, movie.labels[0], 0)
    viewer.dims.set_current_step(0, 0)  # which is filled first
    run = begin(panel)
    block(run, 2)
    said = wait_for_end(panel)
    assert 2 not in run.layers.filled
    assert run.layers.filled
    assert said.startswith((f"The {len(run.layers.filled)} frame", f"{len(run.layers.filled)} of 6 frames"))
    assert f"Masks could not be stored in {panel.keeper.session.rounds.path} (" in said
    assert said.count("could not be stored") == 1
    assert not np.asarray(viewer.layers["cells masks 1"].data[2]).any()
    assert saved(panel).read(1).filled == tuple(sorted(run.layers.filled))


def test_previews_and_frames_that_cannot_be_stored_are_said_once(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_layers, "LARGEST_IN_MEMORY", 100)
    _, panel = opened()
    stopped: list[int] = []
    monkeypatch.setattr(panel.bridge.engine, "stop_and_keep", lambda: stopped.append(1))
    paint(panel, STROKE, 2)
    run = begin(panel)
    for frame in (1, 2, 3):
        block(run, frame)
    tell(panel, Preview(1, None, STROKE, None, 1), Preview(2, None, STROKE, None, 2))
    wait_until(lambda: "could not be stored" in panel.progress.message.text, "the sentence")
    assert stopped == []  # there may be room by the time that it has learned
    learn(panel, run)
    tell(panel, FrameDone(0, STROKE, None, 0.9, 1, 5, 0.0), FrameDone(3, STROKE, None, 0.9, 2, 5, 0.0))
    assert stopped == [1]
    tell(panel, Finished(2, 3.0, True))
    said = wait_for_end(panel)
    assert said.startswith("The 1 frame done is in 'cells masks 1'")
    assert said.count("could not be stored") == 1
    assert run.confidences == {0: 0.9}
