"""Parent networks: trained offline to tell objects from background, then bundled."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_osvos.checkpoint import (
    load_network,
    load_tensors,
    load_weights,
    pack_optimiser,
    save_tensors,
    unpack_optimiser,
    weights_digest,
)
from napari_osvos.config import AugmentConfig, NetworkConfig, ParentConfig
from napari_osvos.device import autocast
from napari_osvos.losses import deep_supervision_loss, segmentation_loss
from napari_osvos.machine import replacing
from napari_osvos.network import OSVOSNet
from napari_osvos.optimiser import Muon
from napari_osvos.sampling import Source, draw_batch
from napari_osvos.training import TrainingStep, WeightAverage, cosine, training_steps


class ParentNetwork:
    """A network that tells objects from background, and where it comes from.

    Parameters
    ----------
    net : OSVOSNet
        Without BatchNorm.
    card : dict
        Provenance: name, data, recipe, scores; plain data.
    """

    def __init__(self, net: OSVOSNet, card: dict[str, Any] | None = None) -> None:
        self.net = net.eval()
        self.card = dict(card or {})

    @property
    def name(self) -> str:
        """Name of the parent, such as ``lite``."""
        return str(self.card.get("name", self.net.config.name))

    @classmethod
    def bundled(cls, name: str = "lite") -> ParentNetwork:
        """Return a parent that comes with the package.

        Raises
        ------
        ValueError
            If there is none of this name; the message lists them.
        """
        names = cls.bundled_names()
        if name not in names:
            raise ValueError(f"There is no bundled parent {name!r}; there are {', '.join(names)}.")
        with resources.as_file(resources.files("napari_osvos") / "parents" / f"{name}.safetensors") as path:
            return cls.load(path)

    @staticmethod
    def bundled_names() -> list[str]:
        """Return the names of the bundled parents."""
        folder = resources.files("napari_osvos") / "parents"
        return sorted(f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors"))

    @classmethod
    def load(cls, path: str | Path) -> ParentNetwork:
        """Read a parent from a file.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing, damaged, or does not hold a parent.
        """
        net, header = load_network(path, "parent")
        return cls(net.to(memory_format=torch.channels_last), header.get("card"))

    @classmethod
    def random(cls, config: NetworkConfig | None = None, seed: int = 0) -> ParentNetwork:
        """Return an untrained network, for comparison: what fine-tuning reaches without a parent."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = OSVOSNet(config or NetworkConfig.lite()).to(memory_format=torch.channels_last)
        return cls(net, {"name": "random", "seed": seed})

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the parent to a file; by default in half precision."""
        tensors = {name: value.to(dtype) for name, value in self.net.state_dict().items()}
        save_tensors(path, tensors, {"network": self.net.config.to_dict(), "card": self.card}, "parent")

    def digest(self) -> str:
        """Return the SHA-256 of the weights."""
        return weights_digest(self.net.state_dict())


class ParentTraining:
    """The state of a parent in training: network, optimiser, average, step; saved and resumed.

    Parameters
    ----------
    config : ParentConfig
        Recipe.
    sources : sequence of Source
        Annotated images, weighted as they are to be drawn.
    simulated : sequence of Source
        Simulated images, drawn in ``config.simulated_share`` of the crops.
    device : torch.device
        Where to train.
    augment : AugmentConfig, optional
        By default `AugmentConfig.strong`.
    """

    def __init__(
        self,
        config: ParentConfig,
        sources: Sequence[Source],
        simulated: Sequence[Source] = (),
        device: torch.device | None = None,
        augment: AugmentConfig | None = None,
    ) -> None:
        if not sources and not simulated:
            raise ValueError("There is no annotated image to train a parent on.")
        self.config, self.device = config, device or torch.device("cpu")
        self.augment = augment or AugmentConfig.strong()
        self.sources = _weighted(sources, simulated, config.simulated_share)
        self.images = _describe_images(sources, simulated)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = OSVOSNet(NetworkConfig.preset(config.network), batch_norm=True)
        if config.crop_size % net.stride:  # side outputs must lie where their targets do
            raise ValueError(
                f"ParentConfig.crop_size is {config.crop_size}; "
                f"for {config.network} it must be a multiple of {net.stride} px."
            )
        self.net = net.to(self.device).to(memory_format=torch.channels_last).train()
        self.optimiser = Muon(self.net.parameters(), config.learning_rate, config.weight_decay, momentum=0.95)
        self.average = WeightAverage(self.net, config.average_decay)
        self.step = 0
        self.seconds = 0.0
        self.recent: list[float] = []  # losses that are not in the log yet

    def _loss(self, step: int, progress: float) -> Tensor:
        config, net = self.config, self.net
        # Each step has random numbers of its own: a resumed run draws what the first would have drawn.
        rng = np.random.default_rng([config.seed, step])
        batch = draw_batch(self.sources, config.crops, config.crop_size, self.augment, rng).to(self.device)
        x = net.pad(batch.x)
        sides = net.side_outputs(x)
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
        weight = config.deep_supervision * (1 - progress)
        if weight > 0:
            scores = [s.float() for s in net.deep_scores(sides)]
            loss = loss + weight * deep_supervision_loss(scores, batch, heads, config.balance, config.contour_weight)
        return loss

    def steps(self) -> Iterator[TrainingStep]:
        """Train from the current step to the last one."""
        before = self.seconds
        for step in training_steps(
            self.net,
            self._loss,
            self.optimiser,
            self.config.steps,
            first_step=self.step,
            schedule=lambda p: cosine(p, self.config.warm_up),
            average=self.average,
            autocast=lambda: autocast(self.device),
            clip_norm=5.0,
        ):
            self.step, self.seconds = step.step, before + step.seconds
            yield step

    def parent(self, card: dict[str, Any] | None = None) -> ParentNetwork:
        """Return the parent as it stands: averaged weights, BatchNorm folded."""
        net = OSVOSNet(self.net.config, batch_norm=True).to(self.device)
        net.load_state_dict(self.average.average)
        return ParentNetwork(net.eval().fold().cpu(), card)

    def save(self, path: str | Path) -> None:
        """Write everything needed to resume, atomically."""
        optimiser, groups = pack_optimiser(self.optimiser)
        tensors = {f"net/{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.average.items()}
        tensors |= {f"optimiser/{k}": v for k, v in optimiser.items()}
        header = {
            "config": self.config.to_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "updates": self.average.updates,
            "recent": self.recent,
            "groups": groups,
            "images": self.images,
        }
        save_tensors(path, tensors, header, "checkpoint")

    def resume(self, path: str | Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If the checkpoint belongs to another recipe or to other images.
        """
        tensors, header = load_tensors(path, "checkpoint")
        theirs = ParentConfig.from_dict(header["config"])
        if theirs != self.config:
            mine, other = self.config.to_dict(), theirs.to_dict()
            key = next(k for k in mine if mine[k] != other[k])
            raise ValueError(f"{path} was trained with {key} = {other[key]}; this run has {key} = {mine[key]}.")
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


def _weighted(sources: Sequence[Source], simulated: Sequence[Source], share: float) -> list[Source]:
    """Scale the weights so that simulated images make up `share` of the crops."""
    if not sources or not simulated:
        return [*sources, *simulated]
    for group, part in ((sources, 1 - share), (simulated, share)):
        total = sum(source.weight for source in group)
        for source in group:
            source.weight *= part / total
    return [source for source in (*sources, *simulated) if source.weight > 0]


def _describe_images(sources: Sequence[Source], simulated: Sequence[Source]) -> dict[str, Any]:
    """Tell sets of images apart by their number, sizes and shares of foreground; simulated ones follow the recipe."""
    looks = [(tuple(s.image.shape), round(s.positive_share, 6)) for s in sources]
    digest = hashlib.sha256(repr(looks).encode()).hexdigest()
    return {"annotated": len(sources), "simulated": len(simulated), "digest": digest}


def train_parent(
    config: ParentConfig,
    sources: Sequence[Source],
    folder: str | Path,
    simulated: Sequence[Source] = (),
    *,
    device: torch.device | None = None,
    card: dict[str, Any] | None = None,
) -> Iterator[TrainingStep]:
    """Train a parent, writing checkpoint, log and loss plot to a folder; resume what is there.

    Parameters
    ----------
    config : ParentConfig
        Recipe. A checkpoint in the folder must have been made with the same, on the same images.
    sources, simulated, device
        See `ParentTraining`.
    folder : path
        Receives ``checkpoint.safetensors``, ``log.csv``, ``loss.png`` and ``parent.safetensors``; where there is no
        checkpoint to go on from, files of these names are replaced.
    card : dict, optional
        Provenance to keep with the weights.

    Yields
    ------
    TrainingStep

    Raises
    ------
    ValueError
        If the checkpoint in the folder belongs to another recipe or to other images.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    training = ParentTraining(config, sources, simulated, device)
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.csv"
    rows: list[tuple[int, float, float, float]] = []
    if checkpoint.exists():
        training.resume(checkpoint)
        rows = [row for row in _read_log(log) if row[0] <= training.step]
    else:
        training.save(checkpoint)  # from here on the folder is known to be this run's
    _write_log(log, rows)
    recent = training.recent
    with open(log, "a", newline="") as stream:
        writer = csv.writer(stream)
        for step in training.steps():
            recent.append(step.loss)
            done = step.step == config.steps
            if step.step % 50 == 0 or done:
                row = (step.step, float(np.mean(recent)), step.learning_rate, round(training.seconds, 2))
                rows.append(row)
                writer.writerow(row)
                stream.flush()
                recent.clear()
            if step.step % config.checkpoint_every == 0 or done:
                about = {**(card or {}), "name": config.network, "recipe": config.to_dict(), "steps": step.step}
                about |= {"seconds": round(training.seconds), "trained": time.strftime("%Y-%m-%d")}
                about["curve"] = [(r[0], round(r[1], 4)) for r in rows[:: max(1, len(rows) // 40)]]
                training.parent(about).save(folder / "parent.safetensors")
                plot_losses(rows, folder / "loss.png")
                training.save(checkpoint)  # last: whoever is killed before comes back here
            yield step


def _read_log(path: Path) -> list[tuple[int, float, float, float]]:
    if not path.exists():
        return []
    with open(path, newline="") as stream:
        rows = [row for row in list(csv.reader(stream))[1:] if len(row) == 4]  # the last may be cut short
        return [(int(r[0]), float(r[1]), float(r[2]), float(r[3])) for r in rows]


def _write_log(path: Path, rows: Sequence[tuple[int, float, float, float]]) -> None:
    with replacing(path) as partial, open(partial, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("step", "loss", "learning_rate", "seconds"))
        writer.writerows(rows)


def plot_losses(rows: Sequence[tuple[int, float, float, float]], path: str | Path) -> None:
    """Draw the loss against the steps to a PNG file, whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([r[0] for r in rows], [r[1] for r in rows], lw=1)
    axes.set(xlabel="step", ylabel="loss (mean of 50 steps)", yscale="log")
    axes.grid(alpha=0.3)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
