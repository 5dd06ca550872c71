"""The methods of the benchmark: their names, and how each is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_osvos.baseline_convpaint import Convpaint, missing_convpaint
from napari_osvos.baseline_flow import OpticalFlow
from napari_osvos.baseline_forest import RandomForest
from napari_osvos.baseline_otsu import Otsu
from napari_osvos.baselines import Baseline, NearestMask
from napari_osvos.config import QUALITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_osvos.annotations import Annotations
    from napari_osvos.benchmark_cell import Cell
    from napari_osvos.clip import Clip
    from napari_osvos.labelling import LabelMeaning
    from napari_osvos.parent import ParentNetwork
    from napari_osvos.segmenter import Segmenter

NEAREST, OTSU, FLOW, FOREST, CONVPAINT = "nearest-mask", "otsu", "optical-flow", "random-forest", "convpaint"
UNET, UNET_SAME_SECONDS = "unet", "unet-same-seconds"
TIMED = "balanced"
"""The method whose seconds `UNET_SAME_SECONDS` gets."""
BASELINES = (NEAREST, OTSU, FLOW, FOREST, CONVPAINT, UNET, UNET_SAME_SECONDS)
"""What knows no parent."""
PARENT_ALONE, NEITHER = "parent-alone", "neither"
NO_PARENT, SNAPPED = "-no-parent", "-snapped"
LONG_SCHEDULES: dict[str, dict[str, Any]] = {"published-2000x5": {"quality": "published", "steps": 2000, "passes": 5}}
"""Schedules of the paper that are no quality of their own; seldom worth their hours."""
METHODS = (
    *QUALITIES,
    *LONG_SCHEDULES,
    *(quality + NO_PARENT for quality in QUALITIES),
    *(quality + SNAPPED for quality in QUALITIES),
    PARENT_ALONE,
    NEITHER,
    *BASELINES,
)
"""A quality is ours with the parent; ``-no-parent`` starts from random weights, ``-snapped`` snaps the masks."""
UNTRAINED = (NEAREST, OTSU, FLOW, FOREST, CONVPAINT, PARENT_ALONE, NEITHER)
"""What makes no updates of a network."""
NOT_RANDOM = (NEAREST, OTSU, FLOW, PARENT_ALONE)
"""What is the same with every seed."""
ON_THE_CPU = (NEAREST, OTSU, FLOW, FOREST, CONVPAINT)
"""What computes on the CPU, whatever the device is."""


def knows_parent(method: str) -> bool:
    """Whether the weights of a parent have a part in a method."""
    return method not in (*BASELINES, NEITHER) and not method.endswith(NO_PARENT)


def available_methods() -> tuple[str, ...]:
    """Return what a user might choose, as far as it is installed: all but what is there for the ablations."""
    chosen = [*BASELINES, *QUALITIES, TIMED + NO_PARENT]
    return tuple(method for method in chosen if method != CONVPAINT or not missing_convpaint())


def check_methods(methods: Sequence[str]) -> None:
    """Make sure that there are methods of these names, and that they are installed.

    Raises
    ------
    ValueError
        If not.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ValueError(f"There is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    if CONVPAINT in methods and missing_convpaint():
        raise ValueError(missing_convpaint())


def make_method(cell: Cell) -> tuple[Baseline, str]:
    """Return the method of a cell, ready to fit, and the device that it computes on in words."""
    if cell.method == NEAREST:
        return NearestMask(), "CPU"
    if cell.method == OTSU:
        return Otsu(cell.instances), "CPU"
    if cell.method == FLOW:
        return OpticalFlow(), "CPU"
    if cell.method == FOREST:
        return RandomForest(cell.seed, cell.threads, instances=cell.instances), "CPU"
    if cell.method == CONVPAINT:
        convpaint = Convpaint(cell.seed, instances=cell.instances)
        return convpaint, f"CPU, {convpaint.features} features"
    import torch

    from napari_osvos.device import describe_device, resolve_device

    torch.set_num_threads(cell.threads)
    device = resolve_device(cell.device)
    alone = cell.method in (PARENT_ALONE, NEITHER)
    method: Baseline = ParentAlone(cell, device) if alone else Ours(cell, device)
    return method, describe_device(device)


class Segmenting(ABC):
    """A segmenter behind the face of a baseline."""

    segmenter: Segmenter

    @abstractmethod
    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Make the segmenter."""

    @property
    def meaning(self) -> LabelMeaning | None:
        """By what labels are made of foreground."""
        return self.segmenter.meaning

    @meaning.setter
    def meaning(self, meaning: LabelMeaning | None) -> None:
        assert meaning is not None
        self.segmenter.meaning = meaning

    def iter_labels(self, clip: Clip, frames: Sequence[int] | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Predict."""
        return self.segmenter.iter_labels(clip, frames=frames)


class Ours(Segmenting):
    """Fine-tuning and its segmenter; the U-Net is trained in the same way."""

    def __init__(self, cell: Cell, device: Any) -> None:
        from napari_osvos.config import FineTuneConfig, PredictConfig
        from napari_osvos.finetune import FineTuner
        from napari_osvos.unet import random_unet

        unet = cell.method in (UNET, UNET_SAME_SECONDS)
        quality = TIMED if unet else cell.method.removesuffix(NO_PARENT).removesuffix(SNAPPED)
        task = "look-alike" if cell.instances else "auto"
        schedule = LONG_SCHEDULES.get(cell.method, {"quality": quality})
        if cell.steps is not None:
            schedule = {**schedule, "steps": cell.steps}
        config = FineTuneConfig.from_dict({"seed": cell.seed, "seconds": cell.seconds, "task": task, **schedule})
        self._snap = cell.method.endswith(SNAPPED)
        start = random_unet(seed=cell.seed) if unet else _parent(cell)
        PredictConfig(snap=self._snap).check(start.net.config, config)
        self._tuner = FineTuner(start, config, device=device)

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Fine-tune."""
        self.segmenter = self._tuner.fit(clip, annotations)
        self.segmenter.config = self.segmenter.config.replace(snap=self._snap)


class ParentAlone(Segmenting):
    """The parent, or random weights, without fine-tuning: of the annotated frames only the size of objects is used.

    The frames are rescaled by it as for fine-tuning, unless the parent was trained on images at their own scale, as
    published; what has a probability of a half is foreground.
    """

    def __init__(self, cell: Cell, device: Any) -> None:
        self._parent, self._device, self._instances = _parent(cell), device, cell.instances

    def fit(self, clip: Clip, annotations: Annotations) -> None:
        """Choose the scale."""
        from napari_osvos.config import FineTuneConfig
        from napari_osvos.labelling import LabelMeaning
        from napari_osvos.segmenter import Segmenter

        diameter = annotations.object_diameter()
        recipe = self._parent.card.get("recipe") or {}
        published = recipe.get("schedule") == "published"
        zoom = FineTuneConfig(quality="published" if published else "balanced").zoom(diameter)
        meaning = LabelMeaning("look-alike" if self._instances else "distinct", radius=diameter / 2)
        self.segmenter = Segmenter(self._parent.net, zoom, device=self._device, meaning=meaning)


def _parent(cell: Cell) -> ParentNetwork:
    """Return the parent that a cell names, or random weights of its size."""
    from napari_osvos.config import NetworkConfig
    from napari_osvos.parent import ParentNetwork

    path = Path(cell.parent)
    parent = ParentNetwork.load(path) if path.is_file() else None
    if not knows_parent(cell.method):
        network = NetworkConfig.preset(cell.parent) if parent is None else parent.net.config
        random = ParentNetwork.random(network, seed=cell.seed)
        if parent is not None:
            random.card["recipe"] = parent.card.get("recipe")  # at the same scale, see `ParentAlone`
        return random
    return parent or ParentNetwork.bundled(cell.parent)
