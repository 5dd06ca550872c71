"""What the network is measured against: the nearest annotated labels, and a random forest on multiscale features.

Both are fitted, then asked as a `Segmenter` is: ``fit(clip, annotations)``, ``iter_labels(clip)``. One more: `unet`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_osvos.instances import choose_separation, separation_of_paint
from napari_osvos.labelling import LabelMeaning, PlaneMaps
from napari_osvos.task import instances_of
from napari_osvos.unpainted_edge import supervised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .annotations import Annotations
    from .clip import Clip

FramesOfLabels = Iterator[tuple[int, "NDArray[Any]"]]

MOST_FRAMES_SEPARATED = 2
"""Annotated frames on which it is chosen how to cut foreground into objects, as in fine-tuning."""


class Baseline(Protocol):
    """What every baseline does."""

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Learn from the annotated planes of a movie."""

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> FramesOfLabels:
        """Yield each frame's position and its (Y, X) or (Z, Y, X) integer labels, 0 = background."""


class NearestMask:
    """Copies the annotated labels that are nearest in time; of two at the same distance the earlier."""

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Keep the annotated planes."""
        self._labels = {p: annotations.labels(p) for p in annotations.planes}

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> FramesOfLabels:
        """Yield copies; a slice of a stack takes the nearest annotation in its own z, else in any."""
        depth = clip.depth
        for t in range(clip.n_frames) if frames is None else frames:
            labels = [self._nearest(t * depth + z, depth) for z in range(depth)]
            yield t, np.stack(labels) if clip.has_depth else labels[0]

    def _nearest(self, p: int, depth: int) -> NDArray[np.int32]:
        def distance(q: int) -> tuple[int, int, int]:
            return (abs(q % depth - p % depth), abs(q // depth - p // depth), q)

        return self._labels[min(self._labels, key=distance)]


class RandomForest:
    """Pixels classified by a random forest on multiscale features, as ilastik and Labkit do.

    The recipe is scikit-image's for trainable segmentation [1]_: intensity and texture (Hessian eigenvalues) at scales
    of 1, 2, 4, 8 and 16 px, 50 trees of depth 10, each grown on 50,000 of the annotated pixels (the recipe's 5 % of a
    frame of 1024 x 1024). Edges as further features and balanced classes were tried and did worse.

    Foreground is cut into objects by a watershed of its distance transform [2]_: smoothed by the size of the painted
    objects, one basin for each peak. How deep a valley has to be to part two objects, the smallest object and whether
    holes are filled are chosen on the annotated frames, by the same search as for the network.

    Parameters
    ----------
    seed
        Seeds the forest.
    threads
        How many cores to use.
    instances
        Whether each painted label is one of many objects; otherwise all foreground is 1.

    References
    ----------
    .. [1] https://scikit-image.org/docs/stable/auto_examples/segmentation/plot_trainable_segmentation.html
    .. [2] https://scikit-image.org/docs/stable/auto_examples/segmentation/plot_watershed.html
    """

    n_trees = 50
    max_depth = 10
    pixels_per_tree = 50_000
    coarsest = 16.0

    def __init__(self, seed: int = 0, threads: int = 1, instances: bool = False) -> None:
        from skimage.feature import multiscale_basic_features
        from sklearn.ensemble import RandomForestClassifier

        self.threads = threads
        self.instances = instances
        self._meaning = LabelMeaning()
        self._forest = RandomForestClassifier(self.n_trees, max_depth=self.max_depth, n_jobs=threads, random_state=seed)
        self._filter = multiscale_basic_features

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Grow the forest on every pixel that is annotated, then choose how to cut foreground into objects.

        As in fine-tuning, a band along the edge in which objects were left unpainted (`unpainted_edge`) says nothing.

        Raises
        ------
        ValueError
            If the annotated pixels are all foreground or all background: there is nothing to tell apart.
        """
        self._range = clip.intensity_range()
        diameter = annotations.object_diameter()
        samples, classes = [], []
        for p in annotations.planes:
            known = supervised(annotations, p, diameter)
            samples.append(self._features(clip.plane(p))[known])
            classes.append(annotations.mask(p)[known])
        features, foreground = np.concatenate(samples), np.concatenate(classes)
        if foreground.all() or not foreground.any():
            kind = "foreground" if foreground.all() else "background"
            raise ValueError(f"All annotated pixels are {kind}; a random forest needs foreground and background.")
        self._forest.set_params(max_samples=min(1.0, self.pixels_per_tree / len(foreground)))
        self._forest.fit(features, foreground)
        if self.instances:
            self._meaning = self._choose_separation(clip, annotations, diameter)

    def _choose_separation(self, clip: Clip, annotations: Annotations, diameter: float) -> LabelMeaning:
        complete = [p for p in annotations.planes if not annotations.is_partial(p)]
        separation = choose_separation(
            (
                (
                    (self._decide(clip.plane(p)), None, None),
                    instances_of(annotations, p),
                    supervised(annotations, p, diameter),
                )
                for p in complete[:MOST_FRAMES_SEPARATED]
            ),
            threshold=0.5,
            radius=diameter / 2,
            start=separation_of_paint([instances_of(annotations, p) for p in complete]),
        )
        return LabelMeaning("look-alike", radius=diameter / 2, separation=separation)

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> FramesOfLabels:
        """Yield the labels of each frame."""
        depth = clip.depth
        for t in range(clip.n_frames) if frames is None else frames:
            decided = [self._decide(clip.plane(t * depth + z)) for z in range(depth)]
            labels = self._meaning.labels([PlaneMaps(plane[None], None, None) for plane in decided], threshold=0.5)
            yield t, labels if clip.has_depth else labels[0]

    def _decide(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        """Return 1 where a (Y, X, C) plane is foreground, else 0."""
        features = self._features(plane)
        decided: NDArray[np.bool_] = self._forest.predict(features.reshape(-1, features.shape[-1]))
        return decided.reshape(plane.shape[:2]).astype(np.float32)

    def _features(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        """Return (Y, X, features) of a (Y, X, C) plane, stretched by the range of the movie."""
        # scikit-image 0.26 renamed the argument
        cores = "workers" if "workers" in inspect.signature(self._filter).parameters else "num_workers"
        low, high = self._range[:, 0], self._range[:, 1]
        stretched = np.nan_to_num((plane.astype(np.float32) - low) / (high - low), posinf=1.0, neginf=0.0)
        features: NDArray[np.float32] = self._filter(
            stretched.astype(np.float32),
            edges=False,
            sigma_min=1,
            sigma_max=self.coarsest,
            channel_axis=-1,
            **{cores: self.threads},
        )
        return features
