"""Memory: how much a prediction needs, how much is free, and what is done where it runs out.

Of a large frame, what the network holds at a time is the matter of the tile, and the labels are the same with any. So
a tile is chosen that fits, and made smaller where memory runs out all the same; where not even a small one fits into
the memory of the GPU, the CPU goes on. The user is told, once.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_osvos.config import NetworkConfig
from napari_osvos.machine import release_memory, size_in_words

OUT_OF_MEMORY = (torch.OutOfMemoryError, RuntimeError, MemoryError)
"""What is raised; a RuntimeError may be something else, see `is_out_of_memory`."""
SMALLEST_TILE = 256
HUGE_TILE = 1024
"""Largest tile of a huge frame on the CPU: its maps leave less room, and larger ones are hardly faster there."""
SHARE = 0.8
"""Of what is free, so much may be planned for."""
BLOCK_BYTES = 120
"""Per pixel of a block in which objects are cut apart."""
_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on the GPU or the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in _SIGNS)


def free_memory() -> None:
    """Give the memory that torch and the C library keep for later back to the GPU and to the system."""
    gc.collect()
    release_memory()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


# -- estimates -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """Bytes that the prediction of a frame takes.

    Attributes
    ----------
    tile : int
        What the network holds for a tile, on the device where it runs.
    plane : int
        A slice of the frame as it was read.
    maps : int
        Probabilities of the whole frame.
    labels : int
        Its labels, and what cutting objects apart takes.
    """

    tile: int
    plane: int
    maps: int
    labels: int

    def ram(self, device: torch.device) -> int:
        """Return the bytes of RAM at their height with the network on a device."""
        tile = self.tile if device.type == "cpu" else 0
        return max(2 * self.plane, self.plane + self.maps + tile, self.maps + self.labels)


def network_bytes(config: NetworkConfig, precision: torch.dtype = torch.float32) -> float:
    """Return the bytes per pixel of its input that a network holds at most while it predicts.

    The features of the stages that have side outputs are kept; a convolution holds what goes in and what comes out;
    the finest side output holds that some four times over while it takes in the coarser ones.

    Parameters
    ----------
    config : NetworkConfig
        Topology.
    precision : dtype
        In which convolutions run; what goes in and comes out is float32.
    """
    step = 2 if config.stem == "unshuffle" else 1
    area = [float(step << i) ** 2 for i in range(len(config.widths))]
    kept = peak = 0.0
    before = 3.0
    for i, width in enumerate(config.widths):
        after = width / area[i]
        peak = max(peak, kept + before + 2 * after)
        kept += after if i >= config.first_side else 0
        before = after
    sides = [config.side_channels / a for a in area[config.first_side :]]
    held = sum(sides) + (3 * sides[0] if config.top_down else 0)
    inside = max(peak, kept + held)
    outside = 6 + 4 * len(config.heads)  # input, as it is and in its other order; logits and probabilities
    return inside * (2.5 if precision == torch.bfloat16 else 4) + 4 * outside


def prediction_need(
    config: NetworkConfig,
    shape: tuple[int, ...],
    itemsize: int,
    *,
    zoom: float,
    tile: int,
    halo: int,
    maps: int = 3,
    flips: bool = False,
    precision: torch.dtype = torch.float32,
    fine: bool = True,
    block: int = 2**22,
) -> Need:
    """Return the memory that the prediction of a frame needs, beside network and libraries.

    Parameters
    ----------
    config : NetworkConfig
        Topology.
    shape : (Z, Y, X, C)
        Of the frame.
    itemsize : int
        Bytes of a pixel's channel.
    zoom : float
        Network pixels per pixel of the movie.
    tile, halo : int
        Edge of a tile, and what is around it, in network pixels.
    maps : int
        Heads that are asked for.
    flips : bool
        Whether mirror images are averaged.
    precision : dtype
        In which convolutions run.
    fine : bool
        Whether maps are float32 rather than float16.
    block : int
        Pixels of a block in which objects are cut apart.
    """
    depth, height, width, channels = shape
    edges = [min(round(n * zoom) or 1, tile + 2 * halo) for n in (height, width)]
    network = network_bytes(config, precision) + (8 * maps if flips else 0)
    part = edges[0] * edges[1] / zoom**2  # pixels of the plane below a tile
    strips = min(part, 2**21) * 4 * (channels + 9 + 2 * maps)
    pixels = depth * height * width
    return Need(
        tile=round(edges[0] * edges[1] * network + strips),
        plane=height * width * channels * itemsize,
        maps=pixels * maps * (4 if fine else 2) * (2 if depth > 1 else 1),  # slices, and then the stack of them
        labels=pixels * 5 + min(pixels, block) * BLOCK_BYTES,  # numbers of objects, a mask
    )


def free_bytes(device: torch.device) -> int:
    """Return the bytes that are free on a device; for the CPU of RAM, within the limits of this process."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    import psutil

    left = [int(psutil.virtual_memory().available)]
    with_limit = _control_group_free()
    if with_limit is not None:
        left.append(with_limit)
    try:
        import resource
    except ImportError:  # Windows
        return min(left)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        left.append(limit - int(psutil.Process().memory_info().vms))
    return max(0, min(left))


def _control_group_free() -> int | None:
    """Return what the control group of this process (a container, a job of a cluster) has left; None without limit."""
    root = Path("/sys/fs/cgroup")
    left: list[int] = []
    try:
        place = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    folder = root / place.strip().lstrip("/")
    for group in (folder, *folder.parents):
        try:
            limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":  # what only keeps files at hand is given up when it is needed
            left.append(int(limit) - int(used) + int(statistics.get("inactive_file", 0)))
        if group == root:
            break
    return min(left) if left else None


# -- where it runs out ------------------------------------------------------------------------------


def warn(sentence: str) -> None:
    """Tell by a warning, which the command line shows as a line."""
    warnings.warn(sentence, MemoryShortWarning, stacklevel=2)


class MemoryShortWarning(UserWarning):
    """Memory is short; the work goes on."""


class Shortage:
    """What has been given up because memory ran out, and telling of each kind of it once.

    Parameters
    ----------
    tell : callable
        Takes one sentence for the user.

    Attributes
    ----------
    tile : int or None
        Largest edge of a tile, where a larger one did not fit.
    batch : int or None
        Most planes at once, where more did not fit.
    """

    def __init__(self, tell: Callable[[str], None] = warn) -> None:
        self.tell = tell
        self.tile: int | None = None
        self.batch: int | None = None
        self._told: set[str] = set()

    def say(self, kind: str, sentence: str) -> None:
        """Tell the user, unless this kind of thing was told before."""
        if kind not in self._told:
            self._told.add(kind)
            self.tell(sentence)

    def smaller(self, error: BaseException, planes: int, tile: int, device: torch.device) -> bool:
        """Give up so many planes at once or, of one plane, tiles of this edge.

        Returns
        -------
        bool
            False for one plane in tiles as small as is sensible: nothing is given up then.

        Raises
        ------
        BaseException
            The error itself, if it is about something else.
        """
        if not is_out_of_memory(error):
            raise error
        if planes > 1:
            self.batch = max(1, min(self.batch or planes, planes // 2))
            self.say("planes", f"{_place(device)} ran short of memory: going on with fewer frames at once.")
            return True
        if tile // 2 < SMALLEST_TILE:
            return False
        self.tile = tile // 2
        self.say("tile", f"{_place(device)} ran short of memory: going on in smaller tiles, with the same labels.")
        return True

    def to_cpu(self, error: BaseException, device: torch.device) -> None:
        """Give up a GPU.

        Raises
        ------
        BaseException
            The error itself, if it is about something else or there is no GPU to give up.
        """
        if device.type == "cpu" or not is_out_of_memory(error):
            raise error
        self.tile = None
        self.say("cpu", f"{_place(device)} has not enough memory for this: going on with the CPU, which takes longer.")


def _place(device: torch.device) -> str:
    return "The computer" if device.type == "cpu" else f"The GPU ({device})"


def planned_tile(need: Callable[[int], Need], tile: int, device: torch.device, shortage: Shortage) -> int:
    """Return the largest edge of a tile, at most `tile` and halved until it is, for which there is memory.

    Parameters
    ----------
    need : callable
        Takes an edge, returns what a prediction needs with it.
    tile : int
        Wanted.
    device : torch.device
        Where the network runs.
    shortage : Shortage
        Which tells if even the smallest tile may not fit into RAM.
    """
    ram, room = (SHARE * free_bytes(torch.device("cpu")), SHARE * free_bytes(device))
    while tile // 2 >= SMALLEST_TILE:
        wanted = need(tile)
        if wanted.ram(device) <= ram and (device.type == "cpu" or wanted.tile <= room):
            return tile
        tile //= 2
    wanted = need(tile)
    if wanted.ram(device) > ram / SHARE:
        shortage.say(
            "frame",
            f"A frame of this movie takes some {size_in_words(wanted.ram(device))} of memory, of which "
            f"{size_in_words(int(ram / SHARE))} are free: it may not fit.",
        )
    return tile
