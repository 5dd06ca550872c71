"""The base network: VGG16 trained to name the objects of ImageNet, by torchvision or out of a file.

torchvision has two sets of weights, and each wants its own intensities (`NetworkConfig.intensities`):
``IMAGENET1K_FEATURES`` are those of the VGG group, the base of the published network; ``IMAGENET1K_V1`` were trained by
torchvision itself. Only the 13 convolutions are taken.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_osvos.checkpoint import load_weights
from napari_osvos.network import OSVOSNet

# Our name of a set of weights, torchvision's, and how the SHA-256 of torchvision's file begins.
BASES = {
    "imagenet-features": ("IMAGENET1K_FEATURES", "88682ab5"),
    "imagenet-v1": ("IMAGENET1K_V1", "397923af"),
}


def split_base(text: str) -> tuple[str, Path | None]:
    """Return the kind of a base network and its file, where it is to come from one.

    Parameters
    ----------
    text : str
        ``random``, ``imagenet-features`` or ``imagenet-v1``, or one of the last two with a file behind it,
        ``imagenet-v1:vgg16.pth``, or a file alone, if it is one of torchvision's.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not known which intensities the weights in the file were trained on.
    """
    kind, _, path = text.partition(":")
    if kind in ("random", *BASES) and not path:
        return kind, None
    if kind in BASES:
        return kind, _existing(Path(path))
    file = _existing(Path(text))
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    for kind, (_, begin) in BASES.items():
        if digest.startswith(begin):
            return kind, file
    raise ValueError(
        f"{text} is none of torchvision's files, so the intensities that it was trained on are not known; "
        f"write {' or '.join(f'{kind}:{text}' for kind in BASES)}."
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no base network {path}; name random, {', '.join(BASES)}, or a file that there is."
        )
    return path


def load_base(net: OSVOSNet, kind: str, path: str | Path | None = None) -> None:
    """Put the weights of VGG16 on ImageNet into the stages of a network.

    Parameters
    ----------
    net : OSVOSNet
        Of the topology ``vgg16``, without BatchNorm.
    kind : str
        ``imagenet-features`` or ``imagenet-v1``.
    path : path, optional
        A state dict of torchvision's VGG16, saved by PyTorch (``.pth``, ``.pt``) or as ``.safetensors``; the
        classifier may be missing. By default torchvision fetches it, some 550 MB, and keeps it where PyTorch keeps
        such files.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it holds no weights that fit, or objects beside them.
    OSError
        If the weights cannot be fetched.
    """
    tensors = _fetched(kind) if path is None else _read(Path(path))
    name = str(path or f"torchvision's {BASES[kind][0]}")
    features = {k.removeprefix("features."): v for k, v in tensors.items() if k.startswith("features.")}
    stages = nn.ModuleDict()
    for place, convolution in zip(_places(net), _convolutions(net), strict=True):
        stages[place] = convolution
    try:
        load_weights(stages, features, name)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; a base network is VGG16 as torchvision has it.") from None


def _convolutions(net: OSVOSNet) -> list[nn.Module]:
    return [block[0] for stage in net.stages for block in stage]  # type: ignore[attr-defined]


def _places(net: OSVOSNet) -> list[str]:
    """Return the names of the convolutions in torchvision's sequence, in which ReLU and pooling count too."""
    places, at = [], 0
    for count in net.config.convolutions:
        places += [str(at + 2 * i) for i in range(count)]
        at += 2 * count + 1
    return places


def _fetched(kind: str) -> Mapping[str, Tensor]:
    from urllib.error import URLError

    from torchvision.models import VGG16_Weights

    weights = VGG16_Weights[BASES[kind][0]]
    try:
        found: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, RuntimeError, OSError, pickle.UnpicklingError) as error:
        raise OSError(
            f"The weights {kind} could not be fetched from {weights.url} ({error}); fetch the file by other means and "
            f"name it: {kind}:FILE."
        ) from error
    return found


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, as for all libraries that read files
        raise ValueError(f"{path} holds no weights that can be read without running code of the file.") from error
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{path} holds something else than weights by name.")
    return found
