"""Tracks against the tracks of the truth: DET and TRA of the Cell Tracking Challenge.

References
----------
.. [1] P. Matula, M. Maška, D. V. Sorokin, P. Matula, C. Ortiz-de-Solorzano, M. Kozubek. "Cell Tracking Accuracy
   Measurement Based on Comparison of Acyclic Oriented Graphs." PLOS ONE 10, 2015, e0144959.
   doi:10.1371/journal.pone.0144959
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_osvos.instance_scores import ObjectOverlap
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage

Ints = npt.NDArray[np.int64]


class TrackTruth(NamedTuple):
    """True tracks: labels that name the same object in every frame, and where it comes from.

    Attributes
    ----------
    labels : array or Labels
        (T, Y, X) or (T, Z, Y, X).
    lineage : Lineage, optional
        In the frame numbers of `labels`. None if nobody wrote down who divided into whom: then divisions are not
        scored.
    """

    labels: Any
    lineage: Lineage | None = None


@dataclass(frozen=True)
class Corrections:
    """What would have to be mended by hand to turn the tracks found into those of the truth [1]_.

    Attributes
    ----------
    splits : int
        Objects to split, as they cover several of the truth (weight 5 each).
    missed, spurious : int
        Objects to add (10) and to take away (1).
    missing_links, spurious_links : int
        Links between objects of two frames to add (1.5) and to take away (1).
    wrong_links : int
        Links to change from "the same object" to "daughter of", or the other way round (1).
    """

    splits: int
    missed: int
    spurious: int
    missing_links: int
    spurious_links: int
    wrong_links: int


@dataclass(frozen=True)
class TrackingScores:
    """How well objects were found and followed.

    Attributes
    ----------
    frames : tuple of int
        Numbers of the frames that were scored: all that labels and truth share, annotated or not.
    det : float
        DET, 0 to 1: 1 less the cost of mending the objects, relative to adding all of them by hand.
    tra : float or None
        TRA, 0 to 1: the same of objects and links together. None where `frames` are not consecutive.
    corrections : Corrections
        What was counted; without links where `tra` is None.
    n_objects, n_links : int
        Of the truth.
    divisions : bool
        Whether daughters count as linked to their mothers; False where the truth does not tell.

    Notes
    -----
    Where the truth holds no object both are 1 if the labels hold none either, and otherwise 0.
    """

    frames: tuple[int, ...]
    det: float
    tra: float | None
    corrections: Corrections
    n_objects: int
    n_links: int
    divisions: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers under ``DET``, ``TRA`` and ``tracks``."""
        return {
            "DET": self.det,
            "TRA": self.tra,
            "tracks": {
                "frames": list(self.frames),
                "objects": self.n_objects,
                "links": self.n_links,
                "divisions": self.divisions,
                **asdict(self.corrections),
            },
        }


def tracking_scores(
    overlaps: Iterable[tuple[int, ObjectOverlap]],
    *,
    lineage: Lineage | None = None,
    truth_lineage: Lineage | None = None,
) -> TrackingScores:
    """Score tracks by py-ctcmetrics.

    Of each frame only the ids of its objects and their matches are kept; the library then has all of the movie's in
    memory at once, less than a kilobyte an object.

    A track is linked from each frame that shows it to the next; over a gap, in which it is hidden or outside of the
    field of interest, by a link of the kind that leads from mother to daughter, as the Cell Tracking Challenge has
    it. Without a lineage each label is a track of its own.

    Parameters
    ----------
    overlaps : iterable of (int, ObjectOverlap)
        Number of each frame, rising, and its objects beside those of the truth; their labels are track ids.
    lineage, truth_lineage : Lineage, optional
        Who comes from whom. Divisions are scored only where the truth has a lineage.

    Raises
    ------
    ValueError
        If there is no frame.
    """
    from ctc_metrics.metrics import det, tra
    from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations

    numbers: list[int] = []
    found: list[Ints] = []
    wanted: list[Ints] = []
    matches: list[Ints] = []
    for number, overlap in overlaps:
        numbers.append(number)
        found.append(overlap.found)
        wanted.append(overlap.wanted)
        matches.append(overlap.pairs[:, overlap.covered()])
    if not numbers:
        raise ValueError("There are no frames whose tracks could be scored.")
    consecutive = len(numbers) > 1 and bool((np.diff(numbers) == 1).all())
    partners = [np.bincount(pairs[0], minlength=len(ids)) for pairs, ids in zip(matches, found, strict=True)]
    n_found, n_wanted, n_matched = (sum(map(len, each)) for each in (found, wanted, [pairs[0] for pairs in matches]))
    n_spurious = sum(int(np.count_nonzero(n == 0)) for n in partners)
    corrections = {"NS": n_matched - (n_found - n_spurious), "FN": n_wanted - n_matched, "FP": n_spurious}
    edges = {"EA": 0, "ED": 0, "EC": 0, "num_edges": 0}
    scored = truth_lineage is not None
    if consecutive and n_wanted:
        graph, tracks = _graph(found, lineage if scored else None)
        true_graph, true_tracks = _graph(wanted, truth_lineage)
        # Only links between objects that match one another alone are compared; the library gets no others, because of
        # each it would fill a row as long as all objects of the truth. Objects are counted above.
        alone = [n == 1 for n in partners]
        pairs = [each[:, single[each[0]]] for each, single in zip(matches, alone, strict=True)]
        counted = count_acyclic_graph_correction_operations(
            true_tracks,
            _linked_among(tracks, graph, alone),
            [np.sort(ids) for ids in true_graph],
            [np.sort(ids[single]) for ids, single in zip(graph, alone, strict=True)],
            [ids[each[1]] for ids, each in zip(true_graph, pairs, strict=True)],
            [ids[each[0]] for ids, each in zip(graph, pairs, strict=True)],
        )
        edges = {name: int(counted[name]) for name in edges}
    counts = corrections | edges
    empty = float(not n_found)
    return TrackingScores(
        frames=tuple(numbers),
        det=det(**corrections, num_vertices=n_wanted) if n_wanted else empty,
        tra=None if not consecutive else tra(**counts, num_vertices=n_wanted)[0] if n_wanted else empty,
        corrections=Corrections(*(counts[name] for name in ("NS", "FN", "FP", "EA", "ED", "EC"))),
        n_objects=n_wanted,
        n_links=counts["num_edges"],
        divisions=scored,
    )


def check_lineage(ids: Ints, number: int, lineage: Lineage, name: str) -> None:
    """Check that a frame shows no object whose track does not exist or is not alive.

    Raises
    ------
    ValueError
        Naming the frame and the id.
    """
    for id in ids.tolist():
        if id not in lineage:
            raise ValueError(f"Frame {number} of {name} shows the id {id}, which no track of its lineage has.")
        track = lineage[id]
        if not track.first <= number <= track.last:
            raise ValueError(
                f"Frame {number} of {name} shows track {id}, which lives from frame {track.first} to {track.last}."
            )


def find_track_truth(truth: Path) -> TrackTruth | None:
    """Look for the true tracks that belong to a truth in the folders of the Cell Tracking Challenge.

    A folder with ``man_track.txt``: `truth` itself, ``TRA`` in it or beside it, or, for silver truth such as ``02_ST``
    or ``02_ST/SEG``, ``02_GT/TRA``.

    Returns
    -------
    TrackTruth or None
        None where there is no such file.

    Raises
    ------
    OSError, ValueError
        If the tracks cannot be read.
    """
    from napari_osvos.ctc_folder import read_ctc_folder

    sequence = truth.parent if truth.name in ("SEG", "TRA") else truth
    folders = [truth, sequence / "TRA"]
    if sequence.name.endswith("_ST"):
        folders.append(sequence.with_name(sequence.name.removesuffix("_ST") + "_GT") / "TRA")
    for folder in folders:
        if (folder / "man_track.txt").is_file():
            return TrackTruth(*read_ctc_folder(folder, join_gaps=False))
    return None


def read_tracked_labels(path: Path) -> tuple[Labels, Lineage | None]:
    """Read labels, and their lineage where they are a folder that holds ``res_track.txt`` or ``man_track.txt``.

    Raises
    ------
    OSError, ValueError
        As `read_labels`, and if the tracks cannot be read.
    """
    from napari_osvos.ctc_folder import TRACK_FILES, read_ctc_folder
    from napari_osvos.io import read_labels

    if any((path / name).is_file() for name in TRACK_FILES):
        return read_ctc_folder(path, join_gaps=False)
    return read_labels(path), None


def _graph(ids: Sequence[Ints], lineage: Lineage | None) -> tuple[list[Ints], Ints]:
    """Cut tracks into pieces without gaps.

    Returns
    -------
    pieces : list of (N,) int64 array
        For each frame, beside `ids`, the number of the piece that each object belongs to, from 1.
    tracks : (P, 4) int64 array
        Number, position of the first and of the last frame, and number of the piece before or of the mother, or 0.
    """
    lengths = [len(each) for each in ids]
    track = np.concatenate(ids)
    position = np.repeat(np.arange(len(ids)), lengths)
    order = np.lexsort((position, track))
    track, position = track[order], position[order]
    begins = np.ones(len(track), bool)
    begins[1:] = (np.diff(track) != 0) | (np.diff(position) != 1)
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(track))[: len(starts)] - 1
    pieces = np.empty(len(track), np.int64)
    pieces[order] = np.cumsum(begins)
    tracks = np.zeros((len(starts), 4), np.int64)
    tracks[:, 0] = np.arange(1, len(starts) + 1)
    tracks[:, 1:3] = np.stack([position[starts], position[stops]], axis=1)
    owner = track[starts]
    again = np.append(False, np.diff(owner) == 0)[: len(owner)]
    tracks[again, 3] = tracks[again, 0] - 1
    if lineage is not None:
        last_piece = dict(zip(owner.tolist(), tracks[:, 0].tolist(), strict=True))  # the last of each id stays
        for piece in np.flatnonzero(~again):
            child = lineage.get(int(owner[piece]))
            # the mother may never be seen in the frames or the field that are scored
            tracks[piece, 3] = last_piece.get(child.mother, 0) if child else 0
    return np.split(pieces, np.cumsum(lengths)[:-1]), tracks


def _linked_among(tracks: Ints, pieces: Sequence[Ints], kept: Sequence[npt.NDArray[np.bool_]]) -> Ints:
    """Tracks without those links whose ends are not both among the objects that are kept."""
    shown = [set(ids[keep].tolist()) for ids, keep in zip(pieces, kept, strict=True)]
    linked = tracks.copy()
    for row in linked[linked[:, 3] > 0]:
        mother = tracks[row[3] - 1]
        if row[0] not in shown[row[1]] or mother[0] not in shown[mother[2]]:
            linked[row[0] - 1, 3] = 0
    return linked
