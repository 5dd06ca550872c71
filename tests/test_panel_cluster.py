"""The field that names a scheduler, in a real viewer."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")
pytest.importorskip("distributed", reason="the extra cluster is not installed")

from panel_driver import open_panel, paint, quick, small_movie, wait_for_end

pytestmark = pytest.mark.usefixtures("sessions")


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_said_once_and_the_run_goes_on(make_napari_viewer: Any) -> None:
    viewer, movie = make_napari_viewer(), small_movie(n_frames=3)
    viewer.add_image(movie.frames, name="cells")
    panel = open_panel(viewer)
    quick(panel)
    paint(panel, movie.labels[0], 0)
    panel.settings.scheduler.setText("node seven")
    panel.run_desk.segment()
    assert panel.control.run is None
    assert "The scheduler is 'node seven'; give its address" in panel.progress.message.text
    panel.settings.scheduler.setText("127.0.0.1:1")
    said: list[tuple[str, str]] = []
    panel.control.said.connect(lambda sentence, kind, details: said.append((sentence, kind)))
    panel.run_desk.segment()
    assert panel.control.run.wish.scheduler == "tcp://127.0.0.1:1"
    end = wait_for_end(panel)
    warnings = [sentence for sentence, kind in said if kind == "warning"]
    assert len(warnings) == 2  # when it happens, and at the end
    assert warnings[0].startswith("No scheduler answers at tcp://127.0.0.1:1")
    assert end == warnings[1]
    assert end.startswith("3 frames are in 'cells masks 1'")
    assert end.endswith(warnings[0])
    other = open_panel(viewer)
    other.restore_plain(panel.plain_settings())
    assert other.settings.scheduler.text() == "127.0.0.1:1"
