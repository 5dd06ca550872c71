"""What is wanted of an engine: one frozen snapshot of the movie, the paint and the settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig, PredictConfig


@dataclass(frozen=True)
class MovieFile:
    """Where the workers of a cluster can read a movie.

    Attributes
    ----------
    path : Path
        As for `napari_osvos.read_clip`, on a file system that they share.
    axes : str or None
    channels : tuple of int or None
        As for `napari_osvos.read_clip`.
    """

    path: Path
    axes: str | None = None
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Request:
    """One run: learn from the annotations, then segment every frame.

    Attributes
    ----------
    clip : Clip
        The movie; its planes are read in the client's process, one at a time, in a thread.
    annotations : Annotations or None
        The painted frames; None applies the segmenter `start` as it is.
    tuning : FineTuneConfig
        How to learn.
    prediction : PredictConfig or None
        How to predict; None leaves it to the segmenter.
    parent : str
        Name of a bundled parent, or the path of one.
    start : Path or None
        A segmenter file to learn on from, or to apply.
    device : str
        See `napari_osvos.device.resolve_device`.
    threads : int or None
        Threads of the CPU, at least 1; None: as many as torch takes by itself.
    frame_in_view : int
        Position of the frame on the screen: previews show it and filling begins with it.
    z_in_view : int
        Its slice on the screen, in a movie with a Z axis.
    probabilities : bool
        Whether frames and previews come with their probabilities.
    keep : Path or None
        Where to save the fine-tuned segmenter once learning ends or is stopped, atomically.
    movie_token : str
        Requests of one token have one movie, unchanged: planes that the engine has seen are not read again. Empty:
        nothing is known.
    accepted : frozenset of int
        Positions of frames that are not predicted: their labels are final, and the caller has them.
    uncertainty : bool
        Whether frames come with the uncertainty of each pixel.
    scheduler : str
        Of a dask cluster that predicts the frames, see `napari_osvos.cluster_link.address_of`; empty: the engine does.
    file : MovieFile or None
        Where a cluster may find the movie; planes that are not the same there are sent to it.

    Raises
    ------
    ValueError
        If there is neither paint nor a segmenter, or a number is out of range.
    """

    clip: Clip
    annotations: Annotations | None = None
    tuning: FineTuneConfig = field(default_factory=FineTuneConfig)
    prediction: PredictConfig | None = None
    parent: str = "lite"
    start: Path | None = None
    device: str = "auto"
    threads: int | None = None
    frame_in_view: int = 0
    z_in_view: int = 0
    probabilities: bool = False
    keep: Path | None = None
    movie_token: str = ""
    accepted: frozenset[int] = frozenset()
    uncertainty: bool = False
    scheduler: str = ""
    file: MovieFile | None = None

    def __post_init__(self) -> None:
        if self.annotations is None and self.start is None:
            raise ValueError("There is nothing to segment with: paint a frame or choose a segmenter.")
        if not 0 <= self.frame_in_view < self.clip.n_frames:
            raise ValueError(
                f"The frame in view is {self.frame_in_view}; {self.clip.name} has frames 0 to {self.clip.n_frames - 1}."
            )
        if not 0 <= self.z_in_view < self.clip.depth:
            raise ValueError(
                f"The slice in view is {self.z_in_view}; {self.clip.name} has slices 0 to {self.clip.depth - 1}."
            )
        for t in sorted(self.accepted):
            if not 0 <= t < self.clip.n_frames:
                raise ValueError(
                    f"An accepted frame is {t}; {self.clip.name} has frames 0 to {self.clip.n_frames - 1}."
                )
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"The number of threads is {self.threads}; it must be at least 1.")
        # The engine may work in another folder.
        for name in ("start", "keep"):
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, Path(os.path.abspath(path)))
        if self.file is not None:
            object.__setattr__(self, "file", replace(self.file, path=Path(os.path.abspath(self.file.path))))
        if Path(self.parent).suffix:
            object.__setattr__(self, "parent", os.path.abspath(self.parent))
