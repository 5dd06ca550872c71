"""Session folders: the paint and the settings of a movie, saved while the panel is open, found again after a crash.

A session folder holds::

    session.json              which movie, which program (computer, process id), whether it ended in order
    settings.json             the settings of the panel
    frames/index.json         which frames hold paint
    frames/frame00012.tif     labels of a painted frame, compressed
    rounds/round01*           a round: see `rounds`
    rounds/painting-*.npy     a layer to paint on that is too large for memory
    command/                  what "copy as command" needs: annotations, and the movie if it is in no file

Beside them, in the default folder of all sessions, ``folders.json`` names the folders that were chosen for them.

Every file is written beside its place and then renamed. Every layer that is painted on has a session folder of its own
in every viewer, so no two ever write to one place; one that goes on from others names them, for their rounds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import itertools
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import reading
from napari_osvos.labels import spell
from napari_osvos.movie_facts import MovieFacts
from napari_osvos.paint_folder import PaintFolder, read_json, write_json
from napari_osvos.rounds import RoundFolder

FOLDER_VARIABLE = "NAPARI_OSVOS_SESSIONS"
"""Environment variable that names the folder of all sessions."""
PAINTING = "painting-{}.npy"
"""Name, in the folder of the rounds, of a layer to paint on that is too large for memory."""
_FORMAT = 1
_ROOTS = "folders.json"
_COUNT = itertools.count(1)


def default_root() -> Path:
    """Return the folder of all sessions: that of the environment variable, or one in the user's data folder."""
    import platformdirs

    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    return platformdirs.user_data_path("napari-osvos", appauthor=False) / "sessions"


def known_roots() -> tuple[Path, ...]:
    """Return the folders that sessions are kept in: the present one, those chosen before, and the default one."""
    chosen = read_json(default_root() / _ROOTS).get("folders")
    named = [Path(one) for one in chosen if isinstance(one, str) and one] if isinstance(chosen, list) else []
    return tuple(dict.fromkeys([*named, default_root()]))


def choose_root(root: Path) -> None:
    """Have sessions kept in another folder from now on, also when the program is started anew: see `known_roots`.

    Raises
    ------
    OSError
        If there cannot be such a folder, or that cannot be noted; one sentence.
    """
    root = root.absolute()
    folders = [root, *(one for one in known_roots() if one != root)]
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_json(default_root() / _ROOTS, {"folders": list(map(str, folders))})
    except OSError as error:
        cause = error.strerror or str(error).rstrip(".")
        words = f"Sessions are not kept in {root} the next time ({cause}); choose a folder again then."
        raise OSError(words) from error


class SessionFolder(PaintFolder):
    """One session: one movie and one layer of paint in one viewer. Safe to use from several threads.

    Made by `for_movie` (a new one) or `open` (one that is there).

    Attributes
    ----------
    movie : MovieFacts
    rounds : RoundFolder
        What was learned and filled in this session.
    """

    def __init__(
        self, path: Path, movie: MovieFacts, owner: Mapping[str, Any], former: Sequence[str | Path] = ()
    ) -> None:
        super().__init__(path)
        self.movie = movie
        self.rounds = RoundFolder(path / "rounds")
        self._owner = dict(owner)
        self._former = tuple(map(Path, former))

    def __repr__(self) -> str:
        return f"SessionFolder({str(self.path)!r})"

    @classmethod
    def for_movie(
        cls, name: str, source: str | Path | None, shape: Sequence[int], dtype: npt.DTypeLike, root: Path | None = None
    ) -> SessionFolder:
        """Begin a session. The folder is made when the first thing is saved; `path` says where.

        Parameters
        ----------
        name, source, shape, dtype
            As `MovieFacts`.
        root : Path, optional
            Folder of all sessions; `default_root` by default.
        """
        facts = MovieFacts(name, None if source is None else str(source), tuple(shape), str(np.dtype(dtype)))
        word = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "movie"
        own = f"{word}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_COUNT)}"
        return cls((root or default_root()) / own, facts, _this_process())

    @classmethod
    def open(cls, path: str | Path) -> SessionFolder:
        """Open a session that is there, to read from it.

        Raises
        ------
        OSError
            If there is none or it cannot be read; one sentence.
        """
        path = Path(path)
        with reading(path / "session.json"):
            plain = json.loads((path / "session.json").read_text(encoding="utf-8"))
            return cls(path, MovieFacts(**plain["movie"]), dict(plain["owner"]), plain.get("former", ()))

    def save_settings(self, settings: Mapping[str, Any]) -> None:
        """Save the settings of the panel: plain data, as JSON can hold it.

        Raises
        ------
        OSError
            As `save_frames`.
        """
        with self._lock, self._writing():
            write_json(self.path / "settings.json", settings)

    def settings(self) -> dict[str, Any]:
        """Return the settings; empty where there are none or the file is damaged."""
        return read_json(self.path / "settings.json")

    @property
    def saved_at(self) -> float:
        """When something was last saved, in seconds since the epoch; 0 if never."""
        about_rounds = (self.path / "rounds").glob("*.json")
        parts = (self.path / "frames" / "index.json", self.path / "settings.json", *about_rounds)
        times = [path.stat().st_mtime for path in parts if path.exists()]
        return max(times, default=0.0)

    def segmenter_path(self, round: int) -> Path:
        """Return where the segmenter of a round is kept (`Request.keep`); its folder is made."""
        with self._lock, self._writing():
            (self.path / "rounds").mkdir(exist_ok=True)
        return self.rounds.segmenter(round)

    def go_on_from(self, former: Iterable[Path]) -> None:
        """Note that the rounds of other sessions on the movie go on in this one; they stay where they are.

        Nothing is made for it if nothing else was saved yet.

        Parameters
        ----------
        former : iterable of Path
            Folders of the sessions, beside those that were noted before.
        """
        with self._lock:
            known = {path: None for path in (*self._former, *former) if path != self.path}
            if tuple(known) != self._former:
                self._former = tuple(known)
                if (self.path / "session.json").exists():
                    with self._writing():
                        self._note()

    def former_sessions(self) -> list[SessionFolder]:
        """Open those that it goes on from; what is no longer there is passed over."""
        sessions = []
        for path in self._former:
            moved = self.path.parent / path.name  # together with this one
            with contextlib.suppress(OSError):
                sessions.append(SessionFolder.open(path if path.exists() else moved))
        return sessions

    @property
    def command_folder(self) -> Path:
        """Where "copy as command" puts its files; made."""
        with self._lock, self._writing():
            (self.path / "command").mkdir(exist_ok=True)
        return self.path / "command"

    @property
    def is_in_use(self) -> bool:
        """Whether the viewer that began it still has it open: its process lives and it was not closed."""
        return not self._state()["closed"] and _is_alive(self._owner)

    @property
    def in_words(self) -> str:
        """In words: ``3 painted frames (0, 4, 17) of movie.tif, saved on 22 November 2026, 13:20``."""
        frames, when = self.frames, time.localtime(self.saved_at)
        day = f"{when.tm_mday} {time.strftime('%B %Y, %H:%M', when)}"
        painted = f"{len(frames)} painted frame{'s' * (len(frames) != 1)} ({spell(frames)})" if frames else "no paint"
        return f"{painted} of {self.movie.name}, saved on {day}"

    def settle(self) -> None:
        """Note that the offer to bring it back was answered (yes or no): it is not offered again, but stays on disk."""
        with self._lock, self._writing():
            self._note(settled=True)

    def close(self) -> None:
        """End the session in order; one in which nothing was painted, trained or filled leaves no folder. Idempotent.

        What runs have written may be on the screen still: `rounds` is never emptied.
        """
        with self._lock:
            if not self.path.exists():
                return
            written = (path.name for path in (self.path / "rounds").glob("*"))
            if not self.has_paint and all(fnmatch.fnmatch(name, PAINTING.format("*")) for name in written):
                shutil.rmtree(self.path, ignore_errors=True)
                for former in self.former_sessions():  # nothing leads to their rounds any more
                    if former._state()["settled"]:
                        former._note(settled=False)
                return
            with self._writing():
                self._note(closed=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with super()._writing():
            if not (self.path / "session.json").exists():
                self._note()
            yield

    def _note(self, **changes: bool) -> None:
        state = {**self._state(), **changes}
        movie = dataclasses.asdict(self.movie)
        former = [str(path) for path in self._former]
        plain = {"format": _FORMAT, "movie": movie, "owner": self._owner, "former": former, **state}
        write_json(self.path / "session.json", plain)

    def _state(self) -> dict[str, bool]:
        plain = read_json(self.path / "session.json")
        return {word: bool(plain.get(word)) for word in ("closed", "settled")}


def find_recoverable(movie: MovieFacts, *roots: Path) -> list[SessionFolder]:
    """Find sessions on a movie with paint or rounds in them that no viewer has open, newest first.

    Those that crashed as well as those that were closed; not those that were settled (`SessionFolder.settle`). Damaged
    or foreign folders are passed over.

    Parameters
    ----------
    movie : MovieFacts
    *roots : Path
        Folders of sessions; all of `known_roots` by default.
    """
    found = []
    for path in _inside(roots or known_roots()):
        with contextlib.suppress(OSError):
            session = SessionFolder.open(path)
            worth = session.has_paint or not session.rounds.is_empty
            if worth and session.movie.is_same_movie(movie) and not session._state()["settled"]:
                found.append(session)
    return sorted((session for session in found if not session.is_in_use), key=lambda session: -session.saved_at)


def _inside(roots: Iterable[Path]) -> Iterator[Path]:
    """What is in some folders, each looked at once; one that is gone, as with its disk, holds nothing."""
    for root in {root.resolve(): root for root in roots}.values():
        with contextlib.suppress(OSError):
            yield from list(root.iterdir())


def _this_process() -> dict[str, Any]:
    import psutil

    return {"computer": platform.node(), "process": os.getpid(), "started": psutil.Process().create_time()}


def _is_alive(owner: Mapping[str, Any]) -> bool:
    """Whether the process that began a session still runs; one on another computer is not known to."""
    import psutil

    if owner.get("computer") != platform.node():
        return False
    try:
        # numbers of processes are given out again: the time of the start tells them apart
        return bool(abs(psutil.Process(int(owner["process"])).create_time() - float(owner["started"])) < 2)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
