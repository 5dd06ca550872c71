"""Annotated stills and sequences, read as sources of crops for a parent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from natsort import natsorted

from napari_osvos.clip import Clip
from napari_osvos.config import ParentConfig
from napari_osvos.formats import PICTURE_ENDINGS
from napari_osvos.intensity import IntensityScale
from napari_osvos.io import read_clip, read_labels
from napari_osvos.labels import Labels
from napari_osvos.object_size import object_diameter
from napari_osvos.sampling import Source
from napari_osvos.simulate import simulate_still

_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
_LABELS = (".png", ".tif", ".tiff")
VOID = 255
"""In the labels of a picture, what does not count."""


def find_still_sets(folder: str | Path) -> dict[str, Path]:
    """Return the sets of stills in a folder: those that hold ``images`` and ``labels``, or it itself.

    Raises
    ------
    ValueError
        If there is none.
    """
    folder = Path(folder)
    candidates = [folder, *natsorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
    sets = {p.name: p for p in candidates if (p / "images").is_dir() and (p / "labels").is_dir()}
    if not sets:
        raise ValueError(f"{folder} has no set of stills: a set is a folder with the folders 'images' and 'labels'.")
    return sets


def still_source(
    image: np.ndarray,
    labels: np.ndarray,
    diameter: float | None,
    weight: float,
    kind: str = "robust",
    known: np.ndarray | None = None,
) -> Source:
    """Return a source whose objects come out at about `diameter` network pixels, or as they are for None.

    The zoom is kept within 1/6 to 3: beyond that an image has no more to tell. See `Source` for the other parameters.
    """
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., :3]
    zoom = 1.0
    if diameter is not None and labels.any():
        zoom = float(np.clip(diameter / max(object_diameter([labels]), 1.0), 1 / 6, 3.0))
    return Source(image, labels, known, IntensityScale.from_image(image, kind), zoom, weight)


def training_diameter(config: ParentConfig) -> float | None:
    """Return the diameter that objects are rescaled to, None where images keep their scale, as in the paper."""
    return None if config.schedule == "published" else config.object_diameter


def read_still_sets(folders: Sequence[str | Path], config: ParentConfig, kind: str = "robust") -> Iterator[Source]:
    """Yield the stills of all sets in `folders`, weighted by set; those without objects are left out.

    Raises
    ------
    ValueError
        If an image has no labels or labels of another size, or these are no labels.
    OSError
        If a file cannot be read.
    """
    for folder in folders:
        for name, path in find_still_sets(folder).items():
            files = natsorted(f for f in (path / "images").iterdir() if f.suffix.lower() in _IMAGES)
            weight = len(files) ** config.set_exponent / max(len(files), 1)
            for file in files:
                mark = _labels_of(file, name)
                image, (labels, known) = _single_plane(read_clip(file)), read_marks(mark)
                if labels.shape[:2] != image.shape[:2]:
                    raise ValueError(f"{mark} is {_size(labels)} pixels; its image is {_size(image)}.")
                if labels.any():
                    yield still_source(image, labels, training_diameter(config), weight, kind, known)


def read_marks(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a still, and where they count.

    In a picture of 8 bits, 255 beside other labels is void; 0 and 255 alone are a mask. In TIFF, and in pictures of
    16 bits, where labels go on after it, 255 is an object like any other.

    Returns
    -------
    labels : (Y, X) int32 array
        0 where they do not count.
    known : (Y, X) bool array

    Raises
    ------
    ValueError
        If these are no labels.
    OSError
        If the file cannot be read.
    """
    still = read_labels(file)
    labels = _single_plane(still)
    has_void = file.suffix.lower() in PICTURE_ENDINGS and still.stored_dtype == np.uint8
    # A mask of 0 and 255 alone was read as 0 and 1.
    known = labels != VOID if has_void else np.ones(labels.shape, bool)
    return np.where(known, labels, 0), known


def _labels_of(image: Path, name: str) -> Path:
    for suffix in _LABELS:
        mark = image.parent.parent / "labels" / (image.stem + suffix)
        if mark.exists():
            return mark
    raise ValueError(f"The image {image.name} of the set {name} has no labels of the same name.")


def _single_plane(still: Clip | Labels) -> np.ndarray:
    if still.n_frames * still.depth > 1:
        raise ValueError(f"{still.name} holds {still.n_frames * still.depth} images; a still holds one.")
    return still.plane(0)


def _size(pixels: np.ndarray) -> str:
    return " x ".join(map(str, pixels.shape[:2]))


def simulated_sources(config: ParentConfig, kind: str = "robust") -> Iterator[Source]:
    """Yield simulated stills of widely varied appearance, the same for the same seed."""
    for i in range(config.simulated_images):
        image, labels = simulate_still(np.random.default_rng([config.seed, 1, i]))
        if labels.any():
            yield still_source(image[..., None], labels.astype(np.int32), training_diameter(config), 1.0, kind)
