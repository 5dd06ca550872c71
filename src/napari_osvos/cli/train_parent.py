"""The verb ``train-parent``: a parent network from stills, videos and cell movies with labels."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.cli.console import PROGRAM, Console, duration
from napari_osvos.cli.options import add_machine, add_reporting, add_settings, refuse_idle, settings_given, settings_of
from napari_osvos.cli.report import Report, check_outputs
from napari_osvos.cli.stages import choose_device
from napari_osvos.config import ParentConfig

if TYPE_CHECKING:
    from napari_osvos.training_sets import TrainingSet

_FREQUENT = ("network", "schedule", "steps", "images", "seed")
_EXAMPLES = f"""\
examples:
  {PROGRAM} train-parent stills/* -o parent
  {PROGRAM} train-parent stills/nuclei Fluo-N2DH-SIM+ -o parent --network lite --steps 20000
  {PROGRAM} train-parent DAVIS -o parent --schedule published --base imagenet-features     # the parent of the paper
  {PROGRAM} segment movie.tif -a painted.tif -o labels.tif --parent parent/parent.safetensors

IMAGES are folders as they come, each of them one set: stills (the folders images and labels, whose files have the same
names; or several such folders), DAVIS 2016 and 2017, YouTube-VOS, YouTube-Objects (folders images and labels at any
depth), and the Cell Tracking Challenge (01 beside 01_ST or 01_GT).

DIR receives checkpoint.safetensors, log.csv, loss.png and parent.safetensors. The same command goes on from the
checkpoint, with the same images; --force starts over. Ctrl+C keeps every step that was finished.

With --schedule published the defaults are those of the paper: --network vgg16 --base imagenet-features --steps 50000
--passes 10 --deep-supervision 1 --edges published --simulated-share 0; options of crops, their loss and optimiser are
refused.
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "train-parent",
        usage=f"{PROGRAM} train-parent IMAGES ... -o DIR [options]",
        help="train a parent network from stills, videos and cell movies with labels",
        description="Train a parent network, which fine-tuning starts from.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("sets", metavar="IMAGES", type=Path, nargs="*", help="folders of images with labels")
    parser.add_argument(
        "--sequence", metavar="MOVIE:LABELS", dest="sequences", action="append", default=[],
        help="a movie with labels, stacks or folders; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--split", metavar="NAME",
        help="list of images in a folder of DAVIS, such as val or 2016/train (default: train, of the latest year)",
    )  # fmt: skip
    parser.add_argument(
        "--base", metavar="KIND|KIND:FILE|FILE", dest="base_network", default=None,
        help="weights to begin with: random; or VGG16 on ImageNet, imagenet-features or imagenet-v1, which torchvision "
        "fetches unless a FILE has them (default: random)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to train in")
    add_settings(parser.add_argument_group("training"), ParentConfig, only=_FREQUENT)
    seldom = parser.add_argument_group("training, seldom needed")
    add_settings(seldom, ParentConfig, leave_out=(*_FREQUENT, "base"))
    seldom.add_argument(
        "--tensorboard", action="store_true", help="log for TensorBoard, too, in the folder tensorboard of DIR"
    )
    add_machine(parser)
    add_reporting(parser, force="start over instead of going on from the checkpoint, and overwrite the --json file")
    parser.set_defaults(run=train_parent)


def train_parent(given: argparse.Namespace, console: Console) -> None:
    """Train a parent, going on from the checkpoint in the folder if there is one."""
    report = Report("train-parent", given.words)
    check_outputs({"--json": given.json}, inputs=given.sets, force=given.force)
    checkpoint = given.output / "checkpoint.safetensors"
    for name in ("parent.safetensors", "log.csv", "loss.png"):  # without a checkpoint they are not ours to go on with
        check_outputs({"-o": given.output / name}, force=given.force or checkpoint.exists())
    config, base = _recipe(given)
    if not given.sets and not given.sequences and config.simulated_share < 1:
        raise ValueError(
            "There is nothing to train on; name folders of IMAGES or a --sequence, or train on simulated images alone"
            " with --simulated-share 1."
        )
    with report.timing("read"):
        device = choose_device(given, console, report)
        sources, simulated, images, found = _sources(given, config, console)
    if given.force:
        checkpoint.unlink(missing_ok=True)
    elif checkpoint.exists():
        console.say(f"Going on from {checkpoint}.")
    if config.base != "random" and base is None and not checkpoint.exists():
        console.say(f"Fetching the weights {config.base} by torchvision, some 550 MB unless it has them.")
    from napari_osvos import parent_training

    training = parent_training.train_parent(
        config,
        sources,
        given.output,
        simulated,
        device=device,
        card={"images": images, "images_found": found},
        base=base,
        tensorboard=given.tensorboard,
    )
    done = 0
    with report.timing("train"), console.progress("training", config.steps) as advance:
        try:
            with contextlib.closing(training) as steps:  # closed, it writes the checkpoint
                for step in steps:
                    done = step.step
                    advance(step.step, step.steps, f"loss {step.loss:.3f}")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(checkpoint, given.force)) from None
    weights = given.output / "parent.safetensors"
    report.add(recipe=config.to_dict(), images=images, images_found=found, steps=done, seed=config.seed)
    report.add(outputs=[str(weights)])
    report.write(given.json)
    console.say(
        f"{weights}: {config.steps} step{'s' * (config.steps > 1)}, trained in {duration(report.seconds['train'])}."
    )


def _kept(checkpoint: Path, force: bool) -> str:
    """Return what to say of the checkpoint of a run that was stopped."""
    from napari_osvos.checkpoint import read_header

    # Read, not counted: a second Ctrl+C may have come while the last steps were written.
    done = read_header(checkpoint)[1]["step"] if checkpoint.exists() else 0
    if not done:
        return ""
    command = "the same command without --force" if force else "the same command"
    return f"What was learned in {done} step{'s' * (done > 1)} is in {checkpoint}; {command} goes on from there."


def _recipe(given: argparse.Namespace) -> tuple[ParentConfig, Path | None]:
    """Return the recipe, and the file of the base network if there is one."""
    from napari_osvos.imagenet import split_base

    published = getattr(given, "schedule", None) == "published"
    defaults = ParentConfig.published() if published else ParentConfig()
    kind, path = (defaults.base, None) if given.base_network is None else split_base(given.base_network)
    if kind != "random" and not hasattr(given, "network"):
        given.network = "vgg16"
    given.base = kind
    config = settings_of(given, ParentConfig, defaults)
    refuse_idle(given, ParentConfig, config.idle, f"--schedule {config.schedule}")
    if config.simulated_share == 0:
        typed = "simulated_share" in settings_given(given, ParentConfig)
        beside = "--simulated-share 0" if typed else "--schedule published, which simulates none"
        refuse_idle(given, ParentConfig, ("simulated_images",), beside)
    return config, path


def _n_files(training_set: TrainingSet) -> int:
    """Return how many files of a set are read before training: its pictures are read as they are drawn."""
    folders = [still / "labels" for still in training_set.stills] + [labels for _, labels in training_set.movies]
    return sum(sum(1 for _ in folder.iterdir()) if folder.is_dir() else 1 for folder in folders)


def _sources(
    given: argparse.Namespace, config: ParentConfig, console: Console
) -> tuple[list[Any], list[Any], dict[str, int], dict[str, int]]:
    """Find all images; return labelled and simulated ones, how many of each set are trained on, and were found."""
    from napari_osvos.benchmark_movies import split_pair
    from napari_osvos.parent_training import chosen_images
    from napari_osvos.stills import simulated_sources
    from napari_osvos.training_images import read_movie, read_training_set
    from napari_osvos.training_sets import find_training_sets

    sources: list[Any] = []
    sets: list[str] = []  # the set of each
    found: dict[str, int] = {}

    def add(name: str, of_set: Sequence[Any]) -> None:
        sources.extend(of_set)
        sets.extend([name] * len(of_set))
        found[name] = found.get(name, 0) + len(of_set)

    wanted = [one for folder in given.sets for one in find_training_sets(folder, given.split)]
    ends = list(itertools.accumulate(map(_n_files, wanted)))
    with console.progress("reading images", ends[-1] if ends else 0) as advance:
        for training_set, end in zip(wanted, ends, strict=True):
            add(training_set.name, read_training_set(training_set, config))
            advance(end, ends[-1], training_set.name)
    for pair in given.sequences:
        add(pair, read_movie(*split_pair(pair), config))
    if config.images is not None and config.images > len(sources):
        raise ValueError(f"--images is {config.images}, and there are {len(sources)} images with labels; leave it out.")
    chosen = {id(source) for source in chosen_images(sources, config)}
    drawn = Counter(name for name, source in zip(sets, sources, strict=True) if id(source) in chosen)
    images = {name: drawn[name] for name in found}
    simulated: list[Any] = []
    if config.simulated_share > 0:
        with console.progress("simulating images", config.simulated_images) as advance:
            for source in simulated_sources(config, config.topology().intensities):
                simulated.append(source)
                advance(len(simulated), config.simulated_images)
        images["simulated"] = found["simulated"] = len(simulated)
    counts = {name: str(n) if n == found[name] else f"{n} of {found[name]}" for name, n in images.items()}
    console.say(", ".join(f"{name}: {count} images" for name, count in counts.items()) + ".")
    return sources, simulated, images, found
