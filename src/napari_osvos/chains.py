"""Chains of objects through time: what linking builds, cuts and joins before its chains become tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from napari_osvos.objects import Floats, FrameObjects, Ints


class Chains:
    """The objects of a movie as nodes 0 to N - 1 in the order of time, each with at most one before and one after it.

    Parameters
    ----------
    frames : mapping of int to FrameObjects
        Objects by position.

    Attributes
    ----------
    positions : tuple of int
        Of the frames, rising.
    offsets : dict of int to int
        First node of each frame.
    times : (N,) int64 array
        Position of the frame of each node.
    centroids : (N, D), diameters, areas : (N,) float64 arrays
        As in `FrameObjects`.
    after, before : (N,) int64 arrays
        The next and the last node of the same chain, -1 if there is none.
    doubt : (N,) float64 array
        What the link to the next node cost: 0 is certain, more is less so.
    mother : (N,) int64 array
        The node that divided into this one and another, -1 for most.
    """

    def __init__(self, frames: Mapping[int, FrameObjects]) -> None:
        self.frames = {t: frames[t] for t in sorted(frames)}
        self.positions = tuple(self.frames)
        counts = [len(frame) for frame in self.frames.values()]
        first = np.concatenate(([0], np.cumsum(counts))).astype(int).tolist()
        self.offsets = dict(zip(self.positions, first[:-1], strict=True))
        n, tables = first[-1], list(self.frames.values())
        dimensions = tables[0].centroids.shape[1] if tables else 2
        self.times: Ints = np.repeat(np.array(self.positions, np.int64), counts)
        self.centroids: Floats = np.concatenate([np.zeros((0, dimensions)), *(frame.centroids for frame in tables)])
        self.areas: Floats = np.concatenate([np.zeros(0), *(frame.areas for frame in tables)])
        self.diameters: Floats = np.concatenate([np.zeros(0), *(frame.diameters for frame in tables)])
        self.after: Ints = np.full(n, -1, np.int64)
        self.before: Ints = np.full(n, -1, np.int64)
        self.mother: Ints = np.full(n, -1, np.int64)
        self.doubt: Floats = np.zeros(n)

    def __len__(self) -> int:
        return len(self.times)

    def nodes(self, position: int) -> Ints:
        """Nodes of a frame, none if the frame is not there."""
        if position not in self.frames:
            return np.zeros(0, np.int64)
        first = self.offsets[position]
        return np.arange(first, first + len(self.frames[position]), dtype=np.int64)

    def join(self, a: int | Ints, b: int | Ints, doubt: float | Floats = 0.0) -> None:
        """Let `b` follow `a`; both must be free."""
        self.after[a], self.before[b], self.doubt[a] = b, a, doubt

    def cut_after(self, a: int) -> None:
        """End the chain of `a` with it; what followed is a chain of its own."""
        b = self.after[a]
        if b >= 0:
            self.after[a] = self.before[b] = -1

    def divide(self, mother: int, daughters: tuple[int, int]) -> None:
        """End the chain of `mother` with it, and let both daughters begin one."""
        self.cut_after(mother)
        self.mother[list(daughters)] = mother

    def forward(self, node: int) -> Iterator[int]:
        """Walk from a node to the end of its chain, the node included."""
        while node >= 0:
            yield node
            node = int(self.after[node])

    def backward(self, node: int) -> Iterator[int]:
        """Walk from a node to the beginning of its chain, the node included."""
        while node >= 0:
            yield node
            node = int(self.before[node])

    def head(self, node: int) -> int:
        """First node of the chain of a node."""
        return [*self.backward(node)][-1]

    def tail(self, node: int) -> int:
        """Last node of the chain of a node."""
        return [*self.forward(node)][-1]

    def heads(self) -> Ints:
        """First node of the chain of every node: (N,) int64."""
        return _ends(self.before)

    def tails(self) -> Ints:
        """Last node of the chain of every node: (N,) int64."""
        return _ends(self.after)


def _ends(step: npt.NDArray[np.int64]) -> Ints:
    """Follow the steps until there is none; each round doubles the length of the way."""
    ends = np.where(step >= 0, step, np.arange(len(step)))
    while True:
        further = ends[ends]
        if np.array_equal(further, ends):
            return ends
        ends = further
