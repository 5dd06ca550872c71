"""One-shot fine-tuning: a parent network and the annotated frames of a movie make a segmenter."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.config import AugmentConfig, FineTuneConfig, PredictConfig
from napari_osvos.device import autocast, fast_precision, resolve_device
from napari_osvos.intensity import IntensityScale
from napari_osvos.labels import spell
from napari_osvos.losses import balanced_cross_entropy, segmentation_loss, threshold_shift
from napari_osvos.network import OSVOSNet
from napari_osvos.optimiser import Muon
from napari_osvos.parent import ParentNetwork
from napari_osvos.sampling import Batch, Source, draw_batch
from napari_osvos.segmenter import Segmenter, movie_intensity
from napari_osvos.shading import shading_direction
from napari_osvos.training import TrainingStep, WeightAverage, cosine, training_steps
from napari_osvos.unpainted_edge import unpainted_edge

# So many updates apart, and four times at most, the annotated frames are predicted to draw crops where they are wrong.
STEPS_PER_LOOK = 40
# Annotated frames that are predicted to choose a threshold, and by how much its logit may differ from that of the loss.
MOST_FRAMES_LOOKED_AT = 4
THRESHOLD_SHIFTS = (0.0, -0.2, 0.2, -0.4, 0.4, -0.6, 0.6)


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
        self._average: WeightAverage | None = None
        self._provenance: dict[str, Any] = {}
        self._ends_early = False

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
        net = OSVOSNet(self.net.config)
        net.load_state_dict(self._average.average)
        predict = PredictConfig(flips=self.config.quality == "best" and self.augment.flip)
        return Segmenter(net, self.zoom, self.threshold, predict, self._provenance, self.device)

    def fit(self, clip: Clip, annotations: Annotations) -> Segmenter:
        """Fine-tune to the end and return the segmenter; see `steps`."""
        for _ in self.steps(clip, annotations):
            pass
        return self.segmenter

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
        FloatingPointError
            If the loss ceases to be finite.
        """
        annotations = annotations.aligned_to(clip)
        annotations.check_against(clip)
        config, self._ends_early = self.config, False
        net = copy.deepcopy(self.start.net).to(self.device).to(memory_format=torch.channels_last)
        self.net = net.train()
        intensity = movie_intensity(clip, net.config.intensities)
        self.zoom = self._choose_zoom(annotations)
        planes = {p: clip.plane(p) for p in annotations.planes}
        _check_contrast(clip, planes)
        if self._choose_augment:
            shaded = shading_direction(planes.values(), map(annotations.labels, planes))
            self.augment = AugmentConfig() if shaded is None else AugmentConfig.upright()
        self._average = WeightAverage(net, 0.0 if config.quality == "published" else config.average_decay)
        sources = [
            Source(plane, annotations.labels(p), _known(annotations, p), intensity, self.zoom)
            for p, plane in planes.items()
        ]
        self._provenance = self._describe(clip, annotations)
        if config.quality == "published":
            loops = self._published_steps(clip, annotations, intensity)
        else:
            loops = self._steps(sources)
        for step in loops:
            self._provenance |= {"steps": step.step, "seconds": round(step.seconds, 3)}
            yield step
            if self._ends_early:
                break
        if config.quality != "published":
            complete = [p for p in planes if not annotations.is_partial(p)]
            self.threshold = self._fitting_threshold(
                [(planes[p], annotations.mask(p), _known(annotations, p)) for p in complete[:MOST_FRAMES_LOOKED_AT]],
                intensity,
            )

    def _choose_zoom(self, annotations: Annotations) -> float:
        if self.config.quality == "published":
            return 1.0
        if isinstance(self.start, Segmenter):
            return self.start.zoom  # the weights know this scale
        diameter = max(annotations.object_diameter(), 1.0)
        return float(np.clip(self.config.object_diameter / diameter, 1 / 16, self.config.largest_zoom))

    def _steps(self, sources: list[Source]) -> Iterator[TrainingStep]:
        config, net = self.config, self.net
        assert net is not None
        known = [float(s.targets[2].sum()) for s in sources]
        positive_share = float(np.average([s.positive_share for s in sources], weights=known))

        self.threshold = 1 / (1 + math.exp(-threshold_shift(positive_share, config.balance)))
        count = min(max(config.planned_steps // STEPS_PER_LOOK, 1), 4)
        looks = [0.15 + 0.2 * i for i in range(count)]

        def loss_of_step(step: int, progress: float) -> Tensor:
            rng = np.random.default_rng([config.seed, step])
            while looks and progress >= looks[0]:
                looks.pop(0)
                for i in rng.permutation(len(sources))[:4]:
                    sources[i].look_for_errors(self._foreground, rng)
            batch = draw_batch(sources, config.crops, config.crop_size, self.augment, rng, config.shares)
            batch = batch.to(self.device)
            return segmentation_loss(
                net(batch.x),
                batch,
                net.config.heads,
                balance=config.balance,
                dice_weight=config.dice_weight,
                contour_weight=config.contour_weight,
                positive_share=positive_share,
            )

        parameters = list(net.parameters())
        if config.quality == "preview":
            parameters = net.head_parameters()
        net.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimiser = Muon(parameters, config.learning_rate, config.weight_decay)
        yield from training_steps(
            net,
            loss_of_step,
            optimiser,
            config.planned_steps,
            seconds=config.seconds,
            schedule=lambda p: cosine(p, config.warm_up),
            average=self._average,
            autocast=lambda: autocast(self.device),
            clip_norm=5.0,
        )

    def _fitting_threshold(
        self, frames: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], intensity: IntensityScale
    ) -> float:
        """Return the threshold near that of the loss at which masks of annotated frames overlap best with the paint.

        Whether the paint reaches to the outer or the inner rim of a blurred border is a habit of its painter.
        """
        logit = math.log(self.threshold / (1 - self.threshold))
        candidates = [1 / (1 + math.exp(-logit - shift)) for shift in THRESHOLD_SHIFTS]
        overlap, union = np.zeros(len(candidates)), np.zeros(len(candidates))
        segmenter = self.segmenter
        segmenter.config = PredictConfig()
        for plane, mask, known in frames:
            probability = segmenter.plane_probability(plane, intensity)[known]
            truth = mask[known]
            for i, threshold in enumerate(candidates):
                found = probability >= threshold
                overlap[i] += np.count_nonzero(found & truth)
                union[i] += np.count_nonzero(found | truth)
        similarity = overlap / np.maximum(union, 1)
        # The first is that of the loss: another has to be better.
        return candidates[int(np.argmax(similarity))]

    @torch.no_grad()
    def _foreground(self, x: Tensor) -> Tensor:
        net = self.net
        assert net is not None
        pick = net.config.heads.index("foreground")
        return torch.sigmoid(net(x.to(self.device))[:, pick : pick + 1].float())

    def _published_steps(
        self, clip: Clip, annotations: Annotations, intensity: IntensityScale
    ) -> Iterator[TrainingStep]:
        """Fine-tune as published: whole frames, one at a time, SGD, balanced cross-entropy alone.

        The published loss is a sum over pixels with a learning rate of 1e-8; as a mean over a frame
        of 480 x 854 pixels that is 4.1e-3, which no longer depends on the size of the frame.
        """
        config, net = self.config, self.net
        assert net is not None
        net.requires_grad_(True)
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in net.named_parameters():
            rate = 0.01 if name.startswith("fuse") else 1.0
            bias = parameter.ndim == 1
            groups.setdefault((rate * (2 if bias else 1), 0.0 if bias else 2e-4), []).append(parameter)
        optimiser = torch.optim.SGD(
            [{"params": p, "lr": 1e-8 * 480 * 854 * k, "weight_decay": decay} for (k, decay), p in groups.items()],
            momentum=0.9,
        )
        frames = []
        for p in annotations.planes:
            source = Source(clip.plane(p), annotations.labels(p), annotations.known(p), intensity, 1.0)
            x = intensity.normalise(source.image)[None].to(self.device)
            mask, contour, known = (t[None].float().to(self.device) for t in source.targets)
            frames.append(Batch(x, mask, contour, known, torch.tensor(source.positive_share, device=self.device)))

        def loss_of_step(step: int, progress: float) -> Tensor:
            rng = np.random.default_rng([config.seed, step])
            frame = frames[int(rng.integers(len(frames)))]
            turn = (lambda t: torch.flip(t, (-1,))) if rng.random() < 0.5 else (lambda t: t)
            foreground = net(turn(frame.x))[:, net.config.heads.index("foreground")].float()
            share = frame.positive_share.clamp(1e-4, 1 - 1e-4)
            loss = balanced_cross_entropy(foreground, turn(frame.mask), turn(frame.known), share)
            # `balanced_cross_entropy` has mean weight 1; the published weights N-/N and N+/N have 2 (N+/N) (N-/N).
            return loss * (2 * share * (1 - share))

        yield from training_steps(
            net,
            loss_of_step,
            optimiser,
            config.planned_steps,
            seconds=config.seconds,
            schedule=lambda p: 1.0,
            average=self._average,
            autocast=lambda: autocast(self.device),
        )

    def _describe(self, clip: Clip, annotations: Annotations) -> dict[str, Any]:
        start = self.start
        before = start.provenance if isinstance(start, Segmenter) else {}
        parent = (
            before.get("parent") if isinstance(start, Segmenter) else {"name": start.name, "sha256": start.digest()}
        )
        return {
            "parent": parent,
            "continued": bool(before),
            "fine_tune": self.config.to_dict(),
            "augment": self.augment.to_dict(),
            "movie": clip.name,
            "annotated_frames": [clip.frame_numbers[t] for t in annotations.frames],
            "device": str(self.device),
            "precision": str(fast_precision(self.device)).removeprefix("torch."),
            "torch": torch.__version__,
            "date": time.strftime("%Y-%m-%d"),
        }


def _check_contrast(clip: Clip, planes: Mapping[int, np.ndarray]) -> None:
    finite = [plane[np.isfinite(plane)] for plane in planes.values()]
    values = {float(v) for pixels in finite if pixels.size for v in (pixels.min(), pixels.max())}
    if len(values) < 2:
        numbers = spell([clip.frame_numbers[p // clip.depth] for p in planes])
        what = f"has the value {values.pop():g}" if values else "is NaN or infinite"
        raise ValueError(f"{clip.name} shows nothing where it is painted: every pixel of frame {numbers} {what}.")


def _known(annotations: Annotations, p: int) -> np.ndarray:
    """Return where plane `p` supervises: not in a band along the edge that was left unpainted."""
    known = annotations.known(p)
    if not annotations.is_partial(p):
        band = unpainted_edge(annotations.labels(p), annotations.object_diameter())
        if band:
            inner = np.zeros_like(known)
            inner[band:-band, band:-band] = True
            known &= inner
    return known
