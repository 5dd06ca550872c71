"""Annotated images that stay in their files until a crop is drawn from them: sets of videos do not fit in memory."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from napari_osvos.formats import read_picture
from napari_osvos.sampling import Source
from napari_osvos.stills import read_marks, still_source

# A frame of DAVIS takes some 4 MB.
KEPT_IN_MEMORY = 256


class StoredSource:
    """One annotated image in two files; what was read last stays in memory, for all of them together.

    Parameters
    ----------
    image, labels : Path
        Two pictures of one size; for what does not count in the labels see `read_marks`.
    diameter : float or None
        Objects come out at about this diameter, in network pixels; None leaves the image as it is.
    weight : float
        How often it is drawn, relative to others.
    kind : str
        Of intensities, see `IntensityScale`.
    """

    def __init__(
        self, image: Path, labels: Path, diameter: float | None, weight: float = 1.0, kind: str = "robust"
    ) -> None:
        self.image, self.labels, self.weight = image, labels, weight
        self._diameter, self._kind = diameter, kind

    @property
    def looks(self) -> Any:
        """What tells it from others without being read: names and sizes of the files."""
        return [("/".join(path.parts[-2:]), path.stat().st_size) for path in (self.image, self.labels)]

    def read(self) -> Source:
        """Return the image, from memory if it is there.

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError
            If the two differ in size, or labels are no whole numbers.
        """
        return _read(self.image, self.labels, self._diameter, self._kind)

    @property
    def grey(self) -> bool:
        """See `Source`."""
        return self.read().grey

    @property
    def positive_share(self) -> float:
        """Share of foreground in what is known."""
        return self.read().positive_share

    def place(self, kind: int, rng: np.random.Generator) -> tuple[float, float]:
        """See `Source.place`."""
        return self.read().place(kind, rng)

    def crop(self, *how: Any) -> Any:
        """See `Source.crop`."""
        return self.read().crop(*how)


AnySource = Source | StoredSource


def opened(source: AnySource) -> Source:
    """Return the image itself."""
    return source.read() if isinstance(source, StoredSource) else source


@functools.lru_cache(KEPT_IN_MEMORY)
def _read(image: Path, labels: Path, diameter: float | None, kind: str) -> Source:
    pixels, (marks, known) = read_picture(image), read_marks(labels)
    if pixels.shape[:2] != marks.shape:
        there, wanted = (" x ".join(map(str, shape[:2])) for shape in (marks.shape, pixels.shape))
        raise ValueError(f"{labels} is {there} pixels; its image is {wanted}.")
    return still_source(pixels, marks, diameter, 1.0, kind, known)
