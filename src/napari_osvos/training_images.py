"""The images of a training set, read as sources of crops: at once those of movies and stills, later those of videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_osvos.annotations import Annotations
from napari_osvos.config import ParentConfig
from napari_osvos.io import read_clip, read_labels
from napari_osvos.sampling import Source
from napari_osvos.stills import read_still_sets, still_source, training_diameter
from napari_osvos.stored_source import AnySource, StoredSource
from napari_osvos.training_sets import TrainingSet


def read_training_set(found: TrainingSet, config: ParentConfig) -> list[AnySource]:
    """Return the annotated images of a set, weighted together as one.

    Raises
    ------
    OSError, ValueError
        If files cannot be read, or images and labels do not fit.
    """
    kind = config.topology().intensities
    sources: list[AnySource] = list(read_still_sets(found.stills, config, kind)) if found.stills else []
    for movie, labels in found.movies:
        sources += read_movie(movie, labels, config)
    diameter = training_diameter(config)
    sources += [StoredSource(image, labels, diameter, 1.0, kind) for image, labels in found.pictures]
    for source in sources:
        source.weight = len(sources) ** config.set_exponent / len(sources)
    return sources


def read_movie(movie: Path, labels: Path, config: ParentConfig) -> list[Source]:
    """Return the labelled frames of a movie, or slices of its stacks, weighted together as one set.

    Of gold truth of the Cell Tracking Challenge (``01_GT/SEG``) the frames are left out that have objects in ``TRA``
    whose masks are missing: they would be learned as background.

    Raises
    ------
    OSError, ValueError
        If files cannot be read, movie and labels do not fit, or nothing is left.
    """
    kind = config.topology().intensities
    clip = read_clip(movie)
    painted = Annotations.from_labels(read_labels(labels)).aligned_to(clip)
    planes = list(painted.planes)
    markers = labels.parent / "TRA"
    if labels.name == "SEG" and labels.parent.name.endswith("_GT") and markers.is_dir():
        marked = Annotations.from_labels(read_labels(markers)).aligned_to(clip)
        planes = [p for p in planes if p not in marked or _all_found(painted.labels(p), marked.labels(p))]
        if not planes:
            raise ValueError(f"{labels} shows only some of the objects of each frame; give truth that shows all.")
    weight = len(planes) ** config.set_exponent / len(planes)
    diameter = training_diameter(config)
    return [still_source(clip.plane(p), painted.labels(p), diameter, weight, kind) for p in planes]


def _all_found(masks: np.ndarray, markers: np.ndarray) -> bool:
    """Whether each marked object has a mask."""
    there = np.unique(markers[masks > 0])
    return bool(np.isin(np.unique(markers[markers > 0]), there).all())
