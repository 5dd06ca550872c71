"""Real movies that are fetched from their publisher when they are asked for, checked by their checksum, and kept.

None of them is part of this package: who opens one has it from the publisher, on the publisher's terms.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import reading

PUBLISHER = "https://data.celltrackingchallenge.net/training-datasets"
TERMS = (
    "Movies of the Cell Tracking Challenge, https://celltrackingchallenge.net/datasets: name the challenge and cite "
    "Maška et al., Nature Methods 20, 1010 (2023) in publications; ask the data providers before public use outside of "
    "the challenge, and the organisers as well before commercial use."
)


@dataclass(frozen=True)
class RealMovie:
    """A movie of the Cell Tracking Challenge.

    Attributes
    ----------
    name
        Of the data set; the archive is ``NAME.zip``.
    title, provider
        What it shows, and whose it is.
    sha256, n_bytes
        Of the archive, as several projects that use it have published them.
    sequence
        Which sequence of the archive is shown.
    pixel_size
        Micrometres.
    minutes
        Between two frames.
    """

    name: str
    title: str
    provider: str
    sha256: str
    n_bytes: int
    sequence: str
    pixel_size: float
    minutes: float

    @property
    def address(self) -> str:
        """Where the archive is fetched from."""
        return f"{PUBLISHER}/{self.name}.zip"


REAL_MOVIES = {
    movie.name: movie
    for movie in (
        RealMovie(
            "Fluo-N2DH-GOWT1",
            "GFP-GOWT1 mouse stem cells",
            "E. Bártová, Academy of Sciences of the Czech Republic",
            "1a7bd9a7d1d10c4122c7782427b437246fb69cc3322a975485c04e206f64fc2c",
            59_331_035,
            "01",
            0.24,
            5,
        ),
        RealMovie(
            "PhC-C2DH-U373",
            "glioblastoma-astrocytoma U373 cells, phase contrast",
            "S. Kumar, University of California at Berkeley",
            "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
            43_454_399,
            "01",
            0.65,
            15,
        ),
    )
}
"""The movies that can be fetched, by name."""


def default_folder() -> Path:
    """Return where fetched archives are kept: a folder in the user's cache."""
    import platformdirs

    return platformdirs.user_cache_path("napari-osvos", appauthor=False) / "movies"


def fetch(movie: RealMovie, folder: Path | None = None, advance: Callable[[int, int], None] | None = None) -> Path:
    """Fetch the archive of a movie, unless it is there already.

    Parameters
    ----------
    movie : RealMovie
        Which one.
    folder : Path, optional
        Where to keep it; `default_folder` by default.
    advance : callable, optional
        Called with the bytes that have come and those of the whole archive.

    Returns
    -------
    Path
        The archive, whose checksum is right. A file that is cut short or another than expected is not kept.

    Raises
    ------
    OSError
        If it cannot be fetched or is not what it was; one sentence.
    """
    import pooch
    import requests

    folder = folder or default_folder()
    size = f"{movie.n_bytes / 1e6:.0f} MB"
    downloader = pooch.HTTPDownloader(
        progressbar=_Advance(movie.n_bytes, advance) if advance else False, chunk_size=2**18, timeout=30
    )
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                movie.address,
                known_hash=f"sha256:{movie.sha256}",
                fname=f"{movie.name}.zip",
                path=folder,
                downloader=downloader,
            )
        )
    except requests.HTTPError as error:
        answer = error.response
        if answer is not None:
            answer.close()  # pooch leaves it open
        raise OSError(
            f"{movie.address} answers with {'an error' if answer is None else answer.status_code}; "
            "the publisher may have moved the movie."
        ) from error
    except requests.RequestException as error:
        raise OSError(
            f"The movie {movie.name} ({size}) could not be fetched from {movie.address}; "
            "is this computer connected to the network?"
        ) from error
    except ValueError as error:  # pooch's word for another checksum
        raise OSError(
            f"What {movie.address} sent has another checksum than the movie {movie.name} had, so it was not kept; "
            "it may have been cut short, or the publisher changed it."
        ) from error
    except OSError as error:
        raise OSError(f"The movie {movie.name} ({size}) could not be kept in {folder}: {error}") from error


class _Advance:
    """The progress bar that pooch asks for."""

    def __init__(self, total: int, advance: Callable[[int, int], None]) -> None:
        self.total = total
        self._done, self._advance = 0, advance

    def update(self, n: int) -> None:
        self._done = min(self._done + n, self.total)
        self._advance(self._done, self.total)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        self._advance(self.total, self.total)


def read_archive(path: Path, sequence: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint16], int]:
    """Read a sequence, and the truth of one of its frames, out of an archive of the Cell Tracking Challenge.

    Parameters
    ----------
    path : Path
        Archive (``.zip``) of a training data set.
    sequence : str
        ``"01"`` or ``"02"``.

    Returns
    -------
    frames : (T, Y, X) array
        The movie.
    painted : (T, Y, X) uint16 array
        Labels of one frame, that with the most objects in the gold truth (or else the silver truth); 0 elsewhere.
    frame : int
        Which one.

    Raises
    ------
    OSError
        If the archive is damaged or holds no such sequence.
    """
    import tifffile

    def numbers(archive: zipfile.ZipFile, pattern: str) -> dict[int, str]:
        found = ((re.search(pattern, name), name) for name in archive.namelist())
        return dict(sorted((int(match[1]), name) for match, name in found if match))

    def picture(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
        return np.asarray(tifffile.imread(io.BytesIO(archive.read(name))))

    with reading(path), zipfile.ZipFile(path) as archive:
        names = numbers(archive, rf"(?:^|/){sequence}/t(\d+)\.tif$")
        truths = next(
            filter(None, (numbers(archive, rf"(?:^|/){sequence}_{t}/SEG/man_seg(\d+)\.tif$") for t in ("GT", "ST"))), {}
        )
        truths = {t: name for t, name in truths.items() if t in names}
        if not names or not truths:
            raise OSError(f"the archive holds no sequence {sequence} with truth")
        frames = np.stack([picture(archive, name) for name in names.values()])
        known = {t: picture(archive, name).astype(np.uint16) for t, name in truths.items()}
    best = max(known, key=lambda t: (len(np.unique(known[t])), -t))
    position = list(names).index(best)
    painted = np.zeros(frames.shape, np.uint16)
    painted[position] = known[best]
    return frames, painted, position
