"""By what a file or folder is known again: what results were made from is to be what it was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from napari_osvos.formats import is_zarr
from napari_osvos.frame_folder import frame_files
from napari_osvos.unfinished import is_unfinished


def path_facts(path: str | Path) -> dict[str, Any]:
    """Return what tells a file or folder from another, or from what it was before, without reading it.

    Its absolute path, the number of its files, their bytes, and a digest of their names, sizes and times of the last
    change. Of a folder of frames these are the frames, since results may lie beside them; of other folders, such as
    OME-Zarr, all files at any depth, but what a run that is not finished keeps there.

    Raises
    ------
    OSError
        If it is not there.
    """
    path = Path(path).resolve()
    facts = [(file.relative_to(path).as_posix(), file.stat()) for file in _files_of(path)]
    state = sorted((name, fact.st_size, fact.st_mtime_ns) for name, fact in facts)
    return {
        "path": str(path),
        "files": len(facts),
        "bytes": sum(fact.st_size for _, fact in facts),
        "state": hashlib.sha256(repr(state).encode()).hexdigest(),
    }


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    frames = [] if is_zarr(path) else frame_files(path)
    if frames:
        return frames
    files = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not is_unfinished(Path(folder, name))]
        files += [Path(folder, name) for name in names]
    return files
