"""Labels of a movie against its truth: `evaluate` gives `Scores`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from napari_osvos.labels import Labels, frame_positions, spell
from napari_osvos.metrics import Statistics, contour_accuracy, default_tolerance, region_similarity, statistics

FINE_TOLERANCE = 2
"""Pixels within which boundaries match for the stricter F."""


@dataclass(frozen=True)
class Scores:
    """Region similarity (J) and contour accuracy (F) of the foreground, frame by frame and over the movie.

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
    """

    frames: tuple[int, ...]
    j: tuple[float, ...]
    f: tuple[float, ...]
    f_2px: tuple[float, ...]
    tolerance: int
    border: int = 0
    skipped: tuple[int, ...] = ()

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
        ``skipped``, ``tolerance_px`` and ``border_px`` say of what.
        """
        return {
            "frames": list(self.frames),
            "skipped": list(self.skipped),
            "border_px": self.border,
            "tolerance_px": self.tolerance,
            "J": _plain(self.j),
            "F": _plain(self.f),
            "F2px": _plain(self.f_2px),
        }

    def to_markdown(self, *, per_frame: bool = False) -> str:
        """Write a Markdown table of the statistics, and with `per_frame` one of all frames after it."""
        rows = [
            ("J", self.region_similarity),
            (f"F ({self.tolerance} px)", self.contour_accuracy),
            ("F (2 px)", self.contour_accuracy_2px),
        ]
        lines = ["| measure | mean | recall | decay |", "|---|---|---|---|"]
        lines += [f"| {name} | {s.mean:.3f} | {s.recall:.3f} | {s.decay:.3f} |" for name, s in rows]
        lines += ["", self._scope()]
        if per_frame:
            lines += ["", f"| frame | J | F ({self.tolerance} px) | F (2 px) |", "|---|---|---|---|"]
            each = zip(self.frames, self.j, self.f, self.f_2px, strict=True)
            lines += [f"| {number} | {j:.3f} | {f:.3f} | {fine:.3f} |" for number, j, f, fine in each]
        return "\n".join(lines)

    def __str__(self) -> str:
        return (
            f"J {self.j_mean:.3f}, F {self.f_mean:.3f} ({self.tolerance} px), F {self.f_2px_mean:.3f} (2 px); "
            f"{self._scope()}"
        )

    def _scope(self) -> str:
        scope = f"{len(self.frames)} frame{'s' if len(self.frames) != 1 else ''} scored"
        if self.skipped:
            scope += f", without frame{'s' if len(self.skipped) != 1 else ''} {spell(self.skipped)}"
        if self.border:
            scope += f", without {self.border} px along the edges"
        return scope + "."


def evaluate(
    labels: Any,
    truth: Any,
    *,
    skip_frames: Collection[int] = (),
    border: int = 0,
    frame_numbers: Sequence[int] | None = None,
) -> Scores:
    """Score labels of a movie against its truth: all labels above 0 are foreground.

    Frames are matched by number. Where one of the two has no numbers (an array, a plain stack), the numbers of the
    other are positions in it, or, where they do not fit and both have as many frames, frames are taken in order. Frames
    without a partner are left out, so truth may be sparse.

    Parameters
    ----------
    labels, truth : array or Labels
        (T, Y, X) or (T, Z, Y, X), integer or bool; read one frame at a time.
    skip_frames : collection of int, optional
        Numbers of frames to leave out: the annotated ones.
    border : int, optional
        Width in pixels of a band at the edges of Y and X to leave out, where the truth is not annotated.
    frame_numbers : sequence of int, optional
        The number of each frame of `labels`; by default those that it brings, or 0 to T - 1.

    Returns
    -------
    Scores

    Raises
    ------
    ValueError
        If the sizes differ, no frame is left to score, `border` leaves nothing of a frame or is negative, a frame to be
        skipped does not exist, or values are no labels.

    References
    ----------
    .. [1] F. Perazzi, J. Pont-Tuset, B. McWilliams, L. Van Gool, M. Gross, A. Sorkine-Hornung. "A Benchmark Dataset and
       Evaluation Methodology for Video Object Segmentation." CVPR 2016, pp. 724-732. doi:10.1109/CVPR.2016.85

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
    if found.shape[1:] != wanted.shape[1:]:
        raise ValueError(
            f"The labels have frames of {_size(found)} pixels and the truth of {_size(wanted)}; they must be the same."
        )
    height, width = found.shape[-2:]
    widest = (min(height, width) - 1) // 2
    if not 0 <= border <= widest:
        raise ValueError(f"The border is {border} px; in frames of {_size(found)} pixels it may be 0 to {widest}.")
    pairs = _pairs(found, wanted)
    unknown = set(skip_frames) - set(pairs) - set(found.frame_numbers) - set(wanted.frame_numbers)
    if unknown:
        raise ValueError(f"There is no frame {spell(sorted(unknown))} to skip; the truth has {spell(list(pairs))}.")
    scored = {number: places for number, places in pairs.items() if number not in skip_frames}
    if not scored:
        raise ValueError(f"No frame is left to score: all frames with truth ({spell(list(pairs))}) are skipped.")
    tolerance = default_tolerance((height, width))
    inside = (..., slice(border, height - border), slice(border, width - border))
    j, f, f_2px = [], [], []
    for place_found, place_wanted in scored.values():
        mask, true_mask = found.at(place_found)[inside] > 0, wanted.at(place_wanted)[inside] > 0
        j.append(region_similarity(mask, true_mask))
        f.append(contour_accuracy(mask, true_mask, tolerance=tolerance))
        f_2px.append(contour_accuracy(mask, true_mask, tolerance=FINE_TOLERANCE))
    skipped = tuple(number for number in pairs if number in skip_frames)
    return Scores(tuple(scored), tuple(j), tuple(f), tuple(f_2px), tolerance, border, skipped)


def _as_labels(labels: Any, name: str, frame_numbers: Sequence[int] | None) -> Labels:
    if isinstance(labels, Labels) and frame_numbers is None:
        return labels
    return Labels(labels, frame_numbers=frame_numbers, name=name)


def _pairs(found: Labels, wanted: Labels) -> dict[int, tuple[int, int]]:
    """Frame number -> position in the labels and in the truth, in the order of numbers."""
    if not found.has_numbers and not wanted.has_numbers and found.n_frames != wanted.n_frames:
        raise ValueError(
            f"The labels have {found.n_frames} frames and the truth {wanted.n_frames}, "
            "and neither says which they are; give frame_numbers."
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
