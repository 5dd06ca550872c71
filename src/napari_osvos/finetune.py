"""One-shot fine-tuning: a parent network and the annotated frames of a movie make a segmenter."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from napari_osvos.annotations import Annotations, checked_annotations
from napari_osvos.appearance import Appearance
from napari_osvos.clip import Clip
from napari_osvos.config import AugmentConfig, FineTuneConfig, PredictConfig
from napari_osvos.device import autocast, crops_on, precision_name, resolve_device, without_cache
from napari_osvos.graphs import GraphedLoss
from napari_osvos.half_painted import half_painted_in_words
from napari_osvos.held_out import HeldOut, HeldOutScore
from napari_osvos.holding_out import measure, paint_to_hold_out
from napari_osvos.instances import SeparationConfig, separation_of_paint
from napari_osvos.intensity import IntensityScale, movie_intensity
from napari_osvos.labelling import LabelMeaning
from napari_osvos.losses import class_probabilities, segmentation_loss, threshold_shift
from napari_osvos.memory import OUT_OF_MEMORY, Shortage, is_out_of_memory
from napari_osvos.network import OSVOSNet
from napari_osvos.optimiser import Muon
from napari_osvos.output_fitting import fitting_meaning, look_back
from napari_osvos.painted_plane import PaintedPlane, check_contrast, painted_planes
from napari_osvos.parent import ParentNetwork
from napari_osvos.provenance import frames_learned_from, looks, movie_named
from napari_osvos.published import published_loss, published_optimiser, whole_frame
from napari_osvos.sampling import KNOWN, Batch, Source, draw_batch
from napari_osvos.segmenter import Segmenter
from napari_osvos.shading import shading_direction
from napari_osvos.sparing import Batches
from napari_osvos.task import MOST_CLASSES, Task, choose_task, label_values
from napari_osvos.training import TrainingStep, WeightAverage, cosine, training_steps

# So many updates apart, and four times at most, the annotated frames are predicted to draw crops where they are wrong.
STEPS_PER_LOOK = 40
# Held-out paint is learned from, too, after this share of the steps.
RELEASE = 0.4
# Of the learning rate, where an earlier fine-tuning is continued: what it knows is not to be forgotten.
REFINING = 0.5


class FineTuner:
    """Fine-tunes a network on the annotated frames of a movie.

    Parameters
    ----------
    start : ParentNetwork or Segmenter
        Where to begin: a parent, or an earlier fine-tuning to be continued.
    config : FineTuneConfig, optional
        Quality and settings.
    device : str
        See `napari_osvos.device.resolve_device`.
    augment : AugmentConfig, optional
        Variation of the crops. By default `AugmentConfig()`, or `AugmentConfig.upright` where all painted objects
        are shaded from one side (see `napari_osvos.shading`).

    Examples
    --------
    >>> tuner = FineTuner(ParentNetwork.bundled(), FineTuneConfig(quality="fast"))  # doctest: +SKIP
    >>> segmenter = tuner.fit(clip, annotations)  # doctest: +SKIP
    """

    def __init__(
        self,
        start: ParentNetwork | Segmenter,
        config: FineTuneConfig | None = None,
        device: str | torch.device = "auto",
        augment: AugmentConfig | None = None,
    ) -> None:
        self.start = start
        self.config = config or FineTuneConfig()
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.augment = augment or AugmentConfig()
        self._choose_augment = augment is None
        self.net: OSVOSNet | None = None
        self.zoom = 1.0
        self.threshold = 0.5
        self.meaning = LabelMeaning()
        self._average: WeightAverage | None = None
        self._provenance: dict[str, Any] = {}
        self._ends_early = False
        self._appearance: Appearance | None = None
        self._held_out: HeldOutScore | None = None
        self.remarks: tuple[str, ...] = ()
        self.shortage = Shortage()

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter as it stands, also while `steps` is being drained.

        Raises
        ------
        RuntimeError
            Before the first step.
        """
        if self.net is None or self._average is None:
            raise RuntimeError("There is no segmenter before the first step of fine-tuning.")
        net = copy.deepcopy(self.net)
        net.load_state_dict(self._average.average)
        predict = PredictConfig(flips=self.config.quality == "best" and self.augment.flip)
        provenance = dict(self._provenance)
        if self._held_out is not None:
            provenance["held_out"] = self._held_out.to_dict()
        parts = (predict, provenance, self.device, self.meaning, self._appearance)
        segmenter = Segmenter(net, self.zoom, self.threshold, *parts)
        segmenter.shortage = self.shortage  # what did not fit once is not tried again, nor told again
        return segmenter

    def fit(self, clip: Clip, annotations: Annotations) -> Segmenter:
        """Fine-tune to the end and return the segmenter; see `steps`."""
        for _ in self.steps(clip, annotations):
            pass
        return self.segmenter

    def planned_steps(self, n_annotated: int) -> int:
        """Return the number of updates for so many annotated frames (of volumes: slices).

        An earlier fine-tuning has learned from most of them before: it is continued as if there were one.
        """
        return self.config.planned_steps(1 if isinstance(self.start, Segmenter) else n_annotated)

    def end_early(self) -> None:
        """Have `steps` end after the update at hand, as if it had been the last; call it between two of them."""
        self._ends_early = True

    def steps(self, clip: Clip, annotations: Annotations) -> Iterator[TrainingStep]:
        """Fine-tune, one update at a time; the segmenter may be taken at any of them.

        Parameters
        ----------
        clip : Clip
            The movie.
        annotations : Annotations
            Its annotated frames, in the frame numbers of the clip.

        Yields
        ------
        TrainingStep

        Raises
        ------
        ValueError
            If the annotations are empty or do not fit the movie, or its annotated frames show nothing.
        TypeError
            If the movie is no `Clip`, or the annotations are no `Annotations`.
        FloatingPointError
            If the loss ceases to be finite.
        """
        annotations = checked_annotations(annotations).aligned_to(clip)
        config, self._ends_early, self._held_out, self.remarks = self.config, False, None, ()
        diameter = annotations.object_diameter()
        task, values = self._choose_task(clip, annotations)
        net = self._with_heads(task, values).to(self.device).to(memory_format=torch.channels_last)
        self.net = net.train()
        intensity = movie_intensity(clip, net.config.intensities)
        self.zoom = self._choose_zoom(diameter)
        alike = task == "look-alike"
        frames = painted_planes(clip, annotations, alike=alike)
        check_contrast(clip, frames)
        if self._choose_augment:
            shaded = shading_direction([f.image for f in frames], [f.labels for f in frames])
            self.augment = AugmentConfig() if shaded is None else AugmentConfig.upright()
        self._average = WeightAverage(net, 0.0 if config.quality == "published" else config.average_decay)
        separation = SeparationConfig()
        if alike:
            separation = separation_of_paint([f.labels for f in frames if not f.partial])
        self.meaning = LabelMeaning(task, values, diameter / 2, separation)
        self._provenance = self._describe(clip, annotations)
        if config.quality == "published":
            loops = self._published_steps(clip, annotations, intensity)
        else:
            held, self._held_out = paint_to_hold_out(
                self.start, clip, frames, intensity, config=config, task=task, diameter=diameter
            )
            loops = self._steps(frames, intensity, held)
        for step in loops:
            self._provenance |= {"steps": step.step, "seconds": round(step.seconds, 3)}
            yield step
            if self._ends_early:
                break
        complete = [f for f in frames if not f.partial]
        seen = look_back(self.segmenter, [*complete, *(f for f in frames if f.partial)], intensity)
        self._appearance = seen.appearance
        self._provenance["paint_fit"] = seen.fit.to_dict()
        self.remarks = tuple(half_painted_in_words(clip.frame_numbers[t], n) for t, n in seen.half_painted.items())
        if config.quality != "published":
            self.threshold = seen.threshold
        if config.quality != "preview":
            self.meaning = fitting_meaning(self.segmenter, complete, intensity)

    def _choose_task(self, clip: Clip, annotations: Annotations) -> tuple[Task, tuple[int, ...]]:
        """Return the task, and the labels that the network is to tell apart."""
        wanted, before = self.config.task, getattr(self.start, "meaning", None)
        painted = label_values(annotations)
        if wanted != "auto":
            task = cast(Task, wanted)
        elif before is not None and (before.task == "look-alike" or set(painted) <= set(before.values)):
            task = before.task
        else:
            task = choose_task(annotations, clip)
        if task == "look-alike":
            return task, (1,)
        if before is not None and before.task == "distinct":
            painted = tuple(sorted({*painted, *before.values} if len(before.values) > 1 else painted))
        if self.config.quality == "published" and len(painted) > 1:
            raise ValueError(
                f"The quality 'published' tells objects from background only, but {len(painted)} distinct labels are "
                "painted; segment them one by one, or take another quality."
            )
        if len(painted) > MOST_CLASSES:
            raise ValueError(
                f"{len(painted)} labels are painted; at most {MOST_CLASSES} can be distinct objects. "
                "If each is one of many objects that look alike, set the task to look-alike."
            )
        return task, painted

    def _learns_distance(self, task: Task) -> bool:
        return task == "look-alike" and self.config.distance_weight > 0 and self.config.quality != "published"

    def _with_heads(self, task: Task, values: tuple[int, ...]) -> OSVOSNet:
        """Return a copy of the network to start from, with a head for everything that is to be learned."""
        edges = self.config.edges
        net = copy.deepcopy(self.start.net) if edges == "auto" else self.start.net.with_edges(edges)
        others = [head for head in net.config.heads if not head.startswith("foreground") and head != "distance"]
        if self.config.learns_contours and "contour" not in others:
            others.append("contour")
        foreground = ["foreground"] if len(values) == 1 else [f"foreground-{value}" for value in values]
        distance = ["distance"] if self._learns_distance(task) else []
        heads = (*foreground, *others, *distance)
        return net if heads == net.config.heads else net.with_heads(heads)

    def _choose_zoom(self, diameter: float) -> float:
        if isinstance(self.start, Segmenter) and self.config.quality != "published":
            return self.start.zoom  # the weights know this scale
        return self.config.zoom(diameter)

    def _steps(
        self, frames: list[PaintedPlane], intensity: IntensityScale, held: HeldOut | None
    ) -> Iterator[TrainingStep]:
        config, net = self.config, self.net
        assert net is not None
        sources = self._sources(frames, [f.known for f in frames], intensity)
        first = sources
        if held is not None:
            first = self._sources(frames, [f.known & ~a for f, a in zip(frames, held.areas, strict=True)], intensity)
            for source in first:
                if not bool(source.targets[KNOWN].any()):  # held out as a whole: its crops would teach nothing
                    source.weight = 0.0
        known = [float(s.targets[KNOWN].sum()) for s in sources]
        positive_share = float(np.average([s.positive_share for s in sources], weights=known))

        self.threshold = 1 / (1 + math.exp(-threshold_shift(positive_share, config.balance)))
        planned = self.planned_steps(len(frames))
        count = min(max(planned // STEPS_PER_LOOK, 1), 4)
        looks = [0.15 + 0.2 * i for i in range(count)]

        def loss_of_step(step: int, progress: float) -> Tensor:
            nonlocal first
            rng = np.random.default_rng([config.seed, step])
            if first is not sources and progress >= RELEASE:
                assert held is not None
                self._held_out = measure(held, frames, intensity, self.segmenter)
                for source, before in zip(sources, first, strict=True):
                    source.take_errors_of(before)
                first = sources
            while looks and progress >= looks[0]:
                looks.pop(0)
                for i in rng.permutation(len(first))[:4]:
                    first[i].look_for_errors(self._foreground, rng)
            batch = draw_batch(first, batches.size, config.crop_size, self.augment, rng, config.shares)
            return graphed(batch.to(self.device).tensors(), batches.passes)

        def loss_of_batch(logits: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
            return segmentation_loss(
                logits,
                Batch(**tensors),
                net.config.heads,
                balance=config.balance,
                dice_weight=config.dice_weight,
                contour_weight=config.contour_weight,
                distance_weight=config.distance_weight,
                positive_share=positive_share,
            )

        graphed = GraphedLoss(net, loss_of_batch)
        parameters = list(net.parameters())
        if config.quality == "preview":
            parameters = net.head_parameters()
        net.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        rate = config.learning_rate * (REFINING if isinstance(self.start, Segmenter) else 1.0)
        optimiser = Muon(parameters, rate, config.weight_decay)
        batches = Batches(config.crops, self.device, self.shortage, lambda: self._to_cpu(optimiser, [*sources, *first]))
        yield from batches.updates(
            lambda done, spent: training_steps(
                net,
                loss_of_step,
                optimiser,
                planned,
                first_step=done,
                passes=batches.passes,
                seconds=config.seconds and max(config.seconds - spent, 1e-3),
                schedule=lambda p: cosine(p, config.warm_up),
                average=self._average,
                autocast=lambda: autocast(self.device),
                clip_norm=5.0,
            )
        )

    def _to_cpu(self, optimiser: Muon | torch.optim.Optimizer, sources: Sequence[Source] = ()) -> None:
        """Go on with the CPU, where crops are made from then on, too."""
        assert self.net is not None
        assert self._average is not None
        self.device = torch.device("cpu")
        self.net.to(self.device)
        self._average.average = {name: value.to(self.device) for name, value in self._average.average.items()}
        optimiser.load_state_dict(optimiser.state_dict())
        for source in sources:
            source.to(self.device)

    def _sources(
        self, frames: Sequence[PaintedPlane], known: Sequence[np.ndarray], intensity: IntensityScale
    ) -> list[Source]:
        values, deep = self.meaning.values, self._learns_distance(self.meaning.task)
        sources = [
            Source(f.image, f.labels, k, intensity, self.zoom, f.weight, classes=values, distance=deep)
            for f, k in zip(frames, known, strict=True)
        ]
        try:
            for source in sources:
                source.to(crops_on(self.device))
        except OUT_OF_MEMORY as error:
            if not is_out_of_memory(error):
                raise
            for source in sources:  # crops of one batch come from one device
                source.to(torch.device("cpu"))
            self.shortage.say("images", "Memory ran short: crops of the annotated frames are cut on the CPU.")
        return sources

    @torch.no_grad()
    def _foreground(self, x: Tensor) -> Tensor:
        net = self.net
        assert net is not None
        with without_cache(self.device.type):  # the pass with gradients comes right after this one
            logits = net(x.to(self.device))[:, list(net.config.foreground)].float()
        return class_probabilities(logits).sum(1, keepdim=True)

    def _published_steps(
        self, clip: Clip, annotations: Annotations, intensity: IntensityScale
    ) -> Iterator[TrainingStep]:
        config, net = self.config, self.net
        assert net is not None
        net.requires_grad_(True)
        planes = [
            Source(clip.plane(p), annotations.labels(p), annotations.known(p), intensity, 1.0)
            for p in annotations.planes
        ]
        optimiser = published_optimiser(net)
        batches = Batches(1, self.device, self.shortage, lambda: self._to_cpu(optimiser))

        def loss() -> Callable[[int, float], Tensor]:
            frames = [whole_frame(source, crops_on(self.device)) for source in planes]
            return published_loss(net, frames, config.seed, varied=config.passes > 1, reduction=config.reduction)

        yield from batches.updates(
            lambda done, spent: training_steps(
                net,
                loss(),
                optimiser,
                config.planned_steps(),
                first_step=done,
                passes=config.passes,
                seconds=config.seconds and max(config.seconds - spent, 1e-3),
                schedule=lambda p: 1.0,
                average=self._average,
                autocast=lambda: autocast(self.device),
            )
        )

    def _describe(self, clip: Clip, annotations: Annotations) -> dict[str, Any]:
        start = self.start
        before = start.provenance if isinstance(start, Segmenter) else {}
        parent = (
            before.get("parent") if isinstance(start, Segmenter) else {"name": start.name, "sha256": start.digest()}
        )
        learned = {*annotations.frames, *frames_learned_from(before, clip)}
        return {
            "parent": parent,
            "continued": bool(before),
            "task": self.meaning.task,
            "fine_tune": self.config.to_dict(),
            "augment": self.augment.to_dict(),
            "movie": movie_named(clip),
            "looks": looks(clip),
            "annotated_frames": [clip.frame_numbers[t] for t in annotations.frames],
            "learned_frames": [clip.frame_numbers[t] for t in sorted(learned)],
            "device": str(self.device),
            "precision": precision_name(self.device),
            "torch": torch.__version__,
            "date": time.strftime("%Y-%m-%d"),
        }
