"""What is known of where a segmenter comes from: which frames of a movie it has learned from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_osvos.clip import UNNAMED, Clip


def movie_named(clip: Clip) -> str:
    """Return what a segmenter calls the movie that it is fine-tuned on: where it lies, if it is a file or folder.

    Absolute, since a name such as ``movie.tif`` is another movie's in another folder.
    """
    return os.path.abspath(clip.name) if os.path.exists(clip.name) else clip.name


def is_of_movie(provenance: Mapping[str, Any], clip: Clip) -> bool:
    """Whether a segmenter was fine-tuned on this movie: both names are the same, or are paths of the same place.

    Arrays without a name look alike: in shape, and in percentiles of their intensities.

    Parameters
    ----------
    provenance : mapping
        `Segmenter.provenance`.
    clip : Clip
        The movie.
    """
    # Older segmenters have the path as it was typed, which is looked for from here.
    name = str(provenance.get("movie", ""))
    if name == clip.name == UNNAMED:
        return bool(provenance.get("looks") in (None, looks(clip)))
    return bool(name) and (name == clip.name or Path(name).resolve() == Path(clip.name).resolve())


def looks(clip: Clip) -> list[Any] | None:
    """Return what tells a movie without a name from others: its shape and some percentiles; None if it has one."""
    if clip.name != UNNAMED:
        return None
    return [clip.dtype.str, *clip.labels_shape, *clip.percentiles((1, 50, 99)).ravel().tolist()]


def frames_learned_from(provenance: Mapping[str, Any], clip: Clip) -> tuple[int, ...]:
    """Return the positions of the frames of a movie that a segmenter, or one that it continues, was fine-tuned on.

    Parameters
    ----------
    provenance, clip
        As for `is_of_movie`.

    Returns
    -------
    tuple of int
        Rising; empty for another movie.
    """
    if not is_of_movie(provenance, clip):
        return ()
    numbers = {*provenance.get("annotated_frames", ()), *provenance.get("learned_frames", ())}
    return tuple(t for t, number in enumerate(clip.frame_numbers) if number in numbers)
