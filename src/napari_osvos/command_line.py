"""The ``napari-osvos`` command that gives the labels of the panel without a screen, and the files that it needs."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig, PredictConfig
from napari_osvos.io import read_clip, write_labels
from napari_osvos.machine import check_space
from napari_osvos.ome_zarr import ZARR_CHUNK
from napari_osvos.settings import Config
from napari_osvos.writing import replacing_folder

PROGRAM = "napari-osvos"


def segment_command(
    movie: Path,
    annotations: Path,
    output: Path,
    *,
    tuning: FineTuneConfig,
    prediction: PredictConfig | None = None,
    axes: str | None = None,
    channels: Sequence[int] | None = None,
    partial: Collection[int] = (),
    corrected: Collection[int] = (),
    accepted: Collection[int] = (),
    background_label: int | None = None,
    void_label: int | None = None,
    parent: str = "lite",
    start: Path | None = None,
    probabilities: Path | None = None,
    save: Path | None = None,
    track: bool | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> str:
    """Return the line that fine-tunes on painted frames and segments the movie.

    Settings that are the command's defaults are left out. The labels are the same as those of a run with these settings
    that was neither stopped early nor limited by ``tuning.seconds``; of such a run, keep the segmenter and use
    `predict_command`.

    Parameters
    ----------
    movie, annotations, output : Path
        Made absolute. `annotations` as written by `write_annotations`, `movie` the file of the layer (see
        `why_not_the_file`) or one written by `write_movie`.
    tuning, prediction : config
        The settings of the run; `prediction` None: those of the segmenter.
    axes, channels
        What was chosen of the layer, where the file does not tell; None for those of the file.
    partial, corrected, accepted : collection of int
        Frame numbers, as in `annotations`.
    background_label, void_label : int, optional
        Labels that paint background, and pixels that do not count.
    parent : str
        Bundled name or file.
    start : Path, optional
        Segmenter (``.osvos``) that training went on from, instead of a parent.
    probabilities, save : Path, optional
        Where to write probabilities and the segmenter.
    track : bool, optional
        Whether objects that look alike are linked; None leaves it to the command, which does where there is more than
        one frame.
    device, threads
        Those of the run: another device, or number of CPU threads, sums in another order, and after some steps a
        pixel on the edge of an object may differ. ``"auto"`` and None are left out.
    """
    words = [PROGRAM, "segment", _path(movie), "-a", _path(annotations), "-o", _path(output)]
    words += _reading(axes, channels)
    for option, numbers in (("--partial", partial), ("--corrected", corrected), ("--accepted", accepted)):
        words += _option(option, ",".join(map(str, sorted(numbers))) or None)
    words += _option("--background-label", background_label) + _option("--void-label", void_label)
    words += _option("--save", save and _path(save))
    if start is not None:
        words += ["--continue", _path(start)]
    elif parent != "lite":
        words += ["--parent", _path(Path(parent)) if Path(parent).suffix else parent]
    words += _settings(tuning, FineTuneConfig())
    words += _prediction(prediction) + _option("--probabilities", probabilities and _path(probabilities))
    words += _tracking(track)
    return quoted(words + _machine(device, threads))


def predict_command(
    segmenter: Path,
    movie: Path,
    output: Path,
    *,
    prediction: PredictConfig | None = None,
    axes: str | None = None,
    channels: Sequence[int] | None = None,
    probabilities: Path | None = None,
    track: bool | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> str:
    """Return the line that segments the movie with a segmenter that is kept; parameters as `segment_command`."""
    words = [PROGRAM, "predict", _path(segmenter), _path(movie), "-o", _path(output), *_reading(axes, channels)]
    words += _prediction(prediction) + _option("--probabilities", probabilities and _path(probabilities))
    words += _tracking(track)
    return quoted(words + _machine(device, threads))


def why_not_the_file(path: Path, clip: Clip, *, axes: str | None = None, channels: Sequence[int] | None = None) -> str:
    """Say why the command line would not see the movie of a layer in the file that the layer came from.

    Opens the file as the command does and compares size, dtype, and three planes (first, middle, last).

    Returns
    -------
    str
        One sentence; empty where they are the same. Otherwise write the movie with `write_movie`.
    """
    try:
        stored = read_clip(path, axes=axes, channels=channels)
        for word, one, other in (
            ("shape", stored.labels_shape, clip.labels_shape),
            ("number of channels", stored.n_channels, clip.n_channels),
            ("dtype", stored.dtype, clip.dtype),
        ):
            if one != other:
                return f"The {word} of {path} is {one}, that of the layer {other}."
        for p in sorted({0, clip.n_planes // 2, clip.n_planes - 1}):
            if not np.array_equal(stored.plane(p), clip.plane(p), equal_nan=clip.dtype.kind == "f"):
                return f"The pixels of {path} are others than those of the layer."
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def reading_of(path: Path, clip: Clip, axes: str, channels: Sequence[int] | None) -> dict[str, Any] | None:
    """Return the ``axes`` and ``channels`` with which `read_clip` finds the movie of a layer in a file.

    Parameters
    ----------
    path, clip
        As for `why_not_the_file`.
    axes, channels
        Those of the layer; they are left to the file where it knows them.

    Returns
    -------
    dict or None
        None where it is not found: the file is missing, or another movie is in it.
    """
    for reading in ((None, None), (None, channels), (axes, channels)):
        if not why_not_the_file(path, clip, axes=reading[0], channels=reading[1]):
            return {"axes": reading[0], "channels": reading[1]}
    return None


def frame_numbers_of(path: Path, axes: str | None = None) -> tuple[int, ...] | None:
    """Return the frame numbers that the command line sees in the file of a movie; None where it counts from 0.

    Raises
    ------
    OSError, ValueError
        As `read_clip`.
    """
    clip = read_clip(path, axes=axes)
    return clip.frame_numbers if clip.has_numbers else None


def write_annotations(
    path: Path, frames: Mapping[int, npt.NDArray[Any]], *, numbers: Sequence[int] | None = None
) -> Path:
    """Write painted frames as the command line takes them: a TIFF stack that knows the number of each.

    Parameters
    ----------
    path : Path
        Ends in ``.tif``; replaced if it exists.
    frames : mapping
        {position of the frame: labels (Y, X) or (Z, Y, X)}.
    numbers : sequence of int, optional
        Number of each frame of the movie, `frame_numbers_of` its file; positions by default.

    Returns
    -------
    Path
        `path`, absolute.

    Raises
    ------
    ValueError
        If there are no frames or values are no labels.
    OSError
        If it cannot be written.
    """
    positions = sorted(frames)
    if not positions:
        raise ValueError("No frame is painted, so there are no annotations to write.")
    highest = max(int(np.max(frames[t])) for t in positions)
    write_labels(
        path,
        [np.asarray(frames[t]) for t in positions],
        frame_numbers=[t if numbers is None else numbers[t] for t in positions],
        dtype=np.uint16 if highest <= np.iinfo(np.uint16).max else np.uint32,
        overwrite=True,
    )
    return path.absolute()


def write_movie(path: Path, clip: Clip) -> Path:
    """Write a movie that is in no file, plane by plane, channels as chosen, so that the command line reads the same.

    Parameters
    ----------
    path : Path
        Ends in ``.zarr``; replaced if it exists.
    clip : Clip
        The movie.

    Returns
    -------
    Path
        `path`, absolute. Its axes are in it: the command needs neither ``axes`` nor ``channels``.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    import zarr

    shape = (*clip.labels_shape, clip.n_channels)
    check_space(path, int(np.prod(shape, dtype=np.int64)) * clip.dtype.itemsize)
    with replacing_folder(path) as partial:
        stored = zarr.create_array(
            str(partial),
            shape=shape,
            dtype=clip.dtype,
            chunks=(*(1,) * (len(shape) - 3), *(min(n, ZARR_CHUNK) for n in clip.plane_shape), shape[-1]),
            dimension_names=list("tzyxc" if clip.has_depth else "tyxc"),
            zarr_format=3,
            config={"write_empty_chunks": True},  # or reading them would warn of chunks that are missing
        )
        for p in range(clip.n_planes):
            t, z = divmod(p, clip.depth)
            stored[(t, z) if clip.has_depth else t] = clip.plane(p)
    return path.absolute()


def quoted(words: Iterable[str]) -> str:
    """Return words as one line that the shell of this platform takes apart again as they are."""
    return subprocess.list2cmdline(list(words)) if os.name == "nt" else shlex.join(words)


def _path(path: str | Path) -> str:
    return str(Path(path).absolute())


def _option(name: str, value: Any) -> list[str]:
    return [] if value is None else [name, str(value)]


def _reading(axes: str | None, channels: Sequence[int] | None) -> list[str]:
    return _option("--axes", axes) + _option("--channels", None if channels is None else ",".join(map(str, channels)))


def _tracking(track: bool | None) -> list[str]:
    return [] if track is None else ["--track" if track else "--no-track"]


def _machine(device: str, threads: int | None) -> list[str]:
    return _option("--device", None if device == "auto" else device) + _option("--threads", threads)


def _prediction(config: PredictConfig | None) -> list[str]:
    """Every setting: what the segmenter holds by itself may be another than the default."""
    return [] if config is None else _settings(config, None)


def _settings(config: Config, usual: Config | None) -> list[str]:
    """Options for the settings that have a say and are not the usual ones."""
    words: list[str] = []
    idle = config.idle if isinstance(config, FineTuneConfig) else ()
    for spec in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, spec.name)
        if value is None or spec.name in idle or (usual is not None and value == getattr(usual, spec.name)):
            continue
        flag = spec.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return words
