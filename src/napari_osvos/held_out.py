"""Paint that is held out from the first part of fine-tuning, so that what was learned can be measured on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_osvos.instance_scores import object_overlap
from napari_osvos.painted_plane import PaintedPlane

SHARE = 0.15
"""Share of the paint that is held out where blocks are."""
MOST = 0.25
"""Of all paint, and of that of each class, no more is held out in blocks: where one block holds most of what is painted
on a plane, as in each slice of a stack, a share of every plane could be all there is."""
FRAMES_FOR_A_WHOLE = 3
"""From so many annotated frames on, a whole one is held out."""
FEWEST_BLOCKS = 3
"""From fewer nothing can be said."""
BLOCK = 2.0
"""Edge of a block in diameters of an object; at most a sixth of the frame's shorter side, at least 16 px."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What is held out.

    Attributes
    ----------
    areas : tuple of (Y, X) bool arrays
        One for each plane; True where its paint is held out.
    blocks : tuple of (Y, X) int arrays
        The same with a number, from 1, for each block; blocks are measured one by one.
    source : str
        In words: ``8 blocks of frame 0``, or ``frame 12``.
    """

    areas: tuple[NDArray[np.bool_], ...]
    blocks: tuple[NDArray[np.int32], ...]
    source: str

    def among(self, planes: Sequence[PaintedPlane], own: Collection[int]) -> HeldOut:
        """Return the same for all planes: of frames that are not its own nothing is held out.

        Parameters
        ----------
        planes : sequence of PaintedPlane
        own : collection of int
            Positions of the frames whose planes it was chosen of.
        """
        blocks = iter(self.blocks)
        every = tuple(
            next(blocks) if plane.frame in own else np.zeros(plane.labels.shape, np.int32) for plane in planes
        )
        return HeldOut(tuple(block > 0 for block in every), every, self.source)


@dataclass(frozen=True)
class HeldOutScore:
    """How well held-out paint was found, block by block.

    Attributes
    ----------
    source : str
        As `HeldOut.source`.
    overlap, union : tuple of float
        Pixels of each block that are foreground in both mask and paint, and in either.
    expected_overlap, expected_union : tuple of float
        The same if the probabilities were right: sums of the probability in the mask, and of mask and probability
        outside of it (see `napari_osvos.segmenter.confidence`).
    matched, found, wanted : tuple of int
        Objects of each block: pairs of an IoU above 0.5, all that were found, all that are painted; empty where objects
        are not told apart. An object belongs to the block that holds most of it.
    """

    source: str
    overlap: tuple[float, ...]
    union: tuple[float, ...]
    expected_overlap: tuple[float, ...]
    expected_union: tuple[float, ...]
    matched: tuple[int, ...] = ()
    found: tuple[int, ...] = ()
    wanted: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> HeldOutScore | None:
        """Return what the provenance of a segmenter says; None where nothing was measured."""
        plain = provenance.get("held_out")
        return None if plain is None else cls.from_dict(plain)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> HeldOutScore:
        """Read what `to_dict` returned.

        Raises
        ------
        TypeError
            If it is none.
        """
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return cls(**parts)


def hold_out(
    planes: Sequence[PaintedPlane],
    diameter: float,
    seed: int,
    names: Sequence[int] | None = None,
    classes: Collection[int] = (),
) -> HeldOut | None:
    """Choose the paint to hold out: a whole frame where three or more are complete, otherwise blocks.

    Parameters
    ----------
    planes : sequence of PaintedPlane
        All annotated planes.
    diameter : float
        Of typical objects, in pixels.
    seed : int
        Chooses among blocks.
    names : sequence of int, optional
        The number of each frame of the movie, for `HeldOut.source`; positions by default.
    classes : collection of int, optional
        Labels that are classes, each of which most paint is to be left of.

    Returns
    -------
    HeldOut or None
        None where there is too little paint to leave any of it out: fewer than three blocks would be measured.
    """
    rng = np.random.default_rng([seed, 7])
    complete = sorted({plane.frame for plane in planes if not plane.partial and (plane.labels > 0).any()})
    if len(complete) >= FRAMES_FOR_A_WHOLE:
        chosen = complete[int(rng.integers(1, len(complete) - 1))]  # one between others: what prediction mostly meets
        return whole_frames(planes, {chosen}, diameter, names)
    grids, weights, chosen_blocks, empty_blocks = [], [], [], []
    for plane in planes:
        grid = _grid(plane.labels.shape, diameter)
        weight = _paint_of_blocks(plane, grid, classes)
        total = weight[0]
        order = [int(b) for b in rng.permutation(len(total)) if total[b] > 0]
        taken: list[int] = []
        so_far = 0.0
        for block in order:
            if so_far + total[block] <= SHARE * total.sum() or not taken:
                taken.append(block)
                so_far += total[block]
        # blocks without paint are held out, too: what is found there in vain counts
        empty = [int(b) for b in rng.permutation(len(total)) if total[b] == 0 and b > 0]
        grids.append(grid)
        weights.append(weight)
        chosen_blocks.append(taken)
        empty_blocks.append(empty[: round(SHARE * len(empty))])
    kept = _leaving_most(chosen_blocks, weights, rng)
    blocks = [
        np.where(np.isin(grid, taken + empty if taken else []) & plane.known, grid, 0).astype(np.int32)
        for plane, grid, taken, empty in zip(planes, grids, kept, empty_blocks, strict=True)
    ]
    count = sum(map(len, kept))
    if count < FEWEST_BLOCKS:
        return None
    frames = {plane.frame for plane, block in zip(planes, blocks, strict=True) if block.any()}
    source = f"{count} block{'s' * (count > 1)} of {_spell(frames, names)}"
    return HeldOut(tuple(block > 0 for block in blocks), tuple(blocks), source)


def _paint_of_blocks(plane: PaintedPlane, grid: NDArray[np.int32], classes: Collection[int]) -> NDArray[np.float64]:
    """Return the painted pixels of each block, (1 + classes, blocks + 1): of all paint, then of each class."""
    masks = [plane.labels > 0, *(plane.labels == label for label in classes)]
    return np.stack([np.bincount(grid.ravel(), (plane.known & mask).ravel()) for mask in masks])


def _leaving_most(
    taken: Sequence[Sequence[int]], weights: Sequence[NDArray[np.float64]], rng: np.random.Generator
) -> list[list[int]]:
    """Return what of the blocks taken on each plane may be held out, as `MOST` has it; all of them where they may."""
    allowed = MOST * np.sum([weight.sum(1) for weight in weights], 0)
    pairs = [(i, block) for i, blocks in enumerate(taken) for block in blocks]
    kept: list[list[int]] = [[] for _ in taken]
    so_far = np.zeros_like(allowed)
    for at in rng.permutation(len(pairs)):
        i, block = pairs[at]
        if (so_far + weights[i][:, block] <= allowed).all():
            kept[i].append(block)
            so_far = so_far + weights[i][:, block]
    return kept


def whole_frames(
    planes: Sequence[PaintedPlane], frames: Collection[int], diameter: float, names: Sequence[int] | None = None
) -> HeldOut:
    """Return all paint of some frames as held out, as it is from a network that has not seen them.

    Parameters
    ----------
    planes, diameter, names
        As for `hold_out`.
    frames : collection of int
        Positions of the frames, at least one that is among the planes.
    """
    areas = tuple(plane.known & (plane.frame in frames) for plane in planes)
    grids = tuple(
        np.where(area, _grid(plane.labels.shape, diameter), 0) for plane, area in zip(planes, areas, strict=True)
    )
    return HeldOut(areas, grids, _spell(frames, names))


def _spell(frames: Collection[int], names: Sequence[int] | None) -> str:
    """Return frames in words: ``frame 0``, ``frames 0 and 12``."""
    numbers = [str(t if names is None else names[t]) for t in sorted(frames)]
    return f"frame{'s' * (len(numbers) > 1)} {' and '.join(numbers)}"


def _grid(shape: tuple[int, ...], diameter: float) -> NDArray[np.int32]:
    """Return the number, from 1, of the square block that each pixel lies in, (Y, X) int32."""
    height, width = shape
    edge = max(16, round(min(BLOCK * diameter, min(height, width) / 6)))
    rows, columns = np.arange(height) // edge, np.arange(width) // edge
    grid: NDArray[np.int32] = (rows[:, None] * (columns[-1] + 1) + columns[None] + 1).astype(np.int32)
    return grid


def score_held_out(
    held: HeldOut,
    planes: Sequence[PaintedPlane],
    predictions: Sequence[tuple[NDArray[np.float32], NDArray[np.integer[Any]]] | None],
    threshold: float,
    *,
    objects: bool,
) -> HeldOutScore:
    """Compare predictions of annotated planes with their held-out paint.

    Parameters
    ----------
    held : HeldOut
        What was held out.
    planes : sequence of PaintedPlane
        The planes it was chosen of.
    predictions : sequence of ((Y, X) float32 array, (Y, X) int array) or None
        Probability of foreground in [0, 1], and labels, of each plane; None where nothing is held out.
    threshold : float
        Probability from which a pixel is foreground.
    objects : bool
        Whether labels are objects to be told apart; partial planes are left out of their count.
    """
    sums: list[NDArray[np.float64]] = []
    counts: list[NDArray[np.int64]] = []
    for plane, blocks, prediction in zip(planes, held.blocks, predictions, strict=True):
        if prediction is None:
            continue
        probability, labels = prediction
        mask, truth, p = probability >= threshold, plane.labels > 0, probability.astype(np.float64)
        parts = (mask & truth, mask | truth, p * mask, np.where(mask, 1.0, p))
        flat = blocks.ravel()
        inside = [np.bincount(flat, part.ravel().astype(np.float64), blocks.max() + 1)[1:] for part in parts]
        there = np.bincount(flat, minlength=blocks.max() + 1)[1:] > 0
        sums.append(np.asarray(np.stack(inside)[:, there], np.float64))
        if objects and not plane.partial:
            counts.append(np.asarray(_count_objects(labels, plane.labels, blocks)[:, there], np.int64))
    overlap, union, expected_overlap, expected_union = np.concatenate(sums, 1).tolist()
    pairs = np.concatenate(counts, 1).tolist() if counts else ((), (), ())
    return HeldOutScore(
        held.source,
        tuple(overlap),
        tuple(union),
        tuple(expected_overlap),
        tuple(expected_union),
        *(tuple(int(n) for n in part) for part in pairs),
    )


def _count_objects(
    found: NDArray[np.integer[Any]], wanted: NDArray[np.integer[Any]], blocks: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the numbers of matched, found and wanted objects of each block from 1 on, (3, blocks)."""
    overlap = object_overlap(found, wanted)
    n = int(blocks.max()) + 1
    homes = [_homes(labels, ids, blocks) for labels, ids in ((found, overlap.found), (wanted, overlap.wanted))]
    alike = 2 * overlap.shared > overlap.unions
    matched = homes[1][overlap.pairs[1][alike]]  # counted where the painted one lies
    lost = homes[0][overlap.pairs[0][alike]]
    own = [np.bincount(home, minlength=n) for home in homes]
    # a pair whose halves lie in different blocks is found in the block of the painted one
    own[0] += np.bincount(matched, minlength=n) - np.bincount(lost, minlength=n)
    return np.stack([np.bincount(matched, minlength=n), own[0], own[1]])[:, 1:]


def _homes(labels: NDArray[np.integer[Any]], ids: NDArray[np.int64], blocks: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the block that holds most of each object; 0 where that is none."""
    inside = labels > 0
    n = int(blocks.max()) + 1
    pairs, sizes = np.unique(np.searchsorted(ids, labels[inside]) * n + blocks[inside], return_counts=True)
    order = np.argsort(sizes, kind="stable")  # the largest part of each object is written last
    homes = np.zeros(len(ids), np.int64)
    homes[pairs[order] // n] = pairs[order] % n
    return homes
