"""Labels of a movie against its truth, by pixels, by objects and by tracks: `evaluate` gives `Scores`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.instance_scores import FrameMatches, InstanceScores, ObjectOverlap, instance_scores, object_overlap
from napari_osvos.labels import Labels, frame_positions, spell
from napari_osvos.lineage import Lineage
from napari_osvos.metrics import Statistics, contour_accuracy, default_tolerance, region_similarity, statistics
from napari_osvos.score_table import object_rows, scope, score_table
from napari_osvos.tracking_scores import TrackingScores, TrackTruth, check_lineage, tracking_scores

FINE_TOLERANCE = 2
"""Pixels within which boundaries match for the stricter F."""


@dataclass(frozen=True)
class Scores:
    """Region similarity (J) and contour accuracy (F) of the foreground, and scores of its objects and their tracks.

    Attributes
    ----------
    frames : tuple of int
        Numbers of the frames that were scored, in the order of time.
    j, f, f_2px : tuple of float
        J, F within `tolerance` and F within 2 px of each of `frames`, 0 to 1.
    tolerance : int
        Pixels: 0.8 % of the frame's diagonal, as in DAVIS.
    border : int
        Pixels left out along each edge of the frame.
    skipped : tuple of int
        Numbers of the frames that have truth and were left out on request.
    instances : InstanceScores or None
        F1 at an IoU of 0.5 and 0.75, and SEG, of the same frames; None where objects were not scored.
    tracks : TrackingScores or None
        DET and TRA, of all frames with truth, those in `skipped` too; None where tracks were not scored.
    """

    frames: tuple[int, ...]
    j: tuple[float, ...]
    f: tuple[float, ...]
    f_2px: tuple[float, ...]
    tolerance: int
    border: int = 0
    skipped: tuple[int, ...] = ()
    instances: InstanceScores | None = None
    tracks: TrackingScores | None = None

    @property
    def region_similarity(self) -> Statistics:
        """Mean, recall and decay of J."""
        return statistics(self.j)

    @property
    def contour_accuracy(self) -> Statistics:
        """Mean, recall and decay of F within `tolerance`."""
        return statistics(self.f)

    @property
    def contour_accuracy_2px(self) -> Statistics:
        """Mean, recall and decay of F within 2 px."""
        return statistics(self.f_2px)

    @property
    def j_mean(self) -> float:
        """Mean J, 0 to 1."""
        return self.region_similarity.mean

    @property
    def f_mean(self) -> float:
        """Mean F within `tolerance`, 0 to 1."""
        return self.contour_accuracy.mean

    @property
    def f_2px_mean(self) -> float:
        """Mean F within 2 px, 0 to 1."""
        return self.contour_accuracy_2px.mean

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts, ready for JSON.

        ``J``, ``F`` and ``F2px`` hold ``mean``, ``recall``, ``decay`` and the list ``per_frame``; ``frames``,
        ``skipped``, ``tolerance_px`` and ``border_px`` say of what. Where they were scored, objects add ``F1@0.5``,
        ``F1@0.75`` and ``SEG`` (`InstanceScores.to_dict`), tracks ``DET``, ``TRA`` and ``tracks``
        (`TrackingScores.to_dict`).
        """
        plain = {
            "frames": list(self.frames),
            "skipped": list(self.skipped),
            "border_px": self.border,
            "tolerance_px": self.tolerance,
            "J": _plain(self.j),
            "F": _plain(self.f),
            "F2px": _plain(self.f_2px),
        }
        for part in (self.instances, self.tracks):
            plain |= part.to_dict() if part else {}
        return plain

    def to_markdown(self, *, per_frame: bool = False) -> str:
        """Write a Markdown table of the scores, and with `per_frame` one of all frames after it."""
        return score_table(self, per_frame=per_frame)

    def __str__(self) -> str:
        words = f"J {self.j_mean:.3f}, F {self.f_mean:.3f} ({self.tolerance} px), F {self.f_2px_mean:.3f} (2 px)"
        for name, value in object_rows(self):
            words += f", {name} {value}"
        return f"{words}; {scope(self)}"


def evaluate(
    labels: Any,
    truth: Any,
    *,
    skip_frames: Collection[int] = (),
    border: int = 0,
    frame_numbers: Sequence[int] | None = None,
    instances: bool | None = None,
    tracks: bool | TrackTruth = False,
    lineage: Lineage | None = None,
    void_label: int | None = None,
) -> Scores:
    """Score labels of a movie against its truth: its foreground (labels above 0), its objects and their tracks.

    Frames are matched by number. Where one of the two has no numbers (an array, a plain stack), the numbers of the
    other are positions in it, or, where they do not fit and both have as many frames, frames are taken in order. Frames
    without a partner are left out, so truth may be sparse. Truth that shows only some of the objects, as the gold truth
    of the Cell Tracking Challenge does, is fit for SEG alone: to J, F and F1 the others are found in vain.

    Parameters
    ----------
    labels, truth : array or Labels
        (T, Y, X) or (T, Z, Y, X), integer or bool; read one frame at a time.
    skip_frames : collection of int, optional
        Numbers of frames to leave out: the annotated ones. Tracks need consecutive frames, and count these, too.
    border : int, optional
        Width in pixels of a band at the edges of Y and X to leave out, where the truth is not annotated. For J and F
        its pixels do not count; for objects and tracks those objects do not that lie in it entirely, as in the Cell
        Tracking Challenge.
    frame_numbers : sequence of int, optional
        The number of each frame of `labels`; by default those that it brings, or 0 to T - 1.
    instances : bool, optional
        Whether to score objects, each label of a frame being one: F1 and SEG. By default where both labels and truth
        hold more than one in some frame, where `tracks` is True, or where both have tracks (`tracks` and `lineage`).
        Where objects are not scored, tracks are not.
    tracks : bool or TrackTruth
        Whether to score tracks: DET and TRA. True if the labels of `truth` name the same object in every frame; or
        their own truth.
    lineage : Lineage, optional
        Who came from whom in `labels`, in its frame numbers. Without one, each label is a track of its own.
    void_label : int, optional
        The label of pixels of `truth` that do not count, such as 255 in DAVIS 2017; objects are cut by them.

    Returns
    -------
    Scores

    Raises
    ------
    ValueError
        If the sizes differ, no frame is left to score, `border` leaves nothing of a frame or is negative, a frame to be
        skipped does not exist, values are no labels, or a lineage does not fit its labels.

    References
    ----------
    .. [1] F. Perazzi, J. Pont-Tuset, B. McWilliams, L. Van Gool, M. Gross, A. Sorkine-Hornung. "A Benchmark Dataset and
       Evaluation Methodology for Video Object Segmentation." CVPR 2016, pp. 724-732. doi:10.1109/CVPR.2016.85
    .. [2] M. Maška, V. Ulman, P. Delgado-Rodriguez, E. Gómez-de-Mariscal, et al. "The Cell Tracking Challenge: 10 years
       of objective benchmarking." Nature Methods 20, 2023, pp. 1010-1020. doi:10.1038/s41592-023-01879-y

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((3, 20, 20), int)
    >>> truth[:, 5:10, 5:10] = 1
    >>> evaluate(truth, truth, skip_frames=[0]).frames
    (1, 2)
    """
    found = _as_labels(labels, "The labels", frame_numbers)
    wanted = _as_labels(truth, "The truth", None)
    pairs, scored = _pairs(found, wanted), frames_to_score(found, wanted, skip_frames, border)
    height, width = found.shape[-2:]
    tolerance = default_tolerance((height, width))
    inside = (..., slice(border, height - border), slice(border, width - border))
    j, f, f_2px = [], [], []
    objects: list[FrameMatches] = []
    for place_found, place_wanted in scored.values():
        frame, true_frame = both_frames(found, wanted, (place_found, place_wanted), void_label)
        mask, true_mask = frame[inside] > 0, true_frame[inside] > 0
        j.append(region_similarity(mask, true_mask))
        f.append(contour_accuracy(mask, true_mask, tolerance=tolerance))
        f_2px.append(contour_accuracy(mask, true_mask, tolerance=FINE_TOLERANCE))
        if instances is not False:
            objects.append(FrameMatches.of(object_overlap(frame, true_frame, border=border)))
    if instances is None:
        several = any(o.n_found > 1 for o in objects) and any(o.n_wanted > 1 for o in objects)
        # labels that come with tracks are of objects, however few were found, or however many ran together
        instances = several or tracks is True or bool(tracks and lineage is not None)
    void_of_tracks = void_label if tracks is True else None  # tracks with a truth of their own are not asked for it
    if tracks is True:
        tracks = TrackTruth(wanted)
    return Scores(
        frames=tuple(scored),
        j=tuple(j),
        f=tuple(f),
        f_2px=tuple(f_2px),
        tolerance=tolerance,
        border=border,
        skipped=tuple(number for number in pairs if number in skip_frames),
        instances=instance_scores(list(scored), objects) if instances else None,
        tracks=_score_tracks(found, tracks, border, lineage, void_of_tracks) if tracks and instances else None,
    )


def both_frames(
    labels: Labels, truth: Labels, places: tuple[int, int], void_label: int | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return a frame of labels and of truth, at positions in them, with what is void in the truth as background."""
    # where 255 is void, a frame of 0 and 255 is no binary mask
    frame, true_frame = labels.at(places[0]), truth.at(places[1], masks_255=False if void_label == 255 else None)
    if void_label is None:
        return frame, true_frame
    void = true_frame == void_label
    return np.where(void, 0, frame), np.where(void, 0, true_frame)


def frames_to_score(
    labels: Labels, truth: Labels, skip_frames: Collection[int] = (), border: int = 0
) -> dict[int, tuple[int, int]]:
    """Return which frames of labels and truth belong together and are scored, before any of them is read.

    Parameters
    ----------
    labels, truth : Labels
        Of the labels only shape and frame numbers count.
    skip_frames, border
        As for `evaluate`.

    Returns
    -------
    dict
        Frame number -> position in the labels and in the truth.

    Raises
    ------
    ValueError
        If sizes or numbers of frames do not fit each other, the border is too wide, there is no such frame to skip, or
        none is left.
    """
    pairs = _pairs(labels, truth)
    widest = (min(labels.shape[-2:]) - 1) // 2
    if not 0 <= border <= widest:
        raise ValueError(f"The border is {border} px; in frames of {_size(labels)} pixels it may be 0 to {widest}.")
    unknown = set(skip_frames) - set(pairs) - set(labels.frame_numbers) - set(truth.frame_numbers)
    if unknown:
        raise ValueError(f"There is no frame {spell(sorted(unknown))} to skip; the truth has {spell(list(pairs))}.")
    scored = {number: places for number, places in pairs.items() if number not in skip_frames}
    if not scored:
        raise ValueError(f"No frame is left to score: all frames with truth ({spell(list(pairs))}) are skipped.")
    return scored


def _score_tracks(
    found: Labels, truth: TrackTruth, border: int, lineage: Lineage | None, void_label: int | None
) -> TrackingScores:
    wanted = _as_labels(truth.labels, "The truth of the tracks", None)
    overlaps = _overlaps(found, wanted, _pairs(found, wanted), border, (lineage, truth.lineage), void_label)
    return tracking_scores(overlaps, lineage=lineage, truth_lineage=truth.lineage)


def _overlaps(
    found: Labels,
    wanted: Labels,
    pairs: Mapping[int, tuple[int, int]],
    border: int,
    lineages: tuple[Lineage | None, Lineage | None],
    void_label: int | None,
) -> Iterator[tuple[int, ObjectOverlap]]:
    """Objects of each frame beside those of its truth, frame by frame."""
    for number, places in pairs.items():
        overlap = object_overlap(*both_frames(found, wanted, places, void_label), border=border)
        sides = zip((found, wanted), places, (overlap.found, overlap.wanted), lineages, strict=True)
        for side, place, ids, lineage in sides:
            if lineage is not None:
                check_lineage(ids, side.frame_numbers[place], lineage, side.name)
        yield number, overlap


def _as_labels(labels: Any, name: str, frame_numbers: Sequence[int] | None) -> Labels:
    if isinstance(labels, Labels) and frame_numbers is None:
        return labels
    return Labels(labels, frame_numbers=frame_numbers, name=name)


def _pairs(found: Labels, wanted: Labels) -> dict[int, tuple[int, int]]:
    """Frame number -> position in the labels and in the truth, in the order of numbers."""
    if found.shape[1:] != wanted.shape[1:]:
        raise ValueError(
            f"The labels have frames of {_size(found)} pixels and the truth of {_size(wanted)}; they must be the same."
        )
    if not found.has_numbers and not wanted.has_numbers and found.n_frames != wanted.n_frames:
        raise ValueError(
            f"The labels have {found.n_frames} frames and the truth {wanted.n_frames}, "
            "and neither says which they are (in Python frame_numbers does)."
        )
    if found.has_numbers and not wanted.has_numbers:  # the numbers of the one that has them are positions of the other
        places = {theirs: ours for ours, theirs in frame_positions(found, wanted).items()}
        named: Labels = found
    else:
        places = frame_positions(wanted, found)
        named = wanted
    if not places:
        raise ValueError(
            f"The labels (frames {spell(found.frame_numbers)}) and the truth (frames {spell(wanted.frame_numbers)}) "
            "have no frame in common."
        )
    both = [(ours, theirs) for theirs, ours in places.items()]
    numbers = [named.frame_numbers[ours if named is found else theirs] for ours, theirs in both]
    return dict(sorted(zip(numbers, both, strict=True)))


def _plain(values: tuple[float, ...]) -> dict[str, Any]:
    return {**asdict(statistics(values)), "per_frame": list(values)}


def _size(labels: Labels) -> str:
    return " x ".join(map(str, labels.shape[1:]))
