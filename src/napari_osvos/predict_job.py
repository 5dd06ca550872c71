"""A prediction as plain data: all that another process needs to do its part of it, by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos import __version__
from napari_osvos.frame_store import FrameStore
from napari_osvos.path_facts import file_digest, path_facts
from napari_osvos.unfinished import unfinished_path

if TYPE_CHECKING:
    import torch

    from napari_osvos.clip import Clip
    from napari_osvos.segmenter import Segmenter


@dataclass(frozen=True)
class PredictJob:
    """Which segmenter predicts which movie, how, and where to.

    Attributes
    ----------
    movie, segmenter, output : str
        Paths.
    axes : str or None
    channels : tuple of int or None
        How the movie is read, see `read_clip`.
    settings : dict
        Settings of `PredictConfig` that are to be others than the segmenter's own.
    probabilities, uncertainty : bool
        Whether they are wanted beside the labels.
    learned : dict or None
        What the segmenter is learned from, where the job began before there was one: plain data, by name.
    """

    movie: str
    segmenter: str
    output: str
    axes: str | None = None
    channels: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    probabilities: bool = False
    uncertainty: bool = False
    learned: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain = asdict(self)
        return {**plain, "channels": None if self.channels is None else list(self.channels)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> PredictJob:
        """Read what `to_dict` returned.

        Raises
        ------
        TypeError
            If it is none.
        """
        channels = plain.get("channels")
        return cls(**{**plain, "channels": None if channels is None else tuple(channels)})

    @property
    def unfinished(self) -> Path:
        """Where the finished frames lie until all are there."""
        return unfinished_path(self.output)

    def open_clip(self) -> Clip:
        """Open the movie.

        Raises
        ------
        FileNotFoundError, OSError, ValueError
            As `read_clip`.
        """
        from napari_osvos.io import read_clip

        return read_clip(self.movie, axes=self.axes, channels=self.channels)

    def open_segmenter(self, device: str | torch.device = "auto") -> Segmenter:
        """Load the segmenter, with the settings of the job.

        Raises
        ------
        FileNotFoundError, ValueError
            As `Segmenter.load`, and if a setting is not allowed.
        """
        from napari_osvos.segmenter import Segmenter

        segmenter = Segmenter.load(self.segmenter, device)
        segmenter.config = segmenter.config.replace(**self.settings)
        segmenter.config.check(segmenter.net.config)
        return segmenter

    def identity(self, clip: Clip | None = None) -> dict[str, Any]:
        """Return what the labels follow from; where any of it is another, so may be the labels.

        Raises
        ------
        OSError
            If movie or segmenter cannot be read.
        """
        clip = clip or self.open_clip()
        shape = {"shape": list(clip.labels_shape), "channels": clip.n_channels, "dtype": str(clip.dtype)}
        reading = {"axes": self.axes, "chosen": None if self.channels is None else list(self.channels)}
        return {
            "movie": {**path_facts(self.movie), **shape, **reading},
            **(self.learned or {"segmenter": file_digest(self.segmenter)}),
            "prediction": dict(self.settings),
            "version": __version__,
        }

    def open_store(self, clip: Clip | None = None, *, overwrite: bool = False) -> FrameStore:
        """Open the frames that are finished, or begin.

        Parameters
        ----------
        clip : Clip, optional
            The movie, if it is open already.
        overwrite : bool
            Whether frames of another job may be deleted.

        Raises
        ------
        ValueError
            If they are of another job, and `overwrite` is False.
        OSError
            If something cannot be read or written.
        """
        clip = clip or self.open_clip()
        return FrameStore.open(
            self.unfinished,
            shape=clip.labels_shape,
            identity=self.identity(clip),
            probabilities=self.probabilities,
            uncertainty=self.uncertainty,
            frame_numbers=clip.frame_numbers if clip.has_numbers else None,
            overwrite=overwrite,
        )
