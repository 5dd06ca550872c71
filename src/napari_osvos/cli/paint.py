"""What was painted: its options, and how it is read and brought onto the movie."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_osvos.cli.options import at_least, frame_numbers
from napari_osvos.cli.report import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_osvos.annotations import Annotations
    from napari_osvos.clip import Clip

_PAINT = "painted labels, 0 = background: a stack or a folder whose file numbers are frame numbers"


@dataclass(frozen=True)
class Paint:
    """What was painted of a movie.

    Attributes
    ----------
    annotations : Annotations
        With the planes of the movie.
    accepted : tuple of int
        Positions of the annotated frames that are not to be predicted: their paint is final.
    """

    annotations: Annotations
    accepted: tuple[int, ...] = ()


def add_annotations(parser: argparse.ArgumentParser, *, needed: bool = True, listed: bool = False) -> None:
    """Add what was painted and which of it counts.

    Where it is not needed, it only names objects; where it may be `listed`, a list of movies may name it instead.
    """
    names = "" if needed else "; their objects keep the ids that were painted"
    parser.add_argument(
        "-a", "--annotations", metavar="PAINT" if not needed else "LABELS", type=Path, required=needed and not listed,
        help=f"{_PAINT}{names}",
    )  # fmt: skip
    add_frames(parser)
    if needed:
        parser.add_argument(
            "--partial", metavar="0,40", type=frame_numbers, default=(),
            help="frames painted only in part: there, unpainted pixels are unknown instead of background",
        )  # fmt: skip
        parser.add_argument(
            "--corrected", metavar="0,40", type=frame_numbers, default=(),
            help="frames whose paint is a corrected prediction: they weigh more",
        )  # fmt: skip
    where = ", needed where all frames are painted only in part" if needed else ""
    parser.add_argument(
        "--background-label", metavar="N", type=at_least(1), help=f"label that paints background{where}"
    )
    parser.add_argument(
        "--void-label", metavar="N", type=at_least(1), help="label of pixels that do not count, in truth too"
    )
    parser.set_defaults(accepted=())


def add_frames(parser: argparse.ArgumentParser) -> None:
    """Add which of the labelled frames count."""
    parser.add_argument(
        "--frames", metavar="0,40", type=frame_numbers,
        help="numbers of the labelled frames that count (default: all that hold paint)",
    )  # fmt: skip


def add_annotated(parser: argparse.ArgumentParser) -> None:
    """Add which frames are annotated, where nothing is learned from them."""
    parser.add_argument("-a", "--annotations", metavar="LABELS", type=Path, help=_PAINT)
    add_frames(parser)


def add_accepted(parser: argparse.ArgumentParser) -> None:
    """Add which frames are not to be predicted."""
    parser.add_argument(
        "--accepted", metavar="0,40", type=frame_numbers, default=(),
        help="frames whose paint is final: they train, and their labels are the paint itself instead of a prediction",
    )  # fmt: skip


def read_paint(given: argparse.Namespace, clip: Clip, report: Report) -> Paint:
    """Read what was painted and bring it onto the movie.

    Raises
    ------
    ValueError
        If it is empty, of another size, or on frames that the movie does not have, or if a frame cannot be accepted.
    """
    from napari_osvos.annotations import Annotations
    from napari_osvos.io import read_labels

    labels = read_labels(given.annotations)
    painted = Annotations.from_labels(
        labels,
        frames=given.frames,
        partial=given.partial,
        corrected=given.corrected,
        background_label=given.background_label,
        void_label=given.void_label,
    )
    _check_annotated("--corrected", given.corrected, painted)
    paint = Paint(painted.aligned_to(clip), accepted_positions(painted, clip, given.accepted))
    clip.intensity_range()  # a movie without a finite pixel is found out here, not after training
    report.add(
        annotations=str(given.annotations),
        annotated_frames=[clip.frame_numbers[t] for t in paint.annotations.frames],
        accepted_frames=[clip.frame_numbers[t] for t in paint.accepted],
    )
    return paint


def _check_annotated(option: str, numbers: Sequence[int], painted: Annotations) -> None:
    from napari_osvos.labels import spell

    annotated = [painted.frame_numbers[t] for t in painted.frames]
    for number in numbers:
        if number not in annotated:
            raise ValueError(
                f"{option} names frame {number}, which is not annotated; the annotated frames are {spell(annotated)}."
            )


def accepted_positions(painted: Annotations, clip: Clip, numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the positions in a movie of the frames whose paint is final, rising.

    Parameters
    ----------
    painted : Annotations
        As they were read, with numbers of their own.
    clip : Clip
        The movie, which the annotations fit.
    numbers : sequence of int
        Numbers of frames of the annotations.

    Raises
    ------
    ValueError
        If such a frame is not there, is not annotated, or only in part.
    """
    from napari_osvos.labels import frame_positions

    places = frame_positions(painted, clip)
    _check_annotated("--accepted", numbers, painted)
    for number in numbers:
        t = painted.frame_numbers.index(number)
        if any(painted.is_partial(p) for p in painted if p // painted.depth == t):
            raise ValueError(
                f"--accepted names frame {number}, which is painted only in part; only complete frames can be accepted."
            )
    # a lone Z stack, which the labels see as a sequence, is one frame of the movie
    return tuple(sorted({places.get(painted.frame_numbers.index(number), 0) for number in numbers}))


def annotated_positions(given: argparse.Namespace, clip: Clip) -> tuple[int, ...] | None:
    """Return the positions of the frames that are annotated by ``-a`` and ``--frames``; None where neither is given.

    Raises
    ------
    ValueError
        As `read_paint`.
    """
    from napari_osvos.annotations import Annotations
    from napari_osvos.cli.stages import positions_of
    from napari_osvos.io import read_labels

    if given.annotations:
        return Annotations.from_labels(read_labels(given.annotations), given.frames).aligned_to(clip).frames
    return None if given.frames is None else tuple(positions_of(clip, given.frames))


def final_labels(paint: Paint, clip: Clip, task: str) -> dict[int, Callable[[], NDArray[np.int32]]]:
    """Return what gives the labels of each accepted frame, by position: the paint, (Y, X) or (Z, Y, X) int32.

    Where objects look alike but one label was painted for all of them, each part is an object, as in a prediction.
    """
    from napari_osvos.tracking import painted_ids

    has_objects = task == "distinct" or not paint.accepted or painted_ids(paint.annotations) is not None

    def labels_at(t: int) -> NDArray[np.int32]:
        from skimage.measure import label

        frame = paint.annotations.frame_labels(t)
        objects = frame if has_objects else label(frame > 0, connectivity=1)
        return np.asarray(objects, np.int32).reshape(clip.labels_shape[1:])

    return {t: partial(labels_at, t) for t in paint.accepted}
