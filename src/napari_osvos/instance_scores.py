"""Objects against the objects of the truth: which overlap, F1 at an IoU, and SEG.

Not to be taken for each other: F (`metrics.contour_accuracy`) is of the outline of the foreground, F1 counts objects.

References
----------
.. [1] J. C. Caicedo, J. Roth, A. Goodman, T. Becker, K. W. Karhohs, M. Broisin, C. Molnar, C. McQuin, S. Singh, F. J.
   Theis, A. E. Carpenter. "Evaluation of Deep Learning Strategies for Nucleus Segmentation in Fluorescence Images."
   Cytometry Part A 95, 2019, pp. 952-965. doi:10.1002/cyto.a.23863
.. [2] M. Maška, V. Ulman, D. Svoboda, P. Matula, et al. "A benchmark for comparison of cell tracking algorithms."
   Bioinformatics 30, 2014, pp. 1609-1617. doi:10.1093/bioinformatics/btu080
.. [3] Cell Tracking Challenge. "Naming and file content conventions" and "Annotation procedure."
   https://public.celltrackingchallenge.net/documents/Naming%20and%20file%20content%20conventions.pdf
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

Ints = npt.NDArray[np.int64]

IOU_THRESHOLDS = (0.5, 0.75)
"""Intersections over union from which on a pair of objects counts for F1."""

# Up to this label a table from label to place is quicker than sorting the pixels.
TABLE_LENGTH = 1 << 22


@dataclass(frozen=True, eq=False)
class ObjectOverlap:
    """The objects of a frame beside those of its truth, and how many pixels each pair shares.

    Attributes
    ----------
    found, wanted : (N,), (M,) int64 array
        Labels of the objects that were found and of those of the truth, rising.
    found_sizes, wanted_sizes : (N,), (M,) int64 array
        Their pixels.
    pairs : (2, K) int64 array
        Places in `found` and in `wanted` of the pairs that share pixels.
    shared : (K,) int64 array
        Pixels that each pair shares.
    """

    found: Ints
    wanted: Ints
    found_sizes: Ints
    wanted_sizes: Ints
    pairs: Ints
    shared: Ints

    @property
    def unions(self) -> Ints:
        """(K,) pixels that each pair covers together."""
        return np.asarray(self.found_sizes[self.pairs[0]] + self.wanted_sizes[self.pairs[1]] - self.shared)

    def matched_at(self, iou: float) -> int:
        """Count the pairs, one to one, whose intersection over union is `iou` or more.

        Above 0.5 an object has no more than one such partner. At 0.5 exactly it may have two (a truth of two halves,
        each found as an object): as many pairs are made as can be, which is what StarDist and Cellpose count, too.

        Raises
        ------
        ValueError
            If `iou` is not above 0 and at most 1.
        """
        if not 0 < iou <= 1:
            raise ValueError(f"The IoU from which on objects match is {iou}; it must be above 0 and at most 1.")
        enough = self.shared >= iou * self.unions
        rows, columns = self.pairs[:, enough]
        shape = (max(len(self.found), 1), max(len(self.wanted), 1))
        # int32: the matching takes no other indices
        links = sparse.csr_matrix(
            (np.ones(len(rows), np.int8), (rows.astype(np.int32), columns.astype(np.int32))), shape
        )
        return int(np.count_nonzero(maximum_bipartite_matching(links, perm_type="column") >= 0))

    def covered(self) -> npt.NDArray[np.bool_]:
        """(K,) which pairs share more than half of the object of the truth: the matches of the Cell Tracking Challenge.

        An object of the truth has no more than one such partner, an object that was found may have several.
        """
        return np.asarray(2 * self.shared > self.wanted_sizes[self.pairs[1]])


def object_overlap(labels: npt.ArrayLike, truth: npt.ArrayLike, *, border: int = 0) -> ObjectOverlap:
    """Find which objects of a frame overlap which of its truth.

    Parameters
    ----------
    labels, truth : array_like
        Labels (Y, X) or (Z, Y, X), 0 = background; each label is one object.
    border : int
        Width in pixels of a band along the edges of Y and X. Objects of either that lie in it entirely are dropped; of
        the others all pixels count, those in the band too. So does the Cell Tracking Challenge with what lies outside
        of its field of interest [3]_ (E in its documents: 50 px for large cells such as GOWT1, 25 for small ones such
        as HeLa on plates).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    found, wanted = np.asarray(labels), np.asarray(truth)
    if found.shape != wanted.shape or found.ndim not in (2, 3):
        raise ValueError(
            f"Labels and their truth have the same shape (Y, X) or (Z, Y, X), not {found.shape} and {wanted.shape}."
        )
    either = (found > 0) | (wanted > 0)
    rows, row_of = _numbered(found[either])
    columns, column_of = _numbered(wanted[either])
    # sparse: 5,000 objects beside 5,000 would be a table of 200 MB
    ones = np.ones(len(row_of), np.int32)
    table = sparse.coo_matrix((ones, (row_of, column_of)), shape=(len(rows), len(columns))).tocsr().tocoo()
    kept = _inside(rows, found, border), _inside(columns, wanted, border)
    new_row, new_column = (np.cumsum(keep) - 1 for keep in kept)
    both = kept[0][table.row] & kept[1][table.col]
    return ObjectOverlap(
        rows[kept[0]].astype(np.int64),
        columns[kept[1]].astype(np.int64),
        np.bincount(row_of, minlength=len(rows))[kept[0]],
        np.bincount(column_of, minlength=len(columns))[kept[1]],
        np.stack([new_row[table.row[both]], new_column[table.col[both]]]),
        np.asarray(table.data[both], np.int64),
    )


@dataclass(frozen=True)
class MatchCounts:
    """Objects that were found, missed and found in vain, at one IoU.

    Where neither labels nor truth hold an object all measures are 1; where only one of them does, 0.

    Attributes
    ----------
    iou : float
        Intersection over union from which on a pair matches.
    matched, spurious, missed : tuple of int
        For each frame: pairs (true positives), objects found that have no partner (false positives), and objects of the
        truth that have none (false negatives).
    """

    iou: float
    matched: tuple[int, ...]
    spurious: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), counted over the objects of all frames [1]_, 0 to 1."""
        return _f1(sum(self.matched), sum(self.spurious), sum(self.missed))

    @property
    def f1_per_frame(self) -> tuple[float, ...]:
        """The same for each frame by itself."""
        return tuple(map(_f1, self.matched, self.spurious, self.missed))

    @property
    def precision(self) -> float:
        """Share of the objects found that are right, over all frames."""
        return _share(sum(self.matched), sum(self.spurious), nothing=not sum(self.missed))

    @property
    def recall(self) -> float:
        """Share of the objects of the truth that were found, over all frames."""
        return _share(sum(self.matched), sum(self.missed), nothing=not sum(self.spurious))


@dataclass(frozen=True)
class InstanceScores:
    """How well objects were told apart and outlined.

    Attributes
    ----------
    frames : tuple of int
        Numbers of the frames that were scored.
    at_50, at_75 : MatchCounts
        Objects matched at an IoU of 0.5 and of 0.75.
    seg : float
        SEG [2]_, 0 to 1: mean, over the objects of the truth of all frames, of the intersection over union with the
        object found that covers more than half of it; 0 for one that none covers. Objects found beyond those of the
        truth cost nothing, so that truth may show only some of the objects (gold truth does). 1 if neither holds an
        object, 0 if only the labels do.
    seg_per_frame : tuple of float
        The same for each frame by itself.
    """

    frames: tuple[int, ...]
    at_50: MatchCounts
    at_75: MatchCounts
    seg: float
    seg_per_frame: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers under ``F1@0.5``, ``F1@0.75`` and ``SEG``."""
        plain: dict[str, Any] = {
            f"F1@{counts.iou:g}": {
                "value": counts.f1,
                "precision": counts.precision,
                "recall": counts.recall,
                "matched": sum(counts.matched),
                "spurious": sum(counts.spurious),
                "missed": sum(counts.missed),
                "per_frame": list(counts.f1_per_frame),
            }
            for counts in (self.at_50, self.at_75)
        }
        return plain | {"SEG": {"value": self.seg, "per_frame": list(self.seg_per_frame)}}


@dataclass(frozen=True, eq=False)
class FrameMatches:
    """What `instance_scores` keeps of a frame: a few counts, and a number for each matched object of the truth."""

    n_found: int
    n_wanted: int
    matched: tuple[int, ...]
    covered_iou: npt.NDArray[np.float64]

    @classmethod
    def of(cls, overlap: ObjectOverlap) -> FrameMatches:
        """Count the matches of a frame."""
        covered = overlap.covered()
        return cls(
            len(overlap.found),
            len(overlap.wanted),
            tuple(overlap.matched_at(iou) for iou in IOU_THRESHOLDS),
            overlap.shared[covered] / overlap.unions[covered],
        )


def instance_scores(frames: Sequence[int], matches: Sequence[FrameMatches]) -> InstanceScores:
    """Sum up the frames of a movie.

    Parameters
    ----------
    frames : sequence of int
        Their numbers.
    matches : sequence of FrameMatches
        One a frame, at least one.
    """
    counts = [
        MatchCounts(
            iou,
            tuple(frame.matched[k] for frame in matches),
            tuple(frame.n_found - frame.matched[k] for frame in matches),
            tuple(frame.n_wanted - frame.matched[k] for frame in matches),
        )
        for k, iou in enumerate(IOU_THRESHOLDS)
    ]
    return InstanceScores(tuple(frames), counts[0], counts[1], _seg(matches), tuple(_seg([frame]) for frame in matches))


def _seg(matches: Sequence[FrameMatches]) -> float:
    from ctc_metrics.metrics import seg

    if not any(frame.n_wanted for frame in matches):
        return float(not any(frame.n_found for frame in matches))
    # the labels themselves do not matter to it, only how many there are
    return float(seg([range(frame.n_wanted) for frame in matches], [frame.covered_iou for frame in matches]))


def _numbered(pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """The labels of pixels (N,), rising, and which of them each pixel has."""
    if pixels.max(initial=0) > TABLE_LENGTH:
        labels, which = np.unique(pixels, return_inverse=True)
        return labels, which.astype(np.int32)
    labels = np.flatnonzero(np.bincount(pixels))
    place = np.zeros(pixels.max(initial=0) + 1, np.int32)
    place[labels] = np.arange(len(labels))
    return labels, place[pixels]


def _inside(labels: npt.NDArray[Any], frame: npt.NDArray[Any], border: int) -> npt.NDArray[np.bool_]:
    """Tell which labels, 0 never, have a pixel inside of a band along the edges of Y and X."""
    if not border:
        return np.asarray(labels > 0)
    height, width = frame.shape[-2:]
    inner = frame[..., border : height - border, border : width - border]
    return np.asarray((labels > 0) & np.isin(labels, _numbered(inner[inner > 0])[0]))


def _f1(matched: int, spurious: int, missed: int) -> float:
    objects = 2 * matched + spurious + missed
    return 2 * matched / objects if objects else 1.0


def _share(matched: int, rest: int, *, nothing: bool) -> float:
    return matched / (matched + rest) if matched + rest else float(nothing)
