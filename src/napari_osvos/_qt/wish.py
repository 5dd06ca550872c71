"""What the user asks for at the press of a button: one frozen snapshot of layers and controls."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos.config import FineTuneConfig, PredictConfig
from napari_osvos.painted_frames import annotations_of
from napari_osvos.session import SessionFolder
from napari_osvos.worker.request import MovieFile, Request

# Pixels by which a movie in memory is told to be the same as before.
_LOOKED_AT = 50_000
_numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_count = itertools.count()


@dataclass(frozen=True, eq=False)
class Wish:
    """One run as the user wants it.

    Attributes
    ----------
    movie : MovieLayer
        What is to be segmented.
    frames : mapping or None
        {frame: copy of its paint}; None to apply `segmenter` as it is.
    partial : frozenset of int
        Frames of which unpainted pixels are unknown.
    corrected : frozenset of int
        Frames whose paint is a corrected prediction: they weigh more.
    locked : mapping
        {frame: its final labels}, of frames that are accepted: they are not predicted, see `accepted`.
    background_label : int or None
        Label that paints background.
    tuning, prediction
        Settings.
    parent : str
        General network to start from.
    segmenter : Path or None
        What to learn on from, or to apply.
    device, threads, probabilities, uncertainty, scheduler
        As `Request`.
    session : SessionFolder
        Where segmenter and large arrays are kept.
    """

    movie: MovieLayer
    session: SessionFolder
    frames: Mapping[int, Any] | None = None
    partial: frozenset[int] = frozenset()
    corrected: frozenset[int] = frozenset()
    locked: Mapping[int, Any] = field(default_factory=dict)
    background_label: int | None = None
    tuning: FineTuneConfig = field(default_factory=FineTuneConfig)
    prediction: PredictConfig | None = None
    parent: str = "lite"
    segmenter: Path | None = None
    device: str = "auto"
    threads: int | None = None
    probabilities: bool = False
    uncertainty: bool = False
    scheduler: str = ""

    @property
    def accepted(self) -> frozenset[int]:
        """The frames that are accepted."""
        return frozenset(self.locked)

    def request(self, in_view: tuple[int, int], keep: Path | None) -> Request:
        """Return what the engine is asked.

        Parameters
        ----------
        in_view : (int, int)
            Frame and slice on the screen.
        keep : Path or None
            Where the segmenter is to be kept.

        Raises
        ------
        ValueError
            If nothing is painted or the paint cannot be learned from; one sentence.
        """
        clip = self.movie.clip()
        annotations = None
        if self.frames is not None:
            annotations = annotations_of(
                self.frames,
                self.movie.axes,
                partial=self.partial,
                corrected=self.corrected,
                background_label=self.background_label,
            )
            annotations.check_against(clip)
        return Request(
            clip=clip,
            annotations=annotations,
            tuning=self.tuning,
            prediction=self.prediction,
            parent=self.parent,
            start=self.segmenter,
            device=self.device,
            threads=self.threads,
            frame_in_view=in_view[0],
            z_in_view=in_view[1],
            probabilities=self.probabilities,
            keep=keep,
            movie_token=movie_token(self.movie),
            accepted=self.accepted,
            uncertainty=self.uncertainty,
            scheduler=self.scheduler,
            file=self._file() if self.scheduler else None,
        )

    def _file(self) -> MovieFile | None:
        """Return where the movie is on the disk, if it is; whether it is the same there, the engine looks."""
        path = self.movie.facts.source
        return None if path is None else MovieFile(Path(path), self.movie.axes.letters, self.movie.channels)


def movie_token(movie: MovieLayer) -> str:
    """Return a word that is the same as long as the pixels of a movie are; empty where that cannot be told.

    Any movie may be changed in place, as one that is still being acquired: of one in memory some pixels are looked at.
    """
    array = movie.array
    if type(array) is not np.ndarray or not array.flags.c_contiguous:
        return ""
    if movie.layer not in _numbers:
        _numbers[movie.layer] = next(_count)
    step = max(1, array.size // _LOOKED_AT) | 1  # odd, so that it does not fall on the same column again and again
    sample = zlib.crc32(array.reshape(-1)[::step].tobytes())
    number = _numbers[movie.layer]
    return f"{os.getpid()}-{number}-{movie.axes.letters}-{movie.channels}-{array.shape}-{array.dtype}-{sample:x}"
