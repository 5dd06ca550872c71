"""What `faults.py` tries faults on: a small movie, its undisturbed labels, commands that are run, killed and judged."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

from napari_osvos import read_labels, write_labels

N_FRAMES, EDGE = 24, 96
LEARN = ("--steps", "12", "--crops", "1", "--crop-size", "64", "--object-diameter", "24")
PROGRAM = "napari-osvos"
WAIT = 600.0
"""Seconds after which a command counts as hanging."""


@dataclass
class Row:
    """A line of the table: one fault, tried so many times."""

    fault: str
    tried: int = 0
    answered: int = 0
    codes: list[int] = field(default_factory=list)
    said: str = ""
    kept: str = ""
    same: str = "-"
    wrong: list[str] = field(default_factory=list)

    def add(self, wrong: Sequence[str] = (), *, code: int | None = None, said: str = "") -> None:
        """Count one try; `wrong` says what was not as it should be."""
        self.tried += 1
        self.answered += not wrong
        self.wrong.extend(wrong)
        if code is not None:
            self.codes.append(code)
        self.said = said or self.said

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        codes = ", ".join(map(str, sorted(set(self.codes)))) or "-"
        said = self.said if len(self.said) < 300 else f"{self.said[:300]} ..."
        return (self.fault, str(self.tried), str(self.answered), codes, said, self.kept or "-", self.same)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    said: str
    seconds: float

    @property
    def sentence(self) -> str:
        """The error, or else the first warning."""
        for sign in (f"{PROGRAM}: error: ", f"{PROGRAM}: warning: "):
            for line in self.said.splitlines():
                if line.startswith(sign):
                    return line.removeprefix(sign)
        return ""


class Bench:
    """A folder with a movie of discs that move, its paint, a segmenter learned from it, and undisturbed labels.

    Parameters
    ----------
    folder : Path
        Empty.
    seed : int
        Moments are drawn from it.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        y, x = np.mgrid[:EDGE, :EDGE]
        self.truth = np.zeros((N_FRAMES, EDGE, EDGE), np.uint16)
        for t, frame in enumerate(self.truth):
            for id, (cy, cx) in enumerate([(24, 14 + 2 * t), (66, 70 - 2 * t)], start=1):
                frame[(y - cy) ** 2 + (x - cx) ** 2 <= 100] = id
        noise = np.random.default_rng(0).normal(0, 8, self.truth.shape)
        self.frames = (60 + 120 * (self.truth > 0) + noise).clip(0, 255).astype(np.uint8)
        self.movie, self.painted = folder / "movie.tif", folder / "painted.tif"
        self.segmenter = folder / "cells.osvos"
        tifffile.imwrite(self.movie, self.frames, imagej=True, metadata={"axes": "TYX"})
        write_labels(self.painted, self.truth * (np.arange(N_FRAMES) == 0)[:, None, None])
        self._n_places = 0
        self.expected: dict[str, np.ndarray] = {}
        self.seconds: dict[str, float] = {}
        for verb in ("segment", "predict"):
            out = self.place()
            words = self.words(verb, out) + (["--save", str(self.segmenter)] if verb == "segment" else [])
            ended, worked = self.timed(words)
            if ended.code:
                raise SystemExit(f"The undisturbed run failed: {ended.said}")
            self.expected[verb], self.seconds[verb] = labels_of(out / "labels.tif"), worked
        self.paint_bytes = self.painted.read_bytes()

    def place(self) -> Path:
        """Return a new folder."""
        self._n_places += 1
        path = self.folder / f"run{self._n_places:03d}"
        path.mkdir()
        return path

    def words(self, verb: str, out: Path, movie: Path | None = None, segmenter: Path | None = None) -> list[str]:
        """Return a command that writes labels and measurements into a folder."""
        ends = ["-o", str(out / "labels.tif"), "--export", str(out / "cells.csv"), "--device", "cpu"]
        if verb == "segment":
            return ["segment", str(movie or self.movie), "-a", str(self.painted), *ends, *LEARN]
        return ["predict", str(segmenter or self.segmenter), str(movie or self.movie), *ends]

    def run(
        self,
        words: Sequence[str],
        *,
        meanwhile: Callable[[], object] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Ended:
        """Run a command to its end; `meanwhile` is called once it works, `before` in its process before it starts."""
        return self._run(words, meanwhile=meanwhile, before=before)[0]

    def timed(self, words: Sequence[str]) -> tuple[Ended, float]:
        """Run a command to its end; return also how long it worked, without loading libraries."""
        return self._run(words)

    def killed(self, verb: str) -> tuple[list[str], Path, Ended]:
        """Kill a verb (SIGKILL) at a random moment of its work; return its command, its folder and its end.

        One that had ended by then, because the machine had more to do before, does not count: another is begun.
        """
        while True:
            out, moment = self.place(), self.random.uniform(0, self.seconds[verb])
            words = self.words(verb, out)
            ended, worked = self._run(words, until=lambda: time.sleep(moment))  # noqa: B023
            if ended.code != 0:
                return words, out, ended
            self.seconds[verb] = min(worked, self.seconds[verb])

    def _run(
        self,
        words: Sequence[str],
        *,
        until: Callable[[], object] | None = None,
        meanwhile: Callable[[], object] | None = None,
        before: Callable[[], None] | None = None,
    ) -> tuple[Ended, float]:
        """Run a command; when it has begun to work, wait `until` and kill it, or do something `meanwhile`."""
        began = time.perf_counter()
        command = [sys.executable, "-m", "napari_osvos", *words]
        with subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            preexec_fn=before,
        ) as process:
            timer = threading.Timer(WAIT, process.kill)
            timer.start()
            lines, works, act = [], began, until or meanwhile
            assert process.stderr is not None
            for line in process.stderr:
                lines.append(line)
                if line.startswith("Computing on"):
                    works = time.perf_counter()
                    if act is not None:
                        threading.Thread(target=self._act, args=(process, act, until is not None)).start()
            code = process.wait()
            timer.cancel()
        now = time.perf_counter()
        return Ended(code, "".join(lines), now - began), now - works

    @staticmethod
    def _act(process: subprocess.Popen[str], act: Callable[[], object], kills: bool) -> None:
        act()
        if kills:
            process.send_signal(signal.SIGKILL)

    def faults_of(self, ended: Ended, codes: Sequence[int], out: Path, *, sentence: bool = True) -> list[str]:
        """Say what is not as it should be after a fault: code, sentence, what is left, what was painted."""
        wrong = []
        if ended.code not in codes:
            wrong.append(f"exit code {ended.code}: {ended.said[-300:]}")
        if re.search(r"Traceback|Unexpected |object at 0x", ended.said):
            wrong.append(f"no sentence: {ended.said[-300:]}")
        n_errors = ended.said.count(f"{PROGRAM}: error: ")
        if sentence and (not ended.sentence or n_errors != (ended.code != 0)):
            wrong.append(f"{n_errors} sentences: {ended.said[-300:]}")
        if ended.seconds > WAIT:
            wrong.append("it hung")
        left = leftovers(out)
        if left and not (ended.code and "the same command goes on" in ended.said):
            wrong.append(f"left behind: {', '.join(left)}")
        if self.painted.read_bytes() != self.paint_bytes:
            wrong.append("the paint is another")
        return wrong

    def goes_on(self, words: Sequence[str], out: Path, expected: np.ndarray) -> list[str]:
        """Run a command again; say what is not as if nothing had happened."""
        ended = self.run(words)
        wrong = self.faults_of(ended, (0,), out, sentence=False)
        if ended.code == 0 and not np.array_equal(labels_of(out / "labels.tif"), expected):
            wrong.append("other labels than undisturbed")
        return wrong


def labels_of(path: Path) -> np.ndarray:
    """Return all labels of a file."""
    return np.asarray(read_labels(path))


def leftovers(folder: Path) -> list[str]:
    """Return what should not be there after a command has ended."""
    return [path.name for path in folder.rglob("*") if re.search(r"\.(partial|old)$|^unfinished-", path.name)]


def finished_frames(out: Path) -> int:
    """Return how many frames a run that was broken off has finished."""
    return len(list(out.glob("unfinished-*/frames/*.json")))


def restored(path: Path, change: Callable[[], object]) -> Callable[[], None]:
    """Change a file or folder; return what puts it back as it was, with its time of change."""
    spare = path.with_name(f"spare-{path.name}")
    (shutil.copytree if path.is_dir() else shutil.copy2)(path, spare)
    change()

    def back() -> None:
        (shutil.rmtree if path.is_dir() else Path.unlink)(path)
        os.replace(spare, path)

    return back
