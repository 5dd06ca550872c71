"""An image layer as a movie: its pixels, its axes, and which frame of it is in view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels

from napari_osvos.clip import Clip
from napari_osvos.layer_axes import LayerAxes, guess_layer_axes
from napari_osvos.layer_fit import Misfit, check_labels, empty_labels
from napari_osvos.movie_facts import MovieFacts

# Labels larger than this are kept on disk, in the session folder, rather than in memory.
LARGEST_IN_MEMORY = 1_000_000_000  # bytes


def pixels_of(layer: Any) -> Any:
    """Return the array of a layer; of a multiscale one, its full level."""
    return layer.data[0] if layer.multiscale else layer.data


def guessed_axes(layer: Any) -> LayerAxes:
    """Guess the axes of an image layer.

    Raises
    ------
    ValueError
        If the layer has too few axes, or more than there are meanings for.
    """
    labels = getattr(layer, "axis_labels", None)
    return guess_layer_axes(pixels_of(layer).shape, bool(getattr(layer, "rgb", False)), labels)


class MovieLayer:
    """An image layer with its axes and the channels chosen of it.

    Parameters
    ----------
    layer : napari.layers.Image
    axes : LayerAxes
    channels : sequence of int, optional
        All by default.
    """

    def __init__(self, layer: Any, axes: LayerAxes, channels: Sequence[int] | None = None) -> None:
        self.layer = layer
        self.axes = axes
        self.channels = None if channels is None else tuple(channels)
        self.array = pixels_of(layer)

    @property
    def name(self) -> str:
        """Name of the layer, as it is now."""
        return str(self.layer.name)

    def clip(self) -> Clip:
        """Return the movie as the method sees it; no pixel is read.

        Raises
        ------
        ValueError
            If the dtype is no real number.
        """
        return Clip(self.array, self.axes.letters, channels=self.channels, name=self.name)

    @property
    def facts(self) -> MovieFacts:
        """By what the movie is known again."""
        path = getattr(self.layer.source, "path", None)
        shape = tuple(int(n) for n in self.array.shape)
        return MovieFacts(self.name, None if path is None else str(path), shape, str(np.dtype(self.array.dtype)))

    # -- what is in view -----------------------------------------------------------------------

    def in_view(self, viewer: Any) -> tuple[int, int]:
        """Return the frame and slice in view."""
        return self.axes.frame_of(self.layer.world_to_data(viewer.dims.point))

    def go_to(self, viewer: Any, frame: int, z: int | None = None) -> None:
        """Bring a frame (and slice) into view; everything else stays as it is."""
        position = self.layer.world_to_data(viewer.dims.point)
        z = self.axes.frame_of(position)[1] if z is None else z
        world = self.layer.data_to_world(self.axes.position_of(frame, z, position))
        first = viewer.dims.ndim - self.axes.ndim
        for axis in (self.axes.time_axis, self.axes.depth_axis):
            if axis is not None and first + axis >= 0:
                viewer.dims.set_point(first + axis, world[axis])

    # -- labels over it ------------------------------------------------------------------------

    def placement(self) -> dict[str, Any]:
        """Return what lays a Labels layer over the image: scale, translate, units, axis labels, and so on."""
        layer = self.layer
        scale, translate = self.axes.labels_placement(layer.scale, layer.translate)
        placement: dict[str, Any] = {"scale": scale, "translate": translate}
        for name in ("units", "axis_labels"):
            entries = getattr(layer, name, None)
            if entries is not None:
                placement[name] = self.axes.labels_entries(entries)
        if len(scale) == layer.ndim:  # turned and sheared like the image
            placement |= {"rotate": layer.rotate, "shear": layer.shear, "affine": layer.affine.affine_matrix}
        return placement

    def misfit(self, labels: Any) -> Misfit | None:
        """Say why a Labels layer does not fit, if so; no pixel is read."""
        array = pixels_of(labels)
        return check_labels(
            self.axes,
            array.shape,
            array.dtype,
            scale=labels.scale,
            translate=labels.translate,
            image_scale=self.layer.scale,
            image_translate=self.layer.translate,
            name=labels.name,
            image_name=self.name,
        )

    @property
    def labels_bytes(self) -> int:
        """Bytes that labels (uint16) of the whole movie take."""
        return int(np.prod(self.axes.labels_layer_shape, dtype=np.int64)) * 2

    def new_annotations(self, viewer: Any, array: Any = None) -> Any:
        """Add a Labels layer to paint on: of the right shape and place, selected, brush ready.

        Parameters
        ----------
        viewer : napari.Viewer
        array : array, optional
            Paint that is there already; empty by default.
        """
        array = empty_labels(self.axes) if array is None else array
        layer = Labels(array, name=f"{self.name} annotations", **self.placement())
        viewer.add_layer(layer)
        viewer.layers.selection = {layer}
        ready_the_brush(layer, self.axes)
        return layer


def ready_the_brush(layer: Any, axes: LayerAxes) -> None:
    """Set a Labels layer to painting, with a brush that suits the size of the picture."""
    height, width = axes.labels_shape[-2:]
    layer.brush_size = int(np.clip(min(height, width) / 32, 3, 40))
    layer.n_edit_dimensions = 2
    layer.selected_label = 1
    layer.mode = "paint"
