"""Weights, optimiser state and provenance in safetensors files; no pickle is written or read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_osvos.config import NetworkConfig
from napari_osvos.machine import replacing
from napari_osvos.network import OSVOSNet
from napari_osvos.optimiser import Muon

FORMAT = "napari-osvos"
VERSION = 1
MOST_HEADER = 2**24
"""Bytes of the longest header that is read; those of this program have some thousands."""
MOST_WEIGHTS = 2**28
"""Most weights of a network that is read, some 18 times those of VGG16."""
FLOATS = ("F64", "F32", "F16", "BF16")


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], kind: str) -> None:
    """Write tensors and a header to one file, atomically.

    Parameters
    ----------
    path : path
        A file of the same name is replaced.
    tensors : mapping
        Names to tensors of any device.
    header : mapping
        Plain data, kept as JSON.
    kind : str
        ``parent``, ``segmenter`` or ``checkpoint``.

    Raises
    ------
    OSError
        If the file cannot be written; one that was there before is as it was.
    """
    path = Path(path)
    plain = {
        name: value.detach().cpu().contiguous(memory_format=torch.contiguous_format).clone()
        for name, value in tensors.items()
    }
    text = json.dumps(dict(header), sort_keys=True)
    about = {"format": FORMAT, "version": str(VERSION), "kind": kind, "header": text}
    try:
        with replacing(path) as partial:
            save_file(plain, partial, metadata=about)
            # safetensors leaves the file readable by its owner only; others may read it as any other file.
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)
    except (OSError, SafetensorError) as error:
        raise OSError(f"Cannot write {path}: {error}") from error


def load_tensors(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and header from a file of `save_tensors`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not one of this program's, damaged, or of another kind.
    """
    with _opened(path) as (stream, found, header):
        if found != kind:
            raise ValueError(f"{path} holds a {found}; a {kind} is wanted here.")
        return {name: stream.get_tensor(name) for name in stream.keys()}, header  # noqa: SIM118


def read_header(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Return kind and header of a file without reading its tensors.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_tensors`.
    """
    with _opened(path) as (_, kind, header):
        return kind, header


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Open a file of `save_tensors`: the open file, kind and header."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    _check_length(path)
    try:
        with safe_open(path, framework="pt") as stream:
            about = stream.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError(f"{path} is a safetensors file, but not one of {FORMAT}.")
            version = about["version"]
            if not version.isdecimal() or len(version) > 9 or int(version) > VERSION:
                raise ValueError(
                    f"{path} has format version {version[:20]}; this program reads up to {VERSION}. Please update it."
                )
            header = _plain(about["header"], path)
            if not isinstance(header, dict):
                raise KeyError("header")
            yield stream, about["kind"], header
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is damaged or not a file of {FORMAT}: {error}") from error


def _check_length(path: Path) -> None:
    """Make sure that the header of a file, whose length comes first, is not longer than any of ours."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if length > MOST_HEADER:
        raise ValueError(
            f"{path} is damaged or not a file of {FORMAT}: its header would have {length:,} bytes, "
            f"at most {MOST_HEADER:,} are read."
        )


def _plain(text: str, path: Path) -> Any:
    """Read JSON; whatever is wrong with it names the file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise ValueError(f"{path} is damaged or not a file of {FORMAT}: {error}") from error


def load_network(
    path: str | Path, kind: str, others: Sequence[str] = ()
) -> tuple[OSVOSNet, dict[str, Any], dict[str, Tensor]]:
    """Read the network of a file of `save_tensors`, its header, and other tensors that may be there.

    Parameters
    ----------
    others : sequence of str
        Names of tensors that are no weights.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_tensors`, and if the header describes no network or the weights do not fit it.
    """
    with _opened(path) as (stream, found, header):
        if found != kind:
            raise ValueError(f"{path} holds a {found}; a {kind} is wanted here.")
        try:
            config = NetworkConfig.from_dict(header["network"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: its header describes no network ({error}).") from error
        names = list(stream.keys())
        kept = {name: tuple(stream.get_slice(name).get_shape()) for name in names if name not in others}
        with torch.device("meta"):  # shapes alone: what the header asks for may not fit in memory
            _check_shapes(OSVOSNet(config).state_dict(), kept, path)
        for name in names:
            part = stream.get_slice(name)
            if part.get_dtype() not in FLOATS or math.prod(part.get_shape()) > MOST_WEIGHTS:
                size = " x ".join(map(str, part.get_shape()))
                raise ValueError(f"{path} has {name!r} of {size} {part.get_dtype()}, which are no weights.")
        tensors = {name: stream.get_tensor(name) for name in names}
    net = OSVOSNet(config)
    beside = {name: tensors.pop(name) for name in others if name in tensors}
    load_weights(net, tensors, path)
    return net, header, beside


def load_weights(net: torch.nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Put tensors into a network, converted to its precision.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown, of another shape, or not finite.
    """
    wanted = net.state_dict()
    _check_shapes(wanted, {name: tuple(value.shape) for name, value in tensors.items()}, path)
    converted = {name: tensors[name].to(value.dtype) for name, value in wanted.items()}
    for name, value in converted.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{path} has weights {name!r} that are not finite.")
    net.load_state_dict(converted)


def _check_shapes(wanted: Mapping[str, Tensor], kept: Mapping[str, tuple[int, ...]], path: str | Path) -> None:
    """Make sure that a file has the weights of a network and no others."""
    n_weights = sum(value.numel() for value in wanted.values())
    if n_weights > MOST_WEIGHTS:
        raise ValueError(f"{path} names a network of {n_weights:,} weights; at most {MOST_WEIGHTS:,} are read.")
    for name, value in wanted.items():
        if name not in kept:
            raise ValueError(f"{path} lacks the weights {name!r} of the network it names.")
        if kept[name] != tuple(value.shape):
            raise ValueError(f"{path} has {name!r} of shape {kept[name]}; the network wants {tuple(value.shape)}.")
    extra = sorted(set(kept) - set(wanted))
    if extra:
        raise ValueError(f"{path} has weights {extra[0]!r} that the network it names does not have.")


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and values, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous(memory_format=torch.contiguous_format)
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pack_optimiser(optimiser: Muon | torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the state of an optimiser as named tensors and plain groups."""
    state = optimiser.state_dict()
    tensors = {f"{i}.{key}": torch.as_tensor(v) for i, entry in state["state"].items() for key, v in entry.items()}
    return tensors, state["param_groups"]


def unpack_optimiser(
    optimiser: Muon | torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Restore what `pack_optimiser` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})
