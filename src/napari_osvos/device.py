"""Where to compute, in which precision, and why."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import time
from collections.abc import Iterator

import torch

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What another process has decided on, by kind of device.
_decided: dict[str, str] = {}


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
    precision = precision_name(device)
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device}), {precision}"
    if device.type == "mps":
        return f"Apple GPU (mps), {precision}"
    if torch.version.cuda is None:
        why = "this PyTorch is a build without CUDA"
    else:
        why = "PyTorch finds no CUDA GPU"
    n = torch.get_num_threads()
    return f"CPU, {n} thread{'s' * (n != 1)}, {precision} ({why})"


def fast_precision(device: torch.device) -> torch.dtype:
    """Return the precision in which the network runs faster on this device: bfloat16 or float32.

    On a CPU and on CUDA, the environment variable NAPARI_OSVOS_PRECISION (``float32`` or ``bfloat16``) decides instead
    if it is set. Apple's GPU has float32.

    Raises
    ------
    ValueError
        If the environment variable is something else.
    """
    if device.type not in ("cpu", "cuda"):
        return torch.float32
    decided = _decided.get(device.type) or _wanted_precision()
    if decided:
        return _PRECISIONS[decided]
    is_faster = cpu_prefers_bfloat16() if device.type == "cpu" else _cuda_prefers_bfloat16(device)
    return torch.bfloat16 if is_faster else torch.float32


def precision_name(device: torch.device) -> str:
    """Return `fast_precision` as a word: ``bfloat16`` or ``float32``."""
    return str(fast_precision(device)).removeprefix("torch.")


def _wanted_precision() -> str:
    """Return what NAPARI_OSVOS_PRECISION says, "" if it is not set."""
    wanted = os.environ.get("NAPARI_OSVOS_PRECISION", "")
    if wanted and wanted not in _PRECISIONS:
        raise ValueError(f"NAPARI_OSVOS_PRECISION is {wanted!r}; allowed are {', '.join(_PRECISIONS)}.")
    return wanted


def _cuda_prefers_bfloat16(device: torch.device) -> bool:
    """Return whether this GPU has convolutions in bfloat16: before compute capability 8.0 they are emulated, slowly."""
    if torch.version.hip is not None:  # AMD counts its capabilities otherwise
        return bool(torch.cuda.is_bf16_supported())
    return torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def cpu_prefers_bfloat16() -> bool:
    """Return whether convolutions run faster in bfloat16 on this CPU, by trying (some 50 ms)."""
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


@contextlib.contextmanager
def cpu_computes_in(precision: str) -> Iterator[None]:
    """Have the CPU compute in the precision that another process has found: its labels are to be the same."""
    _decided["cpu"] = precision
    try:
        yield
    finally:
        del _decided["cpu"]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the tensor on a device; to a CUDA GPU through pinned memory, so that nobody waits for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def crops_on(device: torch.device) -> torch.device:
    """Return where images are varied for a network on this device: on a CUDA GPU beside it, otherwise on the CPU.

    Apple's GPU cannot resample with repeated edges before torch 2.13 (`grid_sample`, ``padding_mode="border"``), and
    not average to sizes that do not divide.
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
