"""A round, as the panel knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_osvos._qt.mask_watch import MaskWatch
from napari_osvos._qt.round_layers import RoundLayers
from napari_osvos._qt.run import Run
from napari_osvos._qt.run_objects import DISTINCT, task_of
from napari_osvos.round_record import Round
from napari_osvos.rounds import RoundFolder


@dataclass(eq=False)
class KeptRound:
    """A round of the list.

    Attributes
    ----------
    folder : RoundFolder
        Where it is kept.
    about : Round
        What is said of it.
    run : Run or None
        What made it, in this viewer; None if an earlier one did.
    layers : RoundLayers or None
        Its masks; None while they are on the disk only.
    masks : MaskWatch or None
        What of them is to be saved.
    """

    folder: RoundFolder
    about: Round
    run: Run | None = None
    layers: RoundLayers | None = None
    masks: MaskWatch | None = None

    @property
    def segmenter(self) -> Path:
        """Where its segmenter is, if it has learned something."""
        return self.folder.segmenter(self.about.number)

    @property
    def masks_layer(self) -> Any:
        """The layer of its masks, or None."""
        return None if self.layers is None else self.layers.labels_layer

    @property
    def means_objects(self) -> bool:
        """Whether its labels tell objects of one kind apart; else they are classes."""
        if self.run is not None:
            return task_of(self.run) != DISTINCT
        asked = (self.about.tuning or {}).get("task")  # all there is to go by if it was broken off
        return (self.about.task or asked) != DISTINCT

    @property
    def is_linked(self) -> bool:
        """Whether its objects were linked: a label is the same object in all frames."""
        return self.about.linked if self.run is None else self.run.tracked is not None

    @property
    def is_there(self) -> bool:
        """Whether it has learned something or filled a frame."""
        if self.run is None:
            return True
        return self.run.segmenter is not None or (self.run.phase == "over" and self.run.layers.has_predictions)


def round_of(run: Run, when: float, settings: Mapping[str, Any]) -> Round:
    """Return what is to be said of a run by now."""
    wish = run.wish
    about = Round(
        number=run.number,
        movie=wish.movie.facts,
        when=when,
        axes=wish.movie.axes.letters,
        channels=wish.movie.channels,
        tuning=wish.tuning.to_dict() if wish.frames is not None else None,
        prediction=None if wish.prediction is None else wish.prediction.to_dict(),
        parent=wish.parent,
        start=wish.segmenter,
        annotated=tuple(sorted(wish.frames or ())),
        partial=tuple(sorted(wish.partial)),
        corrected=tuple(sorted(wish.corrected)),
        accepted=tuple(sorted(wish.accepted)),
        background_label=wish.background_label,
        device=wish.device,
        threads=wish.threads,
        settings=settings,
    )
    return replace(
        about,
        expected=None if run.expected_accuracy is None else run.expected_accuracy.to_dict(),
        suggestions=tuple(one.to_dict() for one in run.suggestions),
        confidences=dict(run.confidences),
        losses=tuple(run.losses),
        learned_in=run.learned_in,
        filled_in=run.filled_in,
        cut_short=run.cut_short,
        task=run.task,
        linked=run.tracked is not None,
        filled=tuple(sorted(run.layers.filled)) if run.layers.has_predictions else (),
    )
