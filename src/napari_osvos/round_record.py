"""What is said of a round: plain data that outlives the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_osvos.movie_facts import MovieFacts

MOST_POINTS = 600
"""Points of a loss curve that are kept; a curve is drawn no better with more."""
_FRAMES = ("annotated", "partial", "corrected", "accepted", "filled")


@dataclass(frozen=True)
class Round:
    """What is said of a round; plain data throughout, so that a file of another version can be read.

    Attributes
    ----------
    number : int
        From 1.
    movie : MovieFacts
        What it segmented.
    when : float
        When it began, in seconds since the epoch.
    axes, channels
        How the movie was read: letters as `LayerAxes`, and the channels, None for all.
    tuning : mapping or None
        `FineTuneConfig.to_dict`; None if it applied a segmenter as it was.
    prediction : mapping or None
        `PredictConfig.to_dict`; None if that was left to the segmenter.
    parent : str
        General network that it started from, unless there is a `start`.
    start : Path or None
        Segmenter that it started from, or applied.
    annotated, partial, corrected, accepted : tuple of int
        Frames that it learned from; those painted in part only, corrected, or accepted as they are.
    background_label : int or None
        Label that paints background.
    expected : mapping or None
        `ExpectedAccuracy.to_dict`.
    suggestions : tuple of mapping
        `Suggestion.to_dict` of frames to annotate next, best first.
    confidences : mapping
        {frame: region similarity (J) to expect, in [0, 1]}.
    losses : tuple of (int, float)
        Step and loss, at most `MOST_POINTS`.
    learned_in, filled_in : float
        Seconds.
    cut_short : bool
        Whether it was stopped before learning was over.
    device, threads
        As `Request`.
    task : str
        What its labels mean: ``look-alike`` or ``distinct``; empty if it did not come to its end.
    linked : bool
        Whether a label is the same object in all frames, which were followed through time.
    filled : tuple of int
        Frames whose masks are there.
    settings : mapping
        Of the panel, as it was when the round began.
    """

    number: int
    movie: MovieFacts
    when: float = 0.0
    axes: str = ""
    channels: tuple[int, ...] | None = None
    tuning: Mapping[str, Any] | None = None
    prediction: Mapping[str, Any] | None = None
    parent: str = ""
    start: Path | None = None
    annotated: tuple[int, ...] = ()
    partial: tuple[int, ...] = ()
    corrected: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()
    background_label: int | None = None
    expected: Mapping[str, Any] | None = None
    suggestions: tuple[Mapping[str, Any], ...] = ()
    confidences: Mapping[int, float] = field(default_factory=dict)
    losses: tuple[tuple[int, float], ...] = ()
    learned_in: float = 0.0
    filled_in: float = 0.0
    cut_short: bool = False
    device: str = "auto"
    threads: int | None = None
    task: str = ""
    linked: bool = False
    filled: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def quality(self) -> str:
        """How much it learned, as the dial says it; empty if it applied a segmenter as it was."""
        return "" if self.tuning is None else str(self.tuning.get("quality", ""))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON can hold it."""
        plain = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        plain["movie"] = dataclasses.asdict(self.movie)
        plain["start"] = None if self.start is None else str(self.start)
        plain["confidences"] = {str(frame): round(value, 4) for frame, value in self.confidences.items()}
        plain["losses"] = [[step, float(f"{loss:.5g}")] for step, loss in thinned(self.losses)]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Round:
        """Read what `to_dict` returned; keys that are not known are passed over.

        Raises
        ------
        ValueError
            If it is none; says what is wrong.
        """
        known = {spec.name: plain[spec.name] for spec in dataclasses.fields(cls) if spec.name in plain}
        try:
            known["movie"] = MovieFacts(**plain["movie"])
            known["number"] = int(plain["number"])
            known["start"] = None if plain.get("start") is None else Path(plain["start"])
            known["channels"] = None if plain.get("channels") is None else tuple(map(int, plain["channels"]))
            known["losses"] = tuple((int(step), float(loss)) for step, loss in plain.get("losses", ()))
            known["confidences"] = {int(frame): float(c) for frame, c in dict(plain.get("confidences", {})).items()}
            known["suggestions"] = tuple(dict(one) for one in plain.get("suggestions", ()))
            known |= {name: tuple(map(int, plain.get(name, ()))) for name in _FRAMES}
            for name in ("when", "learned_in", "filled_in"):
                known[name] = float(plain.get(name, 0.0))
            for name in ("tuning", "prediction", "expected"):
                known[name] = None if plain.get(name) is None else dict(plain[name])
            known["linked"] = bool(plain.get("linked", False))  # older files do not say
            known["settings"] = dict(plain.get("settings", {}))
        except KeyError as error:
            raise ValueError(f"{error.args[0]!r} is missing") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error
        return cls(**known)


def thinned(points: Sequence[tuple[int, float]], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """Return at most so many points of a curve, evenly spread, its first and last among them."""
    if len(points) <= most:
        return list(points)
    return [points[i * (len(points) - 1) // (most - 1)] for i in range(most)]
