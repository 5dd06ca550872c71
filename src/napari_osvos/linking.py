"""Identity through time: the objects of single frames are linked to tracks, with gaps and divisions.

laptrack joins the objects so that the total cost is the least, a cost made of the distance between them in diameters
and the change of their size, first of neighbouring frames, then over gaps and in divisions. What the user painted is
never overruled: an id that was painted is that of its object wherever it was painted, and no two painted ids share a
track.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.annotations import Annotations
from napari_osvos.assignment import assign
from napari_osvos.chains import Chains
from napari_osvos.config import LinkConfig as LinkConfig
from napari_osvos.labels import values_in
from napari_osvos.lineage import Lineage, Track
from napari_osvos.objects import FrameObjects, Ints, MovieObjects, largest_first, overlaps
from napari_osvos.painted_ids import join_painted, names_of, painted_objects


@dataclass(frozen=True, eq=False)
class Linking(Mapping[int, dict[int, int]]):
    """Track id of every object: ``linking[position][label]``.

    Attributes
    ----------
    lineage : Lineage
        The tracks, in frame numbers.
    objects : dict of int to FrameObjects
        What was linked, by position.
    ids : dict of int to (N,) int64 array
        Ids in the order of the objects, by position.
    missing : dict of int to tuple of int
        Ids that were painted in a frame but have no object there, by position.
    """

    lineage: Lineage
    objects: dict[int, FrameObjects]
    ids: dict[int, Ints]
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def __getitem__(self, position: int) -> dict[int, int]:
        labels = self.objects[position].labels
        return dict(zip(labels.tolist(), self.ids[position].tolist(), strict=True))

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Linking({len(self)} frames, {len(self.lineage)} tracks, {len(self.lineage.divisions)} divisions)"

    def relabel(self, position: int, labels: npt.NDArray[Any], *, strangers: bool = False) -> npt.NDArray[np.int32]:
        """Return the labels of a frame as track ids, int32.

        Parameters
        ----------
        position : int
            Of the frame.
        labels : integer array
            The frame, with the objects that were linked.
        strangers : bool
            Whether objects that were not linked, as they came later, are kept apart: with numbers above all tracks.

        Raises
        ------
        ValueError
            If there is an object that was not linked, and `strangers` is False.
        """
        ids = self[position]
        try:
            return relabel(labels, ids)
        except ValueError:
            if not strangers:
                raise
        new = [label for label in values_in(labels).tolist() if label and label not in ids]
        numbers = {label: number for number, label in enumerate(new, max(self.lineage, default=0) + 1)}
        return relabel(labels, ids | numbers)


def relabel(labels: npt.NDArray[Any], ids: Mapping[int, int]) -> npt.NDArray[np.int32]:
    """Give the objects of a frame other labels.

    Parameters
    ----------
    labels : integer array
        0 is background and stays so.
    ids : mapping of int to int
        New label of each label of the frame.

    Raises
    ------
    ValueError
        If an object has no new label.
    """
    labels = np.asarray(labels)
    named: npt.NDArray[np.int32]
    largest = int(labels.max(initial=0))
    known = [label for label in ids if 0 < label <= largest]
    if largest <= max(4 * labels.size, 2**16):
        table = np.zeros(largest + 1, np.int32)
        table[known] = [ids[label] for label in known]
        named = table[labels]
    else:  # sparse labels: a table would take more memory than the frame
        old, new = np.array([0, *sorted(known)]), np.array([0, *(ids[label] for label in sorted(known))], np.int32)
        place = np.minimum(np.searchsorted(old, labels), len(old) - 1)
        named = np.where(old[place] == labels, new[place], 0).astype(np.int32)
    lost = (named == 0) & (labels != 0)
    if lost.any():
        raise ValueError(f"The frame holds label {labels[lost].flat[0]}, which has no track; link the frame again.")
    return named


def link(
    objects: MovieObjects,
    annotations: Annotations | None = None,
    config: LinkConfig | None = None,
    *,
    frame_numbers: Sequence[int] | None = None,
    previous: Linking | None = None,
) -> Linking:
    """Link the objects of a movie to tracks.

    Parameters
    ----------
    objects : MovieObjects
        Frames that are not there count as not seen.
    annotations : Annotations, optional
        What the user painted, each label an object, with the planes of the movie (`Annotations.aligned_to`). Objects
        that were painted have the painted id. Where an id was painted in several frames it is one track, over
        gaps of any length; what was not painted gets ids above all that were.
    config : LinkConfig, optional
    frame_numbers : sequence of int, optional
        Number of each position of the movie, for the lineage; the positions themselves by default.
    previous : Linking, optional
        An earlier linking of the movie. Tracks keep their ids as far as the paint allows; new tracks get ids
        that are used in neither.

    Returns
    -------
    Linking

    Raises
    ------
    ValueError
        If the frame numbers do not rise or there are too few, or the paint is not as large as the frames.
    """
    config = config or LinkConfig()
    chains = Chains(objects)
    numbers = _numbers(chains.positions, frame_numbers)
    painted, missing = _painted(chains, annotations, config)
    assign(chains, config, painted)
    join_painted(chains, painted)
    names = _names(chains, painted, annotations, previous)
    lineage = _lineage(chains, names, numbers)
    ids = {t: names[chains.nodes(t)] for t in chains.positions}
    return Linking(lineage, chains.frames, ids, missing)


def _numbers(positions: Sequence[int], frame_numbers: Sequence[int] | None) -> dict[int, int]:
    if frame_numbers is None:
        return {t: t for t in positions}
    if positions and positions[-1] >= len(frame_numbers):
        raise ValueError(
            f"There are objects at position {positions[-1]} of the movie but {len(frame_numbers)} frame numbers."
        )
    numbers = {t: int(frame_numbers[t]) for t in positions}
    for earlier, later in pairwise(positions):
        if numbers[earlier] >= numbers[later]:
            raise ValueError(f"Frame number {numbers[later]} follows {numbers[earlier]}; frame numbers must rise.")
    return numbers


def _painted(
    chains: Chains, annotations: Annotations | None, config: LinkConfig
) -> tuple[Ints, dict[int, tuple[int, ...]]]:
    painted, missing = np.zeros(len(chains), np.int64), {}
    for t in annotations.frames if annotations is not None else ():
        if annotations is not None and t in chains.frames:
            ids, lost = painted_objects(chains.frames[t], annotations, t, config.smallest_overlap)
            painted[chains.nodes(t)] = ids
            if len(lost):
                missing[t] = tuple(lost.tolist())
    return painted, missing


def _names(chains: Chains, painted: Ints, annotations: Annotations | None, previous: Linking | None) -> Ints:
    """Id of each node: painted, else remembered, else new."""
    heads = chains.heads()
    names = names_of(chains, painted)
    taken = set() if annotations is None else {int(n) for p in annotations for n in np.unique(annotations.labels(p))}
    old: dict[int, int] = {}
    if previous is not None:
        old = _remembered(chains, heads, previous)
    free = max([0, *taken, *(previous.lineage if previous is not None else ())]) + 1
    by_head = np.zeros(len(chains), np.int64)
    for head in np.unique(heads).tolist():  # in the order of time
        if names[head]:
            by_head[head] = names[head]
        elif head in old and old[head] not in taken:
            by_head[head] = old[head]
        else:
            by_head[head], free = free, free + 1
    return by_head[heads]


def _remembered(chains: Chains, heads: Ints, previous: Linking) -> dict[int, int]:
    """Ids of an earlier linking by the first nodes of the chains that keep them, those with most objects first."""
    votes_head, votes_id = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for t in chains.positions:
        if t not in previous.objects or previous.objects[t].shape != chains.frames[t].shape:
            continue
        mine, theirs = _same(chains.frames[t], previous.objects[t])
        votes_head.append(heads[chains.offsets[t] + mine])
        votes_id.append(previous.ids[t][theirs])
    votes = np.stack((np.concatenate(votes_head), np.concatenate(votes_id)))
    (head, name), count = np.unique(votes, axis=1, return_counts=True)
    chosen = largest_first(head, name, count)
    return dict(zip(head[chosen].tolist(), name[chosen].tolist(), strict=True))


def _same(now: FrameObjects, then: FrameObjects) -> tuple[Ints, Ints]:
    """Pair the objects of two versions of a frame that share more than half of the pixels of both."""
    if now is then:
        return np.arange(len(now)), np.arange(len(then))
    i, j, shared = overlaps(now, then)
    same = 2 * shared > np.maximum(now.pixels[i], then.pixels[j])
    return i[same], j[same]


def _lineage(chains: Chains, names: Ints, numbers: Mapping[int, int]) -> Lineage:
    heads, tails = np.flatnonzero(chains.before < 0), chains.tails()
    daughters = np.bincount(chains.mother[heads] + 1, minlength=len(chains) + 1)[1:]
    tracks = []
    for head in heads.tolist():
        mother = int(chains.mother[head])
        # paint may have taken a daughter away or let the mother live on: then it was no division
        divided = mother >= 0 and daughters[mother] > 1 and chains.after[mother] < 0
        tracks.append(
            Track(
                int(names[head]),
                numbers[int(chains.times[head])],
                numbers[int(chains.times[tails[head]])],
                int(names[mother]) if divided else 0,
            )
        )
    return Lineage(tracks)
