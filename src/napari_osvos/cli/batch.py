"""Fine-tuning on each movie of a list: here one after the other, or on the workers of a cluster."""

from __future__ import annotations

import argparse
import copy
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import Console, duration
from napari_osvos.cli.failures import DONE, FAILED, judge
from napari_osvos.cli.fine_tune import add_options, fine_tune_one
from napari_osvos.cli.options import Parser, settings_of, tuning_of
from napari_osvos.cli.report import Report, check_report
from napari_osvos.config import FineTuneConfig
from napari_osvos.movie_list import bare_name

if TYPE_CHECKING:
    from napari_osvos.cluster_tasks import Terms

_NEEDED = ("movie", "annotations")
_COLUMNS = (
    *("output", "axes", "channels", "frames", "partial", "corrected", "background-label", "void-label"),
    *("parent", "continue"),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a movie.

    Attributes
    ----------
    given : Namespace
        Its options.
    facts : dict
        Of its report; empty where it failed.
    complaint : str
        One sentence if it failed.
    """

    given: argparse.Namespace
    facts: dict[str, Any]
    complaint: str = ""


def fine_tune_all(given: argparse.Namespace, console: Console) -> int:
    """Fine-tune on the movies of a list whose segmenter is not there yet; return the exit code."""
    if given.movie is not None or given.annotations is not None:
        raise ValueError("Either MOVIE and -a LABELS or --batch LIST.csv is given, not both.")
    report = Report("fine-tune", given.words)
    report.add(batch=str(given.batch), output=str(given.output))
    check_report(given, report, [given.batch])
    movies = read_list(given)
    missing = [movie for movie in movies if given.force or not movie.output.exists()]
    kept = len(movies) - len(missing)
    if kept:
        console.say(f"{kept} of {len(movies)} segmenters are there already; --force learns them again.")
    outcomes: list[Outcome] = []
    try:
        with report.timing("fine_tune"):
            for outcome in _outcomes(given, console, missing):
                outcomes.append(outcome)
                if outcome.complaint:
                    console.error(f"{outcome.given.movie}: {outcome.complaint}")
    except KeyboardInterrupt:
        learned = kept + sum(not outcome.complaint for outcome in outcomes)
        reason = f"{learned} of {len(movies)} segmenters are there; the same command goes on with the others."
        raise KeyboardInterrupt(reason) from None
    failed = [outcome for outcome in outcomes if outcome.complaint]
    report.add(
        movies=[
            {**outcome.facts, "movie": str(outcome.given.movie), "output": str(outcome.given.output)}
            | ({"error": outcome.complaint} if outcome.complaint else {})
            for outcome in outcomes
        ],
        n_kept=kept,
        n_failed=len(failed),
    )
    report.write(given.json)
    words = f"{len(outcomes) - len(failed)} segmenters learned"
    if failed:
        words += f", {len(failed)} failed"
    console.say(f"{given.output}: {words}, {duration(report.seconds['fine_tune'])}.")
    return FAILED if failed else DONE


def read_list(given: argparse.Namespace) -> list[argparse.Namespace]:
    """Return the options for each movie of a list.

    Raises
    ------
    FileNotFoundError
        If there is no such list.
    ValueError
        If it is none, a column or a value is not allowed, or two movies would have one segmenter.
    """
    path: Path = given.batch
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    settings_of(given, FineTuneConfig)  # what is wrong for all is said once
    parser = Parser(prog=f"{path}", add_help=False)
    add_options(parser)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = [str(column).strip() for column in reader.fieldnames or ()]
            rows = [[(cell or "").strip() for cell in row] for row in csv.reader(stream, skipinitialspace=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of commas: {error}.") from None
    _check_columns(path, columns)
    movies = []
    for number, row in enumerate(rows, start=2):
        if any(row):
            if len(row) > len(columns):
                raise ValueError(f"{path}, line {number}: there are {len(row)} cells under {len(columns)} columns.")
            movies.append(_movie(given, parser, number, dict(zip(columns, row, strict=False))))
    if not movies:
        raise ValueError(f"{path} names no movie.")
    _check_different(path, movies)
    return movies


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    from dataclasses import fields

    settings = [spec.name.replace("_", "-") for spec in fields(FineTuneConfig)]
    for name in _NEEDED:
        if name not in columns:
            raise ValueError(
                f"{path} has no column {name!r}; its first line names the columns, such as movie,annotations."
            )
    for name in columns:
        if columns.count(name) > 1:
            raise ValueError(f"{path} has the column {name!r} twice.")
        if name not in (*_NEEDED, *_COLUMNS, *settings):
            allowed = ", ".join((*_NEEDED, *_COLUMNS))
            raise ValueError(f"{path} has a column {name!r}; allowed are {allowed} and settings of fine-tuning.")


def _movie(given: argparse.Namespace, parser: Parser, number: int, row: dict[str, str]) -> argparse.Namespace:
    """Return the options of a movie: those of the list's line, then those of the command."""
    folder = given.batch.absolute().parent
    for name in _NEEDED:
        if not row.get(name):
            raise ValueError(f"{given.batch}, line {number}: {name} is empty.")
    movie = folder / row["movie"]
    output = folder / row["output"] if row.get("output") else given.output.absolute() / f"{bare_name(movie)}.osvos"
    words = [str(movie), "--annotations", str(folder / row["annotations"]), "--output", str(output)]
    for name, value in row.items():
        if value and name not in (*_NEEDED, "output"):
            of_file = name == "continue" or (name == "parent" and Path(value).suffix)
            words += [f"--{name}={folder / value if of_file else value}"]
    try:
        start = copy.copy(given)
        if row.get("parent"):
            start.continued = None  # what the line says stands before what the command says
        one = parser.parse_args(words, namespace=start)
        if output.suffix != ".osvos":
            raise ValueError(f"the output {output} must end in .osvos.")
        tuning_of(one)
    except ValueError as error:
        raise ValueError(f"{given.batch}, line {number}: {error}") from None
    one.json, one.quiet, one.force = None, True, True
    return one


def _check_different(path: Path, movies: Sequence[argparse.Namespace]) -> None:
    seen: dict[Path, Path] = {}
    for one in movies:
        if one.output in seen:
            raise ValueError(
                f"{path}: {seen[one.output]} and {one.movie} would both be kept as {one.output}; add a column output."
            )
        seen[one.output] = one.movie


def _outcomes(given: argparse.Namespace, console: Console, movies: Sequence[argparse.Namespace]) -> Iterator[Outcome]:
    if not movies:
        return
    if given.cluster is None:
        yield from _here(console, movies)
    else:
        yield from _there(given, console, movies)


def _here(console: Console, movies: Sequence[argparse.Namespace]) -> Iterator[Outcome]:
    for number, one in enumerate(movies, start=1):
        console.say(f"Movie {number} of {len(movies)}: {one.movie}")
        try:
            # Nothing is kept after Ctrl+C: a segmenter that is there counts as learned to the end.
            yield Outcome(one, fine_tune_one(one, console, keep=None).to_dict())
        except Exception as error:
            if one.debug:
                raise
            yield Outcome(one, {}, judge(error)[1])


def _there(given: argparse.Namespace, console: Console, movies: Sequence[argparse.Namespace]) -> Iterator[Outcome]:
    from napari_osvos.cluster_flow import Call, Flow
    from napari_osvos.cluster_tasks import Terms, reason_of

    client, terms = given.cluster.client, Terms(given.device)
    calls = (
        Call(fine_tune_there, (vars(one) | {"run": None, "cluster": None}, terms), one, "fine-tune") for one in movies
    )
    done = 0
    with console.progress("fine-tuning movies", len(movies)) as advance:
        for call, outcome in Flow(client).run(lambda: next(calls, None)):
            done += 1
            advance(done, len(movies))
            if isinstance(outcome, Exception):
                yield Outcome(call.about, {}, f"{reason_of(outcome)}.")
            else:
                yield Outcome(call.about, *outcome)


def fine_tune_there(options: dict[str, Any], terms: Terms) -> tuple[dict[str, Any], str]:
    """Fine-tune on one movie in a worker; return the facts of its report, and a sentence if it failed."""
    from napari_osvos.cluster_tasks import turn

    one = argparse.Namespace(**options)
    try:
        with turn(terms) as device:
            one.device, one.threads = str(device), None
            return fine_tune_one(one, Console(quiet=True), keep=None).to_dict(), ""
    except Exception as error:
        return {}, judge(error)[1]
