"""Which object goes on as which: laptrack links neighbouring frames, closes gaps and proposes divisions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_osvos.chains import Chains
from napari_osvos.objects import Floats, Ints
from napari_osvos.painted_ids import cut_conflicts, names_of

if TYPE_CHECKING:
    from napari_osvos.config import LinkConfig

# Weight of a change of size against movement.
GROWTH_WEIGHT = 0.5
# Farthest, in the reach of one frame: an object over a gap, a daughter from her mother.
GAP_REACH, DAUGHTER_REACH = 1.5, 1.5
# What it costs that a track begins or ends, where the dearest link of neighbouring frames costs 1: of single objects
# (so that an end and a beginning are no dearer than that link) and of whole stretches over gaps and in divisions.
OBJECT_COST, STRETCH_COST = 0.5, 1.0
# How unlike a division may be: daughters' midpoint from the mother (diameters of the mother), daughters from each
# other (the same), ratio of the daughters' areas, ratio of mother to both daughters.
LARGEST_SHIFT, LARGEST_SPREAD, LARGEST_DIFFERENCE, LARGEST_GROWTH = 0.7, 3.0, 2.5, 3.0


def assign(chains: Chains, config: LinkConfig, painted: Ints) -> None:
    """Join the objects of a movie to chains that may hold gaps and divide, at the least total cost [1]_.

    The cost of a link is a squared distance: of the centres, in median diameters of the movie, and of the logarithms of
    the areas. For two frames of N and M objects laptrack makes a table of N x M float64. A division that it
    proposes is believed if sizes and places of mother and daughters go together and no daughter lasts one frame only.

    Parameters
    ----------
    chains : Chains
        Without any link; changed in place.
    config : LinkConfig
    painted : (N,) int64 array
        Id that the user painted for each node, 0 where there is none. No chain holds different ids afterwards.

    References
    ----------
    .. [1] K. Jaqaman et al., "Robust single-particle tracking in live-cell time-lapse sequences", Nature Methods 5,
       695-702, 2008, https://doi.org/10.1038/nmeth.1237, as in Y. T. Fukai and K. Kawaguchi, "LapTrack: linear
       assignment particle tracking with tunable metrics", Bioinformatics 39, btac799, 2023,
       https://doi.org/10.1093/bioinformatics/btac799
    """
    if not len(chains):
        return
    places = _places(chains, config)
    followers = _followers(chains, config, painted, places)
    families: list[tuple[int, int, int]] = []
    for node, nexts in followers.items():
        nearest = sorted(nexts, key=lambda other: _cost(places, node, other))
        born = [n for n in nearest if chains.times[n] == chains.times[node] + 1]
        lasting = [n for n in nearest if n in followers or chains.times[n] == chains.positions[-1]]
        if len(born) > 1 and len(lasting) > 1:
            families.append((node, born[0], born[1]))
        else:  # what is there for one frame only is rather a piece of the object than a daughter
            heir = (lasting or nearest)[0]
            chains.join(node, heir, _cost(places, node, heir))
    cut_conflicts(chains, painted)
    _divide(chains, families, painted, places)
    cut_conflicts(chains, painted)  # where mothers that did not divide were joined


def _places(chains: Chains, config: LinkConfig) -> Floats:
    """Points whose squared distances are the costs of links, 1 for the dearest between two frames: (N, D + 1)."""
    far = config.reach * np.median(chains.diameters)
    sizes = GROWTH_WEIGHT * np.log(chains.areas) / np.log(config.growth)
    return np.column_stack((chains.centroids / far, sizes))


def _cost(places: Floats, a: int, b: int) -> float:
    return float(np.square(places[a] - places[b]).sum())


def _followers(chains: Chains, config: LinkConfig, painted: Ints, places: Floats) -> dict[int, list[int]]:
    """Nodes that follow each node that is no end: one, or two of a possible division."""
    from laptrack import LapTrack

    settings: dict[str, Any] = {
        "metric": "sqeuclidean",
        "cutoff": 1,
        "track_start_cost": OBJECT_COST,
        "track_end_cost": OBJECT_COST,
        "gap_closing_metric": "sqeuclidean",
        "gap_closing_cutoff": GAP_REACH**2,
        "gap_closing_max_frame_count": config.gap + 1,  # of frames from the last to the next, not between them
        "splitting_metric": "sqeuclidean",
        "splitting_cutoff": DAUGHTER_REACH**2 if config.divisions else False,
        "segment_start_cost": STRETCH_COST,
        "segment_end_cost": STRETCH_COST,
        "no_splitting_cost": STRETCH_COST,
        "no_merging_cost": STRETCH_COST,
        "parallel_backend": "serial",
    }
    worth = (painted > 0) | _accompanied(chains, config, places)
    if not worth.any():
        return {}
    frames = [chains.nodes(t) for t in range(chains.positions[0], chains.positions[-1] + 1)]
    frames = [nodes[worth[nodes]] for nodes in frames]
    told = _told([painted[nodes] for nodes in frames])
    graph = LapTrack(**settings).predict([places[nodes] for nodes in frames], connected_edges=told or None)
    followers: dict[int, list[int]] = {}
    for (t, i), (u, j) in graph.edges:
        followers.setdefault(int(frames[t][i]), []).append(int(frames[u][j]))
    return followers


def _accompanied(chains: Chains, config: LinkConfig, places: Floats) -> npt.NDArray[np.bool_]:
    """Whether there is any other object near enough in space and time to each: (N,) bool.

    laptrack compares every end of a track with every beginning in the frames that follow. In a movie full of specks
    that are there for one frame only, that takes hundreds of times as long as without them.
    """
    from scipy.spatial import KDTree

    farthest = max(GAP_REACH, DAUGHTER_REACH)
    points = np.column_stack((places, chains.times * (farthest / (config.gap + 1))))
    apart, _ = KDTree(points).query(points, k=2, p=np.inf, distance_upper_bound=1.001 * farthest)
    return np.asarray(np.isfinite(apart[:, 1]))


def _told(painted: Sequence[Ints]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Links that the user painted between neighbouring frames, as laptrack's (frame, index)."""
    edges = []
    for t, (here, there) in enumerate(pairwise(painted)):
        _, i, j = np.intersect1d(here[here > 0], there[there > 0], return_indices=True)
        i, j = np.flatnonzero(here)[i], np.flatnonzero(there)[j]
        edges += [((t, a), (t + 1, b)) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    return edges


def _divide(chains: Chains, families: list[tuple[int, int, int]], painted: Ints, places: Floats) -> None:
    """Let those mothers divide of which it is believed; the others go on as the daughter that is most alike."""
    if not families:
        return
    names = names_of(chains, painted)
    m, j, k = np.array(families, np.int64).T
    unlike = _unlikeness(chains, m, j, k)
    for mother, first, second, doubt in zip(m.tolist(), j.tolist(), k.tolist(), unlike.tolist(), strict=True):
        told = [name for name in names[[mother, first, second]].tolist() if name]
        # who paints mother and daughter alike says that it did not divide
        if doubt < 1 and len(told) == len(set(told)):
            chains.divide(mother, (first, second))
        else:
            heir = second if names[mother] and names[second] == names[mother] else first
            chains.join(mother, heir, _cost(places, mother, heir))


def _unlikeness(chains: Chains, m: Ints, j: Ints, k: Ints) -> Floats:
    """How unlike a division it is that mothers `m` became daughters `j` and `k`; from 1 it is not believed."""
    size = chains.diameters[m]
    weight = (chains.areas[j] / (chains.areas[j] + chains.areas[k]))[:, None]
    middle = weight * chains.centroids[j] + (1 - weight) * chains.centroids[k]
    shift = np.linalg.norm(middle - chains.centroids[m], axis=1) / size / LARGEST_SHIFT
    spread = np.linalg.norm(chains.centroids[j] - chains.centroids[k], axis=1) / size / LARGEST_SPREAD
    difference = np.abs(np.log(chains.areas[j] / chains.areas[k])) / np.log(LARGEST_DIFFERENCE)
    growth = np.abs(np.log((chains.areas[j] + chains.areas[k]) / chains.areas[m])) / np.log(LARGEST_GROWTH)
    return np.asarray(np.max((shift, spread, difference, growth), axis=0))
