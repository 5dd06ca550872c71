"""The layers that a round of segmentation writes: masks; probabilities and uncertainty where they are asked for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import label_colormap

from napari_osvos._qt.layer_combo import FILLED_BY_A_RUN
from napari_osvos._qt.movie_layer import LARGEST_IN_MEMORY, MovieLayer
from napari_osvos.rounds import RoundFolder

ZARR_CHUNK = 1024
# The first label is turquoise: masks must not look like what is painted, which has napari's own colours.
MASK_COLOURS = {"num_colors": 49, "seed": 0.12}
IMAGE_COLOURS = {"probabilities": "inferno", "uncertainty": "magma"}


class RoundLayers:
    """Masks and images of one round, filled frame by frame while they are shown.

    Frames are written by the thread in which they come; layers are touched in the thread of the viewer only.

    Parameters
    ----------
    viewer : napari.Viewer
    movie : MovieLayer
    number : int
        Of the round, from 1; in the name of the layers.
    probabilities : bool
        Whether there is a layer of probabilities.
    folder : Path
        Where the arrays of a movie that is too large for memory are kept.
    uncertainty : bool
        Whether there is a layer of the uncertainty of each pixel.
    accepted : mapping, optional
        {frame: labels (Y, X) or (Z, Y, X)} that are final: they are there from the beginning, and nothing is written
        over them.
    labels : array, optional
        Masks that are there already, of a round that is over; empty ones by default.
    """

    def __init__(
        self,
        viewer: Any,
        movie: MovieLayer,
        number: int,
        probabilities: bool,
        folder: Path,
        *,
        uncertainty: bool = False,
        accepted: Mapping[int, Any] | None = None,
        labels: Any = None,
    ) -> None:
        self._viewer, self.movie, self.number = viewer, movie, number
        self._folder = folder
        self.filled: set[int] = set()
        self._previewed: set[int] = set()
        self._lock = threading.Lock()
        self._open = True
        self._placement = movie.placement()
        self._name = movie.name
        self.labels = self._new_array("masks", np.dtype(np.uint16)) if labels is None else labels
        wanted = {"probabilities": probabilities, "uncertainty": uncertainty}
        self._images = {what: self._new_array(what, np.dtype(np.float32)) for what, on in wanted.items() if on}
        self._image_layers: dict[str, Any] = {}
        self.labels_layer: Any = None
        for frame, final in (accepted or {}).items():
            self.write(frame, final)
        self.accepted = frozenset(accepted or ())

    def _new_array(self, what: str, dtype: np.dtype[Any]) -> Any:
        shape = self.movie.axes.labels_layer_shape
        if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize <= LARGEST_IN_MEMORY:
            return np.zeros(shape, dtype)
        import zarr

        path = RoundFolder(self._folder).file(self.number, f"-{what}.zarr")
        whole = [letter in "YX" for letter in self._letters()]
        chunks = tuple(min(n, ZARR_CHUNK) if w else 1 for n, w in zip(shape, whole, strict=True))
        with _storing(self._folder):
            return zarr.create_array(str(path), shape=shape, dtype=dtype, chunks=chunks, overwrite=True)

    def _letters(self) -> str:
        axes = self.movie.axes
        letters = axes.letters.rstrip("S") if axes.ndim < len(axes.letters) else axes.letters
        return letters[-len(axes.labels_layer_shape) :]

    @property
    def has_predictions(self) -> bool:
        """Whether a frame is finished that was not there from the beginning, or none was to be predicted."""
        return len(self.filled) > len(self.accepted) or len(self.filled) == self.movie.axes.n_frames

    @property
    def is_in_file(self) -> bool:
        """Whether the masks are kept on the disk, because they are too large for memory."""
        return not isinstance(self.labels, np.ndarray)

    # -- in any thread -------------------------------------------------------------------------

    def write(self, frame: int, labels: Any, probability: Any = None, uncertainty: Any = None) -> None:
        """Write a finished frame.

        Raises
        ------
        OSError
            If it is kept on the disk and cannot be written; one sentence. Nothing of it stays.
        """
        with self._lock, _storing(self._folder):
            if not self._open:
                return
            self._previewed.add(frame)  # what there is of it, if the disk is full
            self.movie.axes.write_frame(self.labels, frame, labels)
            for what, values in (("probabilities", probability), ("uncertainty", uncertainty)):
                if what in self._images and values is not None:
                    self.movie.axes.write_frame(self._images[what], frame, values)
            self.filled.add(frame)

    def write_preview(self, frame: int, z: int | None, plane: Any, probability: Any = None) -> None:
        """Write what is learned so far of a plane (Y, X), unless the frame is finished; raises as `write`."""
        axes = self.movie.axes
        with self._lock, _storing(self._folder):
            if not self._open or frame in self.filled:
                return
            for array, values in ((self.labels, plane), (self._images.get("probabilities"), probability)):
                if array is None or values is None:
                    continue
                if axes.has_depth:
                    stack = axes.read_frame(array, frame)
                    stack[z or 0] = values
                    values = stack
                axes.write_frame(array, frame, np.asarray(values, array.dtype))
            self._previewed.add(frame)

    # -- in the thread of the viewer -----------------------------------------------------------

    @property
    def is_shown(self) -> bool:
        """Whether the masks are shown: their layer is there, and nobody gave it other pixels."""
        return self._shows(self.labels_layer, self.labels)

    @property
    def present_labels(self) -> Any:
        """The masks: those of their layer, where they may have been corrected by hand, as long as they fit."""
        array = self.labels if self.labels_layer is None else self.labels_layer.data
        return array if tuple(array.shape) == tuple(self.labels.shape) else self.labels

    def _shows(self, layer: Any, array: Any) -> bool:
        return layer is not None and layer in self._viewer.layers and layer.data is array

    def show(self) -> None:
        """Add the layers that are not there, the masks on top; what is selected stays selected."""
        for _ in self.show_step_by_step():
            pass

    def show_step_by_step(self) -> Iterator[None]:
        """Do what `show` does, bit by bit: a new layer holds the viewer up for some 0.2 s."""
        selected = set(self._viewer.layers.selection)
        common = {"metadata": {FILLED_BY_A_RUN: self.number}, **self._placement}
        for what, array in self._images.items():
            if self._shows(self._image_layers.get(what), array):
                continue
            self._image_layers[what] = Image(
                array,
                name=f"{self._name} {what} {self.number}",
                contrast_limits=(0, 1),
                colormap=IMAGE_COLOURS[what],
                blending="additive",
                visible=False,
                **common,
            )
            self._viewer.add_layer(self._image_layers[what])
            yield
        if not self.is_shown:
            self.labels_layer = Labels(
                self.labels,
                name=f"{self._name} masks {self.number}",
                opacity=0.5,
                colormap=label_colormap(**MASK_COLOURS),
                **common,
            )
            self._viewer.add_layer(self.labels_layer)
            yield
        self._viewer.layers.selection = selected & set(self._viewer.layers)

    def refresh(self) -> None:
        """Show what was written of the frame in view."""
        for layer in (self.labels_layer, *self._image_layers.values()):
            if layer is not None and layer in self._viewer.layers and layer.visible:
                layer.refresh(highlight=False, extent=False, thumbnail=False)

    def finish(self) -> bool:
        """End the round: wipe previews of frames that were not finished.

        Returns
        -------
        bool
            Whether the masks are in a layer that had to be added anew, because theirs was deleted.
        """
        with self._lock:
            self._open = False
            shape = self.movie.axes.labels_shape[1:]
            for frame in self._previewed - self.filled:
                for array in (self.labels, *self._images.values()):
                    with contextlib.suppress(OSError):  # it is not among those that are filled
                        self.movie.axes.write_frame(array, frame, np.zeros(shape, array.dtype))
        anew = not self.is_shown
        self.show()
        self.labels_layer.refresh()  # with its thumbnail
        return anew

    def discard(self) -> None:
        """End the round and take its layers away."""
        with self._lock:
            self._open = False
        for layer in (self.labels_layer, *self._image_layers.values()):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)


@contextlib.contextmanager
def _storing(folder: Path) -> Iterator[None]:
    """Say in a sentence that masks cannot be written to the disk."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error).rstrip(".")
        words = f"Masks could not be stored in {folder} ({cause}); make room there, or choose another session folder."
        raise OSError(words) from error
