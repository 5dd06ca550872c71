"""Whether a Labels layer fits a movie, why it does not in one sentence, and how it is mended without losing paint."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_osvos.layer_axes import LayerAxes

MisfitKind = Literal["dtype", "channels", "frames", "single picture", "transposed", "size", "axes", "placement"]


@dataclass(frozen=True)
class Misfit:
    """Why a Labels layer does not fit.

    Attributes
    ----------
    kind
        What is wrong. For ``"placement"`` the pixels are right and only scale or translate differ: set those of
        `LayerAxes.labels_placement` on the layer. All others are mended by `mend`.
    sentence
        For the user, one sentence.
    remedy
        What the button that mends it says, such as ``Make it (24, 512, 512)``; None where it cannot be mended.
    """

    kind: MisfitKind
    sentence: str
    remedy: str | None


def check_labels(
    axes: LayerAxes,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    scale: Sequence[float] | None = None,
    translate: Sequence[float] | None = None,
    image_scale: Sequence[float] | None = None,
    image_translate: Sequence[float] | None = None,
    name: str = "The Labels layer",
    image_name: str = "the image",
) -> Misfit | None:
    """Say what keeps a Labels layer from annotating a movie; no pixel is read.

    Parameters
    ----------
    axes : LayerAxes
        Of the image layer.
    shape, dtype
        Of the array of the Labels layer.
    scale, translate : sequence of float, optional
        Of the Labels layer, one entry per axis of it; not looked at when None.
    image_scale, image_translate : sequence of float, optional
        Of the image layer, one entry per axis of it (not of RGB samples).
    name, image_name : str
        What the sentence calls the two.

    Returns
    -------
    Misfit or None
        None where it fits. The pixels are looked at before the placement: after mending, ask again.
    """
    shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype)
    wanted = axes.labels_layer_shape
    if dtype.kind not in "iu":
        why = f"{name} has dtype {dtype}, but labels are whole numbers."
        return Misfit("dtype", why, "Make it whole numbers" if dtype.kind in "bf" else None)
    if shape != wanted:
        way = _way(axes, shape, name, image_name)
        return Misfit(way.kind, way.sentence, f"Make it {_spell(wanted)}" if way.move else None)
    if image_scale is None or image_translate is None:
        return None
    should = axes.labels_placement(image_scale, image_translate)
    for word, own, right in (("scale", scale, should[0]), ("translate", translate, should[1])):
        if own is not None and not np.allclose(own, right, rtol=1e-6, atol=1e-9):
            why = f"{name} has {word} {_spell(own)}, but over {image_name} it has to be {_spell(right)}."
            return Misfit("placement", why, f"Give it the scale and place of {image_name}")
    return None


def mend(
    labels: Any, axes: LayerAxes, *, frame: int = 0, z: int = 0, name: str = "The Labels layer"
) -> npt.NDArray[Any]:
    """Return the paint of a Labels layer as an array of `LayerAxes.labels_layer_shape`, all of it.

    Parameters
    ----------
    labels : array
        Array of the layer that does not fit (NumPy, dask or zarr); it is not changed.
    axes : LayerAxes
        Of the image layer.
    frame, z : int
        Frame and slice in view, where the paint of a single picture (Y, X) goes to.
    name : str
        What a message calls the layer.

    Returns
    -------
    integer array
        A new one: uint8, uint16, uint32 as it was, otherwise the smallest of uint16, uint32, int64 that holds it.

    Raises
    ------
    ValueError
        If paint would be lost: it lies in frames that the movie has not, in two channels at one pixel, or values are
        no whole numbers; or if there is no way to mend it.
    """
    wanted = axes.labels_layer_shape
    source = np.asarray(labels)
    dtype = _labels_dtype(source, name)
    values = moved = source.astype(dtype, copy=False)
    if values.shape != wanted:
        way = _way(axes, values.shape, name, "the image")
        if way.move is None:
            raise ValueError(way.sentence)
        moved = way.move(values, {"frame": frame, "z": z})
    if moved.shape == wanted and not np.may_share_memory(moved, source):
        return moved
    mended = np.zeros(wanted, dtype)
    kept = tuple(slice(0, min(n, m)) for n, m in zip(moved.shape, wanted, strict=True))
    for t in range(moved.shape[0]):
        part = moved[t : t + 1]
        inside = part[(slice(None), *kept[1:])]
        if t >= wanted[0] or np.count_nonzero(inside) != np.count_nonzero(part):
            if part.any():
                raise ValueError(
                    f"{name} has paint at index {t} of its first axis that lies outside of the {_spell(wanted)} of the "
                    "image; copy it into a frame that the image has, or erase it."
                )
            continue
        if inside.any():
            mended[(slice(t, t + 1), *kept[1:])] = inside
    return mended


def empty_labels(axes: LayerAxes) -> npt.NDArray[np.uint16]:
    """Return labels of `LayerAxes.labels_layer_shape` without paint, uint16; only what is painted takes memory."""
    return np.zeros(axes.labels_layer_shape, np.uint16)  # the system hands out zeros without taking memory for them


_Move = Callable[[npt.NDArray[Any], dict[str, int]], npt.NDArray[Any]]


@dataclass(frozen=True)
class _Way:
    """Why a shape does not fit, and what brings its axes to those of the Labels layer (lengths may still differ)."""

    kind: MisfitKind
    sentence: str
    move: _Move | None


def _way(axes: LayerAxes, shape: tuple[int, ...], name: str, image: str) -> _Way:
    wanted = axes.labels_layer_shape
    frames = f"{axes.n_frames} frame{'s' * (axes.n_frames != 1)}"
    if _without_singles(shape) == _without_singles(wanted):
        why = f"{name} is {_spell(shape)}, but labels of {image} are {_spell(wanted)} in the viewer."
        return _Way("axes", why, lambda array, _: array.reshape(wanted))
    if axes.shape != wanted and shape in (axes.shape, axes.shape[: axes.ndim]):
        kept = axes.shape[axes.ndim - len(wanted) : axes.ndim]
        gone = tuple(i for i in range(len(shape)) if i >= axes.ndim or i < axes.ndim - len(wanted))
        inside = tuple(i for i, (n, m) in enumerate(zip(kept, wanted, strict=True)) if n != m)
        collapsed = (*gone, *(i + axes.ndim - len(wanted) for i in inside))
        why = f"{name} is {_spell(shape)}, with the channels of {image}; labels are {_spell(wanted)}, without."
        return _Way("channels", why, lambda array, _: _without_channels(array, collapsed, name).reshape(wanted))
    if len(shape) == 2 and shape == axes.labels_shape[-2:]:
        why = f"{name} is a single picture {_spell(shape)}, but {image} has {frames}."
        return _Way("single picture", why, lambda array, place: _one_plane(array, axes, place))
    if axes.has_depth and len(shape) == 3 and shape[1:] == axes.labels_shape[-2:]:
        if shape[0] == axes.depth:  # so the viewer shows it
            why = f"{name} is a single stack {_spell(shape)}, but {image} has {frames}."
            return _Way("single picture", why, lambda array, place: _one_frame(array, axes, place))
        if shape[0] == axes.n_frames:
            why = f"{name} is {_spell(shape)}, but {image} has {axes.depth} slices a frame."
            return _Way("axes", why, lambda array, place: _one_slice(array, axes, place))
    if len(shape) == len(wanted) and shape[-2:] == wanted[-2:]:
        i = next(i for i, (n, m) in enumerate(zip(shape, wanted, strict=True)) if n != m)
        why = f"{name} has {shape[i]} frames, but {image} has {wanted[i]}."
        if len(shape) > 3 or axes.time_axis is None:
            why = f"{name} is {_spell(shape)}, but labels of {image} are {_spell(wanted)}."
        return _Way("frames", why, lambda array, _: array)
    for order in itertools.permutations(range(len(shape))) if sorted(shape) == sorted(wanted) else ():
        if tuple(shape[i] for i in order) == wanted:
            why = f"{name} is {_spell(shape)}, but {image} has its axes in another order, {_spell(wanted)}."
            return _Way("transposed", why, lambda array, _, order=order: array.transpose(order))  # type: ignore[misc]
    size, own = shape[-2:], axes.labels_shape[-2:]
    if size != own and len(shape) in (2, len(wanted)):
        why = (
            f"{name} is {' x '.join(map(str, size))} pixels, but {image} is {' x '.join(map(str, own))}; "
            "paint in a new Labels layer."
        )
        return _Way("size", why, None)
    why = f"{name} has shape {_spell(shape)}, but labels of {image} are {_spell(wanted)}; paint in a new Labels layer."
    return _Way("axes", why, None)


def _one_plane(array: npt.NDArray[Any], axes: LayerAxes, place: dict[str, int]) -> npt.NDArray[Any]:
    values = np.zeros((axes.depth, *axes.labels_shape[-2:]), array.dtype)
    values[place["z"]] = array
    return _one_frame(values if axes.has_depth else values[0], axes, place)


def _one_frame(array: npt.NDArray[Any], axes: LayerAxes, place: dict[str, int]) -> npt.NDArray[Any]:
    whole = np.zeros(axes.labels_layer_shape, array.dtype)
    axes.write_frame(whole, place["frame"], array)
    return whole


def _one_slice(array: npt.NDArray[Any], axes: LayerAxes, place: dict[str, int]) -> npt.NDArray[Any]:
    whole = np.zeros(axes.labels_layer_shape, array.dtype)
    for t, plane in enumerate(array):
        if plane.any():
            values = np.zeros((axes.depth, *plane.shape), array.dtype)
            values[place["z"]] = plane
            axes.write_frame(whole, t, values)
    return whole


def _without_channels(array: npt.NDArray[Any], axes: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """Bring the paint of all channels into one."""
    highest = array.max(axis=axes, keepdims=True)
    if ((array != 0) & (array != highest)).any():
        raise ValueError(f"{name} has different labels in two channels of one pixel; keep one of them.")
    return np.asarray(highest)


def _labels_dtype(array: npt.NDArray[Any], name: str) -> np.dtype[Any]:
    """The dtype that labels get; their values are looked at frame by frame."""
    if array.dtype in (np.uint8, np.uint16, np.uint32):
        return array.dtype
    low, high = 0, 0
    for part in array:
        if array.dtype.kind == "f" and not (np.isfinite(part).all() and (part == np.rint(part)).all()):
            raise ValueError(f"{name} holds values that are no whole numbers, so they cannot be labels.")
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} has dtype {array.dtype}, which cannot hold labels.")
        low, high = min(low, int(part.min(initial=0))), max(high, int(part.max(initial=0)))
    for dtype in (np.uint16, np.uint32):
        if low >= 0 and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int64)


def _without_singles(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _spell(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{x:g}' if isinstance(x, float) else str(x) for x in numbers)})"
