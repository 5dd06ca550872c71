"""What the command line says while it works: messages, progress with the time left, warnings."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from napari_osvos.command_line import PROGRAM as PROGRAM  # also for the verbs

if TYPE_CHECKING:
    from napari_osvos.pipeline import Advance


def duration(seconds: float) -> str:
    """Return a duration in words: ``8.3 s``, ``4 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _say_nothing(done: int, total: int, note: str = "") -> None:
    pass


class Console:
    """Messages and progress go to ``errors`` (the terminal), what was asked for goes to ``output``.

    Parameters
    ----------
    quiet
        Say nothing but errors and what was asked for.
    output, errors
        Default to the standard streams of the moment.
    interval
        Seconds between two lines of progress where there is no terminal.
    """

    def __init__(
        self,
        quiet: bool = False,
        *,
        output: TextIO | None = None,
        errors: TextIO | None = None,
        interval: float = 5.0,
    ) -> None:
        self.quiet = quiet
        self.output = output or sys.stdout
        self.errors = errors or sys.stderr
        self.interval = interval
        self._terminal: Any = None  # while a bar is shown: lines go above it

    def show(self, text: str) -> None:
        """Write what was asked for."""
        self.output.write(text.rstrip("\n") + "\n")
        self.output.flush()

    def say(self, text: str) -> None:
        """Write what is going on, unless quiet."""
        if not self.quiet:
            self._line(text)

    def error(self, sentence: str) -> None:
        """Write why the command ends."""
        self._line(f"{PROGRAM}: error: {sentence}")

    def _line(self, text: str) -> None:
        if self._terminal is not None:
            self._terminal.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        self.errors.write(text + "\n")
        self.errors.flush()

    @contextmanager
    def progress(self, verb: str, total: int) -> Iterator[Advance]:
        """Show how far a job is: a bar on a terminal, a line every `interval` seconds elsewhere.

        Parameters
        ----------
        verb
            What is being done, such as ``fine-tuning``.
        total
            How many steps there are, as far as is known at the start.
        """
        if self.quiet:
            yield _say_nothing
        elif self.errors.isatty():
            with self._bar(verb, total) as advance:
                yield advance
        else:
            yield self._lines(verb)

    @contextmanager
    def _bar(self, verb: str, total: int) -> Iterator[Advance]:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
        )
        terminal = Terminal(file=self.errors)
        with Progress(*columns, console=terminal, transient=True) as bar, self._above(terminal):
            task = bar.add_task(verb, total=total, note="")

            def advance(done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, note=note)

            yield advance

    @contextmanager
    def _above(self, terminal: Any) -> Iterator[None]:
        self._terminal = terminal
        try:
            yield
        finally:
            self._terminal = None

    def _lines(self, verb: str) -> Advance:
        started = time.monotonic()
        said = started - self.interval + min(1.0, self.interval)  # the first line comes after a second
        first: tuple[float, int] | None = None

        def advance(done: int, total: int, note: str = "") -> None:
            nonlocal said, first
            now = time.monotonic()
            # From the first step nothing can be told: it has the warming up in it, and what goes on from a checkpoint
            # did not do all of it now.
            since, before = first = first or (now, done)
            if now - said < self.interval or done >= total:
                return
            said = now
            left = f"{duration((now - since) / (done - before) * (total - done))} left" if done > before else ""
            parts = [f"{verb} {done}/{total}", note, left]
            self._line(", ".join(part for part in parts if part))

        return advance

    @contextmanager
    def warnings_as_lines(self) -> Iterator[None]:
        """Say each Python warning once, as one line without file and line number."""
        with warnings.catch_warnings():
            said: set[str] = set()

            def show(message: Warning | str, *_: object, **__: object) -> None:
                text = " ".join(str(message).split())
                if text not in said:
                    said.add(text)
                    self.say(f"{PROGRAM}: warning: {text}")

            warnings.showwarning = show
            yield
