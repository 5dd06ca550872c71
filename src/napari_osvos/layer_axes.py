"""What the axes of a napari layer are: guessed, said in words, and paired with the frames of a movie.

Knows layers by plain facts only (shape, ``rgb``, axis labels), so that it needs no viewer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.axes import MOST_GUESSED_CHANNELS
from napari_osvos.image_axes import ImageAxes

_MEANINGS = {
    **dict.fromkeys(("t", "time", "times", "frame", "frames", "timepoint"), "T"),
    **dict.fromkeys(("z", "depth", "slice", "slices", "plane"), "Z"),
    **dict.fromkeys(("c", "ch", "channel", "channels"), "C"),
    **dict.fromkeys(("y", "row", "rows", "height"), "Y"),
    **dict.fromkeys(("x", "col", "column", "columns", "width"), "X"),
}
# Beyond this, an axis is no choice of channels any more.
MOST_OFFERED_CHANNELS = 32


class LayerAxes(ImageAxes):
    """The axes of an image layer and of a Labels layer over it.

    The viewer aligns layers at their last axes, so a Labels layer for the movie keeps every axis from the first one on
    that is not channels; an axis of channels that lies behind becomes one of length 1 (`labels_layer_shape`),
    stretched over all channels by `labels_placement`.

    Parameters
    ----------
    letters, shape
        As `ImageAxes`.
    """

    @cached_property
    def _kept(self) -> tuple[int, ...]:
        """The axes of the image layer that a Labels layer over it has."""
        first = next(i for i, letter in enumerate(self._meanings) if letter != "C")
        return tuple(range(first, self.ndim))

    @cached_property
    def _order(self) -> tuple[int, ...]:
        """How the axes of a frame taken out of a Labels layer are brought into the order (Z,) Y, X."""
        left = [letter for letter in (self._meanings[i] for i in self._kept) if letter in "ZYX"]
        return tuple(left.index(letter) for letter in "ZYX" if letter in left)

    @property
    def labels_layer_shape(self) -> tuple[int, ...]:
        """Shape of a Labels layer over the image: that of the image without channels; see above."""
        return tuple(1 if self._meanings[i] == "C" else self.shape[i] for i in self._kept)

    def frames_touched(self, indices: Any) -> tuple[int, ...]:
        """Return the frames that pixels of a Labels layer lie in.

        Parameters
        ----------
        indices : tuple of (n,) int arrays, slices or ints
            Index into a Labels layer of `labels_layer_shape`, as the paint event of napari holds it.

        Returns
        -------
        tuple of int
            Rising; all frames where the index does not say which.
        """
        if self.time_axis is None:
            return (0,)
        place = self._kept.index(self.time_axis)
        if not isinstance(indices, tuple | list) or len(indices) <= place:
            return tuple(range(self.n_frames))
        part = indices[place]
        if isinstance(part, slice):
            return tuple(range(*part.indices(self.n_frames)))
        return tuple(np.unique(np.asarray(part, dtype=np.int64)).tolist())

    def frame_index(self, frame: int) -> tuple[Any, ...]:
        """Return the index of a frame into a Labels layer; what it picks out need not be in the order (Z,) Y, X."""
        place = {"T": frame, "C": 0, "1": 0}
        return tuple(place.get(self._meanings[i], slice(None)) for i in self._kept)

    def read_frame(self, labels: Any, frame: int) -> npt.NDArray[Any]:
        """Read a frame of a Labels layer of `labels_layer_shape`: (Y, X) or (Z, Y, X), a copy; NumPy, dask or zarr."""
        values = np.asarray(labels[self.frame_index(frame)]).transpose(self._order)
        return np.array(values, order="C")

    def write_frame(self, labels: Any, frame: int, values: npt.NDArray[Any]) -> None:
        """Write (Y, X) or (Z, Y, X) to a frame of a Labels layer of `labels_layer_shape`, in place; NumPy or zarr."""
        labels[self.frame_index(frame)] = np.asarray(values).transpose(np.argsort(self._order))

    def labels_placement(
        self, scale: Sequence[float], translate: Sequence[float]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return scale and translate that lay a Labels layer of `labels_layer_shape` over the image.

        Parameters
        ----------
        scale, translate : sequence of float
            Those of the image layer, one entry per axis (`ndim`).

        Returns
        -------
        scale, translate : tuple of float
            One entry per axis of the Labels layer. Over an axis of channels the single pixel is stretched.
        """
        scales, places = [], []
        for i in self._kept:
            many = self.shape[i] if self._meanings[i] == "C" else 1
            scales.append(float(scale[i]) * many)
            places.append(float(translate[i]) + float(scale[i]) * (many - 1) / 2)
        return tuple(scales), tuple(places)

    def labels_entries(self, entries: Sequence[Any]) -> tuple[Any, ...]:
        """Pick what belongs to a Labels layer out of one entry per axis of the image layer (units, axis labels)."""
        return tuple(entries[i] for i in self._kept)

    def frame_entries(self, entries: Sequence[Any]) -> tuple[Any, ...]:
        """Pick what belongs to a frame of labels, (Z,) Y, X, out of one entry per axis of the image layer."""
        return tuple(entries[self._meanings.index(letter)] for letter in "ZYX" if letter in self._meanings)

    @property
    def begins_with_time(self) -> bool:
        """Whether the first axis of a Labels layer counts the frames."""
        return self.time_axis == self._kept[0]

    def labels_positions(self, frames: npt.NDArray[Any], places: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return where points of frames lie in a Labels layer of `labels_layer_shape`.

        Parameters
        ----------
        frames : (N,) array
            Frame of each point.
        places : (N, 2) or (N, 3) array
            Y and X, or Z, Y and X, in pixels.

        Returns
        -------
        (N, D) float64 array
            A column per axis of the layer; 0 where that is channels or means nothing.
        """
        columns = {"T": frames, **dict(zip("ZYX" if self.has_depth else "YX", places.T, strict=True))}
        nothing = np.zeros(len(frames))
        return np.stack([columns.get(self._meanings[i], nothing) for i in self._kept], axis=1).astype(np.float64)


def guess_layer_axes(shape: Sequence[int], rgb: bool = False, axis_labels: Sequence[str] | None = None) -> LayerAxes:
    """Guess the axes of an image layer.

    Axis labels that say what an axis is (``t``, ``time``, ``z``, ``channel``, ``y``, ...) go first. Of axes whose label
    says nothing (napari's ``-3``, ``-2``, ``-1``), the last two are Y and X; a last one of at most 4 behind a longer
    one is channels. Where two or more are left, one of at most 4 is channels, preferably the one before Y and X; of
    three, the shortest is. Axes of length 1 mean nothing, and what is left is T, or T and Z.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array (``layer.data.shape``, of level 0 for a multiscale image), RGB samples included.
    rgb : bool
        ``layer.rgb``.
    axis_labels : sequence of str, optional
        ``layer.axis_labels``: one per axis, not counting the samples of RGB.

    Raises
    ------
    ValueError
        If the layer has fewer than 2 axes, or more than there are meanings for.
    """
    shape = tuple(int(n) for n in shape)
    body = shape[:-1] if rgb else shape
    if len(body) < 2:
        raise ValueError(f"The image has shape {shape}; a movie has at least the axes Y and X.")
    letters = _labelled(len(body), axis_labels)
    used = set(letters) - {None}
    last = body[-1] <= MOST_GUESSED_CHANNELS < body[-2]
    if len(body) > 2 and last and not rgb and not used & {"C", "X"} and letters[-1] is None:
        letters[-1] = "C"  # as files hold colours that the viewer did not take for RGB
    for letter in "XY":
        if letter not in letters:
            free = [i for i, known in enumerate(letters) if known is None]
            if not free:
                raise ValueError(
                    f"The axes of the image are called {', '.join(axis_labels or ())}; none is left for {letter}."
                )
            letters[free[-1]] = letter
    _guess_sequence(letters, body, rgb=rgb)
    return LayerAxes("".join(letter or "1" for letter in letters) + "S" * rgb, shape)


def axes_choices(shape: Sequence[int], rgb: bool = False, axis_labels: Sequence[str] | None = None) -> list[LayerAxes]:
    """Return the readings of an image layer that make sense, that of `guess_layer_axes` first.

    A drop-down shows `LayerAxes.in_words` (or ``letters``) of each.
    """
    shape = tuple(int(n) for n in shape)
    first = guess_layer_axes(shape, rgb, axis_labels)
    found = {first.letters: first}
    body = shape[:-1] if rgb else shape
    for tail in ("YX", "YXC") if not rgb and body[-1] <= MOST_OFFERED_CHANNELS else ("YX",):
        n = len(body) - len(tail)
        many = [i for i in range(n) if body[i] > 1]
        meanings = "TZ" if rgb or "C" in tail else "TZC"
        for chosen in itertools.permutations(meanings, len(many)) if n >= 0 else ():
            letters = ["1"] * n
            for i, letter in zip(many, chosen, strict=True):
                letters[i] = letter
            reading = "".join(letters) + tail + "S" * rgb
            channels = body[reading.index("C")] if "C" in reading else 1
            if channels <= MOST_OFFERED_CHANNELS:
                found.setdefault(reading, LayerAxes(reading, shape))
    return list(found.values())


def _labelled(n: int, axis_labels: Sequence[str] | None) -> list[str | None]:
    """The letters that the labels of the axes say, each at most once."""
    if axis_labels is None or len(axis_labels) != n:
        return [None] * n
    said = [_MEANINGS.get(str(label).strip().lower()) for label in axis_labels]
    return [letter if said.count(letter) == 1 else None for letter in said]


def _guess_sequence(letters: list[str | None], body: tuple[int, ...], *, rgb: bool) -> None:
    """Fill in which of the axes that are left are channels, time and depth; those of length 1 stay None."""
    free = [i for i, letter in enumerate(letters) if letter is None and body[i] > 1]
    sequence = len(free) + ("T" in letters) + ("Z" in letters)
    if sequence > 1 and "C" not in letters and not rgb and free:
        small = [i for i in (*free[::-1][:1], *free[:-1]) if body[i] <= MOST_GUESSED_CHANNELS]
        if small or sequence > 2:  # as T and Z there is room for two
            channels = small[0] if small else min(free, key=body.__getitem__)
            letters[channels] = "C"
            free.remove(channels)
    for letter in "TZ":
        if letter not in letters and free:
            letters[free.pop(0)] = letter
    if free:
        raise ValueError(f"The image has shape {body}; it has more axes than T, Z, channels, Y and X.")
