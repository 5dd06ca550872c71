"""Every setting of the method, as frozen, checked dataclasses.

Each field carries its help, unit and allowed range in ``metadata``; the command line's help, the
panel's form and the table in the documentation are built from it. A config goes to and from a
plain ``dict`` (TOML, JSON and the header of a weight file hold the same keys).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from napari_osvos.settings import Config, setting

Quality = Literal["preview", "fast", "balanced", "best", "published"]
# Updates of the weights, and what for. The seconds are those of `lite` on two CPU cores.
QUALITIES: dict[Quality, tuple[int, str]] = {
    "preview": (20, "a first look in 1.5 s, only the last layers learn"),
    "fast": (36, "5 s, for objects that stand out"),
    "balanced": (240, "25 s, for most movies"),
    "best": (1200, "some 2 min, and prediction averages four views of each frame"),
    "published": (500, "as in the paper, whole frames, which takes longest on large ones"),
}
# So short that each of several annotated frames would be seen too rarely: sqrt(n) times as many updates for n frames,
# at most this many times.
LONGER_FOR_MORE: dict[Quality, float] = {"fast": 3.0, "balanced": 2.0}
PUBLISHED_SCALES = (1.0, 0.8, 0.5)
"""At which the 500 updates of ``published`` see a frame, and its mirror image."""

_EDGES = (
    "what lies outside of a frame: its mirror image; or nothing, as published, where side outputs fade out at the edges"
    " and are up to 6 px out of place unless the frame's edges are multiples of 16 px"
)
_REDUCTION = (
    "over the pixels of a frame, of the published loss: mean, by which its size has no say; or sum, as published, by"
    " which larger frames are learned from at a higher rate"
)

SMALLEST_ZOOM = 1 / 16
"""Frames are reduced at most by this factor, however large the objects are."""

# A file that asks for more than this is damaged, or meant to fill the memory.
MOST_STAGES, MOST_CONVOLUTIONS, MOST_CHANNELS, MOST_HEADS = 12, 32, 4096, 512


@dataclass(frozen=True)
class NetworkConfig(Config):
    """Topology of an `OSVOSNet`; `lite`, `vgg16` and `tiny` are the presets."""

    name: str = setting("lite", "name of the configuration")
    stem: str = setting(
        "unshuffle", "entry: full resolution, or 2 x 2 pixels to channels", choices=("plain", "unshuffle")
    )
    widths: tuple[int, ...] = setting((32, 64, 128, 192), "channels of each stage", minimum=1, maximum=MOST_CHANNELS)
    convolutions: tuple[int, ...] = setting(
        (2, 2, 2, 2), "3 x 3 convolutions in each stage", minimum=1, maximum=MOST_CONVOLUTIONS
    )
    first_side: int = setting(0, "first stage that has a side output", minimum=0)
    side_channels: int = setting(32, "channels of each side output", minimum=1, maximum=MOST_CHANNELS)
    top_down: bool = setting(True, "side outputs receive the next coarser one, with a nonlinearity")
    heads: tuple[str, ...] = setting(("foreground", "contour"), "what the network predicts, one logit each")
    intensities: str = setting(
        "robust", "how raw intensities become network input", choices=("robust", "imagenet-features", "imagenet-v1")
    )
    edges: str = setting("mirrored", _EDGES, choices=("mirrored", "published"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != len(self.convolutions):
            raise ValueError(
                f"NetworkConfig.convolutions has {len(self.convolutions)} entries; widths has {len(self.widths)}."
            )
        if len(self.widths) > MOST_STAGES:
            raise ValueError(f"NetworkConfig.widths has {len(self.widths)} entries; it has at most {MOST_STAGES}.")
        if len(self.heads) > MOST_HEADS:
            raise ValueError(f"NetworkConfig.heads names {len(self.heads)}; there are at most {MOST_HEADS}.")
        if self.first_side >= len(self.widths):
            raise ValueError(f"NetworkConfig.first_side is {self.first_side}; stages are 0 to {len(self.widths) - 1}.")
        if not self.foreground:
            raise ValueError(f"NetworkConfig.heads is {self.heads}; it must name 'foreground'.")
        if self.edges == "published" and (self.stem != "plain" or self.top_down):
            raise ValueError(
                f"NetworkConfig.edges is 'published', which only the published topology has, not {self.name}."
            )

    @property
    def foreground(self) -> tuple[int, ...]:
        """Positions of the heads that are foreground: one, or ``foreground-1`` to ``foreground-K`` for K classes."""
        return tuple(i for i, head in enumerate(self.heads) if head.split("-")[0] == "foreground")

    @classmethod
    def lite(cls) -> NetworkConfig:
        """Return the default network: 0.9 M parameters, strides 2 to 16, full-resolution logits."""
        return cls()

    @classmethod
    def vgg16(cls, intensities: str = "robust") -> NetworkConfig:
        """Return the published topology: VGG16 with side outputs of stages 2 to 5."""
        return cls(
            name="vgg16",
            stem="plain",
            widths=(64, 128, 256, 512, 512),
            convolutions=(2, 2, 3, 3, 3),
            first_side=1,
            side_channels=16,
            top_down=False,
            intensities=intensities,
        )

    @classmethod
    def tiny(cls) -> NetworkConfig:
        """Return a network small enough for tests: it learns a drawn object in a second."""
        return cls(name="tiny", widths=(8, 12, 16), convolutions=(1, 1, 1), side_channels=8)

    @classmethod
    def preset(cls, name: str) -> NetworkConfig:
        """Return the preset of this name.

        Raises
        ------
        ValueError
            If there is no such preset.
        """
        presets = {"lite": cls.lite, "vgg16": cls.vgg16, "tiny": cls.tiny}
        if name not in presets:
            raise ValueError(f"There is no network named {name!r}; there are {', '.join(presets)}.")
        return presets[name]()


@dataclass(frozen=True)
class AugmentConfig(Config):
    """How crops are varied; a spread is the robust standard deviation of the movie's intensities."""

    rotation: float = setting(180.0, "rotation by up to", unit="degrees", minimum=0, maximum=180)
    flip: bool = setting(True, "mirror at random")
    zoom: float = setting(
        0.1, "zoom in or out; 0.1 is by up to 10 %, 0.7 by up to 2 times (largest logarithm of the factor)",
        minimum=0, maximum=2,
    )  # fmt: skip
    shear: float = setting(
        0.05, "zoom one axis more than the other; 0.05 is by up to 5 % (largest logarithm of the ratio)",
        minimum=0, maximum=1,
    )  # fmt: skip
    elastic: float = setting(0.5, "smooth local displacement, standard deviation", unit="px", minimum=0, maximum=20)
    polarity: float = setting(0.0, "probability of inverting the contrast", minimum=0, maximum=1)
    contrast: float = setting(
        0.2, "vary the contrast; 0.2 is by about +-20 % (standard deviation of its logarithm)", minimum=0, maximum=2
    )
    brightness: float = setting(
        0.2, "shift of the brightness, standard deviation; a spread is the robust standard deviation of the movie's"
        " intensities", unit="spreads", minimum=0, maximum=2,
    )  # fmt: skip
    gamma: float = setting(
        0.15, "vary the gamma, the exponent of the intensities counted from their median; 0.15 is by about +-15 %"
        " (standard deviation of its logarithm)", minimum=0, maximum=1,
    )  # fmt: skip
    blur: float = setting(
        0.0, "blur half of the crops, by a Gaussian of up to this standard deviation", unit="px", minimum=0, maximum=5
    )
    noise: float = setting(0.05, "noise, its largest standard deviation", unit="spreads", minimum=0, maximum=2)
    illumination: float = setting(
        0.2, "unevenness of the illumination, a smooth field that is added; its standard deviation",
        unit="spreads", minimum=0, maximum=2,
    )  # fmt: skip
    colour: float = setting(0.0, "probability of mixing the channels into one grey", minimum=0, maximum=1)
    composite: float = setting(0.0, "probability of pasting the objects of another crop", minimum=0, maximum=1)

    @classmethod
    def upright(cls) -> AugmentConfig:
        """Return the variation for movies shaded from one side, which must not be turned over."""
        return cls(rotation=15.0, flip=False)

    @classmethod
    def strong(cls) -> AugmentConfig:
        """Return the variation a parent is trained on: users bring any microscope."""
        return cls(
            zoom=0.7,
            shear=0.2,
            elastic=3.0,
            polarity=0.5,
            contrast=0.4,
            brightness=0.5,
            gamma=0.3,
            blur=1.5,
            noise=0.5,
            illumination=0.4,
            colour=0.5,
        )


# What both trainings say of their settings.
_LEARNING_RATE = "how far each update moves the weights, at its largest; higher learns faster, too high not at all"
_WEIGHT_DECAY = "pull of the weights towards 0 in each update, as a share of the learning rate"
_WARM_UP = "share of the steps in which the learning rate rises from 0"
_AVERAGE_DECAY = "the weights that are kept are a moving average; 0.98 is one of about 50 updates, 0.998 of 500"
_BALANCE = "how much the rarer of foreground and background counts more in the loss: 0 not, 1 as much as the other"
_DICE_WEIGHT = "how much the overlap of mask and paint (Dice) counts in the loss, beside single pixels with 1"
_CONTOUR_WEIGHT = "how much the borders of objects, which are predicted too, count in the loss"
_SEED = "number that all random numbers follow from; the same gives the same result on a machine"


@dataclass(frozen=True)
class ParentConfig(Config):
    """Recipe by which a parent network is trained."""

    network: str = setting("lite", "network to train", choices=("lite", "vgg16", "tiny"))
    base: str = setting(
        "random", "weights to begin with; those of VGG16 on ImageNet are of either set that torchvision has, each with"
        " its own normalisation of intensities", choices=("random", "imagenet-features", "imagenet-v1"),
    )  # fmt: skip
    schedule: str = setting(
        "crops", "crops of rescaled images, or as published: one whole image at a time at its own scale, turned by up"
        " to 30 degrees and zoomed by up to a quarter, SGD, the published loss", choices=("crops", "published"),
    )  # fmt: skip
    edges: str = setting("mirrored", _EDGES, choices=("mirrored", "published"))
    reduction: str = setting("mean", _REDUCTION, choices=("mean", "sum"))
    steps: int = setting(4500, "updates of the weights", minimum=1)
    passes: int = setting(1, "batches of crops, or images, whose gradients make one update", minimum=1, maximum=1000)
    images: int | None = setting(
        None, "train on so many of the annotated images, drawn at random; by default on all", minimum=1
    )
    crops: int = setting(8, "crops in each update", minimum=1, maximum=1024)
    crop_size: int = setting(192, "edge of a crop", unit="px", minimum=16, maximum=2048)
    object_diameter: float = setting(
        44.0, "objects are rescaled to about this diameter", unit="px", minimum=4, maximum=512
    )
    learning_rate: float = setting(2e-3, _LEARNING_RATE, minimum=1e-8, maximum=1)
    weight_decay: float = setting(1e-3, _WEIGHT_DECAY, minimum=0, maximum=1)
    warm_up: float = setting(0.02, _WARM_UP, minimum=0, maximum=0.5)
    average_decay: float = setting(0.998, _AVERAGE_DECAY, minimum=0, maximum=1)
    balance: float = setting(0.3, _BALANCE, minimum=0, maximum=1)
    dice_weight: float = setting(0.5, _DICE_WEIGHT, minimum=0, maximum=10)
    contour_weight: float = setting(0.5, _CONTOUR_WEIGHT, minimum=0, maximum=10)
    deep_supervision: float = setting(
        0.5, "how much the loss of each side output by itself counts at first, beside that of the whole; falls to 0",
        minimum=0, maximum=10,
    )  # fmt: skip
    set_exponent: float = setting(
        0.25, "a set of n images is drawn from in proportion to n to this power", minimum=0, maximum=1
    )
    simulated_share: float = setting(0.35, "share of crops from simulated images", minimum=0, maximum=1)
    simulated_images: int = setting(1500, "number of simulated images, of 256 x 256 px", minimum=1, maximum=100_000)
    checkpoint_every: int = setting(250, "updates between checkpoints", minimum=1)
    seed: int = setting(0, _SEED, minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base != "random" and self.network != "vgg16":
            raise ValueError(f"ParentConfig.base is '{self.base}', which fits the network vgg16, not {self.network}.")
        self.topology()

    @classmethod
    def published(cls) -> ParentConfig:
        """Return the recipe of the paper: VGG16 from ImageNet, 50,000 updates of ten images."""
        return cls(
            network="vgg16",
            base="imagenet-features",
            schedule="published",
            edges="published",
            steps=50_000,
            passes=10,
            deep_supervision=1.0,
            simulated_share=0.0,
        )

    @property
    def idle(self) -> frozenset[str]:
        """Names of the settings that have no say with this schedule: those of crops, their loss and optimiser."""
        if self.schedule != "published":
            return frozenset({"reduction"})
        return frozenset(
            {"crops", "crop_size", "object_diameter", "learning_rate", "weight_decay", "warm_up", "average_decay",
             "balance", "dice_weight", "contour_weight"}
        )  # fmt: skip

    def topology(self) -> NetworkConfig:
        """Return the network that is trained, with the intensities that its base was trained on.

        The published loss knows no contours, so that there is no head for them.
        """
        config = NetworkConfig.preset(self.network).replace(edges=self.edges)
        if self.schedule == "published":
            config = config.replace(heads=("foreground",))
        return config if self.base == "random" else config.replace(intensities=self.base)


@dataclass(frozen=True)
class FineTuneConfig(Config):
    """How a parent is fine-tuned on the annotated frames of one movie."""

    quality: Quality = setting(
        "balanced", "how much to learn, from quick to accurate: "
        + "; ".join(f"{name} {meaning}" for name, (_, meaning) in QUALITIES.items()), choices=tuple(QUALITIES),
    )  # fmt: skip
    steps: int | None = setting(
        None, "updates of the weights; by default those of the quality, of which 'fast' and 'balanced' make more for"
        " several annotated frames, for four of them twice as many", minimum=1,
    )  # fmt: skip
    seconds: float | None = setting(
        None,
        "time for fine-tuning instead of a number of updates; results then depend on the machine",
        unit="s",
        minimum=0.1,
    )
    crops: int = setting(2, "crops in each update", minimum=1, maximum=256)
    shares: tuple[float, ...] = setting(
        (0.3, 0.2, 0.2, 0.3),
        "shares of the crops on foreground, on borders, anywhere, and where the network errs; together 1",
        minimum=0,
        maximum=1,
    )
    crop_size: int = setting(256, "edge of a crop", unit="px", minimum=16, maximum=2048)
    object_diameter: float = setting(
        64.0, "larger objects are reduced to about this diameter for the network", unit="px", minimum=4, maximum=512
    )
    enlarged_diameter: float = setting(
        44.0, "smaller objects are enlarged to about this diameter, or to the former where that is less",
        unit="px", minimum=4, maximum=512,
    )  # fmt: skip
    largest_zoom: float = setting(2.0, "frames are enlarged at most by this factor", minimum=1, maximum=16)
    learning_rate: float = setting(2e-3, _LEARNING_RATE, minimum=1e-8, maximum=1)
    weight_decay: float = setting(1e-4, _WEIGHT_DECAY, minimum=0, maximum=1)
    warm_up: float = setting(0.05, _WARM_UP, minimum=0, maximum=0.5)
    average_decay: float = setting(0.98, _AVERAGE_DECAY, minimum=0, maximum=1)
    balance: float = setting(0.0, _BALANCE, minimum=0, maximum=1)
    dice_weight: float = setting(0.5, _DICE_WEIGHT, minimum=0, maximum=10)
    contour_weight: float = setting(0.25, _CONTOUR_WEIGHT, minimum=0, maximum=10)
    distance_weight: float = setting(0.25, "weight of the head that learns distances to borders", minimum=0, maximum=10)
    passes: int = setting(
        1, "frames whose gradients make one update of the quality 'published', such as 5 for 2000 x 5; several are"
        " turned and zoomed as there", minimum=1, maximum=1000,
    )  # fmt: skip
    edges: str = setting(
        "auto", f"{_EDGES}; of the quality 'published', by default as in the network to begin with",
        choices=("auto", "mirrored", "published"),
    )  # fmt: skip
    reduction: str = setting("mean", _REDUCTION, choices=("mean", "sum"))
    task: str = setting(
        "auto",
        "what each label means: one of many objects that look alike, or a distinct object or class; "
        "by default decided from the paint",
        choices=("auto", "look-alike", "distinct"),
    )
    seed: int = setting(0, _SEED, minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.shares) != 4 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"FineTuneConfig.shares is {self.shares!r}; it must be four numbers that add up to 1.")

    @property
    def idle(self) -> frozenset[str]:
        """Names of the settings that have no say with this quality."""
        published = frozenset({"passes", "edges", "reduction"})
        if self.quality == "published":
            used = {"quality", "steps", "seconds", "task", "seed", *published}
            return frozenset(spec.name for spec in fields(self) if spec.name not in used)
        return published

    @property
    def learns_contours(self) -> bool:
        """Whether borders of objects are learned, also by a network that did not predict them before."""
        return self.contour_weight > 0 and self.quality != "published"

    def zoom(self, diameter: float) -> float:
        """Return the network pixels per movie pixel for objects of a diameter in pixels."""
        if self.quality == "published":
            return 1.0
        wanted = min(max(diameter, min(self.enlarged_diameter, self.object_diameter), 1.0), self.object_diameter)
        return min(max(wanted / max(diameter, 1.0), SMALLEST_ZOOM), self.largest_zoom)

    def planned_steps(self, n_annotated: int = 1) -> int:
        """Return the number of updates: `steps`, or that of the quality.

        Parameters
        ----------
        n_annotated : int
            Annotated frames (of volumes: slices): with n of them ``fast`` and ``balanced`` make sqrt(n) times as many
            updates as with one, at most 3 and 2 times; the others as many as with one.
        """
        longer = min(math.sqrt(max(n_annotated, 1)), LONGER_FOR_MORE.get(self.quality, 1.0))
        return self.steps or round(QUALITIES[self.quality][0] * longer)


@dataclass(frozen=True)
class PredictConfig(Config):
    """How frames are predicted."""

    flips: bool = setting(False, "average the predictions of the frame and its three mirror images")
    snap: bool = setting(False, "snap the masks of distinct objects to the contours that the network sees")
    tile: int = setting(
        2048, "larger frames are predicted in tiles of this edge, equal to the whole", unit="px", minimum=64
    )
    threshold: float | None = setting(
        None, "probability from which a pixel is foreground; higher: smaller objects, lower: larger ones; by default as"
        " chosen in fine-tuning", minimum=0, maximum=1,
    )  # fmt: skip

    def check(self, network: NetworkConfig, tuning: FineTuneConfig | None = None) -> None:
        """Raise ValueError where a network does not predict what these settings need.

        Parameters
        ----------
        network : NetworkConfig
            The network that predicts, or a fine-tuning starts from.
        tuning : FineTuneConfig, optional
            That fine-tuning.
        """
        if self.snap and "contour" not in network.heads and not (tuning is not None and tuning.learns_contours):
            raise ValueError(
                "Masks cannot be snapped: this network predicts no contours, as one that was trained as published does "
                "not; leave snapping out, or fine-tune with another quality than published."
            )


@dataclass(frozen=True)
class LinkConfig(Config):
    """How objects are linked through time."""

    reach: float = setting(
        1.25, "an object moves by at most so much in a frame", unit="diameters", minimum=0.01, maximum=100
    )
    gap: int = setting(3, "an object may be hidden for so many frames", unit="frames", minimum=0, maximum=1000)
    divisions: bool = setting(True, "objects may divide")
    growth: float = setting(4.0, "an object grows or shrinks by at most about this factor", minimum=1.1, maximum=1000)
    smallest_overlap: float = setting(
        0.5, "share of the smaller that paint and object have in common, to be one object", minimum=0, maximum=1
    )
