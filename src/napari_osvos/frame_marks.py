"""The marks of finished frames: a small file for each, that is there once its pixels are."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_osvos.machine import replacing

MARKS = "frames"
"""Folder of the marks, in that of the frames."""


@dataclass(frozen=True)
class FinishedFrame:
    """What is known of a finished frame beside its labels.

    Attributes
    ----------
    frame : int
        Position in the movie.
    confidence : float or None
        As of `FramePrediction`; None where the labels are no prediction.
    novelty : float or None
        As of `FramePrediction`.
    seconds : float
        Time it took.
    largest : int
        Largest label.
    n_objects : int
        Number of labels.
    checksum : int
        CRC-32 of the labels, and of probabilities and uncertainties where there are any.
    """

    frame: int
    confidence: float | None
    novelty: float | None
    seconds: float
    largest: int
    n_objects: int
    checksum: int


class FrameMarks:
    """A folder of files such as ``00042.json``, each written by renaming.

    Parameters
    ----------
    folder : Path
        Several processes may add to it at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[int, FinishedFrame] = {}

    def finished(self) -> tuple[int, ...]:
        """Return the positions of the frames that have a mark by now, rising."""
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries]
        return tuple(sorted(int(name[:-5]) for name in names if name[0] != "." and name.endswith(".json")))

    def add(self, mark: FinishedFrame) -> None:
        """Mark a frame as finished.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        facts = {name: value for name, value in asdict(mark).items() if name != "frame"}
        with replacing(self._path(mark.frame)) as partial:
            partial.write_text(json.dumps(facts), encoding="utf-8")
        self._known[mark.frame] = mark

    def about(self, t: int) -> FinishedFrame:
        """Return the mark of a frame.

        Raises
        ------
        KeyError
            If it has none.
        """
        if t not in self._known:
            try:
                facts = json.loads(self._path(t).read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise KeyError(t) from None
            self._known[t] = FinishedFrame(t, **facts)
        return self._known[t]

    def drop(self, t: int) -> None:
        """Take a mark back."""
        self._known.pop(t, None)
        self._path(t).unlink()

    def _path(self, t: int) -> Path:
        return self.folder / f"{t:05d}.json"
