"""A parent in training: offline, from annotated images, on crops or as published; saved and resumed."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_osvos.checkpoint import load_tensors, load_weights, pack_optimiser, save_tensors, unpack_optimiser
from napari_osvos.config import AugmentConfig, ParentConfig
from napari_osvos.device import autocast, crops_on
from napari_osvos.imagenet import load_base
from napari_osvos.losses import deep_supervision_loss, segmentation_loss
from napari_osvos.network import OSVOSNet
from napari_osvos.optimiser import Muon
from napari_osvos.parent import ParentNetwork
from napari_osvos.parent_log import ParentLog
from napari_osvos.published import (
    begin_as_published,
    published_optimiser,
    published_parent_loss,
    varied_frame,
    whole_frame,
)
from napari_osvos.sampling import draw_batch
from napari_osvos.stored_source import AnySource, opened
from napari_osvos.training import TrainingStep, WeightAverage, cosine, training_steps


class ParentTraining:
    """The state of a parent in training: network, optimiser, average, step; saved and resumed.

    Parameters
    ----------
    config : ParentConfig
        Recipe.
    sources : sequence of Source or StoredSource
        Annotated images, weighted as they are to be drawn.
    simulated : sequence of Source
        Simulated images, drawn in ``config.simulated_share`` of the crops.
    device : torch.device
        Where to train.
    augment : AugmentConfig, optional
        By default `AugmentConfig.strong`. The published schedule has its own variation.
    base : path, optional
        A file with the weights of ``config.base``; by default torchvision fetches them, unless a run is resumed.

    Raises
    ------
    ValueError
        If there are no images, or the crop size does not fit the network.
    """

    def __init__(
        self,
        config: ParentConfig,
        sources: Sequence[AnySource],
        simulated: Sequence[AnySource] = (),
        device: torch.device | None = None,
        augment: AugmentConfig | None = None,
        base: str | Path | None = None,
        *,
        resume: str | Path | None = None,
    ) -> None:
        if not sources and not simulated:
            raise ValueError("There is no annotated image to train a parent on.")
        self.config, self.device = config, device or torch.device("cpu")
        self.augment = augment or AugmentConfig.strong()
        self.sources = _weighted(chosen_images(sources, config), simulated, config.simulated_share)
        self.images = _describe_images(sources, simulated)
        net = self._network()
        if config.schedule == "crops" and config.crop_size % net.stride:
            raise ValueError(  # side outputs must lie where their targets do
                f"ParentConfig.crop_size is {config.crop_size}; "
                f"for {config.network} it must be a multiple of {net.stride} px."
            )
        if config.base != "random" and resume is None:
            load_base(net, config.base, base)
        self.net = net.to(self.device).to(memory_format=torch.channels_last).train()
        self.optimiser = self._optimiser()
        self.average = WeightAverage(self.net, 0.0 if config.schedule == "published" else config.average_decay)
        self.step = 0
        self.seconds = 0.0
        self.recent: list[float] = []  # losses that are not in the log yet
        if resume is not None:
            self.resume(resume)

    def _network(self) -> OSVOSNet:
        config = self.config
        # The weights of a base network know no BatchNorm, and neither did the paper.
        plain = config.base != "random" or config.schedule == "published"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = OSVOSNet(config.topology(), batch_norm=not plain, deep_supervision=True)
            if plain:
                begin_as_published(net)
        return net

    def _optimiser(self) -> Muon | torch.optim.Optimizer:
        config = self.config
        if config.schedule == "published":
            return published_optimiser(self.net)
        return Muon(self.net.parameters(), config.learning_rate, config.weight_decay, momentum=0.95)

    def _loss(self, number: int, progress: float) -> Tensor:
        # Each pass has random numbers of its own: a resumed run draws what the first would have drawn.
        rng = np.random.default_rng([self.config.seed, number])
        deep_weight = self.config.deep_supervision * (1 - progress)
        if self.config.schedule == "published":
            return self._loss_of_frame(rng, deep_weight)
        return self._loss_of_crops(rng, deep_weight)

    def _loss_of_frame(self, rng: np.random.Generator, deep_weight: float) -> Tensor:
        weights = np.array([source.weight for source in self.sources])
        source = opened(self.sources[int(rng.choice(len(weights), p=weights / weights.sum()))])
        frame = varied_frame(whole_frame(source, crops_on(self.device)), rng).to(self.device)
        return published_parent_loss(self.net, frame, deep_weight, self.config.reduction)

    def _loss_of_crops(self, rng: np.random.Generator, deep_weight: float) -> Tensor:
        config, net = self.config, self.net
        batch = draw_batch(self.sources, config.crops, config.crop_size, self.augment, rng).to(self.device)
        x = net.pad(batch.x)
        sides = net.side_outputs(net.features(x))
        logits = net.fused(sides, (x.shape[-2], x.shape[-1]))[..., : config.crop_size, : config.crop_size]
        heads = net.config.heads
        loss = segmentation_loss(
            logits,
            batch,
            heads,
            balance=config.balance,
            dice_weight=config.dice_weight,
            contour_weight=config.contour_weight,
        )
        if deep_weight > 0:
            scores = [s.float() for s in net.deep_scores(sides)]
            deep = deep_supervision_loss(scores, batch, heads, config.balance, config.contour_weight)
            loss = loss + deep_weight * deep
        return loss

    def steps(self) -> Iterator[TrainingStep]:
        """Train from the current step to the last one."""
        config, before, published = self.config, self.seconds, self.config.schedule == "published"
        for step in training_steps(
            self.net,
            self._loss,
            self.optimiser,
            config.steps,
            first_step=self.step,
            schedule=(lambda p: 1.0) if published else (lambda p: cosine(p, config.warm_up)),
            average=self.average,
            autocast=lambda: autocast(self.device),
            clip_norm=None if published else 5.0,
            passes=config.passes,
        ):
            self.step, self.seconds = step.step, before + step.seconds
            yield step

    def parent(self, card: dict[str, Any] | None = None) -> ParentNetwork:
        """Return the parent as it stands: averaged weights, BatchNorm folded."""
        net = self._network().to(self.device)
        net.load_state_dict(self.average.average)
        return ParentNetwork(net.eval().fold().cpu(), card)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return a copy of everything needed to resume: tensors, and a header of plain data."""
        optimiser, groups = pack_optimiser(self.optimiser)
        tensors = {f"net/{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.average.items()}
        tensors |= {f"optimiser/{k}": v for k, v in optimiser.items()}
        header = {
            "config": self.config.to_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "updates": self.average.updates,
            "recent": list(self.recent),
            "groups": groups,
            "images": self.images,
        }
        return {name: value.detach().clone() for name, value in tensors.items()}, header

    def save(self, path: str | Path) -> None:
        """Write everything needed to resume, atomically."""
        save_tensors(path, *self.state(), "checkpoint")

    def resume(self, path: str | Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If the checkpoint belongs to another recipe or to other images.
        """
        tensors, header = load_tensors(path, "checkpoint")
        mine, theirs = (_what_counts(c) for c in (self.config, ParentConfig.from_dict(header["config"])))
        if mine != theirs:
            key = next(k for k in mine if mine[k] != theirs.get(k))  # where schedules differ, that comes first
            raise ValueError(f"{path} was trained with {key} = {theirs[key]}; this run has {key} = {mine[key]}.")
        images = header.get("images", self.images)  # checkpoints of before did not say
        for kind in ("annotated", "simulated"):
            if images[kind] != self.images[kind]:
                raise ValueError(
                    f"{path} was trained on {images[kind]} {kind} images; this run has {self.images[kind]}."
                )
        if images != self.images:
            raise ValueError(f"{path} was trained on other images than this run has, though on as many.")

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        load_weights(self.net, part("net/"), path)
        self.average.average = {k: v.to(self.device) for k, v in part("average/").items()}
        self.average.updates = int(header["updates"])
        unpack_optimiser(self.optimiser, part("optimiser/"), header["groups"])
        self.step, self.seconds = int(header["step"]), float(header["seconds"])
        self.recent = [float(loss) for loss in header.get("recent", [])]


def _what_counts(config: ParentConfig) -> dict[str, Any]:
    """Return the settings that decide on what is learned."""
    # The number of steps is among them: deep supervision, and the rate of crops, fall in the course of all of them.
    return {k: v for k, v in config.to_dict().items() if k != "checkpoint_every" and k not in config.idle}


def chosen_images(sources: Sequence[AnySource], config: ParentConfig) -> Sequence[AnySource]:
    """Return so many of the annotated images as the recipe wants, the same for the same seed."""
    if config.images is None or config.images >= len(sources):
        return sources
    rng = np.random.default_rng([config.seed, 2])
    return [sources[i] for i in sorted(rng.choice(len(sources), config.images, replace=False))]


def _weighted(sources: Sequence[AnySource], simulated: Sequence[AnySource], share: float) -> list[AnySource]:
    """Return the images with weights scaled so that simulated images make up `share` of the crops."""
    if not sources or not simulated:
        return [*sources, *simulated]
    # Copies, which share their pixels: the caller may train another parent on the same images.
    groups = [[copy.copy(source) for source in group] for group in (sources, simulated)]
    for group, part in zip(groups, (1 - share, share), strict=True):
        total = sum(source.weight for source in group)
        for source in group:
            source.weight *= part / total
    return [source for group in groups for source in group if source.weight > 0]


def _describe_images(sources: Sequence[AnySource], simulated: Sequence[AnySource]) -> dict[str, Any]:
    """Tell sets of images apart by their number, sizes and shares of foreground; simulated ones follow the recipe."""
    digest = hashlib.sha256(repr([source.looks for source in sources]).encode()).hexdigest()
    return {"annotated": len(sources), "simulated": len(simulated), "digest": digest}


def train_parent(
    config: ParentConfig,
    sources: Sequence[AnySource],
    folder: str | Path,
    simulated: Sequence[AnySource] = (),
    *,
    device: torch.device | None = None,
    card: dict[str, Any] | None = None,
    base: str | Path | None = None,
    tensorboard: bool = False,
) -> Generator[TrainingStep, None, None]:
    """Train a parent, writing checkpoint, log and loss plot to a folder; resume what is there.

    The plot is there from the first step on, and renewed every 30 seconds. Who stops with Ctrl+C, leaves the loop or
    closes the generator goes on after the last step that was finished.

    Parameters
    ----------
    config : ParentConfig
        Recipe. A checkpoint in the folder must have been made with the same, but for `checkpoint_every`, on the same
        images.
    sources, simulated, device, base
        See `ParentTraining`.
    folder : path
        Receives ``checkpoint.safetensors``, ``log.csv``, ``loss.png`` and ``parent.safetensors``; where there is no
        checkpoint to go on from, files of these names are replaced.
    card : dict, optional
        Provenance to keep with the weights.
    tensorboard : bool
        Whether to log for TensorBoard, too, to the folder ``tensorboard`` therein; needs the extra of this name.

    Yields
    ------
    TrainingStep

    Raises
    ------
    ValueError
        If the checkpoint in the folder belongs to another recipe or to other images, or as `load_base` and
        `ParentLog`.
    OSError
        If images or weights cannot be read, fetched or written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.safetensors"
    resume = checkpoint if checkpoint.exists() else None
    training = ParentTraining(config, sources, simulated, device, base=base, resume=resume)
    if resume is None:
        training.save(checkpoint)  # from here on the folder is known to be this run's
    unsaved = None
    with ParentLog(folder, training.step, training.recent, tensorboard) as log:
        try:
            for step in training.steps():
                done = step.step == config.steps
                due = done or step.step % config.checkpoint_every == 0
                log.add(step.step, step.loss, step.learning_rate, training.seconds, last=done)
                # A copy, since Ctrl+C may come in the middle of the next update. It costs some 1 % of an update.
                unsaved = training.state()
                log.plot(at_once=due)
                if due:
                    about = {**(card or {}), "name": config.network, "recipe": config.to_dict(), "steps": step.step}
                    about |= {"seconds": round(training.seconds), "trained": time.strftime("%Y-%m-%d")}
                    about["curve"] = log.curve()
                    training.parent(about).save(folder / "parent.safetensors")
                    save_tensors(checkpoint, *unsaved, "checkpoint")  # last: whoever is killed before comes back here
                    unsaved = None
                yield step
        except (KeyboardInterrupt, GeneratorExit):
            if unsaved is not None:
                save_tensors(checkpoint, *unsaved, "checkpoint")
            raise
