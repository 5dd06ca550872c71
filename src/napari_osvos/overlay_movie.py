"""A linked movie as a video or an animated picture: the outline of each object in the colour of its id."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import Clip
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage
from napari_osvos.linked_movie import Beside, LinkedFrame, Progress, linked_frames
from napari_osvos.machine import replacing
from napari_osvos.overlay import OBJECTS, as_picture, overlay

ENDINGS = (".mp4", ".gif")
# Pictures with a shorter longest edge are enlarged, by a whole factor, so that outlines and numbers can be seen.
SMALLEST_EDGE = 512
Picture = npt.NDArray[np.uint8]


def check_overlay_movie(path: str | Path, *, overwrite: bool = False) -> Path:
    """Check, before any work is done, that an overlay movie may be written under this name.

    Raises
    ------
    FileExistsError
        If it exists and `overwrite` is False.
    ValueError
        If the ending is not ``.mp4`` or ``.gif``, it is a folder, or the extra that writes videos is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path} cannot be written as an overlay movie; the name must end in {' or '.join(ENDINGS)}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, which a file never replaces; choose another name.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or allow overwriting it.")
    if path.suffix.lower() == ".mp4" and not _has_av():
        raise ValueError(f'{path} needs one more package: pip install "napari-osvos[video]"; or export a .gif.')
    return path


def write_overlay_movie(
    path: str | Path,
    labels: Labels,
    lineage: Lineage,
    clip: Clip,
    *,
    frames_per_second: float = 10.0,
    longest_edge: int = 1024,
    show_ids: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the movie with the outlines of its objects, each in the colour of its id, and the frame numbers.

    A video is H.264 (4:2:0, so each edge is made even by a black line where it is odd), which every player and browser
    shows; a GIF has 256 colours and is held in memory while it is written, a byte a pixel.

    Parameters
    ----------
    path : str or Path
        Ends in ``.mp4`` (needs the extra ``video``) or ``.gif``.
    labels, lineage
        A linked movie.
    clip : Clip
        What is below the outlines; of a stack the brightest along Z.
    frames_per_second : float
        Speed, above 0 and at most 50.
    longest_edge : int
        Larger frames are reduced to this, 64 pixels or more; much smaller ones are enlarged.
    show_ids : bool
        Whether to write the id of each object on it.
    overwrite : bool
        Whether to replace a file that is there.
    progress : callable, optional
        Told the frames done and their number.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    ValueError
        If labels, lineage and clip do not fit each other, a number is out of its range, or as `check_overlay_movie`.
    """
    path = check_overlay_movie(path, overwrite=overwrite)
    if not 0 < frames_per_second <= 50:
        raise ValueError(f"The speed is {frames_per_second} frames per second; it must be above 0 and at most 50.")
    pictures = overlay_pictures(labels, lineage, clip, longest_edge=longest_edge, show_ids=show_ids, progress=progress)
    with replacing(path) as partial:
        if path.suffix.lower() == ".mp4":
            _write_video(partial, pictures, frames_per_second)
        else:
            _write_gif(partial, pictures, frames_per_second, grey=clip.n_channels == 1)


def overlay_pictures(
    labels: Labels,
    lineage: Lineage,
    clip: Clip,
    *,
    longest_edge: int = 1024,
    show_ids: bool = False,
    progress: Progress | None = None,
) -> Iterator[Picture]:
    """Draw the frames of `write_overlay_movie`, one after the other.

    Yields
    ------
    (Y, X, 3) uint8 array
        RGB; all of one size.

    Raises
    ------
    ValueError
        As `write_overlay_movie`.
    """
    if longest_edge < 64:
        raise ValueError(f"The longest edge is {longest_edge} pixels; it must be at least 64.")
    beside = Beside(clip, labels)
    ranges = clip.intensity_range()
    size = _picture_size(clip.plane_shape, longest_edge)
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, clip.plane_shape, strict=True))
    thickness = 2 if size >= clip.plane_shape else 1
    for frame in linked_frames(labels, lineage, progress):
        pixels, places = beside.at(frame.position), frame.places
        if places.ndim == 3:
            pixels, places = np.fmax.reduce(pixels, axis=0), places.max(axis=0)
        ids = np.concatenate([[0], frame.ids])[places[rows[:, np.newaxis], columns]]
        picture = _resized(as_picture(pixels, ranges), size)
        picture = overlay(picture, np.where(_outline(ids, thickness), ids, 0), fill=1.0)
        yield _written(picture, frame, size[0] / clip.plane_shape[0], show_ids)


def _picture_size(shape: tuple[int, int], longest_edge: int) -> tuple[int, int]:
    """(Y, X) of the pictures of a movie."""
    longest = max(shape)
    if longest > longest_edge:
        height, width = (max(1, round(n * longest_edge / longest)) for n in shape)
        return height, width
    factor = max(1, min(SMALLEST_EDGE, longest_edge) // longest)
    return shape[0] * factor, shape[1] * factor


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    from PIL import Image

    if picture.shape[:2] == size:
        return picture
    way = Image.Resampling.BOX if size < picture.shape[:2] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size[::-1], way))


def _outline(ids: npt.NDArray[Any], thickness: int) -> npt.NDArray[np.bool_]:
    """Pixels of objects that lie so near to another object or the background."""
    from scipy import ndimage

    edge = 2 * thickness + 1
    differs = ndimage.maximum_filter(ids, edge, mode="nearest") != ndimage.minimum_filter(ids, edge, mode="nearest")
    return np.asarray(differs & (ids > 0))


def _written(picture: Picture, frame: LinkedFrame, zoom: float, show_ids: bool) -> Picture:
    """Write the frame number, and perhaps the ids, into a picture."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(10, max(image.size) // 40))
    if show_ids:
        for id, place in zip(frame.ids.tolist(), frame.centroids, strict=True):
            y, x = (place[-2:] + 0.5) * zoom
            draw.text((x, y), str(id), fill="white", font=font, anchor="mm", stroke_width=1, stroke_fill="black")
    corner = (4, image.height - 4)
    draw.text(
        corner, f"frame {frame.number}", fill="white", font=font, anchor="lb", stroke_width=1, stroke_fill="black"
    )
    return np.asarray(image)


def _has_av() -> bool:
    if "av" in sys.modules:
        return sys.modules["av"] is not None
    return importlib.util.find_spec("av") is not None


def _write_video(path: Path, pictures: Iterator[Picture], frames_per_second: float) -> None:
    av: Any = importlib.import_module("av")
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = None
        for picture in pictures:
            height, width = picture.shape[:2]
            even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)))
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(frames_per_second).limit_denominator(1000))
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))


def _write_gif(path: Path, pictures: Iterator[Picture], frames_per_second: float, *, grey: bool) -> None:
    from PIL import Image

    palette = None
    if grey:  # the greys, and exactly the colours of the outlines
        greys = np.linspace(0, 255, 256 - len(OBJECTS)).round().astype(int)
        palette = Image.new("P", (1, 1))
        palette.putpalette([*(int(v) for v in np.repeat(greys, 3)), *(v for colour in OBJECTS for v in colour)])
    frames = (Image.fromarray(picture).quantize(256, palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    next(frames).save(
        path,
        format="GIF",
        save_all=True,
        append_images=frames,
        duration=max(20, round(1000 / frames_per_second)),
        loop=0,
        optimize=False,
    )
