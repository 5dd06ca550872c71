"""Labels in a folder as DAVIS has them: a picture with a palette for each frame, ``00000.png``, the label its index.

The evaluation code of DAVIS 2016 and 2017, and the server of YouTube-VOS, read such a folder for each sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage
from napari_osvos.linked_movie import Progress, linked_frames
from napari_osvos.machine import check_space
from napari_osvos.writing import COMPRESSED_LABELS, replacing_folder

LARGEST_LABEL = 254
"""255 is what does not count."""


def davis_palette() -> npt.NDArray[np.uint8]:
    """Return the colours of DAVIS, (256, 3): the first 22 labels are coloured, the others grey."""
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    for label in range(22):
        # Red, green and blue take bits 0, 1, 2 for 128, and bits 3, 4, 5 for 64.
        palette[label] = [min(128 * (label >> k & 1) + 64 * (label >> k + 3 & 1), 191) for k in range(3)]
    return palette


def check_davis_folder(path: str | Path, *, overwrite: bool = False) -> Path:
    """Check, before any work is done, that a folder may be written under this name.

    Raises
    ------
    FileExistsError
        If it exists, is not empty, and `overwrite` is False.
    ValueError
        If it is a file, or a folder that holds anything but such pictures.
    """
    path = Path(path)
    if not path.exists():
        return path
    if not path.is_dir():
        raise ValueError(f"{path} is a file, which a folder never replaces; choose another name.")
    inside = sorted(entry.name for entry in path.iterdir())
    strange = [name for name in inside if not re.fullmatch(r"[0-9]{5,}\.png", name)]
    if strange:
        raise ValueError(f"{path} holds {strange[0]}, which no exported folder does; choose another name.")
    if inside and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or allow overwriting it.")
    return path


def check_no_stacks(path: str | Path, ndim: int, name: str) -> None:
    """Raise ValueError if labels of so many axes have frames that are stacks; `name` is what they are called."""
    if ndim != 3:
        raise ValueError(f"{path} cannot hold {name}: DAVIS has no stacks; export to another format.")


def check_davis_ids(path: str | Path, largest: int) -> None:
    """Raise ValueError if a folder cannot hold ids up to `largest`."""
    if largest > LARGEST_LABEL:
        raise ValueError(
            f"{path} cannot hold the id {largest}: DAVIS has no labels above {LARGEST_LABEL}; export to another format."
        )


def write_davis_folder(
    path: str | Path, labels: Labels, lineage: Lineage, *, overwrite: bool = False, progress: Progress | None = None
) -> None:
    """Write ``00000.png``, ``00001.png`` ... by frame number, 8-bit pictures with the palette of DAVIS.

    Parameters
    ----------
    path : str or Path
        The folder, named as the sequence; it appears only when it is complete.
    labels, lineage
        A linked movie of planes.
    overwrite : bool
        Whether to replace such a folder that is there.
    progress : callable, optional
        Told the frames done and their number.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    ValueError
        If labels and lineage do not fit, frames are stacks, an id exceeds 254, or `path` is something else.
    OSError
        If the disk has too little space or cannot be written.
    """
    from PIL import Image

    path = check_davis_folder(path, overwrite=overwrite)
    check_no_stacks(path, labels.ndim, labels.name)
    check_davis_ids(path, max(lineage, default=0))
    check_space(path, int(np.prod(labels.shape, dtype=np.int64) * COMPRESSED_LABELS))
    colours = davis_palette().tobytes()
    with replacing_folder(path) as partial:
        partial.mkdir()
        for number, frame in _numbered(labels, lineage, progress):
            picture = Image.fromarray(frame)
            picture.putpalette(colours)
            picture.save(partial / f"{number:05d}.png")


def _numbered(
    labels: Labels, lineage: Lineage, progress: Progress | None
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    for frame in linked_frames(labels, lineage, progress):
        yield frame.number, np.concatenate([[0], frame.ids]).astype(np.uint8)[frame.places]
