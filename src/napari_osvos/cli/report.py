"""What a run took and gave, for people as one line and for programs as JSON; and the checks on outputs before it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_osvos.cli.console import PROGRAM, duration
from napari_osvos.machine import peak_device_memory, peak_memory, replacing, tidy, versions

_SAYINGS = {
    "read": "read",
    "fine_tune": "fine-tuned",
    "predict": "predicted",
    "link": "linked",
    "write": "wrote",
    "export": "exported",
    "evaluate": "scored",
}


_FILES = ("--json", "--save", "-o/--csv")
_FILE_ENDINGS = (".osvos", ".json", ".md", ".safetensors")
"""Outputs that are files and nothing else, by their options or endings."""


class Report:
    """Collects the seconds of each part of a run and whatever else is worth keeping.

    Parameters
    ----------
    verb
        The verb of the command line.
    words
        The command line after the program's name.
    """

    def __init__(self, verb: str, words: Sequence[str] = ()) -> None:
        self.facts: dict[str, Any] = {"verb": verb, "command": shlex.join([PROGRAM, *words])}
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the time inside the block to the seconds of a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(part, time.perf_counter() - began)

    def add_seconds(self, part: str, seconds: float) -> None:
        """Add to the seconds of a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def add(self, **facts: Any) -> None:
        """Keep facts; they must be plain data."""
        self.facts.update(facts)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data: seconds by part and in total, memory in bytes, versions."""
        seconds = {**self.seconds, "total": time.perf_counter() - self._began}
        return {
            **self.facts,
            "seconds": {part: round(value, 3) for part, value in seconds.items()},
            "peak_memory_bytes": peak_memory(),
            "peak_device_memory_bytes": peak_device_memory(),
            "versions": versions(),
        }

    def replaces(self, path: Path) -> bool:
        """Whether a file is the report of an earlier call of the same verb, with the same facts but for the command."""
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            return all(before[name] == fact for name, fact in self.facts.items() if name != "command")
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def in_words(self) -> str:
        """Return the seconds of each part and the peak memory in one line."""
        parts = [f"{_SAYINGS.get(part, part)} in {duration(seconds)}" for part, seconds in self.seconds.items()]
        memory = peak_memory()
        if memory is not None:
            parts.append(f"peak memory {memory / 1e6:.0f} MB")
        return ", ".join(parts)

    def write(self, path: Path | None) -> None:
        """Write everything as JSON, whole or not at all; nothing when `path` is None."""
        if path is not None:
            write_json(path, self.to_dict())


def write_json(path: Path, plain: Any) -> None:
    """Write plain data as JSON, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(plain, indent=2, default=str) + "\n", encoding="utf-8")


def check_outputs(
    outputs: Mapping[str, Path | Sequence[Path] | None],
    *,
    inputs: Sequence[Path] = (),
    force: bool = False,
    ours: Collection[Path] = (),
) -> None:
    """Make sure, before anything is computed, that every output can be written where it is to go.

    Missing folders are made, and what killed processes left of such outputs is cleared away.

    Parameters
    ----------
    outputs
        What each output is called on the command line, and its path or paths; None where it is not wanted.
    inputs
        Files and folders that no output may replace, not even by force.
    force
        Whether outputs that exist may be replaced.
    ours
        Outputs that the command itself wrote before it was broken off: they may be replaced, too.

    Raises
    ------
    ValueError
        If two outputs, or an output and an input, are the same, an output holds an input, would become a frame of one
        or, as a file, replace a folder.
    FileExistsError
        If an output exists and `force` is not given.
    NotADirectoryError, PermissionError
        If the folder cannot be made or written to.
    """
    seen: dict[Path, str] = {path.resolve(): f"input {path}" for path in inputs}
    wanted = [
        (name, path)
        for name, paths in outputs.items()
        for path in ([paths] if isinstance(paths, Path) else paths or ())
    ]
    for name, path in wanted:
        if path.resolve() in seen:
            raise ValueError(f"{name} {path} is also the {seen[path.resolve()]}; choose another name.")
        seen[path.resolve()] = f"output {name}"
        _check_place(name, path, inputs)
    for name, path in wanted:
        tidy(path)
        if path.exists() and not force and path.resolve() not in ours:
            raise FileExistsError(f"{path} exists already; choose another {name} or add --force to overwrite it.")
        folder = path.absolute().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError(f"{path} cannot be written: {path.parent} is a file, not a folder.") from None
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{path} cannot be written: the folder {path.parent} does not allow it.")


def _check_place(name: str, path: Path, inputs: Sequence[Path]) -> None:
    """Raise ValueError if an output would take an input with it, become a frame of it, or, a file, replace a folder."""
    from napari_osvos.formats import PICTURE_ENDINGS, TIFF_ENDINGS

    place = path.resolve()
    for given in inputs:
        if place in given.resolve().parents:
            raise ValueError(f"{name} {path} holds the input {given}; choose another name.")
        if (
            given.is_dir()
            and place.parent == given.resolve()
            and place.suffix.lower() in TIFF_ENDINGS + PICTURE_ENDINGS
        ):
            raise ValueError(f"{name} {path} would be taken for a frame of the input {given}; choose another folder.")
    if place.is_dir() and (name in _FILES or place.suffix.lower() in _FILE_ENDINGS):
        raise ValueError(f"{path} is a folder, which a file never replaces; choose another {name}.")


def check_report(given: argparse.Namespace, report: Report, inputs: Sequence[Path] = ()) -> None:
    """Make sure that the --json of a verb that goes on where it ended can be written.

    The report of an earlier call on the same, as far as `report` knows it by now, is replaced; ``--force``, which would
    start over, is not asked for.

    Raises
    ------
    FileExistsError
        If there is another file, and ``--force`` is not given.
    ValueError, NotADirectoryError, PermissionError
        As `check_outputs`.
    """
    path: Path | None = given.json
    if path is not None and path.exists() and not given.force and not report.replaces(path):
        raise FileExistsError(f"{path} exists already, and is no report of this; choose another --json.")
    check_outputs({"--json": path}, inputs=inputs, force=True)


def check_ending(name: str, path: Path | None, endings: Sequence[str]) -> None:
    """Make sure that an output has one of the endings.

    Raises
    ------
    ValueError
        If it has another; the message lists them.
    """
    if path is not None and not path.name.lower().endswith(tuple(endings)):
        raise ValueError(f"{name} {path} must end in {' or '.join(endings)}.")
