"""The verb ``demo``: see it work without a movie of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import PROGRAM, Console, duration
from napari_osvos.cli.options import add_machine, add_reporting, add_settings, at_least, names, tuning_of
from napari_osvos.cli.report import Report, check_outputs, write_json
from napari_osvos.cli.stages import choose_device, load_start
from napari_osvos.config import FineTuneConfig

if TYPE_CHECKING:
    from napari_osvos.pipeline import Advance

_LOOKS = ("fluorescence", "phase", "dic")
_EXAMPLES = f"""\
examples:
  {PROGRAM} demo
  {PROGRAM} demo -o demo --looks em,brightfield --quality balanced
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "demo",
        usage=f"{PROGRAM} demo [-o DIR] [options]",
        help="segment simulated movies, no movie of your own needed",
        description="Simulate movies of moving, dividing cells, paint the first frame of each, segment and link the"
        " others and score them against the truth.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("napari-osvos-demo"),
        help="folder for movies, labels, scores and the picture (default: napari-osvos-demo)",
    )  # fmt: skip
    group = parser.add_argument_group("movies")
    group.add_argument(
        "--looks", metavar="LOOKS", type=names, default=_LOOKS,
        help=f"out of fluorescence, phase, dic, brightfield, em (default: {','.join(_LOOKS)})",
    )  # fmt: skip
    group.add_argument(
        "--movie-frames", metavar="N", type=at_least(2), default=24, help="frames of a movie (default: 24)"
    )
    group.add_argument("--size", metavar="PX", type=at_least(16), default=256, help="edge of a frame (default: 256)")
    group = parser.add_argument_group("fine-tuning")
    group.add_argument("--parent", metavar="lite|vgg16|FILE", default="lite", help="parent network (default: lite)")
    add_settings(group, FineTuneConfig, only=("quality", "steps", "seed"), defaults={"quality": "fast"})
    add_machine(parser)
    add_reporting(parser)
    parser.set_defaults(run=demo, continued=None)


def demo(given: argparse.Namespace, console: Console) -> None:
    """Segment a simulated movie of each look, write everything and draw it."""
    report = Report("demo", given.words)
    folder: Path = given.output
    picture, scores = folder / "overlay.png", folder / "scores.json"
    config = tuning_of(given, FineTuneConfig(quality="fast"))
    with report.timing("start"):
        from napari_osvos.demo import FILES, demonstrate
        from napari_osvos.overlay import save_strips
        from napari_osvos.sample_data import check_look

        for look in given.looks:
            check_look(look)
        movies = [folder / look / name for look in given.looks for name in FILES]
        check_outputs({"-o": [picture, scores, *movies], "--json": given.json}, force=given.force)
        device = choose_device(given, console, report)
        parent = load_start(given)
    shown = []
    for look in given.looks:
        with console.progress(look, config.planned_steps()) as advance:

            def said(what: str, done: int, total: int, advance: Advance = advance) -> None:
                advance(done, total, what)

            seen = demonstrate(
                look,
                folder / look,
                parent=parent,
                config=config,
                device=device,
                n_frames=given.movie_frames,
                shape=(given.size, given.size),
                seed=config.seed,
                said=said,
            )
        shown.append(seen)
        for part, seconds in seen.seconds.items():
            report.add_seconds(part, seconds)
        parts = ", ".join(f"{part.replace('_', '-')} {duration(seconds)}" for part, seconds in seen.seconds.items())
        words = f"J {seen.scores.j_mean:.3f}, F {seen.scores.f_mean:.3f}"
        if seen.scores.instances:
            words += f", SEG {seen.scores.instances.seg:.3f}"
        console.show(f"{look}: {words}, {seen.tracked.in_words}  ({parts})")
    with report.timing("draw"):
        save_strips(picture, [seen.strip for seen in shown], title="One painted frame in, a segmented movie out")
    report.add(
        settings=config.to_dict(), quality=config.quality, seed=config.seed,
        movies={seen.look: seen.to_dict() for seen in shown},
    )  # fmt: skip
    write_json(scores, report.to_dict())
    report.write(given.json)
    total = report.to_dict()["seconds"]["total"]
    example = folder / shown[0].look
    by_hand = f"segment {example / 'movie.tif'} --annotations {example / 'painted.tif'} -o labels.tif"
    console.show(
        f"""\
Done in {duration(total)}. Look at {picture}; movies and labels, a number for each track, are beside it.

The same, by hand:
  {PROGRAM} {by_hand} --quality {config.quality}

With a movie of your own: paint the objects of one frame in napari, save the Labels layer, and
  {PROGRAM} segment YOUR-MOVIE.tif --annotations YOUR-PAINT.tif -o labels.tif"""
    )
