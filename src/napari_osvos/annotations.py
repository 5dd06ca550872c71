"""What the user painted: labels of a few planes of a movie, complete or partial, and how large its objects are."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import Clip, checked_clip
from napari_osvos.labels import Labels, frame_positions, spell
from napari_osvos.object_size import object_diameter

# What a corrected frame counts, beside one that was painted afresh: the user painted where the network went wrong.
CORRECTED_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class PlaneLabels:
    """The paint of one plane.

    Attributes
    ----------
    labels : (Y, X) integer array
        0 = background (or unknown), else an object.
    known_pixels : (Y, X) bool array, or None
        Where the paint says something; None: everywhere.
    partial : bool
        Whether pixels that are not painted are unknown rather than background.
    weight : float
        How much it counts beside other planes, above 0.
    """

    labels: npt.NDArray[Any]
    known_pixels: npt.NDArray[np.bool_] | None = None
    partial: bool = False
    weight: float = 1.0


class Annotations(Mapping[int, PlaneLabels]):
    """Sparse labels of a movie, by plane: plane ``p`` is slice ``p % depth`` of the frame at position ``p // depth``.

    Usually made by `from_labels`, then brought to a movie by `aligned_to`.

    Parameters
    ----------
    planes : mapping of int to PlaneLabels
        The painted planes, all of one size.
    n_frames, depth : int
        Frames of the labels, and slices of a frame.
    frame_numbers : sequence of int, optional
        The number of each frame; ``range(n_frames)`` by default.
    name : str
        What messages call the annotations.
    """

    def __init__(
        self,
        planes: Mapping[int, PlaneLabels],
        *,
        n_frames: int,
        depth: int = 1,
        frame_numbers: Sequence[int] | None = None,
        name: str = "the annotations",
    ) -> None:
        self._planes = {p: planes[p] for p in sorted(planes)}
        self.n_frames = n_frames
        self.depth = depth
        self.has_numbers = frame_numbers is not None
        self.frame_numbers = tuple(range(n_frames)) if frame_numbers is None else tuple(frame_numbers)
        self.name = name

    @classmethod
    def from_labels(
        cls,
        labels: Any,
        frames: Collection[int] | None = None,
        *,
        partial: Collection[int] | bool = (),
        corrected: Collection[int] = (),
        background_label: int | None = None,
        void_label: int | None = None,
        name: str = "the annotations",
    ) -> Annotations:
        """Take the painted planes out of labels; they are copied, so later strokes do not change them.

        Parameters
        ----------
        labels : Labels or array
            (Y, X), (T, Y, X) or (T, Z, Y, X), whole numbers, 0 = not painted.
        frames : collection of int, optional
            Numbers of the frames that count; by default all that hold paint. A frame that is named but
            holds no paint is a frame without objects. In labels with a Z axis only slices with paint count.
            Labels of a single frame take the single number given here.
        partial : collection of int, or bool
            Numbers of frames in which unpainted pixels are unknown, not background; True for all.
        corrected : collection of int
            Numbers of frames whose paint is a corrected prediction; they weigh more (`CORRECTED_WEIGHT`).
        background_label : int, optional
            The label that paints background; it becomes 0.
        void_label : int, optional
            The label of pixels that do not count; it becomes 0, not known.

        Raises
        ------
        ValueError
            If nothing is painted, a named frame is not there or no number, or the values are no labels.
        """
        if not isinstance(labels, Labels):
            labels = Labels(labels, name=name)
        if not isinstance(partial, bool):
            partial = _whole_numbers("partial", partial)
        corrected = _whole_numbers("corrected", corrected)
        numbers, named = labels.frame_numbers, None
        if frames is not None:
            named = set(_whole_numbers("frames", frames))
            if labels.n_frames == 1 and len(named) == 1:
                numbers = tuple(named)
        own = labels.has_numbers or numbers != labels.frame_numbers
        planes = _painted_planes(labels, numbers, named, partial, corrected, background_label, void_label)
        if not any(plane.labels.any() for plane in planes.values()):
            raise ValueError(_no_paint(labels.name, "" if named is None else f" of {spell(sorted(named))}"))
        return cls(
            planes,
            n_frames=labels.n_frames,
            depth=labels.depth,
            frame_numbers=numbers if own else None,
            name=labels.name,
        )

    def __getitem__(self, p: int) -> PlaneLabels:
        return self._planes[p]

    def __iter__(self) -> Iterator[int]:
        return iter(self._planes)

    def __len__(self) -> int:
        return len(self._planes)

    def __repr__(self) -> str:
        return f"Annotations(planes={self.planes}, n_frames={self.n_frames}, depth={self.depth})"

    @property
    def planes(self) -> tuple[int, ...]:
        """The annotated planes, rising."""
        return tuple(self._planes)

    @property
    def frames(self) -> tuple[int, ...]:
        """Positions of the annotated frames, rising."""
        return tuple(sorted({p // self.depth for p in self._planes}))

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(Y, X) of the painted planes; (0, 0) when there are none."""
        for plane in self._planes.values():
            return plane.labels.shape[0], plane.labels.shape[1]
        return 0, 0

    def labels(self, p: int) -> npt.NDArray[np.int32]:
        """Labels of plane `p`: (Y, X) int32, a copy."""
        return self[p].labels.astype(np.int32)

    def mask(self, p: int) -> npt.NDArray[np.bool_]:
        """Foreground of plane `p`: (Y, X) bool, labels above 0."""
        return np.asarray(self[p].labels > 0)

    def known(self, p: int) -> npt.NDArray[np.bool_]:
        """Pixels of plane `p` that supervise: (Y, X) bool; all of them in a complete plane without void."""
        known = self[p].known_pixels
        return np.ones(self[p].labels.shape, bool) if known is None else known.copy()

    def is_partial(self, p: int) -> bool:
        """Whether unpainted pixels of plane `p` are unknown."""
        return self[p].partial

    def weight(self, p: int) -> float:
        """How much plane `p` counts beside the others, above 0; 1 unless it was corrected."""
        return self[p].weight

    def frame_labels(self, t: int) -> npt.NDArray[np.int32]:
        """Labels of the frame at position `t`, 0 in slices that are not annotated: (Z, Y, X) int32, a copy."""
        frame = np.zeros((self.depth, *self.plane_shape), np.int32)
        for z in range(self.depth):
            if t * self.depth + z in self._planes:
                frame[z] = self._planes[t * self.depth + z].labels
        return frame

    def object_diameter(self) -> float:
        """Return the diameter of typical objects in pixels, as `object_size.object_diameter`, at least 1.

        Planes that are complete are preferred: in partial ones there may be strokes within objects.

        Raises
        ------
        ValueError
            If nothing is painted.
        """
        complete = [plane.labels for plane in self._planes.values() if not plane.partial and plane.labels.any()]
        diameter = object_diameter(complete or [plane.labels for plane in self._planes.values()])
        if not diameter:
            raise ValueError(f"{self.name} is empty, so its objects have no size.")
        return max(1.0, diameter)

    def check_against(self, clip: Clip) -> None:
        """Check that the annotations can be learned from on this movie.

        Raises
        ------
        ValueError
            If nothing is painted, the size or depth is another, a painted frame is not in the movie, or partial
            paint shows no background at all.
        TypeError
            If the movie is no `Clip`.
        """
        complaint = _complaint(self, checked_clip(clip))
        if complaint:
            raise ValueError(complaint)

    def aligned_to(self, clip: Clip) -> Annotations:
        """Return the annotations with the planes of a movie: file numbers become positions in it.

        Raises
        ------
        ValueError, TypeError
            As `check_against`, which it calls.
        """
        self.check_against(clip)
        places = _places(self, clip) or {}
        numbers = clip.frame_numbers if clip.has_numbers else None
        planes = {places[p]: plane for p, plane in self._planes.items()}
        return Annotations(planes, n_frames=clip.n_frames, depth=clip.depth, frame_numbers=numbers, name=self.name)

    def with_blank_slices(self) -> Annotations:
        """Return the annotations of frames that were painted to the last slice: where none is painted, none is there.

        Without this a slice without paint says nothing, since users paint some slices of a stack.
        """
        blank = PlaneLabels(np.zeros(self.plane_shape, np.uint8))
        slices = (t * self.depth + z for t in self.frames for z in range(self.depth))
        return Annotations(
            {p: self._planes.get(p, blank) for p in slices},
            n_frames=self.n_frames,
            depth=self.depth,
            frame_numbers=self.frame_numbers if self.has_numbers else None,
            name=self.name,
        )


def checked_annotations(paint: Any) -> Annotations:
    """Return paint that is `Annotations`.

    Raises
    ------
    TypeError
        If it is anything else, such as an array.
    """
    if not isinstance(paint, Annotations):
        kind = type(paint).__name__
        raise TypeError(f"The annotations are of type {kind}; Annotations.from_labels(labels) makes them.")
    return paint


def _whole_numbers(what: str, numbers: Any) -> tuple[int, ...]:
    try:
        return tuple(operator.index(n) for n in numbers)
    except TypeError:
        raise ValueError(f"{what} is {numbers!r}; it must be a list of frame numbers, such as [0, 40].") from None


def _no_paint(name: str, which: str = "") -> str:
    return f"{name} is empty: no frame{which} holds a painted object."


def _painted_planes(
    labels: Labels,
    numbers: Sequence[int],
    named: Collection[int] | None,
    partial: Collection[int] | bool,
    corrected: Collection[int],
    background_label: int | None,
    void_label: int | None,
) -> dict[int, PlaneLabels]:
    for number in sorted({*(named or ()), *(() if isinstance(partial, bool) else partial), *corrected}):
        if number not in numbers:
            raise ValueError(f"{labels.name} has no frame {number}; its frames are {spell(numbers)}.")
    planes: dict[int, PlaneLabels] = {}
    for t, number in enumerate(numbers):
        if named is not None and number not in named:
            continue
        incomplete = partial if isinstance(partial, bool) else number in partial
        weight = CORRECTED_WEIGHT if number in corrected else 1.0
        for p in range(t * labels.depth, (t + 1) * labels.depth):
            # where 255 is void, a frame of 0 and 255 is no binary mask
            values = labels.plane(p, masks_255=False if void_label == 255 else None)
            if values.any() or (named is not None and labels.depth == 1):
                planes[p] = _plane_labels(values, incomplete, weight, background_label, void_label)
    return planes


def _plane_labels(
    values: npt.NDArray[np.int32], partial: bool, weight: float, background_label: int | None, void_label: int | None
) -> PlaneLabels:
    known = values > 0 if partial else None
    labels = values.copy()
    if background_label is not None:
        labels[values == background_label] = 0
        if known is not None and background_label == 0:
            raise ValueError("The background label is 0; in partial annotations 0 is what is not painted.")
    if void_label is not None:
        void = values == void_label
        labels[void] = 0
        if known is not None or void.any():
            known = ~void if known is None else known & ~void
    small = np.min_scalar_type(int(labels.max(initial=0)))  # annotations stay in memory: two bytes a pixel are enough
    return PlaneLabels(labels.astype(small), known, partial, weight)


def _places(annotations: Annotations, clip: Clip) -> dict[int, int] | None:
    """Pair planes with those of a movie; None where depths do not go together."""
    if annotations.depth == clip.depth:
        depth, frames = clip.depth, frame_positions(annotations, clip)
        return {t * depth + z: frames[t] * depth + z for t in frames for z in range(depth)}
    if annotations.depth == clip.n_frames == 1 and annotations.n_frames == clip.depth:
        return {p: p for p in range(clip.depth)}  # a lone Z stack, which the labels see as a sequence
    return None


def _complaint(annotations: Annotations, clip: Clip) -> str | None:
    """Say why annotations cannot be learned from on a movie."""
    name, depth = annotations.name, annotations.depth
    if not any(annotations.mask(p).any() for p in annotations):
        return _no_paint(name)
    if annotations.plane_shape != clip.plane_shape:
        sizes = f"{_size(annotations.plane_shape)} pixels but {clip.name} is {_size(clip.plane_shape)}"
        return f"{name} is {sizes}; both must be of one size."
    places = _places(annotations, clip)
    if places is None:
        slices = f"{depth} slice{'s' * (depth > 1)} a frame but {clip.name} has {clip.depth}"
        return f"{name} has {slices}; both must have the same."
    for p in annotations:
        if p not in places:
            number = annotations.frame_numbers[p // depth]
            frames = spell(clip.frame_numbers)
            return f"{name} is painted on frame {number}, which {clip.name} does not have; its frames are {frames}."
    shows_background = any((annotations.known(p) & ~annotations.mask(p)).any() for p in annotations)
    if not shows_background and any(map(annotations.is_partial, annotations)):
        remedy = "paint some of it with the background label, or paint one frame completely"
        return f"{name} is partial and shows no background; {remedy}."
    return None


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
