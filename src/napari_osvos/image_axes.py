"""What the axes of an image layer mean, in words and in frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from napari_osvos.axes import resolve_axes

_WORDS = {"T": "frame", "Z": "slice", "C": "channel"}


@dataclass(frozen=True)
class ImageAxes:
    """What the axes of an image layer mean; see `LayerAxes`, which adds the Labels layer over it.

    Parameters
    ----------
    letters : str
        One letter per axis of the array: ``T`` time, ``Z`` depth, ``Y``, ``X``, ``C`` channels, ``S`` colour samples
        (RGB), ``1`` an axis of length 1 without a meaning. What `Clip` takes as ``axes``.
    shape : tuple of int
        Length of each axis (of the full level of a multiscale image).

    Raises
    ------
    ValueError
        If the letters do not fit the shape.
    """

    letters: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "letters", self.letters.upper())
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        _ = self._meanings  # resolves the letters, or says what is wrong with them

    @cached_property
    def _meanings(self) -> str:
        """The letters as `Clip` understands them: a lone Z counts frames."""
        return resolve_axes(self.letters, self.shape, "The image")

    def _length(self, letter: str) -> int:
        return self.shape[self._meanings.index(letter)] if letter in self._meanings else 1

    def _axis(self, letter: str) -> int | None:
        return self._meanings.index(letter) if letter in self._meanings else None

    @property
    def ndim(self) -> int:
        """Number of axes of the layer as the viewer counts them: without the samples of RGB."""
        return len(self.shape) - ("S" in self._meanings)

    @property
    def n_frames(self) -> int:
        """Number of frames; a stack without time is a sequence over Z."""
        return self._length("T")

    @property
    def depth(self) -> int:
        """Slices of a frame; 1 without a Z axis beside T."""
        return self._length("Z")

    @property
    def has_depth(self) -> bool:
        """Whether labels have a Z axis."""
        return "Z" in self._meanings

    @property
    def n_channels(self) -> int:
        """Channels to choose from: those of ``C``, or of RGB 3; 1 for grey."""
        samples = self._length("S")
        return {2: 1, 4: 3}.get(samples, samples) if "S" in self._meanings else self._length("C")  # without alpha

    @property
    def time_axis(self) -> int | None:
        """Axis of the layer that counts the frames (T, or Z of a lone stack); None for a single picture."""
        return self._axis("T")

    @property
    def depth_axis(self) -> int | None:
        """Axis of the layer that counts the slices of a frame; None without."""
        return self._axis("Z")

    @property
    def channel_axis(self) -> int | None:
        """Axis of the layer that counts channels (never that of RGB samples); None without."""
        return self._axis("C")

    @property
    def labels_shape(self) -> tuple[int, ...]:
        """Shape of labels as the method sees them: (T, Y, X), or (T, Z, Y, X) where there are both."""
        return (self.n_frames, *([self.depth] if self.has_depth else []), self._length("Y"), self._length("X"))

    @property
    def in_words(self) -> str:
        """The axes in words: ``24 frames (T) x 2 channels (C) x 256 x 256 pixels (Y, X)``."""
        parts = []
        for letter, length in zip(self.letters, self.shape, strict=True):
            if letter in _WORDS:
                parts.append(f"{length} {_WORDS[letter]}{'s' * (length != 1)} ({letter})")
            elif letter in "YX":
                parts.append(f"{length} ({letter})")
        words = " x ".join(parts)
        plane = f"{self._length('Y')} (Y) x {self._length('X')} (X)"
        words = words.replace(plane, f"{self._length('Y')} x {self._length('X')} pixels (Y, X)")
        return words + (", RGB" if self._length("S") > 2 else "")

    def frame_of(self, position: Sequence[float]) -> tuple[int, int]:
        """Return the frame and slice at a position in the viewer.

        Parameters
        ----------
        position : sequence of float
            Coordinates in pixels of the image layer (``layer.world_to_data(viewer.dims.point)``, or
            ``viewer.dims.current_step`` where the scale is 1); where it is longer than the layer has axes, its last
            entries count, where it is shorter, the missing first ones are 0.

        Returns
        -------
        frame, slice : int
            Clipped to those that exist; slice 0 without a Z axis.
        """
        full = (0.0,) * max(0, self.ndim - len(position)) + tuple(position)[-self.ndim :]

        def at(axis: int | None, length: int) -> int:
            return 0 if axis is None else min(max(round(float(full[axis])), 0), length - 1)

        return at(self.time_axis, self.n_frames), at(self.depth_axis, self.depth)

    def position_of(self, frame: int, z: int = 0, position: Sequence[float] | None = None) -> tuple[float, ...]:
        """Return the position that shows a frame and slice: the inverse of `frame_of`.

        Parameters
        ----------
        frame, z : int
            Frame and slice.
        position : sequence of float, optional
            The present position, of which all other coordinates are kept; zeros by default.

        Returns
        -------
        tuple of float
            As many coordinates as the layer has axes (`ndim`), in its pixels.
        """
        given = () if position is None else tuple(position)
        full = [0.0] * max(0, self.ndim - len(given)) + [float(x) for x in given[-self.ndim :]]
        for axis, value in ((self.time_axis, frame), (self.depth_axis, z)):
            if axis is not None:
                full[axis] = float(value)
        return tuple(full)
