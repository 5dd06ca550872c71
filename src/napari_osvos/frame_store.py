"""Labels of a movie while they are made, in a folder: each frame is there wholly or not at all, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import METADATA_KEY
from napari_osvos.frame_marks import MARKS, FinishedFrame, FrameMarks
from napari_osvos.labels import FrameStack, Labels, values_in
from napari_osvos.machine import aside
from napari_osvos.ome_zarr import create_image
from napari_osvos.writing import DISK_FULL, replacing_folder

# Labels beyond uint16 may come with any frame; the folder does not last, and zeros above compress to nothing.
LABELS_DTYPE = np.dtype(np.uint32)
PROBABILITY, UNCERTAINTY = "probability", "uncertainty"


class FrameStore:
    """Labels of one movie being filled, frame by frame, in a folder that is a valid OME-Zarr all along.

    A frame is finished once its mark is there: a small file, ``frames/00042.json``, written by renaming after the
    pixels. Several threads and processes may write different frames at once. Opened again, the store goes on.

    Attributes
    ----------
    path : Path
        The folder.
    shape : tuple of int
        (T, Y, X) or (T, Z, Y, X).
    identity : dict
        What the labels follow from, plain data.
    probabilities, uncertainty : bool
        Whether frames have them, too.
    """

    def __init__(self, path: str | Path) -> None:
        import zarr

        self.path = Path(path)
        try:
            group: Any = zarr.open_group(str(self.path), mode="r+")
            notes = group.attrs[METADATA_KEY]["unfinished"]
            self.identity: dict[str, Any] = dict(notes["identity"])
            self.probabilities, self.uncertainty = bool(notes[PROBABILITY]), bool(notes[UNCERTAINTY])
            self._labels = group["0"]
            self._others = {name: group[name]["0"] for name in (PROBABILITY, UNCERTAINTY) if notes[name]}
        except Exception as error:
            if not self.path.exists():
                raise FileNotFoundError(f"There is no folder {self.path}.") from error
            raise ValueError(f"{self.path} is no folder of unfinished frames, or is damaged ({error}).") from error
        self.shape = tuple(int(n) for n in self._labels.shape)
        self._marks = FrameMarks(self.path / MARKS)
        self._reading = threading.Lock()
        self._read: tuple[int, npt.NDArray[np.int32]] | None = None  # the slices of a stack are read one by one

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        shape: Sequence[int],
        identity: Mapping[str, Any],
        probabilities: bool = False,
        uncertainty: bool = False,
        frame_numbers: Sequence[int] | None = None,
        overwrite: bool = False,
    ) -> FrameStore:
        """Open the frames of an earlier run, or begin.

        Parameters
        ----------
        path : str or Path
            The folder, see `unfinished_path`.
        shape : sequence of int
            Of the labels of the whole movie, (T, Y, X) or (T, Z, Y, X).
        identity : mapping
            What the labels follow from, plain data: movie, segmenter, settings.
        probabilities, uncertainty : bool
            Whether they are wanted of each frame.
        frame_numbers : sequence of int, optional
            The number of each frame, for whoever looks at the folder.
        overwrite : bool
            Whether what is there may be replaced if it is of another identity.

        Raises
        ------
        ValueError
            If what is there follows from something else, or is no store, and `overwrite` is False.
        OSError
            If it cannot be written.
        """
        path, identity = Path(path), json.loads(json.dumps(dict(identity)))
        if path.exists():
            if not (path / MARKS).is_dir():
                raise ValueError(f"{path} is no folder of unfinished frames; move it away, or choose another output.")
            with contextlib.suppress(*([ValueError] if overwrite else [])):
                store = cls(path)
                store._check(tuple(shape), identity, probabilities, uncertainty)
                return store
        asked = {"identity": identity, PROBABILITY: probabilities, UNCERTAINTY: uncertainty}
        with _disk_full(f"{path} was begun"), replacing_folder(path) as partial:
            how: dict[str, Any] = {"frame_numbers": frame_numbers, "name": path.name}
            create_image(partial, shape, LABELS_DTYPE, **how, more={"unfinished": asked})
            for name, dtype in ((PROBABILITY, np.float32), (UNCERTAINTY, np.float16)):
                if asked[name]:
                    create_image(partial / name, shape, np.dtype(dtype), **how)
            (partial / MARKS).mkdir()
        return cls(path)

    def _check(
        self, shape: tuple[int, ...], identity: Mapping[str, Any], probabilities: bool, uncertainty: bool
    ) -> None:
        """Make sure that this is the store that is meant."""
        other = ", ".join(_differences(self.identity, identity))
        if not other and shape != self.shape:
            other = "movie"
        if not other and ((probabilities and not self.probabilities) or (uncertainty and not self.uncertainty)):
            other = "choice of files"
        if other:
            raise ValueError(
                f"{self.path} holds what an earlier run finished with another {other}; repeat its command to go on "
                "with it, choose another output, or add --force to begin afresh."
            )

    @property
    def n_frames(self) -> int:
        """Number of frames of the movie, T."""
        return self.shape[0]

    @property
    def finished(self) -> tuple[int, ...]:
        """Positions of the finished frames, rising."""
        return self._marks.finished()

    @property
    def missing(self) -> tuple[int, ...]:
        """Positions of the frames that are not finished, rising."""
        finished = set(self.finished)
        return tuple(t for t in range(self.n_frames) if t not in finished)

    def write(
        self,
        t: int,
        labels: npt.NDArray[Any],
        *,
        confidence: float | None,
        probability: npt.NDArray[Any] | None = None,
        uncertainty: npt.NDArray[Any] | None = None,
        novelty: float | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Write a frame; once this returns it is finished.

        Parameters
        ----------
        t : int
            Position in the movie.
        labels : (Y, X) or (Z, Y, X) array
            Whole numbers from 0 to 2^32 - 1.
        confidence : float or None
            See `FinishedFrame`, as for `novelty` and `seconds`.
        probability, uncertainty : array, optional
            Of the same shape, float in [0, 1]; needed where the store was opened with them.

        Raises
        ------
        ValueError
            If there is no such frame, or something is missing or of another shape.
        OSError
            If it cannot be written; with ``errno.ENOSPC`` if the disk is full. FileNotFoundError if the folder was
            removed meanwhile, as by a client that wants no more.
        """
        if not 0 <= t < self.n_frames:
            raise ValueError(f"{self.path} has no frame at position {t}; it has {self.n_frames} frames.")
        others = {PROBABILITY: probability, UNCERTAINTY: uncertainty}
        for name, values in {"labels": labels, **{name: others[name] for name in self._others}}.items():
            found = None if values is None else values.shape
            if found != self.shape[1:]:
                raise ValueError(f"The {name} of frame {t} are {found} pixels; frames are {self.shape[1:]}.")
        pixels = np.ascontiguousarray(labels, LABELS_DTYPE)
        more = {name: np.ascontiguousarray(others[name], array.dtype) for name, array in self._others.items()}
        ids = values_in(pixels)
        mark = FinishedFrame(
            frame=t,
            confidence=None if confidence is None else float(confidence),
            novelty=None if novelty is None else float(novelty),
            seconds=round(float(seconds), 4),
            largest=int(ids[-1]),
            n_objects=int(np.count_nonzero(ids)),
            checksum=_checksum(pixels, *more.values()),
        )
        if not self._marks.folder.is_dir():  # zarr would make folders anew, and leave half a store behind
            raise FileNotFoundError(f"There is no folder {self.path} any more; frame {t} was not written.")
        with _disk_full(f"frame {t} was written to {self.path}"):
            for name, array in self._others.items():
                array[t] = more[name]
            self._labels[t] = pixels
            self._marks.add(mark)

    def about(self, t: int) -> FinishedFrame:
        """Return what is known of a finished frame.

        Raises
        ------
        KeyError
            If it is not finished.
        """
        return self._marks.about(t)

    @property
    def confidence(self) -> dict[int, float]:
        """Confidence of each finished frame that is a prediction, by position."""
        known = ((t, self.about(t).confidence) for t in self.finished)
        return {t: confidence for t, confidence in known if confidence is not None}

    def labels(self, t: int) -> npt.NDArray[np.int32]:
        """Return the labels of a finished frame, (Y, X) or (Z, Y, X) int32.

        Raises
        ------
        KeyError
            If it is not finished.
        OSError
            If it cannot be read.
        """
        with self._reading:
            if self._read is None or self._read[0] != t:
                self.about(t)
                self._read = t, np.asarray(self._labels[t]).view(np.int32)
            return self._read[1]

    def probability(self, t: int) -> npt.NDArray[np.float32]:
        """Return the probability of foreground of a finished frame, float32 in [0, 1]."""
        return np.asarray(self._others[PROBABILITY][t], np.float32)

    def pixel_uncertainty(self, t: int) -> npt.NDArray[np.float32]:
        """Return how undecided each pixel of a finished frame is, float32 in [0, 1]."""
        return np.asarray(self._others[UNCERTAINTY][t], np.float32)

    def stack(
        self,
        positions: Sequence[int] | None = None,
        frame_numbers: Sequence[int] | None = None,
        name: str = "the labels",
    ) -> Labels:
        """Return finished frames as labels that are read when they are asked for.

        Parameters
        ----------
        positions : sequence of int, optional
            Of the frames, rising; by default all that are finished by now.
        frame_numbers : sequence of int, optional
            The number of each frame of the movie; by default they are counted from 0.
        name : str
            What messages call the labels.

        Raises
        ------
        ValueError
            If there are none.
        """
        positions = self.finished if positions is None else tuple(positions)
        numbers = None if frame_numbers is None else [frame_numbers[t] for t in positions]
        return Labels(FrameStack(self.labels, positions, self.shape[1:]), frame_numbers=numbers, name=name)

    def drop_damaged(self, progress: Callable[[int, int], object] | None = None) -> tuple[int, ...]:
        """Take back every finished frame whose pixels are not what was written, as after a power cut; return them.

        Parameters
        ----------
        progress : callable, optional
            Told the frames looked at and their number.
        """
        finished, damaged = self.finished, []
        for done, t in enumerate(finished, start=1):
            if not self._is_sound(t):
                damaged.append(t)
                self._marks.drop(t)
            if progress is not None:
                progress(done, len(finished))
        return tuple(damaged)

    def _is_sound(self, t: int) -> bool:
        try:
            return _checksum(*(array[t] for array in (self._labels, *self._others.values()))) == self.about(t).checksum
        except Exception:  # a damaged chunk, or a mark that is no JSON
            return False

    def remove(self) -> None:
        """Delete the folder: at once out of sight, then file by file."""
        gone = aside(self.path, "partial")
        os.replace(self.path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _checksum(*parts: Any) -> int:
    """Return the CRC-32 of arrays one after the other."""
    value = 0
    for part in parts:
        flat: Any = np.ascontiguousarray(part).reshape(-1).view(np.uint8)  # no copy: a frame may be huge
        value = zlib.crc32(flat, value)
    return value


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys at which two identities differ."""
    for key in {**one, **other}:
        if one.get(key) != other.get(key):
            yield key


@contextlib.contextmanager
def _disk_full(doing: str) -> Iterator[None]:
    """Say in a sentence that the disk became full."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(errno.ENOSPC, f"The disk became full while {doing}; free some space.") from error
