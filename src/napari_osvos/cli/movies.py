"""Predicting many movies into a folder: each by itself, so that one that fails does not stop the others."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import Console
from napari_osvos.cli.exports import check_fit
from napari_osvos.cli.failures import DONE, FAILED, judge
from napari_osvos.cli.outputs import LABEL_ENDINGS, check_label_outputs, job_of
from napari_osvos.cli.predicting import label_frames
from napari_osvos.cli.report import Report, check_report
from napari_osvos.cli.stages import check_disk, choose_device, positions_of, read_movie
from napari_osvos.cli.summary import Summary, SummaryRow
from napari_osvos.cli.unfinished_run import going_on
from napari_osvos.config import LinkConfig
from napari_osvos.writing import DISK_FULL

if TYPE_CHECKING:
    from napari_osvos.frame_store import FrameStore
    from napari_osvos.pipeline import Advance
    from napari_osvos.predict_job import PredictJob
    from napari_osvos.segmenter import Segmenter

FORMATS = {"ome-zarr": ".ome.zarr", "tif": ".tif"}
"""Formats of labels in a folder, and the endings of their names."""
# What changes what is written of a movie, beside what changes its labels.
_OPTIONS = ("format", "track", "exports", "only", "pixel_size", "frame_interval")


def is_folder_of_outputs(given: argparse.Namespace) -> bool:
    """Whether ``-o`` names a folder for the labels of many movies: by a slash, no ending, or because it is one."""
    from napari_osvos.formats import is_zarr

    output: Path = given.output
    if output.is_dir():
        return not is_zarr(output) and not output.name.lower().endswith(LABEL_ENDINGS)
    return bool(given.output_is_folder) or not output.suffix


@dataclass
class _Movie:
    """A movie of many: its own command line, and what is known of it."""

    given: argparse.Namespace
    outputs: tuple[Path, ...] = ()
    job: PredictJob | None = None
    run: str = ""
    n_frames: int = 0
    failure: str = ""
    done: bool = False

    @property
    def name(self) -> str:
        return str(self.given.movie)


def predict_movies(given: argparse.Namespace, console: Console, report: Report) -> int:
    """Predict many movies; return the exit code.

    Raises
    ------
    ValueError, OSError
        If nothing can be begun: names clash, outputs exist, or the segmenter cannot be read; or the disk is full.
    """
    with report.timing("read"):
        movies = [_Movie(one) for one in _command_lines(given)]
        summary = Summary(given.output / "summary.csv")
        report.add(outputs=[str(summary.path)])
        check_report(given, report, [given.segmenter])
        device = choose_device(given, console, report, learns=False)
        given.movie = given.movies[0]
        segmenter = job_of(given).open_segmenter(device)
        for movie in movies:
            _look_at(movie, summary)
    to_do = [movie for movie in movies if not movie.done and not movie.failure]
    if any(movie.done for movie in movies):
        console.say(f"Going on: {sum(movie.done for movie in movies)} of {len(movies)} movies were finished.")
    n_frames = sum(movie.n_frames for movie in to_do)
    with console.progress("predicting", n_frames) as advance, _saying_what_is_done(movies):
        tally = _Tally(advance, n_frames)
        for movie in movies:
            if not movie.failure and not movie.done:
                _predict(movie, tally, console, segmenter, summary)
            if movie.failure:
                summary.add(SummaryRow(movie.name, movie.given.output.name, status=movie.failure, run=movie.run))
    failed = [movie for movie in movies if movie.failure]
    rows = [summary.rows[movie.given.output.name] for movie in movies]
    report.add(movies=[dataclasses.asdict(row) for row in rows])
    report.write(given.json)
    console.say(f"{given.output}: {len(movies) - len(failed)} of {len(movies)} movies are done; {report.in_words()}.")
    for movie in failed:
        console.error(movie.failure if movie.name in movie.failure else f"{movie.name}: {movie.failure}")
    return FAILED if failed else DONE


@contextmanager
def _saying_what_is_done(movies: Sequence[_Movie]) -> Iterator[None]:
    """Say after Ctrl+C, or when the disk is full, how many movies are done."""
    try:
        yield
    except BaseException as error:
        done = f"{sum(movie.done for movie in movies)} of {len(movies)} movies are done"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"{error or 'The same command goes on.'} {done}.") from None
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise OSError(error.errno, f"{error.strerror} {done}.") from error
        raise


def _command_lines(given: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """Yield the command line of each movie by itself.

    Raises
    ------
    ValueError
        If two movies would be written under one name, or an option goes with one movie only.
    """
    from napari_osvos.exporting import export_beside
    from napari_osvos.movie_list import bare_name, movies_in

    for option in ("probabilities", "uncertainty"):
        if getattr(given, option):
            raise ValueError(f"--{option} is one file, so it goes with one MOVIE and an -o that is a file.")
    folder, ending = given.output, FORMATS[given.format]
    taken: dict[str, Path] = {}
    if folder.resolve() in [path.resolve() for path in given.movies]:
        raise ValueError(f"-o {folder} is the folder of the movies, too; choose another one for the labels.")
    for movie in movies_in(given.movies):
        name = bare_name(movie)
        other = taken.setdefault(name.casefold(), movie)  # names that differ by case alone are one on some disks
        if other is not movie:
            raise ValueError(
                f"{other} and {movie} would both become {folder / (name + ending)}; "
                "rename one, or predict them into two folders."
            )
        exports = [export_beside(folder / name, kind) for kind in given.exports]
        own = {"movie": movie, "output": folder / (name + ending), "exports": exports, "json": None, "quiet": True}
        yield argparse.Namespace(**{**vars(given), **own})


def _look_at(movie: _Movie, summary: Summary) -> None:
    """Open a movie, and find out how many frames are to be predicted, or whether it is done.

    Raises
    ------
    FileExistsError, ValueError
        If there are outputs that may not be replaced.
    """
    given = movie.given
    try:
        clip = read_movie(given, Report("predict"))
        movie.n_frames = len(positions_of(clip, given.only))
        check_fit(given, clip.labels_shape, clip.name)
        movie.job = job_of(given)
        movie.run = _digest(given, movie.job.identity(clip))
    except (OSError, ValueError) as error:
        movie.failure = judge(error)[1]
        return
    movie.done = summary.is_done(given.output, movie.run)
    if movie.done:
        _remove_leftovers(movie.job)
    else:
        movie.outputs = check_label_outputs(given, {}, [given.segmenter, given.movie])


def _digest(given: argparse.Namespace, identity: dict[str, Any]) -> str:
    options = {name: getattr(given, name) for name in _OPTIONS}
    links = {spec.name: getattr(given, spec.name, None) for spec in dataclasses.fields(LinkConfig)}
    text = json.dumps([identity, options, links], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _remove_leftovers(job: PredictJob) -> None:
    """Remove the folder of unfinished frames of a movie that is done: the run was killed right before it did so."""
    from napari_osvos.frame_store import FrameStore
    from napari_osvos.unfinished import check_unclaimed

    if job.unfinished.exists():
        with suppress(ValueError, OSError):
            check_unclaimed(job.unfinished)
            FrameStore(job.unfinished).remove()


def _predict(movie: _Movie, tally: _Tally, console: Console, segmenter: Segmenter, summary: Summary) -> None:
    """Predict a movie, and note what came of it.

    Raises
    ------
    OSError
        If the disk is full or the cluster lost: the other movies would fail, too.
    """
    given, began, report = movie.given, time.perf_counter(), Report("predict")
    assert movie.job is not None
    n_missing = movie.n_frames
    try:
        clip = read_movie(given, report)
        positions = positions_of(clip, given.only)
        check_disk(given, clip, positions)
        quiet = _Part(tally, movie)
        with going_on(given, quiet, movie.job, clip, positions, movie.outputs) as store:
            n_missing = len(set(positions).difference(store.finished))
            tally.begin(movie.n_frames, n_missing)
            label_frames(given, quiet, report, movie.job, clip, segmenter, positions, store)
            summary.add(_row(movie, report, positions, store, time.perf_counter() - began))
        movie.done = True
    except Exception as error:
        hopeless = isinstance(error, ConnectionError) or (isinstance(error, OSError) and error.errno in DISK_FULL)
        if given.debug or hopeless:
            raise
        movie.failure = judge(error)[1]
        console.say(f"{movie.name}: {movie.failure}")
    else:
        row = summary.rows[given.output.name]
        console.say(f"{given.output}: {row.frames} frames, {row.objects} objects, confidence {row.mean_confidence}.")
    finally:
        tally.end(n_missing)


def _row(movie: _Movie, report: Report, positions: Sequence[int], store: FrameStore, seconds: float) -> SummaryRow:
    sure = list(report.facts["confidence"].values())
    n_objects = report.facts.get("n_tracks", sum(store.about(t).n_objects for t in positions))
    return SummaryRow(
        movie=movie.name,
        output=movie.given.output.name,
        frames=str(len(positions)),
        objects=str(n_objects),
        mean_confidence=f"{sum(sure) / len(sure):.4f}" if sure else "",
        seconds=f"{seconds:.1f}",
        run=movie.run,
    )


class _Tally:
    """How far the frames of all movies are."""

    def __init__(self, advance: Advance, total: int) -> None:
        self._advance, self._left, self._before, self._now = advance, total, 0, 0

    def begin(self, n_frames: int, n_missing: int) -> None:
        """Begin with a movie; what is finished of it already says nothing of the time that the others take."""
        self._left -= n_frames - n_missing

    def of(self, movie: str, done: int) -> None:
        """Take how many frames of the movie are done."""
        self._now = done
        self._advance(self._before + done, self._before + self._left, Path(movie).name)

    def end(self, n_missing: int) -> None:
        """End with a movie, whether it was predicted or failed."""
        self._before += self._now
        self._left -= n_missing
        self._now = 0


class _Part(Console):
    """What is said of one movie of many: how far it is, as a part of them all."""

    def __init__(self, tally: _Tally, movie: _Movie) -> None:
        super().__init__(quiet=True)
        self._tally, self._movie = tally, movie

    @contextmanager
    def progress(self, verb: str, total: int) -> Iterator[Advance]:
        """Pass on how far the prediction is."""

        def advance(done: int, total: int, note: str = "") -> None:
            if verb == "predicting":
                self._tally.of(self._movie.name, done)

        yield advance
