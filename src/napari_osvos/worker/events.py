"""What an engine tells, in the order in which it comes.

Of a run come `TrainingProgress` and `Preview` (any number, mixed), `TrainingDone`, `FrameDone` (one a frame, none for
accepted ones), `Noted` where something is not as it was wished, and at last exactly one of `Finished`, `Failed`,
`Cancelled` and `EngineDied`. A run without annotations starts with frames.
`EngineReady` comes once after every start of the engine process, `Calibrated` some time after it, not during a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_osvos.worker.calibration import Calibration

if TYPE_CHECKING:  # they load more than a client needs before its first run is over
    from napari_osvos.expected_accuracy import ExpectedAccuracy
    from napari_osvos.suggest import Suggestion


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class EngineReady(Event):
    """The engine has started and waits for a run.

    Attributes
    ----------
    device : str
        Where it computes unless a request says otherwise: ``cuda:0``, ``mps`` or ``cpu``.
    device_words : str
        The same in words, with threads and precision.
    devices : tuple of str
        All devices of the machine, fastest first.
    why_not_gpu : str
        One sentence; empty on a GPU.
    remedy : str
        The command that would bring the GPU in; empty where none would.
    start_seconds : float
        From starting the process until now.
    precision : str
        ``float32`` or ``bfloat16``, whichever was found faster on the CPU; empty on a GPU.
    """

    device: str
    device_words: str
    devices: tuple[str, ...]
    why_not_gpu: str
    remedy: str
    start_seconds: float
    precision: str = ""


@dataclass(frozen=True)
class Calibrated(Event):
    """How fast this machine is, measured with the bundled parent; see `estimated_seconds`.

    Attributes
    ----------
    calibration : Calibration
        What was measured.
    device, threads
        As `Engine.calibrate` was asked for them.
    device_words : str
        The device in words, with threads and precision.
    """

    calibration: Calibration
    device: str
    threads: int | None
    device_words: str


@dataclass(frozen=True)
class TrainingProgress(Event):
    """How far learning is; at most 20 a second, and always the first and the last step.

    Attributes
    ----------
    step, steps : int
        Updates done and planned.
    loss : float
        Of this update's crops.
    seconds : float
        Spent learning, without previews and pauses.
    seconds_left : float
        Until the last step, at the present pace with previews.
    """

    step: int
    steps: int
    loss: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True, eq=False)
class Preview(Event):
    """What the network would make of the plane in view as it stands.

    Attributes
    ----------
    frame : int
        Position in the clip.
    z : int or None
        Slice, in a movie with a Z axis.
    labels : (Y, X) unsigned integer array
        As `FramePrediction`; look-alike objects are numbered anew in each preview.
    probability : (Y, X) float16 array or None
        In [0, 1]; where the request asks for probabilities.
    step : int
        Updates done.
    """

    frame: int
    z: int | None
    labels: npt.NDArray[np.unsignedinteger[Any]]
    probability: npt.NDArray[np.float16] | None
    step: int


@dataclass(frozen=True)
class TrainingDone(Event):
    """Learning has ended.

    Attributes
    ----------
    steps : int
        Updates done.
    seconds : float
        Spent learning, without previews and pauses.
    stopped_early : bool
        Whether `Engine.stop_and_keep` ended it.
    segmenter : Path or None
        Where the request had it kept; the file is complete.
    remarks : tuple of str
        Sentences for the user on what was learned from, such as a frame that looks painted in part only.
    """

    steps: int
    seconds: float
    stopped_early: bool
    segmenter: Path | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Noted(Event):
    """The run goes on, but otherwise than it was asked for: in smaller tiles, or without its cluster.

    Attributes
    ----------
    message : str
        One sentence for the user.
    """

    message: str


@dataclass(frozen=True, eq=False)
class FrameDone(Event):
    """One frame is segmented.

    Attributes
    ----------
    frame : int
        Position in the clip.
    labels : (Y, X) or (Z, Y, X) array
        As in `FramePrediction`.
    probability : array or None
        Of the same shape, as in `FramePrediction`; where the request asks for it.
    confidence : float
        In [0, 1]: the region similarity to expect.
    done, total : int
        Frames done, this one included, and all that are predicted: all but the accepted ones.
    seconds_left : float
        Until the last frame.
    uncertainty : array or None
        Of the same shape, float16 in [0, 1], see `pixel_uncertainty`; where the request asks for it.
    """

    frame: int
    labels: npt.NDArray[np.uint16]
    probability: npt.NDArray[np.floating[Any]] | None
    confidence: float
    done: int
    total: int
    seconds_left: float
    uncertainty: npt.NDArray[np.float16] | None = None


@dataclass(frozen=True)
class Finished(Event):
    """The run is over and its frames are there.

    Attributes
    ----------
    frames : int
        Number of frames that were predicted.
    seconds : float
        The whole run.
    stopped : bool
        Whether `Engine.stop_and_keep` ended the filling before the last frame.
    provenance : dict
        Of the segmenter: parent, settings, annotated frames; plain data.
    suggestions : tuple of Suggestion
        Predicted frames whose annotation would help, the one that would help most first; without annotated ones.
    expected : ExpectedAccuracy or None
        The accuracy to expect on frames that are not annotated; None where it could not be measured.
    """

    frames: int
    seconds: float
    stopped: bool
    provenance: dict[str, Any] = field(default_factory=dict)
    suggestions: tuple[Suggestion, ...] = ()
    expected: ExpectedAccuracy | None = None


@dataclass(frozen=True)
class Failed(Event):
    """The run could not go on; the engine can take the next one.

    Attributes
    ----------
    message : str
        One sentence for the user.
    details : str
        The traceback.
    """

    message: str
    details: str


@dataclass(frozen=True)
class Cancelled(Event):
    """The run was cancelled; nothing more comes of it."""


@dataclass(frozen=True)
class EngineDied(Event):
    """The engine process has ended by itself, with or without a run; `Engine.run` or `Engine.start` starts another.

    Attributes
    ----------
    message : str
        One sentence that says how it ended.
    details : str
        The last lines of its standard error.
    """

    message: str
    details: str
