"""What of the paint a fine-tuning holds out, and how well a segmenter finds it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig, PredictConfig
from napari_osvos.held_out import HeldOut, HeldOutScore, hold_out, score_held_out, whole_frames
from napari_osvos.intensity import IntensityScale
from napari_osvos.labelling import foreground_of
from napari_osvos.painted_plane import PaintedPlane
from napari_osvos.parent import ParentNetwork
from napari_osvos.provenance import frames_learned_from, is_of_movie
from napari_osvos.segmenter import Segmenter
from napari_osvos.task import Task


def paint_to_hold_out(
    start: ParentNetwork | Segmenter,
    clip: Clip,
    frames: Sequence[PaintedPlane],
    intensity: IntensityScale,
    *,
    config: FineTuneConfig,
    task: Task,
    diameter: float,
) -> tuple[HeldOut | None, HeldOutScore | None]:
    """Choose what is held out; where an earlier fine-tuning is continued, of frames that it has not seen.

    Parameters
    ----------
    start : ParentNetwork or Segmenter
        Where the fine-tuning begins.
    clip : Clip
        The movie.
    frames : sequence of PaintedPlane
        All annotated planes.
    intensity : IntensityScale
        Of the movie.
    config : FineTuneConfig
        ``preview`` is too short to hold anything out.
    task : str
        What is learned.
    diameter : float
        Of typical objects, in pixels.

    Returns
    -------
    held : HeldOut or None
        None where nothing is held out.
    known : HeldOutScore or None
        What is known already: by the earlier fine-tuning, or measured with it on frames that it has not seen and whose
        paint is too little to hold any of it out.
    """
    names = clip.frame_numbers
    classes = sorted({int(v) for f in frames for v in np.unique(f.labels) if v}) if task == "distinct" else []
    before = start.provenance if isinstance(start, Segmenter) else {}
    if not isinstance(start, Segmenter) or not is_of_movie(before, clip):
        return (None if config.quality == "preview" else hold_out(frames, diameter, config.seed, names, classes)), None
    known, learned = HeldOutScore.of(before), frames_learned_from(before, clip)
    new = {f.frame for f in frames if not f.partial and f.frame not in learned and (f.labels > 0).any()}
    if not new or task != start.meaning.task:
        return None, known  # all that is painted was learned before
    held = None
    if config.quality != "preview":
        held = hold_out([f for f in frames if f.frame in new], diameter, config.seed, names, classes)
    if held is not None:
        return held.among(frames, new), known
    return None, measure(whole_frames(frames, new, diameter, names), frames, intensity, start)


def measure(
    held: HeldOut, frames: Sequence[PaintedPlane], intensity: IntensityScale, segmenter: Segmenter
) -> HeldOutScore:
    """Measure how well a segmenter finds paint that it has not seen.

    Parameters
    ----------
    held : HeldOut
        The paint.
    frames : sequence of PaintedPlane
        The planes that it was chosen of.
    intensity : IntensityScale
        Of the movie.
    segmenter : Segmenter
        Predicts plainly, without mirror images.
    """
    config, segmenter.config = segmenter.config, PredictConfig()
    objects = segmenter.meaning.task == "look-alike"
    predictions: list[tuple[np.ndarray, np.ndarray] | None] = []
    for frame, area in zip(frames, held.areas, strict=True):
        if not area.any():
            predictions.append(None)
            continue
        maps = segmenter.plane_maps(frame.image, intensity, contours=objects)
        predictions.append((foreground_of(maps), segmenter.labels_of([maps])[0]))
    segmenter.config = config
    return score_held_out(held, frames, predictions, segmenter.threshold, objects=objects)
