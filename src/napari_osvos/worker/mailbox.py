"""Arrays on their way between two processes: files of the ``.npy`` format in a folder of memory, each read once.

On Linux the folder is in ``/dev/shm``, whose files are the pages of POSIX shared memory. Elsewhere it is the temporary
folder: a file that lives for milliseconds stays in the disk cache. What does not fit in the one goes to the other.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MEMORY = Path("/dev/shm")


class Mailbox:
    """A pair of folders, a fast one and a spare one, in which processes leave arrays for each other.

    Parameters
    ----------
    folders : sequence of path
        Existing folders, in the order in which they are tried.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [Path(folder) for folder in folders]
        self._owner = f"{os.getpid()}-"
        self._numbers = itertools.count()

    @classmethod
    def create(cls, memory: Path = MEMORY) -> Mailbox:
        """Make new folders, which only this user can read.

        Raises
        ------
        OSError
            If there is no place for temporary files.
        """
        prefix = f"napari-osvos-{os.getpid()}-"
        folders = []
        if sys.platform == "linux" and memory.is_dir():
            with contextlib.suppress(OSError):
                folders.append(tempfile.mkdtemp(prefix=prefix, dir=memory))
        folders.append(tempfile.mkdtemp(prefix=prefix))
        return cls(folders)

    def post(self, array: npt.NDArray[Any]) -> str:
        """Write an array and return where: the address for `take`.

        Raises
        ------
        OSError
            If it fits nowhere.
        """
        for last, folder in zip([*[False] * (len(self.folders) - 1), True], self.folders, strict=True):
            path = folder / f"{self._owner}{next(self._numbers)}.npy"
            try:
                # Written rather than mapped: a full disk or memory is an error here, and in a mapping the process' end.
                np.save(path, array, allow_pickle=False)
                return str(path)
            except OSError:
                with contextlib.suppress(OSError):
                    path.unlink()
                if last:
                    raise
        raise OSError("The mailbox has no folder.")

    @staticmethod
    def take(address: str) -> npt.NDArray[Any]:
        """Read an array and remove it.

        Raises
        ------
        OSError
            If it is not there.
        """
        try:
            array: npt.NDArray[Any] = np.load(address, allow_pickle=False)
            return array
        finally:
            Mailbox.discard(address)

    @staticmethod
    def discard(address: str) -> None:
        """Remove an array that nobody wants any more."""
        with contextlib.suppress(OSError):
            os.unlink(address)

    def unread(self) -> int:
        """Number of arrays that this process has written and nobody has taken yet."""
        names = (name for folder in self.folders if folder.is_dir() for name in os.listdir(folder))
        return sum(name.startswith(self._owner) for name in names)

    def remove(self) -> None:
        """Remove the folders with all that is in them."""
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
