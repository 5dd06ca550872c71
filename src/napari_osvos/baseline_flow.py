"""Annotated labels carried through the movie by optical flow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.baselines import FramesOfLabels, nearest_plane, stretch
from napari_osvos.labelling import LabelMeaning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .annotations import Annotations
    from .clip import Clip

RADIUS = 7
"""Of the window in which the flow is taken to be the same, px: scikit-image's default."""


class OpticalFlow:
    """Carries the labels of the nearest annotated frame along, frame by frame, forwards or backwards in time.

    The flow between neighbouring frames is that of the iterative Lucas-Kanade method [1]_, of the mean of the channels
    within the range of the movie. Flows are joined before labels are moved, so that outlines are rounded to pixels
    once, not in every frame.

    References
    ----------
    .. [1] G. Le Besnerais, F. Champagnat, "Dense optical flow by iterative local window registration", ICIP 2005;
       `skimage.registration.optical_flow_ilk`.
    """

    meaning: LabelMeaning | None = None

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Keep the annotated planes."""
        self._labels = {p: annotations.labels(p) for p in annotations.planes}
        self._range = clip.intensity_range()

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> FramesOfLabels:
        """Yield the labels of each frame, first those that are reached forwards in time, then the others.

        A slice of a stack follows the nearest annotation in its own z, else in any.
        """
        depth, planes = clip.depth, list(self._labels)
        wanted = sorted(range(clip.n_frames) if frames is None else set(frames))
        slices: dict[int, dict[int, NDArray[np.int32]]] = {t: {} for t in wanted}
        for forwards in (True, False):
            walks: dict[tuple[int, int], Iterator[tuple[int, NDArray[np.int32]]]] = {}
            for t in wanted if forwards else reversed(wanted):
                for z in range(depth):
                    p = nearest_plane(planes, t * depth + z, depth)
                    if (t >= p // depth) == forwards:
                        walk = walks.setdefault((p, z), self._walk(clip, p, z, 1 if forwards else -1))
                        slices[t][z] = next(labels for reached, labels in walk if reached == t)
                if t in slices and len(slices[t]) == depth:
                    found = slices.pop(t)
                    yield t, np.stack([found[z] for z in range(depth)]) if clip.has_depth else found[0]

    def _walk(self, clip: Clip, p: int, z: int, step: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Yield frame after frame with the labels of plane `p`, as they have moved in slice `z`."""
        from scipy.ndimage import map_coordinates

        labels, t = self._labels[p], p // clip.depth
        grid = np.indices(labels.shape, np.float32)
        # where each pixel of the frame at hand was in the annotated frame, rows and columns
        origin, before = grid, self._grey(clip, t, z)
        yield t, labels
        while 0 <= t + step < clip.n_frames:
            t += step
            now = self._grey(clip, t, z)
            there = grid + _flow(now, before)
            origin = np.stack([map_coordinates(part, there, order=1, mode="nearest") for part in origin])
            before = now
            y, x = (np.clip(np.rint(o).astype(int), 0, n - 1) for o, n in zip(origin, labels.shape, strict=True))
            yield t, labels[y, x]

    def _grey(self, clip: Clip, t: int, z: int) -> NDArray[np.float32]:
        unit: NDArray[np.float32] = np.clip(stretch(clip.plane(t * clip.depth + z), self._range), 0, 1).mean(-1)
        return unit


def _flow(now: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each pixel of a frame how far away, (2, Y, X) in px, it was in another."""
    from skimage.registration import optical_flow_ilk

    flow: Any = optical_flow_ilk(now, before, radius=RADIUS, dtype=np.float32)
    return np.nan_to_num(np.asarray(flow, np.float32))  # a window without texture has no flow
