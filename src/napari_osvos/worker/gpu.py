"""Which devices the machine has, and when there is no GPU, why not and what would change it."""

from __future__ import annotations

import shutil
import sys

import torch

from napari_osvos.device import available_devices, describe_device, precision_name, resolve_device
from napari_osvos.worker.events import EngineReady


def engine_ready() -> EngineReady:
    """Return what the engine says of its device; the time of the start is for the client to fill in."""
    device = resolve_device("auto")
    why, remedy = ("", "") if device.type != "cpu" else why_not_gpu()
    precision = precision_name(device) if device.type == "cpu" else ""
    return EngineReady(str(device), describe_device(device), tuple(available_devices()), why, remedy, 0.0, precision)


def why_not_gpu() -> tuple[str, str]:
    """Return one sentence that says why there is no GPU, and the command that would change it ("" if none would)."""
    version = torch.__version__
    if sys.platform == "darwin":
        return "PyTorch finds no Apple GPU on this Mac.", ""
    has_driver = shutil.which("nvidia-smi") is not None
    if torch.version.cuda is None:
        build = f"PyTorch {version} is a build without CUDA"
        if not has_driver:
            return f"{build}, and no NVIDIA driver is found on this computer.", ""
        if sys.platform == "win32":
            return f"{build}, although there is an NVIDIA driver; pytorch.org says how to get one with CUDA.", ""
        remedy = "pip install --force-reinstall torch torchvision"
        return f"{build}, although there is an NVIDIA driver.", remedy
    if not has_driver:
        return "PyTorch finds no CUDA GPU: no NVIDIA driver is found on this computer.", ""
    return (
        f"PyTorch finds no CUDA GPU, although there is an NVIDIA driver, which may be too old for CUDA "
        f"{torch.version.cuda}.",
        "",
    )
