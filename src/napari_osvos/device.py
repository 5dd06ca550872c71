"""Where to compute, in which precision, and why."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import time

import torch


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    name : str
        ``auto`` (CUDA if it is there, then Apple's MPS, then the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    ValueError
        If there is no such device on this machine; the message says which there are.
    """
    there = available_devices()
    if name == "auto":
        return torch.device(there[0])
    if name == "cuda" and "cuda:0" in there:
        return torch.device("cuda:0")
    if name not in there:
        raise ValueError(f"There is no device {name!r} on this machine; there are auto, {', '.join(there)}.")
    return torch.device(name)


def available_devices() -> list[str]:
    """Return the names of the devices of this machine, fastest first; the CPU is always there."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def describe_device(device: torch.device) -> str:
    """Return the device in words, with threads and precision; for the CPU, why it is not a GPU."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device}), bfloat16"
    if device.type == "mps":
        return "Apple GPU (mps), float32"
    precision = "bfloat16" if cpu_prefers_bfloat16() else "float32"
    if torch.version.cuda is None:
        why = "this PyTorch is a build without CUDA"
    else:
        why = "PyTorch finds no CUDA GPU"
    n = torch.get_num_threads()
    return f"CPU, {n} thread{'s' * (n != 1)}, {precision} ({why})"


@functools.cache
def cpu_prefers_bfloat16() -> bool:
    """Return whether convolutions run faster in bfloat16 on this CPU, by trying (some 50 ms).

    The environment variable NAPARI_OSVOS_PRECISION (``float32`` or ``bfloat16``) decides instead if it is set.
    """
    wanted = os.environ.get("NAPARI_OSVOS_PRECISION")
    if wanted:
        if wanted not in ("float32", "bfloat16"):
            raise ValueError(f"NAPARI_OSVOS_PRECISION is {wanted!r}; allowed are float32, bfloat16.")
        return wanted == "bfloat16"
    # One thread, in turns, the best of many: other work on the machine must not decide, since results depend on it.
    threads = torch.get_num_threads()
    fastest = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            x = torch.randn(1, 64, 64, 64).contiguous(memory_format=torch.channels_last)
            convolution = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
            layers = {dtype: (x.to(dtype), copy.deepcopy(convolution).to(dtype)) for dtype in fastest}
            for _ in range(12):
                for dtype, (y, layer) in layers.items():
                    began = time.perf_counter()
                    layer(y)
                    fastest[dtype] = min(fastest[dtype], time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return fastest[torch.bfloat16] < 0.9 * fastest[torch.float32]


def decide_precision(precision: str) -> None:
    """Have `cpu_prefers_bfloat16` say what another process has found: its labels are to be the same."""
    if os.environ.get("NAPARI_OSVOS_PRECISION") != precision:
        os.environ["NAPARI_OSVOS_PRECISION"] = precision
        cpu_prefers_bfloat16.cache_clear()


def fast_precision(device: torch.device) -> torch.dtype:
    """Return the precision in which the network runs faster on this device: bfloat16 or float32."""
    if device.type == "cuda" or (device.type == "cpu" and cpu_prefers_bfloat16()):
        return torch.bfloat16
    return torch.float32


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the tensor on a device; to a CUDA GPU through pinned memory, so that nobody waits for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def crops_on(device: torch.device) -> torch.device:
    """Return where crops are varied for a network on this device: on a CUDA GPU beside it, otherwise on the CPU.

    Apple's GPU cannot resample with repeated edges before torch 2.13 (`grid_sample`, ``padding_mode="border"``).
    """
    return device if device.type == "cuda" else torch.device("cpu")


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which the network runs on this device, in its faster precision."""
    if fast_precision(device) == torch.bfloat16:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def without_cache(kind: str) -> contextlib.AbstractContextManager[object]:
    """Return autocast as it is on a kind of device, but that weights are converted anew each time.

    In a graph they are whenever it is launched. And older versions of torch, 2.6 for one, give weights that were
    converted without gradients to a pass with gradients, which then has none.
    """
    on, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return torch.autocast(kind, dtype=dtype, enabled=on, cache_enabled=False)
