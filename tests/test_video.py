"""Videos, frame by frame in any order."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_osvos.formats import UnreadableFileError
from napari_osvos.io import read_clip


def test_a_video_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "movie.mp4").touch()
    with pytest.raises(ValueError, match=r'movie.mp4 is a video, .*: pip install "napari-osvos\[video\]"\.$'):
        read_clip(tmp_path / "movie.mp4")


@pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the extra 'video' is not installed")
@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "channels"),
    [
        ("a.mp4", "mpeg4", "yuv420p", 3),
        ("a.avi", "mjpeg", "yuvj420p", 3),
        ("a.mpg", "mpeg2video", "yuv420p", 3),  # seeking is not exact there
        ("a.mkv", "ffv1", "gray", 1),
        ("a.mkv", "ffv1", "gray16le", 1),
    ],
)
def test_video_frames_are_exact_in_any_order(
    tmp_path: Path, name: str, codec: str, pixel_format: str, channels: int
) -> None:
    import av

    top = 60000 if pixel_format == "gray16le" else 240
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 48, pixel_format
        for t in range(50):
            grey = np.full((48, 32), t * top // 50, np.uint16 if top > 255 else np.uint8)
            grey[t // 2] = top
            pixels = grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
            layout = pixel_format if channels == 1 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format=layout)))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / name)) as container:
        layout = pixel_format if channels == 1 else "rgb24"
        frames = [frame.to_ndarray(format=layout) for frame in container.decode(video=0)]
    assert len(frames) == 50
    clip = read_clip(tmp_path / name)
    assert (clip.labels_shape, clip.n_channels) == ((50, 48, 32), channels)
    for t in (0, 1, 2, 30, 5, 49, 49, 0, 20, 21):
        np.testing.assert_array_equal(clip.plane(t), frames[t].reshape(48, 32, channels))
    (tmp_path / name).write_bytes(b"no video")
    with pytest.raises(UnreadableFileError, match=f"{name} cannot be read"):
        read_clip(tmp_path / name)
