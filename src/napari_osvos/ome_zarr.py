"""Images as OME-Zarr (NGFF 0.5, zarr v3), to be filled frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_osvos.formats import METADATA_KEY

ZARR_CHUNK = 1024
"""Longest edge of a chunk in pixels."""


def create_image(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    *,
    frame_numbers: Sequence[int] | None,
    name: str,
    more: Mapping[str, Any] | None = None,
) -> Any:
    """Create an OME-Zarr image (NGFF 0.5), and return the zarr array to be filled, a frame at a time.

    Until then labels are 0 and floating-point numbers NaN.

    Parameters
    ----------
    path : Path
        A folder that is not there yet.
    shape : sequence of int
        (T, Y, X) or (T, Z, Y, X).
    dtype : dtype
        Unsigned ones are labels.
    frame_numbers : sequence of int or None
        The number of each frame, if they are not counted from 0.
    name : str
        What viewers call it.
    more : mapping, optional
        Further notes for the attribute ``napari_osvos``, plain data.
    """
    import zarr

    axes = "tzyx" if len(shape) == 4 else "tyx"
    notes = {"axes": axes.upper(), "frame_numbers": frame_numbers and list(frame_numbers)}
    scale = {"type": "scale", "scale": [1.0] * len(shape)}
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": axis, "type": "time" if axis == "t" else "space"} for axis in axes],
                "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
            }
        ],
    }
    if dtype.kind == "u":
        ome["image-label"] = {}  # viewers then show it as labels
    attributes = {"ome": ome, METADATA_KEY: {**notes, **(more or {})}}
    group = zarr.create_group(str(path), zarr_format=3, attributes=attributes)
    return group.create_array(
        "0",
        shape=tuple(shape),
        dtype=dtype,
        chunks=(1,) * (len(shape) - 2) + tuple(min(n, ZARR_CHUNK) for n in shape[-2:]),
        dimension_names=list(axes),
        # Chunks of nothing but the fill value are not written: a frame of zeros of an image is to be, so that whoever
        # reads it can tell it from one that is lost.
        fill_value=float("nan") if dtype.kind == "f" else 0,
    )
