"""Requests and events as plain data for the pipe; their arrays go through a `Mailbox`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_osvos.annotations import Annotations, PlaneLabels
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig, PredictConfig
from napari_osvos.worker import events
from napari_osvos.worker.calibration import Calibration
from napari_osvos.worker.mailbox import Mailbox
from napari_osvos.worker.request import MovieFile, Request


@dataclass(frozen=True)
class Wishes:
    """What the user wants of a run at the moment; sent whole at every change, so that the order does not matter.

    Attributes
    ----------
    run : int
        Number of the run.
    turn : int
        Rises with every change.
    frame, z : int
        In view.
    paused, stop_learning, stop_filling, cancelled : bool
        What was pressed.
    """

    run: int = 0
    turn: int = 0
    frame: int = 0
    z: int = 0
    paused: bool = False
    stop_learning: bool = False
    stop_filling: bool = False
    cancelled: bool = False


@dataclass(frozen=True)
class Movie:
    """All of a `Clip` but its pixels.

    Attributes
    ----------
    token : str
        See `Request.movie_token`.
    name : str
        What messages call it.
    shape : tuple of int
        (T, Y, X, C), or (T, Z, Y, X, C).
    dtype : str
        NumPy's name of it.
    frame_numbers : tuple of int or None
        None where they are counted.
    """

    token: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    frame_numbers: tuple[int, ...] | None

    @property
    def axes(self) -> str:
        """One letter per axis, for `Clip`."""
        return "TZYXC" if len(self.shape) == 5 else "TYXC"


@dataclass(frozen=True)
class Order:
    """A `Request` as the engine gets it: the movie without pixels."""

    wishes: Wishes
    movie: Movie
    annotations: Annotations | None
    tuning: FineTuneConfig
    prediction: PredictConfig | None
    parent: str
    start: Path | None
    device: str
    threads: int | None
    probabilities: bool
    keep: Path | None
    accepted: frozenset[int] = frozenset()
    uncertainty: bool = False
    scheduler: str = ""
    file: MovieFile | None = None


def pack_request(request: Request, wishes: Wishes, mailbox: Mailbox) -> dict[str, Any]:
    """Return a request as plain data, its annotations in the mailbox."""
    clip = request.clip
    movie = Movie(
        token=request.movie_token,
        name=clip.name,
        shape=(*clip.labels_shape, clip.n_channels),
        dtype=clip.dtype.str,
        frame_numbers=clip.frame_numbers if clip.has_numbers else None,
    )
    return {
        "wishes": dataclasses.asdict(wishes),
        "movie": dataclasses.asdict(movie),
        "annotations": None if request.annotations is None else _pack_annotations(request.annotations, mailbox),
        "tuning": request.tuning.to_dict(),
        "prediction": request.prediction and request.prediction.to_dict(),
        "parent": request.parent,
        "start": request.start and str(request.start),
        "device": request.device,
        "threads": request.threads,
        "probabilities": request.probabilities,
        "keep": request.keep and str(request.keep),
        "accepted": sorted(request.accepted),
        "uncertainty": request.uncertainty,
        "scheduler": request.scheduler,
        "file": request.file and dataclasses.asdict(request.file) | {"path": str(request.file.path)},
    }


def unpack_request(plain: Mapping[str, Any]) -> Order:
    """Return what `pack_request` packed."""
    movie, annotations, prediction = plain["movie"], plain["annotations"], plain["prediction"]
    numbers = movie["frame_numbers"]
    return Order(
        wishes=Wishes(**plain["wishes"]),
        movie=Movie(**movie | {"shape": tuple(movie["shape"]), "frame_numbers": numbers and tuple(numbers)}),
        annotations=None if annotations is None else _unpack_annotations(annotations),
        tuning=FineTuneConfig.from_dict(plain["tuning"]),
        prediction=None if prediction is None else PredictConfig.from_dict(prediction),
        parent=plain["parent"],
        start=plain["start"] and Path(plain["start"]),
        device=plain["device"],
        threads=plain["threads"],
        probabilities=plain["probabilities"],
        keep=plain["keep"] and Path(plain["keep"]),
        accepted=frozenset(plain["accepted"]),
        uncertainty=plain["uncertainty"],
        scheduler=plain["scheduler"],
        file=plain["file"] and _unpack_file(plain["file"]),
    )


def _unpack_file(plain: Mapping[str, Any]) -> MovieFile:
    channels = plain["channels"]
    return MovieFile(Path(plain["path"]), plain["axes"], None if channels is None else tuple(channels))


def _pack_annotations(annotations: Annotations, mailbox: Mailbox) -> dict[str, Any]:
    planes = [
        {
            "plane": p,
            "labels": mailbox.post(paint.labels),
            "known": None if paint.known_pixels is None else mailbox.post(paint.known_pixels),
            "partial": paint.partial,
            "weight": paint.weight,
        }
        for p, paint in annotations.items()
    ]
    numbers = annotations.frame_numbers if annotations.has_numbers else None
    return {
        "planes": planes,
        "n_frames": annotations.n_frames,
        "depth": annotations.depth,
        "frame_numbers": numbers,
        "name": annotations.name,
    }


def _unpack_annotations(plain: Mapping[str, Any]) -> Annotations:
    planes = {
        paint["plane"]: PlaneLabels(
            Mailbox.take(paint["labels"]),
            paint["known"] and Mailbox.take(paint["known"]),
            paint["partial"],
            paint["weight"],
        )
        for paint in plain["planes"]
    }
    return Annotations(
        planes,
        n_frames=plain["n_frames"],
        depth=plain["depth"],
        frame_numbers=plain["frame_numbers"],
        name=plain["name"],
    )


def pack_event(event: events.Event, mailbox: Mailbox) -> dict[str, Any]:
    """Return an event as plain data, its arrays in the mailbox."""
    fields: dict[str, Any] = {}
    arrays: dict[str, str] = {}
    for spec in dataclasses.fields(event):
        value = getattr(event, spec.name)
        if isinstance(value, np.ndarray):
            arrays[spec.name] = mailbox.post(value)
        elif isinstance(value, Path):
            fields[spec.name] = str(value)
        else:
            fields[spec.name] = _plain(value)
    return {"event": type(event).__name__, "fields": fields, "arrays": arrays}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def unpack_event(plain: Mapping[str, Any]) -> events.Event:
    """Return what `pack_event` packed; its arrays are taken out of the mailbox.

    Raises
    ------
    OSError
        If an array is no longer there.
    """
    fields = dict(plain["fields"])
    if plain["event"] == "EngineReady":
        fields["devices"] = tuple(fields["devices"])
    elif plain["event"] == "Calibrated":
        fields["calibration"] = Calibration(**fields["calibration"])
    elif plain["event"] == "TrainingDone":
        fields["segmenter"] = fields["segmenter"] and Path(fields["segmenter"])
        fields["remarks"] = tuple(fields["remarks"])
    elif plain["event"] == "Finished":
        from napari_osvos.expected_accuracy import ExpectedAccuracy
        from napari_osvos.suggest import Suggestion

        fields["suggestions"] = tuple(map(Suggestion.from_dict, fields["suggestions"]))
        fields["expected"] = fields["expected"] and ExpectedAccuracy.from_dict(fields["expected"])
    fields |= {name: Mailbox.take(address) for name, address in plain["arrays"].items()}
    event: events.Event = getattr(events, plain["event"])(**fields)
    return event


def discard_arrays(plain: Mapping[str, Any]) -> None:
    """Remove the arrays of a packed event that nobody will see."""
    for address in plain["arrays"].values():
        Mailbox.discard(address)


def open_movie(movie: Movie, planes: Any) -> Clip:
    """Return the clip of a movie over an array of its pixels."""
    return Clip(planes, movie.axes, frame_numbers=movie.frame_numbers, name=movie.name)
