"""Rounds: every run with all that belongs to it, kept in its session folder until it is deleted.

The folder ``rounds`` of a session holds, of round 3::

    round03-paint/        the paint that it learned from, as a `PaintFolder`
    round03.json          what is said of it: `Round`
    round03.osvos         what it has learned: a segmenter
    round03-masks.zarr    its masks
    round03.deleted       it was deleted, though not all of it may be gone yet

Paint comes first, ``round03.json`` next, so that whatever is listed can be gone back to; it names a frame as filled
only once its masks are there. A round is deleted by renaming ``round03.json``, in one step, before anything else goes.
So whenever a program is killed, what is listed is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_osvos.formats import UnreadableFileError
from napari_osvos.paint_folder import PaintFolder, unwritable, write_json
from napari_osvos.round_record import Round

_FORMAT = 1


class RoundFolder:
    """The rounds of a session on disk.

    Parameters
    ----------
    path : Path
        The folder ``rounds`` of the session; made when the first thing is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"RoundFolder({str(self.path)!r})"

    def file(self, number: int, ending: str) -> Path:
        """Return where a part of a round is kept, such as ``-masks.zarr``."""
        return self.path / f"round{number:02d}{ending}"

    def segmenter(self, number: int) -> Path:
        """Return where the segmenter of a round is kept."""
        return self.file(number, ".osvos")

    def masks(self, number: int) -> Path:
        """Return where the masks of a round are kept."""
        return self.file(number, "-masks.zarr")

    @property
    def highest(self) -> int:
        """Highest number that a part of a round has; 0 without any."""
        return max(self._numbers(r"round(\d+)[.-].*"), default=0)

    @property
    def segmenters(self) -> tuple[int, ...]:
        """The rounds whose segmenter is there, rising; those of which nothing else is known among them."""
        deleted = self._numbers(r"round(\d+)\.deleted")
        return tuple(sorted(self._numbers(r"round(\d+)\.osvos") - deleted))

    @property
    def is_empty(self) -> bool:
        """Whether there is no round, judging by the names of files."""
        return not self.segmenters and not self._numbers(r"round(\d+)\.json")

    def _numbers(self, pattern: str) -> set[int]:
        names = os.listdir(self.path) if self.path.is_dir() else ()
        return {int(found[1]) for found in (re.fullmatch(pattern, name) for name in names) if found}

    # -- saving --------------------------------------------------------------------------------

    def save(self, round: Round) -> None:
        """Save what is said of a round; its paint and the masks of frames that are filled must be there.

        Raises
        ------
        OSError
            If it cannot be written; one sentence.
        """
        with self._writing():
            plain = round.to_dict()
            if round.start is not None and round.start.parent == self.path:
                plain["start"] = round.start.name  # so that the folder can be moved
            write_json(self.file(round.number, ".json"), {"format": _FORMAT, **plain})

    def save_paint(self, number: int, frames: Mapping[int, npt.NDArray[Any]]) -> None:
        """Save the paint that a round learns from.

        Raises
        ------
        OSError
            As `save`.
        """
        PaintFolder(self.file(number, "-paint")).save_frames(frames)

    # -- reading -------------------------------------------------------------------------------

    def read(self, number: int) -> Round:
        """Read what is said of a round.

        Raises
        ------
        OSError
            If it is not there or damaged; one sentence.
        """
        path = self.file(number, ".json")
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(plain, dict) or plain.get("format") != _FORMAT:
                raise ValueError(f"it must be of format {_FORMAT}")
            known = Round.from_dict(plain)
            if known.number != number:
                raise ValueError(f"it says that it is round {known.number}")
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is not there, so nothing is known of round {number}.") from None
        except ValueError as error:
            raise UnreadableFileError(f"{path} cannot be read; it may be damaged: {error}.") from error
        return known if known.start is None else dataclasses.replace(known, start=self.path / known.start)

    def read_all(self) -> tuple[list[Round], list[str]]:
        """Read all rounds that have learned something or filled a frame, by rising number.

        Returns
        -------
        rounds : list of Round
        complaints : list of str
            One sentence for each that is damaged.
        """
        found, complaints = [], []
        for number in sorted(self._numbers(r"round(\d+)\.json")):
            try:
                known = self.read(number)
            except OSError as error:
                complaints.append(str(error))
                continue
            if known.filled or self.segmenter(number).exists():
                found.append(known)
        return found, complaints

    def read_paint(self, number: int) -> tuple[dict[int, npt.NDArray[Any]], list[str]]:
        """Read the paint that a round learned from: {frame: labels}, and a sentence for each frame that is damaged."""
        return PaintFolder(self.file(number, "-paint")).read_frames()

    # -- deleting ------------------------------------------------------------------------------

    def delete(self, number: int) -> None:
        """Delete a round with all that belongs to it; what is not there is passed over.

        Raises
        ------
        OSError
            If it cannot be deleted; one sentence. It is listed no more all the same, unless nothing could be done.
        """
        with self._writing():
            about = self.file(number, ".json")
            deleted = self.file(number, ".deleted")
            if about.exists():
                os.replace(about, deleted)
            elif self.path.is_dir():
                deleted.touch()
            self._clear(number)

    def finish_deletions(self) -> None:
        """Delete what is left of rounds whose deletion was cut short."""
        for number in self._numbers(r"round(\d+)\.deleted"):
            with contextlib.suppress(OSError):
                self._clear(number)

    def _clear(self, number: int) -> None:
        deleted = self.file(number, ".deleted")
        for part in [*self.path.glob(f"round{number:02d}.*"), *self.path.glob(f"round{number:02d}-*")]:
            if part.is_dir():
                shutil.rmtree(part)
            elif part != deleted:
                part.unlink(missing_ok=True)
        deleted.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.path.parent, error) from error
