"""What a network says of a plane of any size: whole where it is small, in tiles with a halo where it is large.

A tile is normalised, rescaled, run through the network and rescaled back by itself, so that of a large plane nothing
exists at full resolution but its pixels and the maps that are wanted. Each tile has the context of the network's
`halo` around it, and begins where a stride of the network does: the maps are those of the whole plane, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_osvos.appearance import grid_tokens
from napari_osvos.device import autocast, to_device
from napari_osvos.intensity import IntensityScale, raw_tensor
from napari_osvos.labelling import PlaneMaps
from napari_osvos.losses import class_probabilities
from napari_osvos.machine import release_memory
from napari_osvos.network import OSVOSNet
from napari_osvos.resampling import Taps, resample, rescaled

STRIP = 2**21
"""Pixels of the plane that are normalised or rescaled at a time, where it is tiled."""
FINE = 2**25
"""Pixels of a frame up to which its maps are float32; beyond, they are float16."""

Axes = tuple[int, ...]
PLAIN: tuple[Axes, ...] = ((),)
FLIPS: tuple[Axes, ...] = ((), (2,), (3,), (2, 3))


@dataclass(frozen=True)
class Look:
    """What is wanted of a network.

    Attributes
    ----------
    pick : tuple of int
        Positions of its heads: those of the classes, then others.
    classes : int
        How many of them are classes.
    zoom : float
        Network pixels per pixel of the plane.
    turns : sequence of axes
        Mirror images whose predictions are averaged.
    tile : int
        Edge of a tile, in network pixels.
    fine : bool
        Whether maps are float32 rather than float16.
    relief : float or None
        If given, and maps are float16, the contour times this is taken off the distance and not kept by itself.
    """

    pick: tuple[int, ...]
    classes: int
    zoom: float
    turns: Sequence[Axes] = PLAIN
    tile: int = 2048
    fine: bool = True
    relief: float | None = None

    def blends(self, heads: Sequence[str]) -> bool:
        """Whether contour and distance become one map, of a network with these heads."""
        there = {heads[i] for i in self.pick[self.classes :]}
        return self.relief is not None and not self.fine and {"contour", "distance"} <= there


@torch.no_grad()
def plane_maps(
    net: OSVOSNet,
    planes: Sequence[np.ndarray],
    intensity: IntensityScale,
    look: Look,
    seen: Sequence[list[Tensor]] | None = None,
) -> list[PlaneMaps]:
    """Return what a network says of planes of a movie: of all in one batch, where they need no tiles.

    Parameters
    ----------
    net : OSVOSNet
        On the device where it is to run.
    planes : sequence of (Y, X, C) arrays
        Raw intensities, all of one shape.
    intensity : IntensityScale
        Of the movie.
    look : Look
        What is wanted.
    seen : sequence of lists of Tensor, optional
        One for each plane, which is given the features (C, n) of a regular grid of positions, for
        `napari_osvos.appearance`.

    Returns
    -------
    list of PlaneMaps
        The maps of ``look.pick``, in [0, 1], under the names of their heads.
    """
    height, width = planes[0].shape[:2]
    size = zoomed((height, width), look.zoom)
    edge = tile_edge(net, look.tile) + 2 * net.halo
    all_maps = [_Maps(net, (height, width), look) for _ in planes]
    if max(*size, height, width) <= edge:
        for maps, found in zip(all_maps, _whole(net, planes, intensity, look, size, seen), strict=True):
            maps.write(slice(0, height), slice(0, width), found)
    else:
        for k, (maps, plane) in enumerate(zip(all_maps, planes, strict=True)):
            tiles = _Tiles(net, plane, intensity, look, size)
            for rows, columns, found in tiles.predicted(None if seen is None else seen[k]):
                maps.write(rows, columns, found)
    return [maps.named() for maps in all_maps]


def zoomed(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Return the size that a plane has for the network."""
    return max(1, round(shape[0] * zoom)), max(1, round(shape[1] * zoom))


def tile_edge(net: OSVOSNet, tile: int) -> int:
    """Return the edge of a tile, a multiple of the network's stride."""
    return max(net.stride, tile // net.stride * net.stride)


def _on_device(raw: Tensor, intensity: IntensityScale, device: torch.device) -> Tensor:
    if raw.dtype != torch.float64:  # which Apple's GPU does not have
        raw = to_device(raw, device)
    z = intensity.normalise(raw)[None].to(device)
    return z[:, :1] if len(raw) == 1 else z  # (1, 1 or 3, Y, X): the network takes one channel for three alike


def _run(
    net: OSVOSNet, x: Tensor, pick: Sequence[int], whole: tuple[int, int] | None = None
) -> tuple[list[Tensor], Tensor]:
    """Return the features and the logits (B, n, H, W) of a padded input, or of a tile of one of the size `whole`."""
    with autocast(x.device):
        features = net.features(x)
        return features, net.fused(net.side_outputs(features), (x.shape[-2], x.shape[-1]), whole)[:, list(pick)]


def _probabilities(logits: Tensor, classes: int) -> Tensor:
    logits = logits.float()
    return torch.cat([class_probabilities(logits[:, :classes]), torch.sigmoid(logits[:, classes:])], 1)


def _tokens(
    net: OSVOSNet,
    features: list[Tensor],
    origin: tuple[int, int],
    own: tuple[slice, slice],
    size: tuple[int, int],
    k: int = 0,
) -> Tensor:
    """Return the features of a grid of positions, of the k-th plane of a batch."""
    coarse = features[-2:][0][k]  # coarse enough to know an object, fine enough to find it
    return grid_tokens(coarse, origin, own, size, net.stride // min(len(features), 2))


def _whole(
    net: OSVOSNet,
    planes: Sequence[np.ndarray],
    intensity: IntensityScale,
    look: Look,
    size: tuple[int, int],
    seen: Sequence[list[Tensor]] | None,
) -> Tensor:
    """Return the probabilities (B, n, Y, X) of planes in one go."""
    height, width = planes[0].shape[:2]
    inputs = [_on_device(raw_tensor(plane), intensity, net.input_mean.device) for plane in planes]
    x = torch.cat(inputs) if len(inputs) > 1 else inputs[0]
    del inputs
    if size != (height, width):
        x = rescaled(x, size, antialias=look.zoom < 1)
    x = net.pad(x)
    total: Tensor | None = None
    for axes in look.turns:
        features, logits = _run(net, torch.flip(x, axes) if axes else x, look.pick)
        if seen is not None and not axes:
            shape = (x.shape[-2], x.shape[-1])
            own = slice(0, shape[0]), slice(0, shape[1])
            for k, tokens in enumerate(seen):
                tokens.append(_tokens(net, features, (0, 0), own, shape, k))
        p = _probabilities(logits, look.classes)
        p = torch.flip(p, axes) if axes else p
        total = p if total is None else total + p
    assert total is not None
    maps = total[..., : size[0], : size[1]] / len(look.turns)
    if size != (height, width):
        maps = rescaled(maps, (height, width), antialias=look.zoom > 1)
    return maps


class _Maps:
    """Maps of a plane that are filled part by part; what is too much for memory is reduced at once."""

    def __init__(self, net: OSVOSNet, shape: tuple[int, int], look: Look) -> None:
        self.look = look
        self.heads = [net.config.heads[i] for i in look.pick[look.classes :]]
        self.blended = look.blends(net.config.heads)
        # Of many classes of a huge plane only the most probable one, and all of them together, are kept.
        self.merged = look.classes > 1 and not look.fine
        dtype = np.float32 if look.fine else np.float16
        self.classes = np.empty((1 if self.merged else look.classes, *shape), dtype)
        self.winner = np.empty(shape, np.uint8) if self.merged else None
        self.kept = ["distance"] if self.blended else self.heads
        self.others = [np.empty(shape, dtype) for _ in self.kept]

    def write(self, rows: slice, columns: slice, found: Tensor) -> None:
        """Take the probabilities (n, y, x) of a part."""
        found = found.clamp_(0, 1)  # resampling rounds to just above 1
        classes, others = found[: self.look.classes], found[self.look.classes :]
        if self.winner is not None:
            self.winner[rows, columns] = classes.argmax(0).cpu().numpy()
            classes = classes.sum(0, keepdim=True).clamp_(max=1)
        self.classes[:, rows, columns] = classes.cpu().numpy()
        if self.blended:
            named = dict(zip(self.heads, others, strict=True))
            others = (named["distance"] - (self.look.relief or 0.0) * named["contour"])[None]
        for target, part in zip(self.others, others, strict=True):
            target[rows, columns] = part.cpu().numpy()

    def named(self) -> PlaneMaps:
        """Return the maps under their names."""
        named = dict(zip(self.kept, self.others, strict=True))
        return PlaneMaps(self.classes, named.get("contour"), named.get("distance"), self.winner)


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis of a tiled plane.

    Attributes
    ----------
    pixels, zoomed, padded : int
        Its length: of the plane, for the network, and with what the network pads.
    mirror : bool
        Whether what is padded is mirrored, rather than the last pixel repeated.
    """

    pixels: int
    zoomed: int
    padded: int
    mirror: bool

    def tiles(self, edge: int) -> Iterator[_Stretch]:
        """Yield the tiles along the axis."""
        first_of = {begin: round(begin * self.pixels / self.zoomed) for begin in range(0, self.padded, edge)}
        # Where frames are enlarged, what is left for the last tile may be less than a pixel: the one before takes it.
        begins = [begin for begin, first in first_of.items() if first < self.pixels]
        bounds = [first_of[begin] for begin in begins] + [self.pixels]
        for begin, end, first, last in zip(begins, [*begins[1:], self.padded], bounds[:-1], bounds[1:], strict=True):
            back = Taps.bilinear(self.zoomed, self.pixels, np.arange(first, last))
            own = slice(begin, end)
            core = slice(min(own.start, back.span.start), max(own.stop, back.span.stop))
            yield _Stretch(slice(first, last), own, core, back)

    def forth(self, wanted: slice) -> Taps:
        """Return what some pixels of the padded axis are made of."""
        place = np.arange(wanted.start, wanted.stop)
        beyond = place >= self.zoomed
        place[beyond] = 2 * (self.zoomed - 1) - place[beyond] if self.mirror else self.zoomed - 1
        return Taps.bilinear(self.pixels, self.zoomed, place)


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A tile along one axis: pixels of the plane, its own network pixels, those it needs, and the way back."""

    pixels: slice
    own: slice
    core: slice
    back: Taps


class _Tiles:
    """The tiles of a large plane, predicted one by one."""

    def __init__(
        self, net: OSVOSNet, plane: np.ndarray, intensity: IntensityScale, look: Look, size: tuple[int, int]
    ) -> None:
        self.net, self.plane, self.intensity, self.look = net, plane, intensity, look
        self.device = net.input_mean.device
        pads = [0 if net.config.edges == "published" else -n % net.stride for n in size]
        mirror = all(pad < n for pad, n in zip(pads, size, strict=True))  # as `OSVOSNet.pad` does
        self.axes = [
            _Axis(pixels, n, n + pad, mirror) for pixels, n, pad in zip(plane.shape[:2], size, pads, strict=True)
        ]
        self.size = (self.axes[0].padded, self.axes[1].padded)

    def predicted(self, seen: list[Tensor] | None) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield rows and columns of parts of the plane, and their probabilities (n, y, x)."""
        edge = tile_edge(self.net, self.look.tile)
        for down in self.axes[0].tiles(edge):
            for across in self.axes[1].tiles(edge):
                found = self._core(down, across, seen)
                yield from self._rescaled_back(found, down, across)
                del found
                release_memory()  # or what tiles leave behind adds up

    def _core(self, down: _Stretch, across: _Stretch, seen: list[Tensor] | None) -> Tensor:
        """Return the probabilities (1, n, h, w) of the network pixels that a tile needs."""
        total: Tensor | None = None
        last: tuple[tuple[slice, slice], Tensor] | None = None
        for axes in self.look.turns:
            # Strides are counted from where the mirror image begins.
            parts = [self._part(k, stretch, k + 2 in axes) for k, stretch in enumerate((down, across))]
            place = parts[0][0], parts[1][0]
            x = last[1] if last is not None and last[0] == place else self._input(*place)
            last = place, x
            features, logits = _run(self.net, torch.flip(x, axes) if axes else x, self.look.pick, self.size)
            if seen is not None and not axes:
                origin = place[0].start, place[1].start
                own = tuple(
                    slice(s.own.start - begin, s.own.stop - begin)
                    for s, begin in zip((down, across), origin, strict=True)
                )
                seen.append(_tokens(self.net, features, origin, (own[0], own[1]), self.size))
            p = _probabilities(logits[..., parts[0][1], parts[1][1]], self.look.classes)
            p = torch.flip(p, axes) if axes else p
            total = p if total is None else total.add_(p)
        assert total is not None
        return total.div_(len(self.look.turns))

    def _part(self, k: int, stretch: _Stretch, turned: bool) -> tuple[slice, slice]:
        """Return the network pixels of a tile with its halo, and which of the turned part the core is."""
        length, stride, halo = self.size[k], self.net.stride, self.net.halo
        low, high = stretch.core.start, stretch.core.stop
        if turned:
            low, high = length - high, length - low
        begin = max(0, (low - halo) // stride * stride)
        end = min(length, -(-(high + halo) // stride) * stride)
        core = slice(low - begin, high - begin)
        return (slice(length - end, length - begin) if turned else slice(begin, end)), core

    def _input(self, rows: slice, columns: slice) -> Tensor:
        """Return the network input (1, 1 or 3, h, w) of a part of the padded plane."""
        down, across = self.axes[0].forth(rows), self.axes[1].forth(columns)
        channels = 1 if self.plane.shape[-1] == 1 else 3
        x = torch.empty(1, channels, len(down.places), len(across.places), device=self.device)
        span = across.span
        for part in _strips(len(down.places), self.axes[0].pixels / self.axes[0].zoomed * (span.stop - span.start)):
            taps = down.part(part)
            raw = raw_tensor(self.plane[taps.span, span])
            x[:, :, part] = resample(_on_device(raw, self.intensity, self.device), taps, across)
        return x

    def _rescaled_back(self, found: Tensor, down: _Stretch, across: _Stretch) -> Iterator[tuple[slice, slice, Tensor]]:
        rows, columns = down.pixels, across.pixels
        span = across.back.span
        middle = found[0, ..., span.start - across.core.start : span.stop - across.core.start]
        for part in _strips(rows.stop - rows.start, columns.stop - columns.start):
            taps = down.back.part(part)
            needed = middle[:, taps.span.start - down.core.start : taps.span.stop - down.core.start]
            yield slice(rows.start + part.start, rows.start + part.stop), columns, resample(needed, taps, across.back)


def _strips(length: int, width: float) -> Iterator[slice]:
    """Yield parts of an axis, each of about `STRIP` pixels."""
    step = max(1, int(STRIP / max(width, 1)))
    for begin in range(0, length, step):
        yield slice(begin, min(length, begin + step))
