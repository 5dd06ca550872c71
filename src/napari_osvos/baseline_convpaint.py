"""napari-convpaint, where it is installed: pixels classified by CatBoost on features of a pretrained network."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_osvos.baselines import PixelBaseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .clip import Clip

PIXELS = 50_000
"""Annotated pixels that are learned from at most, of all frames together; its users scribble some thousand."""
VGG16 = Path("~/.cache/torch/hub/checkpoints/vgg16-397923af.pth")
"""Where napari-convpaint keeps what it downloads."""
QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
"""It imports one of these, even without a window."""


def missing_convpaint() -> str:
    """Return in one sentence what is missing to run it; nothing if it is there."""
    if importlib.util.find_spec("napari_convpaint") is None:
        lacks, package = "napari-convpaint, which is not installed", "napari-convpaint"
    elif not any(importlib.util.find_spec(binding) for binding in QT_BINDINGS):  # its package imports its widget
        lacks, package = "a Qt binding, of which none is installed", "pyqt6"
    else:
        return ""
    return f"The method 'convpaint' needs {lacks}; run pip install {package}."


def offline_features() -> str:
    """Return the features that are there without a download: ``vgg`` where its weights are, else ``gaussian``."""
    return "vgg" if VGG16.expanduser().is_file() else "gaussian"


class Convpaint(PixelBaseline):
    """`napari-convpaint <https://github.com/guiwitz/napari-convpaint>`_ with its own defaults.

    Nothing is downloaded: where VGG16's weights are not there yet, its Gaussian features are used, at three scales as
    for VGG16. The pixels learned from are drawn at random from all that are annotated.

    Parameters
    ----------
    seed
        Seeds the choice of pixels.
    instances
        See `PixelBaseline`.

    Raises
    ------
    ValueError
        If napari-convpaint is not installed.
    """

    name = "Convpaint"

    def __init__(self, seed: int = 0, instances: bool = False) -> None:
        if missing_convpaint():
            raise ValueError(missing_convpaint())
        super().__init__(instances)
        with warnings.catch_warnings():  # of features that are not installed either
            warnings.simplefilter("ignore")
            from napari_convpaint.convpaint_model import ConvpaintModel

            self.features = offline_features()
            self._convpaint = ConvpaintModel(self.features)
        self._rng = np.random.default_rng(seed)

    def learn(self, clip: Clip, planes: Sequence[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]) -> None:
        """Train its classifier on some of the known pixels."""
        mode = {1: "single", 3: "rgb"}.get(clip.n_channels, "multi")
        scales = {"fe_scalings": [1, 2, 4]} if self.features == "gaussian" else {}
        # annotations strewn over a plane would make a tile each
        self._convpaint.set_params(channel_mode=mode, tile_annotations=False, ignore_warnings=True, **scales)
        share = min(1.0, PIXELS / sum(int(known.sum()) for _, _, known in planes))
        scribbles = []
        for _, mask, known in planes:
            drawn = known & (self._rng.random(mask.shape) < share)
            scribbles.append(np.where(drawn, np.where(mask, 2, 1), 0).astype(np.uint8))
        self._convpaint.train([_picture(self.stretched(clip.plane(p))) for p, _, _ in planes], scribbles)

    def decide(self, plane: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where its classifier sees foreground."""
        return np.asarray(self._convpaint.segment(_picture(self.stretched(plane))) == 2)


def _picture(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (Y, X) of one channel, (C, Y, X) of several."""
    return plane[..., 0] if plane.shape[-1] == 1 else np.moveaxis(plane, -1, 0)
