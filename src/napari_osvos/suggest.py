"""Which frame to annotate next: frames ranked by how much their annotation would help, with a reason in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from napari_osvos.expected_accuracy import ExpectedAccuracy, expected_accuracy, expected_logit, logit
from napari_osvos.held_out import HeldOutScore
from napari_osvos.provenance import frames_learned_from

if TYPE_CHECKING:
    from napari_osvos.clip import Clip
    from napari_osvos.segmenter import FramePrediction, Segmenter

Reason = Literal[
    "objects unlike those painted",
    "borders uncertain",
    "far from the painted frames",
    "jumps against its neighbours",
]
REASONS: tuple[str, ...] = get_args(Reason)

WEIGHTS = {"confidence": 1.0, "novelty": 0.4, "time": 0.5}
"""How much each part counts in the doubt about a frame."""
WIDEST_SPREAD = 1.0
"""Largest standard deviation, over the frames of a movie, of the logit of the J to expect."""
REACH = 0.08
"""How far in time the paint of a frame helps, as a share of the movie (standard deviation)."""
JUMP = 1.5
"""Standard deviations by which a mask has to differ from its neighbours for that to be the reason."""
GRID = 128
"""Points along each axis at which masks are compared with those of their neighbours."""


@dataclass(frozen=True)
class Suggestion:
    """A frame that is not annotated, and what is thought of it.

    Attributes
    ----------
    frame : int
        Position in the movie.
    gain : float
        How much its annotation would help, in [0, 1]; frames are ranked by it.
    confidence : float
        Region similarity (J) to expect of its prediction, in [0, 1].
    reason : str
        One of `REASONS`: what speaks most for annotating it.
    """

    frame: int
    gain: float
    confidence: float
    reason: Reason

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Suggestion:
        """Read what `to_dict` returned.

        Raises
        ------
        TypeError
            If it is none.
        """
        return cls(**plain)


def suggest_frames(
    segmenter: Segmenter, clip: Clip, annotated: Collection[int] | None = None
) -> tuple[Suggestion, ...]:
    """Predict a movie and rank its frames by how much their annotation would help.

    Parameters
    ----------
    segmenter, clip, annotated
        As for `FrameReview.of`.

    Returns
    -------
    tuple of Suggestion
        All frames that are not annotated, best first.
    """
    review = FrameReview.of(segmenter, clip, annotated)
    for prediction in segmenter.iter_frames(clip):
        review.add(prediction)
    return review.ranking()


class FrameReview:
    """Sees the prediction of each frame, and says what to expect of it and which frames to annotate next.

    The doubt of a frame is a sum of what is known of it, each in standard deviations over the frames of its movie:
    the logit of its confidence, how unlike the annotated frames it looks to the network, and how far it is from them in
    time. The weights, and what was left out (disagreement under mirroring, of the last weights with their average, and
    with the neighbouring frames), follow from measurements on the development movies (``docs/tried.md``).

    Parameters
    ----------
    n_frames : int
        Of the movie.
    annotated : collection of int
        Positions of frames that are annotated already; they are never suggested.
    held_out : HeldOutScore, optional
        How well paint was found that was held out from training.
    """

    def __init__(self, n_frames: int, annotated: Collection[int], held_out: HeldOutScore | None = None) -> None:
        self.n_frames, self.annotated, self.held_out = n_frames, frozenset(annotated), held_out
        self._seen: dict[int, tuple[float, float]] = {}  # confidence and novelty
        self._masks: dict[int, NDArray[np.uint8]] = {}

    @classmethod
    def of(cls, segmenter: Segmenter, clip: Clip, annotated: Collection[int] | None = None) -> FrameReview:
        """Begin a review of what a segmenter predicts of a movie.

        Parameters
        ----------
        segmenter : Segmenter
        clip : Clip
        annotated : collection of int, optional
            Positions of the annotated frames; by default those that the segmenter has learned from.
        """
        if annotated is None:
            annotated = frames_learned_from(segmenter.provenance, clip)
        return cls(clip.n_frames, annotated, HeldOutScore.of(segmenter.provenance))

    def add(self, prediction: FramePrediction) -> None:
        """Take in the prediction of a frame; frames may come in any order."""
        self.see(prediction.frame, prediction.labels, prediction.confidence, prediction.novelty)

    def see(self, frame: int, labels: NDArray[Any], confidence: float, novelty: float | None) -> None:
        """Take in what `add` would, of a prediction that was made before; see `FramePrediction`."""
        self._seen[frame] = (float(confidence), 0.0 if novelty is None else novelty)
        self._masks[frame] = _small_mask(labels)

    def ranking(self) -> tuple[Suggestion, ...]:
        """Return the frames that were predicted and are not annotated, best first.

        The gain of a frame is the error to expect (1 - J) around it that its paint would settle: neighbours in time
        count the less the farther they are, and those near frames that rank higher are settled already.
        """
        frames = np.array(sorted(self._seen.keys() - self.annotated))
        if not len(frames):
            return ()
        parts = self._parts(frames)
        expected = self._expected(frames, parts)
        reach = max(1.0, REACH * self.n_frames)
        near = np.exp(-0.5 * ((frames[:, None] - frames[None]) / reach) ** 2)
        open_error = np.maximum(1 - expected, 1e-6)
        order: list[int] = []
        gains: dict[int, float] = {}
        while len(order) < len(frames):
            gain = near @ open_error / near.sum(1)
            gain[order] = -1.0
            best = int(np.argmax(gain))
            order.append(best)
            gains[best] = float(np.clip(gain[best], 0, 1))
            open_error = open_error * (1 - near[best])
        jumps = self._jumps(frames)
        return tuple(Suggestion(int(frames[i]), gains[i], float(expected[i]), _reason(parts, jumps, i)) for i in order)

    def expected(self) -> ExpectedAccuracy | None:
        """Return the accuracy to expect on frames that are not annotated; None where no paint was held out."""
        frames = np.array(sorted(self._seen.keys() - self.annotated))
        if self.held_out is None or not len(frames):
            return None
        return expected_accuracy(self.held_out, self._expected(frames, self._parts(frames)))

    def _parts(self, frames: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Return what is known of frames, in standard deviations over them; the higher the more doubtful."""
        confidence, novelty = np.array([self._seen[t] for t in frames.tolist()]).T
        distance = np.zeros(len(frames))
        if self.annotated:
            distance = np.log1p(np.abs(frames[:, None] - np.array(sorted(self.annotated))[None]).min(1))
        return {"confidence": -_standard(logit(confidence)), "novelty": _standard(novelty), "time": _standard(distance)}

    def _expected(self, frames: NDArray[np.int64], parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the J to expect of frames, spread about its mean as their confidence is."""
        doubt = np.sum([WEIGHTS[name] * part for name, part in parts.items()], axis=0)
        confidence = logit(np.array([self._seen[t][0] for t in frames.tolist()]))
        middle = float(confidence.mean())
        if self.held_out is not None:
            middle = expected_logit(self.held_out, middle)
        scale = float(np.std(doubt)) or 1.0
        return np.asarray(expit(middle - doubt / scale * min(float(confidence.std()), WIDEST_SPREAD)))

    def _jumps(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how much the mask of each frame differs from those of its neighbours, as `_parts` does."""
        change = np.zeros(len(frames))
        for i, t in enumerate(frames.tolist()):
            others = [self._masks[s] for s in (t - 1, t + 1) if s in self._masks]
            if others:
                change[i] = 1 - np.mean([_similarity(self._masks[t], other) for other in others])
        return _standard(change)


def _reason(parts: Mapping[str, NDArray[np.float64]], jumps: NDArray[np.float64], i: int) -> Reason:
    """Return what speaks most for annotating a frame."""
    if jumps[i] > JUMP and jumps[i] >= max(part[i] for part in parts.values()):
        return "jumps against its neighbours"
    strongest = max(parts, key=lambda name: WEIGHTS[name] * parts[name][i])
    words: dict[str, Reason] = {
        "confidence": "borders uncertain",
        "novelty": "objects unlike those painted",
        "time": "far from the painted frames",
    }
    return words[strongest]


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values)))


def _small_mask(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Return the foreground of a frame at some points of a grid, packed in bits."""
    steps = tuple(slice(None, None, max(1, n // GRID)) for n in labels.shape)
    return np.packbits(labels[steps] > 0)


def _similarity(mask: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    union = int(np.unpackbits(mask | other).sum())
    return int(np.unpackbits(mask & other).sum()) / union if union else 1.0
