"""The painted frames of a session on disk: one compressed file a frame, each written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import reading
from napari_osvos.machine import replacing


class PaintFolder:
    """The labels of some frames in a folder ``frames``. Safe to use from several threads.

    Parameters
    ----------
    path : Path
        Folder of the session; made when the first thing is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()

    def save_frames(self, frames: Mapping[int, npt.NDArray[Any] | None]) -> None:
        """Save the labels of some frames; the others stay as they were saved.

        Parameters
        ----------
        frames : mapping
            {frame: labels (Y, X) or (Z, Y, X), whole numbers; None or without paint where it was erased}.

        Raises
        ------
        OSError
            If the folder cannot be written; one sentence that names it. What was saved before stays.
        """
        with self._lock, self._writing():
            index, gone = self._index(), []
            for frame, labels in frames.items():
                key, name = str(frame), f"frame{frame:05d}.tif"
                if labels is not None and np.any(labels):
                    _write_labels(self._folder / name, labels)
                    index[key] = {"file": name, "shape": list(labels.shape)}
                elif key in index:
                    gone.append(self._folder / index.pop(key)["file"])
            write_json(self._folder / "index.json", {"painted": index})
            for path in gone:  # not before the index knows
                path.unlink(missing_ok=True)

    @property
    def frames(self) -> tuple[int, ...]:
        """The saved frames that hold paint, rising."""
        return tuple(sorted(map(int, self._index())))

    @property
    def has_paint(self) -> bool:
        """Whether a frame holds paint."""
        return bool(self._index())

    def read_frame(self, frame: int) -> npt.NDArray[Any]:
        """Read the labels of a saved frame.

        Raises
        ------
        OSError
            If it is not there or damaged; one sentence.
        """
        entry = self._index().get(str(frame))
        if entry is None:
            raise FileNotFoundError(f"The session folder {self.path} holds no painted frame {frame}.")
        return _read_labels(self._folder / entry["file"], entry.get("shape"))

    def read_frames(self) -> tuple[dict[int, npt.NDArray[Any]], list[str]]:
        """Read all saved frames that can be read.

        Returns
        -------
        frames : dict
            {frame: labels}.
        complaints : list of str
            One sentence for each that is damaged.
        """
        found, complaints = {}, []
        for frame in self.frames:
            try:
                found[frame] = self.read_frame(frame)
            except OSError as error:
                complaints.append(str(error))
        return found, complaints

    @property
    def _folder(self) -> Path:
        return self.path / "frames"

    def _index(self) -> dict[str, Any]:
        """Which frames hold paint; where the index is damaged or missing, all whose files are there."""
        painted = read_json(self._folder / "index.json").get("painted")
        if isinstance(painted, dict):
            return painted
        names = (re.fullmatch(r"frame(\d+)\.tif", path.name) for path in self._folder.glob("*.tif"))
        return {str(int(name[1])): {"file": name[0]} for name in names if name}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the folder where it is not there yet, and say in a sentence what cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise unwritable(self.path, error) from error


def unwritable(path: Path, error: OSError) -> OSError:
    """Say in a sentence that a session folder cannot be written."""
    cause = error.strerror or str(error).rstrip(".")
    return OSError(f"The session folder {path} cannot be written ({cause}); choose another one, or paint is not kept.")


def write_json(path: Path, plain: Mapping[str, Any]) -> None:
    """Write plain data, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(plain, indent=1), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read plain data; empty where the file is not there or damaged."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _write_labels(path: Path, labels: npt.NDArray[Any]) -> None:
    import tifffile

    low, high = int(labels.min()), int(labels.max())
    dtype: type[np.integer[Any]] = np.int64  # no labels, but paint all the same
    if low >= 0 and high <= np.iinfo(np.uint32).max:
        dtype = np.uint16 if high <= np.iinfo(np.uint16).max else np.uint32
    with replacing(path) as partial:
        tifffile.imwrite(
            partial,
            labels.astype(dtype),
            photometric="minisblack",
            compression="zlib",
            compressionargs={"level": 1},
            maxworkers=1,
            metadata={"axes": "ZYX"[-labels.ndim :]},
        )


def _read_labels(path: Path, shape: Sequence[int] | None) -> npt.NDArray[Any]:
    import tifffile

    with reading(path):
        labels: npt.NDArray[Any] = tifffile.imread(path)
        return labels.reshape(shape or labels.shape)  # axes of length 1 are lost in the file
