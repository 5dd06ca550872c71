"""The verb ``train-parent``: a parent network from stills and sequences with labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_osvos.cli.console import PROGRAM, Console, duration
from napari_osvos.cli.options import add_machine, add_reporting, add_settings, settings_of
from napari_osvos.cli.report import Report, check_outputs
from napari_osvos.cli.stages import choose_device
from napari_osvos.config import ParentConfig

_FREQUENT = ("network", "steps", "seed")
_EXAMPLES = f"""\
examples:
  {PROGRAM} train-parent stills/* -o parent
  {PROGRAM} train-parent stills/nuclei --sequence 02:02_ST/SEG -o parent --network lite --steps 20000
  {PROGRAM} segment movie.tif -a painted.tif -o labels.tif --parent parent/parent.safetensors

A set of stills is a folder with the folders images and labels, whose files have the same names; a folder of such sets
will do, too. DIR receives checkpoint.safetensors, log.csv, loss.png and parent.safetensors. The same command goes on
from the checkpoint, with the same images; --force starts over.
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "train-parent",
        usage=f"{PROGRAM} train-parent STILLS ... -o DIR [options]",
        help="train a parent network from stills and sequences with labels",
        description="Train a parent network, which fine-tuning starts from.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("stills", metavar="STILLS", type=Path, nargs="*", help="sets of stills with labels")
    parser.add_argument(
        "--sequence", metavar="MOVIE:LABELS", dest="sequences", action="append", default=[],
        help="a movie with labels, stacks or folders; may be given again",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to train in")
    add_settings(parser.add_argument_group("training"), ParentConfig, only=_FREQUENT)
    add_settings(parser.add_argument_group("training, seldom needed"), ParentConfig, leave_out=_FREQUENT)
    add_machine(parser)
    add_reporting(parser, force="start over instead of going on from the checkpoint, and overwrite the --json file")
    parser.set_defaults(run=train_parent)


def train_parent(given: argparse.Namespace, console: Console) -> None:
    """Train a parent, going on from the checkpoint in the folder if there is one."""
    report = Report("train-parent", given.words)
    check_outputs({"--json": given.json}, inputs=given.stills, force=given.force)
    checkpoint = given.output / "checkpoint.safetensors"
    for name in ("parent.safetensors", "log.csv", "loss.png"):  # without a checkpoint they are not ours to go on with
        check_outputs({"-o": given.output / name}, force=given.force or checkpoint.exists())
    config = settings_of(given, ParentConfig)
    if not given.stills and not given.sequences and config.simulated_share < 1:
        raise ValueError(
            "There is nothing to train on; name sets of stills or a --sequence, or train on simulated images alone"
            " with --simulated-share 1."
        )
    with report.timing("read"):
        device = choose_device(given, console, report)
        sources, simulated, images = _sources(given, config, console)
    if given.force:
        checkpoint.unlink(missing_ok=True)
    elif checkpoint.exists():
        console.say(f"Going on from {checkpoint}.")
    from napari_osvos import parent as parents

    steps = parents.train_parent(config, sources, given.output, simulated, device=device, card={"images": images})
    done = 0
    with report.timing("train"), console.progress("training", config.steps) as advance:
        try:
            for step in steps:
                done = step.step
                advance(step.step, step.steps, f"loss {step.loss:.3f}")
        except KeyboardInterrupt:
            kept = f"The same command goes on from {checkpoint}." if checkpoint.exists() else ""
            raise KeyboardInterrupt(kept) from None
    weights = given.output / "parent.safetensors"
    report.add(recipe=config.to_dict(), images=images, steps=done, seed=config.seed, outputs=[str(weights)])
    report.write(given.json)
    console.say(f"{weights}: {config.steps} steps, trained in {duration(report.seconds['train'])}.")


def _sources(
    given: argparse.Namespace, config: ParentConfig, console: Console
) -> tuple[list[Any], list[Any], dict[str, int]]:
    """Read all images; return the labelled ones, the simulated ones, and how many there are of each set."""
    from napari_osvos.benchmark import split_pair
    from napari_osvos.config import NetworkConfig
    from napari_osvos.stills import find_still_sets, read_still_sets, simulated_sources

    kind = NetworkConfig.preset(config.network).intensities
    sources: list[Any] = []
    images: dict[str, int] = {}
    for folder in given.stills:
        for name, path in find_still_sets(folder).items():
            of_set = list(read_still_sets([path], config, kind))
            images[name] = len(of_set)
            sources += of_set
    for pair in given.sequences:
        of_set = _sequence(*split_pair(pair), config, kind)
        images[pair] = len(of_set)
        sources += of_set
    simulated = []
    if config.simulated_share > 0:
        console.say(f"Simulating {config.simulated_images} images.")
        simulated = list(simulated_sources(config, kind))
        images["simulated"] = len(simulated)
    console.say(", ".join(f"{name}: {count} images" for name, count in images.items()) + ".")
    return sources, simulated, images


def _sequence(movie: Path, labels: Path, config: ParentConfig, kind: str) -> list[Any]:
    """Return the labelled frames of a movie as sources, weighted together as one set."""
    from napari_osvos.annotations import Annotations
    from napari_osvos.io import read_clip, read_labels
    from napari_osvos.stills import still_source

    clip = read_clip(movie)
    annotations = Annotations.from_labels(read_labels(labels)).aligned_to(clip)
    weight = len(annotations) ** config.set_exponent / len(annotations)
    return [
        still_source(clip.plane(p), annotations.labels(p), config.object_diameter, weight, kind)
        for p in annotations.planes
    ]
