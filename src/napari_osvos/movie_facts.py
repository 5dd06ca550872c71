"""By what a movie is known again, without reading a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class MovieFacts:
    """What is known of a movie before it is read.

    Attributes
    ----------
    name
        Of the layer.
    source
        File or folder it was read from; None where it was made in memory.
    shape, dtype
        Of the array of the layer.
    """

    name: str
    source: str | None
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.source is not None:
            object.__setattr__(self, "source", str(Path(self.source).absolute()))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "dtype", str(np.dtype(self.dtype)))

    def is_same_movie(self, other: MovieFacts) -> bool:
        """Whether shape and dtype agree, and the source or, as files are moved, the name."""
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            return False
        return (self.source is not None and self.source == other.source) or self.name == other.name
