"""Options that several verbs share, and options made from the fields of a config."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from napari_osvos.config import FineTuneConfig
from napari_osvos.settings import Config

C = TypeVar("C", bound=Config)
MOST_NUMBERS = 10**6
"""Longest span of frame numbers that an option can name."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Leaves examples as they are written, and enough room for the names of options."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{**settings, "max_help_position": 30})


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence; options cannot be abbreviated, so that scripts keep working."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Help)
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line as a ValueError."""
        raise ValueError(f"{message.rstrip('.')} (see {self.prog} --help).")


def frame_numbers(text: str) -> tuple[int, ...]:
    """Read frame numbers such as ``0,40`` or ``0,10-14``."""
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            span = range(int(first), int(last if dash else first) + 1)
            if not span:
                raise ValueError
            if span[-1] - span[0] >= MOST_NUMBERS:
                raise argparse.ArgumentTypeError(f"{text!r} names more than {MOST_NUMBERS:,} frames")
            numbers.extend(span)
    except ValueError:
        reason = f"{text!r} is no list of frame numbers; write for example 0,40 or 0,10-14"
        raise argparse.ArgumentTypeError(reason) from None
    return tuple(dict.fromkeys(numbers))


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers such as ``1,2,4``."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        reason = f"{text!r} is no list of whole numbers; write for example 1,2,4"
        raise argparse.ArgumentTypeError(reason) from None


def names(text: str) -> tuple[str, ...]:
    """Read names such as ``fast,balanced``."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; write one name, or several with commas between them")
    return found


def at_least(minimum: int, most: int | None = None) -> Any:
    """Return a reader of whole numbers from `minimum` upwards, or up to `most`."""
    allowed = f"of at least {minimum}" if most is None else f"from {minimum} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give a whole number {allowed}")
        return number

    return read


def positive(text: str) -> float:
    """Read a number above 0."""
    return _positive(text, 1, "a number above 0")[0]


def pixel_size(text: str) -> tuple[float, ...]:
    """Read the size of a pixel such as ``0.65,0.65`` or ``2,0.65,0.65``."""
    return _positive(text, (2, 3), "Y,X or Z,Y,X in micrometres, such as 0.65,0.65 or 2,0.65,0.65")


def _positive(text: str, length: int | tuple[int, ...], wanted: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    lengths = (length,) if isinstance(length, int) else length
    if len(numbers) not in lengths or not all(math.isfinite(n) and n > 0 for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give {wanted}")
    return numbers


def add_movie(parser: argparse.ArgumentParser) -> None:
    """Add MOVIE and how to read it."""
    parser.add_argument("movie", metavar="MOVIE", type=Path, help="stack (TIFF, OME-Zarr, npy) or folder of frames")
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add how to read the movie."""
    group = parser.add_argument_group("reading the movie")
    group.add_argument("--axes", metavar="AXES", help="order of the axes, out of T, Z, Y, X, C, such as TZYX")
    group.add_argument("--channels", metavar="0,2", type=whole_numbers, help="which channels to use (default: all)")


def add_start(parser: argparse.ArgumentParser) -> None:
    """Add what fine-tuning starts from."""
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--parent", metavar="lite|vgg16|FILE", default="lite", help="parent network (default: lite)")
    start.add_argument(
        "--continue", metavar="FILE.osvos", dest="continued", type=Path, help="go on from a saved segmenter instead"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add where to compute."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--device", metavar="DEVICE", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto, a GPU if any)"
    )
    most = max(64, os.cpu_count() or 1)  # thousands take a machine down before the first frame
    group.add_argument("--threads", metavar="N", type=at_least(1, most), help="CPU threads (default: all cores)")


def add_reporting(parser: argparse.ArgumentParser, *, force: str = "overwrite outputs that exist") -> None:
    """Add what is said and kept of a run; `force` says what ``--force`` does."""
    group = parser.add_argument_group("reporting")
    group.add_argument(
        "--json", metavar="FILE", type=Path, help="write timings, device, memory, versions and scores to this file"
    )
    group.add_argument("--force", action="store_true", help=force)
    group.add_argument("--quiet", action="store_true", help="say nothing but errors and what was asked for")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(ours=frozenset())  # outputs that this very command wrote before it was broken off


def add_settings(
    parser: argparse._ActionsContainer,
    kind: type[Config],
    *,
    only: Iterable[str] | None = None,
    leave_out: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Add an option for each field of a config; help, choices and ranges come from the field's metadata.

    Parameters
    ----------
    parser
        A parser or a group of one.
    kind
        The config. Fields that are configs themselves have no option.
    only, leave_out
        Names of the fields that get an option, or that get none.
    defaults
        What the help names as default where the verb has another than the config.
    """
    hints = get_type_hints(kind)
    chosen = set(only) if only is not None else None
    for spec in dataclasses.fields(kind):  # type: ignore[arg-type]
        if spec.name in set(leave_out) or (chosen is not None and spec.name not in chosen):
            continue
        read = _reader(hints[spec.name])
        if read is None:
            continue
        flag = "--" + spec.name.replace("_", "-")
        options: dict[str, Any] = {
            "help": _help(spec, hints[spec.name], (defaults or {}).get(spec.name, spec.default)),
            "default": argparse.SUPPRESS,
        }
        if read is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        else:
            parser.add_argument(flag, type=read, metavar=_placeholder(spec, hints[spec.name]), **options)


def overwrites(given: argparse.Namespace) -> bool:
    """Whether outputs that are there may be replaced, once `check_outputs` let them pass."""
    return bool(given.force or given.ours)


def settings_given(arguments: argparse.Namespace, kind: type[Config]) -> dict[str, Any]:
    """Return the settings of a config that the command line names."""
    known = {spec.name for spec in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return {name: value for name, value in vars(arguments).items() if name in known}


def settings_of(arguments: argparse.Namespace, kind: type[C], base: C | None = None) -> C:
    """Return the config with the settings that the command line names.

    Raises
    ------
    ValueError
        If a value is not allowed; the message names the option.
    """
    given = settings_given(arguments, kind)
    try:
        return (base or kind()).replace(**given)
    except ValueError as error:
        sentence = str(error)
        for name in given:  # the config speaks of its field, the reader typed an option
            sentence = sentence.replace(f"{kind.__name__}.{name} ", f"--{name.replace('_', '-')} ")
        raise ValueError(sentence) from None


def tuning_of(arguments: argparse.Namespace, base: FineTuneConfig | None = None) -> FineTuneConfig:
    """Return how to learn, as the command line names it.

    Raises
    ------
    ValueError
        As `settings_of`, and if an option has no say with the quality.
    """
    tuning = settings_of(arguments, FineTuneConfig, base)
    refuse_idle(arguments, FineTuneConfig, tuning.idle, f"--quality {tuning.quality}")
    return tuning


def refuse_idle(arguments: argparse.Namespace, kind: type[Config], idle: Collection[str], beside: str) -> None:
    """Raise ValueError where options are named to which another one, `beside`, leaves no say."""
    given = settings_given(arguments, kind)
    words = [f"--{name.replace('_', '-')} {_written(value)}" for name, value in given.items() if name in idle]
    if words:
        those = "it" if len(words) == 1 else "them"
        raise ValueError(f"{' and '.join(words)} can have no effect with {beside}; leave {those} out.")


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _choices(spec: dataclasses.Field[Any], hint: Any) -> tuple[Any, ...]:
    if spec.metadata.get("choices"):
        return tuple(spec.metadata["choices"])
    return get_args(hint) if get_origin(hint) is Literal else ()


def _reader(hint: Any) -> Any:
    """Return what turns text into a value of this type; None where the command line has no way to write it."""
    if get_origin(hint) in (Union, UnionType):
        inner = [part for part in get_args(hint) if part is not type(None)]
        return _reader(inner[0]) if len(inner) == 1 else None
    if get_origin(hint) is Literal:
        return str
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return _list_of(item) if item in (int, float, str) else None
    return hint if hint in (int, float, str, bool) else None


def _list_of(item: Any) -> Any:
    def read(text: str) -> tuple[Any, ...]:
        return tuple(item(part) for part in text.split(","))

    read.__name__ = f"list of {item.__name__}"
    return read


def _placeholder(spec: dataclasses.Field[Any], hint: Any) -> str:
    choices = _choices(spec, hint)
    if choices:
        return "|".join(map(str, choices))
    return str(spec.metadata.get("unit") or ("N" if "int" in str(hint) or "float" in str(hint) else "VALUE")).upper()


def _help(spec: dataclasses.Field[Any], hint: Any, default: Any) -> str:
    low, high = spec.metadata.get("minimum"), spec.metadata.get("maximum")
    notes = []
    if spec.metadata.get("unit"):
        notes.append(str(spec.metadata["unit"]))
    if low is not None or high is not None:
        notes.append(f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}")
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default is not None and default is not dataclasses.MISSING and hint is not bool:
        notes.append(f"default: {default}")
    text = str(spec.metadata.get("help") or spec.name.replace("_", " "))
    return (f"{text} ({'; '.join(notes)})" if notes else text).replace("%", "%%")
