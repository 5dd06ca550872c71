"""Video files, by PyAV, an extra of this package."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import OpenedFile, UnreadableFileError, reading

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif")
# Decoding so many frames onwards is quicker than going back to a key frame.
SHORT_SKIP = 16


class VideoFrames:
    """The frames of a video, decoded one by one: (T, Y, X, S) uint8 RGB, or (T, Y, X) uint8 or uint16 for grey video.

    A frame is found by its time stamp, from the key frame before it; in files where that is not exact, by
    counting from the start. Reading forwards is fast.

    Raises
    ------
    UnreadableFileError
        If the file holds no video or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._av: Any = importlib.import_module("av")  # an extra, which type checks can do without
        self._path = path
        with reading(path):
            codec = self._open()
            packets = [packet for packet in self._container.demux(self._stream) if packet.size]
            stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
        if not packets:
            raise UnreadableFileError(f"{path} holds no frames.")
        # None: frames are to be counted
        self._stamps: list[int] | None = stamps if len(set(stamps)) == len(packets) else None
        pixel_format = codec.pix_fmt or ""
        grey = pixel_format.startswith("gray")
        self.dtype = np.dtype(np.uint16 if grey and pixel_format != "gray" else np.uint8)
        self._format = ("gray16le" if self.dtype == np.uint16 else "gray") if grey else "rgb24"
        self.shape = (len(packets), codec.height, codec.width, *(() if grey else (3,)))
        self.ndim = len(self.shape)
        self._next: int | None = None  # the frame that decoding on will give; None: unknown

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        t, *rest = index if isinstance(index, tuple) else (index,)
        with reading(self._path):
            frame = self._by_stamp(t) if self._stamps else self._by_counting(t)
            if frame is None:
                self._stamps = None
                frame = self._by_counting(t)
            if frame is None:
                raise UnreadableFileError(f"{self._path} is damaged or cut short: it ends before frame {t}.")
            return np.asarray(frame.to_ndarray(format=self._format)[tuple(rest)])

    def _open(self) -> Any:
        self._container = self._av.open(str(self._path))
        self._closing = weakref.finalize(self, self._container.close)
        if not self._container.streams.video:
            raise UnreadableFileError(f"{self._path} holds no video stream.")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        return self._stream.codec_context

    def _by_stamp(self, t: int) -> Any:
        """Decode frame `t`, or return None where its stamp is not met."""
        stamps = self._stamps or []
        if self._next is None or not self._next <= t <= self._next + SHORT_SKIP:
            self._container.seek(stamps[t], stream=self._stream, backward=True)
            self._frames: Iterator[Any] = self._container.decode(self._stream)
        self._next = None
        for frame in self._frames:
            if frame.pts is None or frame.pts > stamps[t]:
                return None
            if frame.pts == stamps[t]:
                self._next = t + 1
                return frame
        return None

    def _by_counting(self, t: int) -> Any:
        """Decode on, or from the start, to frame `t`; None if the video ends before."""
        if self._next is None or t < self._next:
            self._closing()
            self._open()
            self._frames = self._container.decode(self._stream)
            self._next = 0
        for frame in self._frames:
            self._next += 1
            if self._next == t + 1:
                return frame
        self._next = None
        return None


def open_video(path: Path) -> OpenedFile:
    """Open a video file.

    Raises
    ------
    ValueError
        If the extra is not installed; the message says how to install it.
    UnreadableFileError
        As `VideoFrames`.
    """
    try:
        frames = VideoFrames(path)
    except ModuleNotFoundError as error:
        raise ValueError(
            f'{path} is a video, which needs one more package: pip install "napari-osvos[video]".'
        ) from error
    return OpenedFile(frames, "TYXS"[: frames.ndim])
