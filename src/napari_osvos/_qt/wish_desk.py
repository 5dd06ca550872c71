"""Turns what the controls say into a wish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_osvos._qt.data_section import DataSection
from napari_osvos._qt.frames_section import FramesSection
from napari_osvos._qt.movie_layer import MovieLayer
from napari_osvos._qt.paint_watch import PaintWatch
from napari_osvos._qt.run_section import RunSection
from napari_osvos._qt.session_keeper import SessionKeeper
from napari_osvos._qt.settings_section import SettingsSection
from napari_osvos._qt.wish import Wish

# What a layer of masks can hold.
LARGEST_LABEL = int(np.iinfo(np.uint16).max)


class WishDesk:
    """Reads the controls at the press of a button.

    Parameters
    ----------
    data, frames, section, settings
        The controls.
    watch : PaintWatch
        What is painted.
    keeper : SessionKeeper
        Where it is kept.
    """

    def __init__(
        self,
        data: DataSection,
        frames: FramesSection,
        section: RunSection,
        settings: SettingsSection,
        watch: PaintWatch,
        keeper: SessionKeeper,
    ) -> None:
        self._data, self._frames, self._section, self._settings = data, frames, section, settings
        self._watch, self._keeper = watch, keeper

    def to_learn(self) -> Wish:
        """Return the wish to learn from what is painted now, as far as it was looked at.

        Raises
        ------
        ValueError
            If something is missing, or a setting is wrong; one sentence.
        """
        movie, session = self._data.movie, self._keeper.session
        if movie is None or session is None:
            raise ValueError("There is no movie; open one, or drag it into the viewer.")
        if self._data.painted_layer is None:
            chosen = self._data.annotations.layer
            if chosen is None:
                raise ValueError("There is no layer to paint on; press New, then paint the objects of one frame.")
            raise ValueError(self._data.message.text or f"{chosen.name!r} does not fit the movie.")
        painted = self._watch.painted
        if painted is None or not painted.frames:
            raise ValueError("Nothing is painted yet; paint the objects of one frame.")
        frames = painted.copies()
        return Wish(
            movie=movie,
            session=session,
            frames=frames,
            partial=painted.partial,
            corrected=painted.corrected,
            locked=self._locked(frames),
            background_label=self._frames.background_label,
            tuning=self._settings.tuning_config(self._section.dial.quality).replace(task=self._frames.task.task),
            parent=self._section.parent_name,
            segmenter=self._section.segmenter,
            **self._machine(),
        )

    def to_apply(self, layer: Any, axes: Any) -> Wish:
        """Return the wish to segment a layer with the segmenter that is chosen, as it is.

        Parameters
        ----------
        layer : napari.layers.Image
        axes : LayerAxes

        Raises
        ------
        ValueError
            As `to_learn`.
        """
        session, segmenter = self._keeper.session, self._section.segmenter
        if session is None or segmenter is None:
            raise ValueError("There is no segmenter to apply; load one, or segment a movie.")
        movie = self._data.movie
        if movie is None or movie.layer is not layer:
            same = movie is not None and movie.axes.n_channels == axes.n_channels
            movie = MovieLayer(layer, axes, movie.channels if movie is not None and same else None)
        watched = self._watch.movie
        locked = self._locked() if watched is not None and watched.layer is layer else {}
        return Wish(movie=movie, session=session, segmenter=segmenter, locked=locked, **self._machine())

    def _locked(self, frames: Mapping[int, Any] | None = None) -> dict[int, Any]:
        """Return the final labels of the accepted frames, {frame: array}; `frames`: all paint, if it is at hand."""
        painted = self._watch.painted
        if painted is None or not painted.accepted:
            return {}
        frames = painted.copies() if frames is None else frames
        found = {t: frames[t] for t in sorted(painted.accepted & frames.keys())}
        background = self._frames.background_label
        for t, labels in found.items():
            if background is not None:
                found[t] = labels = np.where(labels == background, 0, labels)
            if labels.max() > LARGEST_LABEL:
                raise ValueError(
                    f"Frame {t} holds the label {labels.max()}; accepted frames hold {LARGEST_LABEL} at most."
                )
        return found

    def _machine(self) -> dict[str, Any]:
        quality = self._section.dial.quality
        return {
            "prediction": self._settings.prediction_config(quality),
            "device": self._settings.device_name,
            "threads": self._settings.threads.value() or None,
            "probabilities": self._settings.probabilities.isChecked(),
            "uncertainty": self._settings.uncertainty.isChecked(),
            "scheduler": self._settings.scheduler_address,
        }
