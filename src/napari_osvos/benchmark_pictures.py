"""Pictures of the frames that a method did worst."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_osvos.benchmark_table import parent_name
from napari_osvos.evaluation import both_frames
from napari_osvos.overlay import Panel, Strip, as_picture, error_map, save_strips

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_osvos.benchmark_cell import Cell
    from napari_osvos.clip import Clip
    from napari_osvos.evaluation import Scores
    from napari_osvos.labels import Labels

N_WORST = 4


def picture_name(cell: Cell) -> str:
    """Return what the picture of a measurement is called, such as ``HeLa_balanced_lite_1_frame_seed_0.png``."""
    frames = "1_frame" if cell.n_annotated == 1 else f"{cell.n_annotated}_frames"
    steps = (f"{cell.steps}_steps",) if cell.steps else ()
    parts = (cell.movie, cell.method, parent_name(cell.parent), frames, f"seed_{cell.seed}", *steps)
    return re.sub(r"[^\w.-]+", "-", "_".join(part for part in parts if part)) + ".png"


def draw_worst(
    path: str | Path,
    clip: Clip,
    place: Mapping[int, int],
    labels: Labels,
    truth: Labels,
    annotated: Sequence[int],
    scores: Scores,
    title: str,
    void_label: int | None = None,
) -> None:
    """Draw the first annotated frame, the frames of lowest J with the outlines of labels and truth, and their errors.

    Parameters
    ----------
    path
        PNG file to write.
    clip, labels, truth
        Movie, what was found, and what is there.
    place
        Position in the movie of each frame number.
    annotated
        Numbers of the annotated frames.
    scores
        Of the others.
    title
        Headline.
    void_label
        Of pixels of the truth that do not count.
    """
    ranges = clip.intensity_range()
    worst = sorted(zip(scores.j, scores.frames, strict=True))[:N_WORST]

    def panel(number: int, found: NDArray[np.bool_], z: int, real: NDArray[np.bool_] | None, words: str) -> Panel:
        picture = as_picture(clip.plane(place[number] * clip.depth + z), ranges)
        return Panel(picture, found, real, words, painted=real is None)

    at = truth.frame_numbers.index(annotated[0])
    first = both_frames(truth, truth, (at, at), void_label)[1] > 0
    z = _busiest(first)
    shown = [panel(annotated[0], _slice(first, z), z, None, f"frame {annotated[0]}, painted")]
    errors = []
    for j, number in worst:
        places = labels.frame_numbers.index(number), truth.frame_numbers.index(number)
        found, real = (frame > 0 for frame in both_frames(labels, truth, places, void_label))
        z = _busiest(found != real)
        shown.append(panel(number, _slice(found, z), z, _slice(real, z), f"frame {number}, J {j:.3f}"))
        errors.append(Panel(error_map(shown[-1].picture, _slice(found, z), _slice(real, z)), title=f"frame {number}"))
    save_strips(path, [Strip("the frames with the lowest J", shown), Strip("what differs there", errors)], title=title)


def _busiest(mask: NDArray[np.bool_]) -> int:
    return 0 if mask.ndim == 2 else int(mask.sum(axis=(1, 2)).argmax())


def _slice(mask: NDArray[np.bool_], z: int) -> NDArray[np.bool_]:
    return mask if mask.ndim == 2 else mask[z]
