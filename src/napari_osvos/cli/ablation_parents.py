"""Parents for ``benchmark --ablations``, from fewer and from all images: trained by the verb ``train-parent``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_osvos.cli import train_parent
from napari_osvos.cli.console import Console
from napari_osvos.cli.options import Parser

ALL = "all"
_DEFAULTS = (100, 200, None)
_RECIPE = ("network", "schedule", "steps")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what parents are trained on, and how."""
    group = parser.add_argument_group("parents to train for --ablations")
    group.add_argument(
        "--train-on", metavar="IMAGES", type=Path, nargs="+",
        help="folders of images with labels, as for train-parent: before anything is measured, train parents on them,"
        " which differ in the number of their images alone, in the folder TABLE_parents; the same command goes on with"
        " them, and --force does not start them over",
    )  # fmt: skip
    group.add_argument(
        "--parent-images", metavar="100,200,all", type=_counts, help="numbers of images (default: 100,200,all)"
    )
    for name, values in (("network", "lite|vgg16"), ("schedule", "crops|published"), ("steps", "N")):
        group.add_argument(f"--parent-{name}", metavar=values, help=f"as --{name} of train-parent")


def check(given: argparse.Namespace) -> None:
    """Raise ValueError where options of parents are given but none is to be trained."""
    options = ["parent_images", *(f"parent_{name}" for name in _RECIPE)]
    lacking = "--ablations" if given.train_on else "--train-on"
    named = ["train_on"] if given.train_on and not given.ablations else []
    if not given.train_on:
        named = [name for name in options if getattr(given, name) is not None]
    if named:
        raise ValueError(f"--{named[0].replace('_', '-')} has a say only with {lacking}; name that, too.")


def train(given: argparse.Namespace, console: Console) -> tuple[str, ...]:
    """Train the parents, or go on with them, and return their files: from all images first, then from the most.

    Raises
    ------
    ValueError
        If there are fewer images than are asked for, or as `train_parent.train_parent`.
    """
    if not given.train_on:
        return ()
    # Who asks for more images than there are is told so before the others are trained.
    counts = sorted(given.parent_images or _DEFAULTS, key=lambda n: (n is None, -(n or 0)))
    files = {n: _train(given, n, console) for n in counts}
    return tuple(str(files[n]) for n in sorted(counts, key=lambda n: (n is not None, -(n or 0))))


def _train(given: argparse.Namespace, images: int | None, console: Console) -> Path:
    name = f"parent-{ALL if images is None else images}"
    folder = given.output.with_name(f"{given.output.stem}_parents") / name
    words = [*map(str, given.train_on), "-o", str(folder), "--device", given.device]
    if given.threads:
        words += ["--threads", str(given.threads)]
    if images is not None:
        words += ["--images", str(images)]
    if given.parent_schedule != "published":  # simulated images, the same for all, would hide the difference
        words += ["--simulated-share", "0"]
    for option in _RECIPE:
        value = getattr(given, f"parent_{option}")
        words += [] if value is None else [f"--{option}", value]
    parser = Parser()
    train_parent.add_verbs(parser.add_subparsers(parser_class=Parser))
    console.say(f"{name}:")
    asked = parser.parse_args(["train-parent", *words])
    asked.words = ["train-parent", *words]
    train_parent.train_parent(asked, console)
    return Path(folder / "parent.safetensors")


def _counts(text: str) -> tuple[int | None, ...]:
    """Read numbers of images such as ``100,200,all``."""
    words = [word.strip() for word in text.split(",")]
    if not all(word == ALL or (word.isdecimal() and int(word) > 0) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers of images; write for example 100,200,all")
    return tuple(dict.fromkeys(None if word == ALL else int(word) for word in words))
