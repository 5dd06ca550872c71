"""The movies that trip tools up on the first day: each is painted, segmented and gets labels of its own shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

import dask.array
from panel_driver import open_panel, paint, quick, small_movie, wait_for_end, wait_for_objects, wait_until

pytestmark = pytest.mark.usefixtures("sessions")


MOVIE = small_movie(n_frames=3)
BRIGHT = MOVIE.frames.astype(np.float32)


def with_nan() -> np.ndarray:
    frames = BRIGHT.copy()
    frames[:, :4, :7] = np.nan
    return frames


def tiny() -> np.ndarray:
    return np.ascontiguousarray(MOVIE.frames[:, 20:52, 30:62])


def tripping(kind: str) -> tuple[Any, dict[str, Any], np.ndarray, int, tuple[int, ...]]:
    """Return a movie, arguments of its layer, the paint of one frame, that frame, and the shape of its labels."""
    frames, truth = MOVIE.frames, MOVIE.labels
    match kind:
        case "RGB":
            rgb = np.stack([(BRIGHT / BRIGHT.max() * 255).astype(np.uint8)] * 3, -1)
            return rgb, {"rgb": True}, truth[0], 0, truth.shape
        case "channels":
            return np.stack([frames, frames[:, ::-1]], 1), {}, truth[0], 0, (3, 1, *truth.shape[1:])
        case "depth":
            stack = np.repeat(frames[:, None], 5, 1)
            return stack, {"axis_labels": ("t", "z", "y", "x")}, np.stack([truth[0]] * 5), 0, (3, 5, *truth.shape[1:])
        case "singleton axis":
            return frames[:, None], {}, truth[0], 0, (3, 1, *truth.shape[1:])
        case "dask":
            return dask.array.from_array(frames, chunks=(1, 96, 112)), {}, truth[0], 0, truth.shape
        case "uint16, bleaching":
            fading = frames.astype(float) * np.array([1, 0.7, 0.5])[:, None, None]
            return fading.astype(np.uint16), {}, truth[0], 0, truth.shape
        case "float with NaN":
            return with_nan(), {"contrast_limits": (0, float(BRIGHT.max()))}, truth[0], 0, truth.shape
        case "odd size, painted on the last frame":
            return frames[:, :-3, :-5], {}, truth[2, :-3, :-5], 2, (3, 93, 107)
        case "32 pixels":
            return tiny(), {}, truth[0, 20:52, 30:62], 0, (3, 32, 32)
        case "all painted":
            return frames, {}, np.ones_like(truth[0]), 0, truth.shape
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "RGB",
        "channels",
        "depth",
        "singleton axis",
        "dask",
        "uint16, bleaching",
        "float with NaN",
        "odd size, painted on the last frame",
        "32 pixels",
        "all painted",
    ],
)
def test_a_movie_that_trips_tools_up_is_segmented(make_napari_viewer: Any, kind: str) -> None:
    frames, layer, painted, frame, shape = tripping(kind)
    viewer = make_napari_viewer()
    viewer.add_image(frames, name="cells", **layer)
    panel = open_panel(viewer)
    quick(panel, steps=3)
    paint(panel, painted, frame)
    panel.run_desk.segment()
    said = wait_for_end(panel)
    assert said.startswith("3 frames are in 'cells masks 1'")
    masks = viewer.layers["cells masks 1"].data
    assert masks.shape == shape
    assert np.issubdtype(masks.dtype, np.integer)
    words = wait_for_objects(panel)
    if kind == "all painted":
        assert set(np.unique(masks)) <= {0, 1}
    else:
        assert "track" in words
        ids = set(np.unique(masks).tolist()) - {0}
        assert ids == set(panel.tracks_desk.last.tracked.lineage)


@pytest.mark.parametrize("by", ["open_sample", "menu"])
def test_the_sample_opens_and_needs_one_click(make_napari_viewer: Any, by: str) -> None:
    viewer = make_napari_viewer()
    if by == "open_sample":
        viewer.open_sample("napari-osvos", "simulated")
    else:
        from napari._app_model import get_app_model
        from napari.plugins import _initialize_plugins

        _initialize_plugins()
        get_app_model().commands.execute_command("napari-osvos.simulated").result()
    assert {"simulated cells", "annotations"} <= {layer.name for layer in viewer.layers}
    panel = open_panel(viewer)
    quick(panel, steps=3)
    wait_until(lambda: panel.frames.list.topLevelItemCount() == 1, "the list of frames")
    panel.run.start.click()
    assert "24 frames are in" in wait_for_end(panel)
