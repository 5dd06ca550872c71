"""Pictures of a segmented movie: outlines over the frames, errors against a truth, strips of frames.

The colours are those of Okabe and Ito, which people with any form of colour blindness tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.machine import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from napari_osvos.clip import Clip

PAINTED = (230, 159, 0)
"""Orange: what a person painted."""
PREDICTED = (86, 180, 233)
"""Sky blue: what the network found."""
MISSED = (0, 114, 178)
"""Blue: truth that was not found."""
EXTRA = (213, 94, 0)
"""Vermilion: found where the truth has nothing."""
OBJECTS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0))
"""The colours that numbered objects take in turn."""

_PAPER = "#14161a"
_INK = "#e8eaed"


@dataclass(frozen=True)
class Panel:
    """One picture of a strip.

    Attributes
    ----------
    picture
        (Y, X, 3) uint8 RGB.
    mask
        (Y, X) bool whose outline is drawn, int labels of which each is outlined in the colour of its number, or None.
    truth
        (Y, X) bool whose outline is drawn thin and white, or None.
    title
        A few words above the picture.
    painted
        Whether a person annotated this frame; it is framed in orange then.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[Any] | None = None
    truth: NDArray[np.bool_] | None = None
    title: str = ""
    painted: bool = False


@dataclass(frozen=True)
class Strip:
    """Panels in a row under one headline."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def as_picture(plane: NDArray[Any], intensity_range: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch one plane of a movie into an RGB picture.

    Parameters
    ----------
    plane
        (Y, X, C), any real dtype; pixels that are not finite become black.
    intensity_range
        (C, 2): the values of each channel that become black and white, as of ``Clip.intensity_range``.

    Returns
    -------
    (Y, X, 3) uint8. One channel is grey, three are RGB; otherwise the channels take the colours of `OBJECTS`.
    """
    low, high = (np.asarray(intensity_range, np.float64)[:, i] for i in (0, 1))
    values = np.nan_to_num(np.asarray(plane, np.float64), nan=-np.inf)
    unit = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    channels = unit.shape[-1]
    if channels == 1:
        colour = np.repeat(unit, 3, axis=-1)
    elif channels == 3:
        colour = unit
    else:
        colours = np.array([OBJECTS[i % len(OBJECTS)] for i in range(channels)]) / 255
        colour = np.minimum(unit @ colours, 1)
    return (colour * 255).round().astype(np.uint8)


def overlay(
    picture: NDArray[np.uint8], labels: NDArray[Any], *, colour: tuple[int, int, int] | None = None, fill: float = 0.35
) -> NDArray[np.uint8]:
    """Tint the labelled pixels of a picture.

    Parameters
    ----------
    picture
        (Y, X, 3) uint8 RGB.
    labels
        (Y, X) int or bool, 0 = background.
    colour
        RGB in 0..255 for all labels; None gives each label number one of `OBJECTS`.
    fill
        Share of the tint in the pixel, 0 to 1.

    Returns
    -------
    (Y, X, 3) uint8.
    """
    labels = np.asarray(labels)
    if labels.shape != picture.shape[:2]:
        raise ValueError(
            f"The labels are {labels.shape} and the picture is {picture.shape[:2]}; they must be of one size."
        )
    if colour is not None:
        tint = np.array(colour, np.float64)
    else:
        tint = np.array(OBJECTS, np.float64)[(labels.astype(np.int64) - 1) % len(OBJECTS)]
    inside = (labels > 0)[..., None]
    return np.where(inside, (1 - fill) * picture + fill * tint, picture).round().astype(np.uint8)


def error_map(picture: NDArray[np.uint8], mask: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.uint8]:
    """Show where a mask and the truth differ.

    Parameters
    ----------
    picture
        (Y, X, 3) uint8 RGB; it stays visible, dimmed, behind the colours.
    mask, truth
        (Y, X) bool, or int labels with 0 = background.

    Returns
    -------
    (Y, X, 3) uint8: agreement is grey-white, `MISSED` is blue, `EXTRA` is vermilion.
    """
    found, real = np.asarray(mask) > 0, np.asarray(truth) > 0
    shown = 0.35 * picture.astype(np.float64)
    shown[found & real] = 0.45 * shown[found & real] + 0.55 * 200
    for where, colour in ((real & ~found, MISSED), (found & ~real, EXTRA)):
        shown[where] = np.minimum(0.25 * shown[where] + np.array(colour), 255)
    return shown.round().astype(np.uint8)


def movie_strip(
    clip: Clip,
    labels: Any,
    *,
    painted: Any = None,
    annotated: Sequence[int] = (),
    truth: Any = None,
    scores: dict[int, float] | None = None,
    title: str = "",
    columns: int = 5,
    by_label: bool = False,
) -> Strip:
    """Lay out a movie: the annotated frame, frames spread over the rest, and the errors of the last.

    Parameters
    ----------
    clip
        The movie.
    labels
        (T, Y, X) or (T, Z, Y, X) int, indexed by frame position; of a stack the slice with most labels is shown.
    painted
        The annotations, of the same shape, shown on the annotated frame; None shows `labels` there.
    annotated
        Positions of the annotated frames; the first is shown.
    truth
        Like `labels`; adds thin outlines and an error map. None where there is no truth.
    scores
        Region similarity (J) by frame position, written above the frame.
    title
        Headline of the strip.
    columns
        How many frames to show, the annotated one included.
    by_label
        Whether each label number has a colour of its own, the same in all frames.
    """
    ranges = clip.intensity_range()
    chosen = list(annotated[:1])
    others = [t for t in range(clip.n_frames) if t not in set(annotated)]
    room = max(1, columns - len(chosen))
    picks = np.unique(np.linspace(0, len(others) - 1, num=min(room + 1, len(others))).round().astype(int))
    chosen += [others[i] for i in picks[-room:]]
    panels = []
    for t in chosen:
        is_painted = t in annotated
        source = painted if is_painted and painted is not None else labels
        labelled, slice_index = _slice(np.asarray(source[t]))
        picture = as_picture(clip.plane(t * clip.depth + slice_index), ranges)
        real = None if truth is None or is_painted else _at_slice(np.asarray(truth[t]), slice_index) > 0
        score = f"   J {scores[t]:.3f}" if scores and t in scores and not is_painted else ""
        name = f"frame {clip.frame_numbers[t]}"
        mask = labelled if by_label else labelled > 0
        colour = None if by_label else PAINTED if is_painted else PREDICTED
        tinted = overlay(picture, mask, colour=colour, fill=0.25)
        panels.append(Panel(tinted, mask, real, f"{name}   painted" if is_painted else name + score, is_painted))
        if real is not None and t == chosen[-1]:
            panels.append(Panel(error_map(picture, labelled, real), title=f"{name}   errors"))
    return Strip(title, panels)


def _slice(labels: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the (Y, X) slice with most labels and its number; a plane is its own slice 0."""
    if labels.ndim == 2:
        return labels, 0
    index = int(np.argmax((labels > 0).sum(axis=(1, 2))))
    return labels[index], index


def _at_slice(labels: NDArray[Any], index: int) -> NDArray[Any]:
    return labels if labels.ndim == 2 else labels[index]


def draw_strips(strips: Sequence[Strip], *, title: str = "", panel_inches: float = 2.3) -> Figure:
    """Draw strips below one another.

    Parameters
    ----------
    strips
        At least one strip with at least one panel.
    title
        Headline of the picture.
    panel_inches
        Width of the widest panel.

    Returns
    -------
    A matplotlib figure that belongs to no window; nothing of matplotlib's global state is touched.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max((len(strip.panels) for strip in strips), default=0)
    if columns == 0:
        raise ValueError("There is no frame to draw; give at least one strip with one panel.")
    aspects = [max(p.picture.shape[0] / p.picture.shape[1] for p in strip.panels) for strip in strips]
    head, foot, caption = (0.5 if title else 0.0), 0.4, 0.6
    height = sum(panel_inches * a + caption for a in aspects) + head + foot
    width = columns * (panel_inches + 0.08) + 0.3
    figure = Figure(figsize=(width, height), facecolor=_PAPER)
    FigureCanvasAgg(figure)
    if title:
        figure.text(0.15 / width, 1 - 0.14 / height, title, color=_INK, fontsize=15, weight="bold", va="top")
    top = height - head
    for strip, aspect in zip(strips, aspects, strict=True):
        figure.text(0.15 / width, (top - 0.14) / height, strip.title, color=_INK, fontsize=11, va="top")
        for column, panel in enumerate(strip.panels):
            left = 0.15 + column * (panel_inches + 0.08)
            bottom = top - caption - panel_inches * aspect
            axes = figure.add_axes(
                (left / width, bottom / height, panel_inches / width, panel_inches * aspect / height)
            )
            _draw_panel(axes, panel)
        top -= panel_inches * aspect + caption
    _draw_legend(figure, strips, width, height)
    return figure


def save_strips(path: str | Path, strips: Sequence[Strip], *, title: str = "", dpi: int = 150) -> None:
    """Draw strips below one another and write them as a picture (PNG, or what the ending says), whole or not at all."""
    figure = draw_strips(strips, title=title)
    target = Path(path)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=dpi, facecolor=figure.get_facecolor(), format=target.suffix.lstrip(".") or "png")


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.imshow(panel.picture, interpolation="antialiased")
    if panel.truth is not None:
        _draw_outline(axes, panel.truth, "white", 0.6)
    if panel.mask is not None and panel.mask.dtype == bool:
        _draw_outline(axes, panel.mask, _hex(PAINTED if panel.painted else PREDICTED), 1.2)
    elif panel.mask is not None:
        from scipy import ndimage

        for i, box in enumerate(ndimage.find_objects(panel.mask)):
            if box is not None:  # each by itself: neighbours may be of one colour
                _draw_outline(axes, panel.mask[box] == i + 1, _hex(OBJECTS[i % len(OBJECTS)]), 1.0, box)
    axes.set_title(panel.title, color=_hex(PAINTED) if panel.painted else _INK, fontsize=8.5, loc="left", pad=3)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, panel.picture.shape[1] - 0.5), ylim=(panel.picture.shape[0] - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set_color(_hex(PAINTED) if panel.painted else "#3a3d42")
        spine.set_linewidth(2.0 if panel.painted else 0.6)


def _draw_outline(
    axes: Axes, mask: NDArray[np.bool_], colour: str, points: float, box: Sequence[slice] = (slice(0), slice(0))
) -> None:
    from matplotlib.collections import LineCollection
    from skimage.measure import find_contours

    # padded, so that the outline of an object that leaves the frame is closed along the edge
    corner = [(part.start or 0) - 1 for part in reversed(box)]
    lines = [line[:, ::-1] + corner for line in find_contours(np.pad(mask.astype(np.float32), 1), 0.5)]
    if lines:
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=points, capstyle="round"))


def _draw_legend(figure: Figure, strips: Sequence[Strip], width: float, height: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    panels = [panel for strip in strips for panel in strip.panels]
    entries: list[Any] = []
    if any(p.painted for p in panels):
        entries.append(Line2D([], [], color=_hex(PAINTED), label="painted"))
    if any(p.mask is not None and p.mask.dtype != bool for p in panels):
        entries.append(Line2D([], [], color=_INK, label="in colour: found, one colour a track"))
    else:
        entries.append(Line2D([], [], color=_hex(PREDICTED), label="found"))
    if any(p.truth is not None for p in panels):
        entries.append(Line2D([], [], color="white", linewidth=0.8, label="truth"))
        entries.append(Patch(color=_hex(MISSED), label="missed"))
        entries.append(Patch(color=_hex(EXTRA), label="too much"))
    figure.legend(
        handles=entries, loc="lower left", bbox_to_anchor=(0.08 / width, 0.02 / height), ncols=len(entries),
        frameon=False, labelcolor=_INK, fontsize=8.5, handlelength=1.4,
    )  # fmt: skip


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
