"""Tracks as a graph in the Graph Exchange File Format (GEFF): a node per object and frame, an edge per step.

References
----------
https://liveimagetrackingtools.org/geff/
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_osvos.formats import UnreadableFileError, is_zarr, reading
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.linked_movie import Progress, Units, linked_frames
from napari_osvos.writing import replacing_folder


def check_geff(path: str | Path, *, overwrite: bool = False) -> Path:
    """Check, before any work is done, that a graph may be written under this name.

    Raises
    ------
    FileExistsError
        If it exists and `overwrite` is False.
    ValueError
        If the ending is not ``.geff``, or it is something else than a zarr.
    """
    path = Path(path)
    if path.suffix.lower() != ".geff":
        raise ValueError(f"{path} cannot be written as a graph; the name must end in .geff.")
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists; choose another name or allow overwriting it.")
        if not path.is_dir() or not is_zarr(path):
            kind = "folder that is no zarr" if path.is_dir() else "file"
            raise ValueError(f"{path} is a {kind}, which is never overwritten; choose another name.")
    return path


def write_geff(
    path: str | Path,
    labels: Labels,
    lineage: Lineage,
    *,
    scale: Sequence[float] | None = None,
    seconds_per_frame: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the tracks of a linked movie as a GEFF graph (zarr format 2).

    A node has ``t`` (frame number), ``z`` (where there is depth), ``y``, ``x`` (centroid in pixels), ``track_id`` (the
    label in the movie), ``area`` (``volume`` where there is depth; in pixels), and the two numbers that GEFF asks
    for: ``tracklet_id``, of the longest path without a fork, and ``lineage_id``, of all that comes from one object. An
    edge leads from an object to where its track is seen next, or to a daughter.

    Parameters
    ----------
    path : str or Path
        Ends in ``.geff``; it appears only when it is complete.
    labels, lineage
        A linked movie.
    scale, seconds_per_frame
        See `Units.of`; kept as the scale of the axes, positions stay in pixels and frames.
    overwrite : bool
        Whether to replace a graph that is there.
    progress : callable, optional
        Told the frames done and their number.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    ValueError
        If labels and lineage do not fit, or a number is out of its range.
    """
    path = check_geff(path, overwrite=overwrite)
    units = Units.of(labels, scale, seconds_per_frame)
    times, ids, sizes, centroids, edges = _graph(labels, lineage, progress)
    tracklets, roots = _families(lineage)
    names = ("z", "y", "x")[-centroids.shape[1] :]
    properties = {
        "t": times,
        **dict(zip(names, centroids.T, strict=True)),
        "track_id": ids,
        "volume" if labels.ndim == 4 else "area": sizes,
        "tracklet_id": np.array([tracklets[id] for id in ids.tolist()], np.int64),
        "lineage_id": np.array([roots[id] for id in ids.tolist()], np.int64),
    }
    with replacing_folder(path) as partial:
        from geff.core_io import write_arrays

        write_arrays(
            str(partial),
            np.arange(len(times), dtype=np.uint64),
            {name: {"values": np.ascontiguousarray(values), "missing": None} for name, values in properties.items()},
            edges,
            {},
            _metadata(names, units),
        )


def _graph(labels: Labels, lineage: Lineage, progress: Progress | None) -> tuple[npt.NDArray[Any], ...]:
    """Frame number, track id, size and centroid of each node, and the edges (E, 2) between nodes."""
    times, ids, sizes, centroids = [], [], [], [np.zeros((0, labels.ndim - 1))]
    edges: list[tuple[int, int]] = []
    last: dict[int, int] = {}  # node that showed a track last
    count = 0
    for frame in linked_frames(labels, lineage, progress):
        times.append(np.full(len(frame.ids), frame.number, np.int64))
        ids.append(frame.ids)
        sizes.append(frame.sizes)
        centroids.append(frame.centroids)
        for node, id in enumerate(frame.ids.tolist(), start=count):
            before = last.get(id, last.get(lineage[id].mother))
            if before is not None:
                edges.append((before, node))
            last[id] = node
        count += len(frame.ids)
    nodes = tuple(np.concatenate(parts) for parts in (times, ids, sizes, centroids))
    return *nodes, np.array(edges, np.uint64).reshape(-1, 2)


def _families(lineage: Lineage) -> tuple[dict[int, int], dict[int, int]]:
    """Id of the tracklet, and of the first ancestor, of each track; an only daughter is of her mother's tracklet."""
    tracklets: dict[int, int] = {}
    roots: dict[int, int] = {}
    divisions = lineage.divisions
    for track in sorted(lineage.values(), key=lambda track: track.first):
        alone = len(divisions.get(track.mother, ())) == 1
        tracklets[track.id] = tracklets[track.mother] if alone else track.id
        roots[track.id] = roots.get(track.mother, track.id)
    return tracklets, roots


def _metadata(names: Sequence[str], units: Units) -> Any:
    from geff_spec import Axis, GeffMetadata

    time: dict[str, Any] = {"scale": units.frame, "scaled_unit": "second"} if units.time == "s" else {}
    axes = [Axis(name="t", type="time", unit="frame", **time)]
    for name, size in zip(names, units.pixel, strict=True):
        space: dict[str, Any] = {"scale": size, "scaled_unit": "micrometer"} if units.length == "um" else {}
        axes.append(Axis(name=name, type="space", unit="pixel", **space))
    return GeffMetadata(
        directed=True,
        axes=axes,
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props={"tracklet": "tracklet_id", "lineage": "lineage_id"},
    )


def read_geff(path: str | Path) -> tuple[dict[str, npt.NDArray[Any]], Lineage]:
    """Read the objects and tracks of a GEFF graph; all of it is validated.

    Parameters
    ----------
    path : str or Path
        The graph, of this program or another: tracks are told by ``track_id``, or else by what the file names as its
        tracklets.

    Returns
    -------
    nodes : dict of str to (N,) array
        The properties of the nodes by name.
    lineage : Lineage
        In the numbers of ``t``.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    UnreadableFileError
        If it is no valid graph, has no times or tracks, or two tracks merge.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    with reading(path):
        from geff.core_io import read_to_memory
        from geff.validate.data import ValidationConfig

        everything = ValidationConfig(graph=True, lineage=True, tracklet=True)
        graph = read_to_memory(str(path), data_validation=everything)
    nodes = {name: np.asarray(prop["values"]) for name, prop in graph["node_props"].items()}
    times = [axis.name for axis in graph["metadata"].axes or () if axis.type == "time"] or ["t"]
    track = "track_id" if "track_id" in nodes else (graph["metadata"].track_node_props or {}).get("tracklet", "")
    if times[0] not in nodes or track not in nodes:
        raise UnreadableFileError(f"{path} has no time or no tracks; its nodes have {', '.join(sorted(nodes))}.")
    number, id = (nodes[name].astype(np.int64).tolist() for name in (times[0], track))
    place = {node: k for k, node in enumerate(graph["node_ids"].tolist())}
    mothers: dict[int, int] = {}
    for source, target in graph["edge_ids"].tolist():
        mother, daughter = id[place[source]], id[place[target]]
        if mother != daughter and mothers.setdefault(daughter, mother) != mother:
            raise UnreadableFileError(
                f"{path}: track {daughter} comes from {mothers[daughter]} and {mother}; a track has one mother at most."
            )
    lives: dict[int, list[int]] = {}
    for track_id, t in zip(id, number, strict=True):
        lives.setdefault(track_id, []).append(t)
    return nodes, Lineage(Track(k, min(seen), max(seen), mothers.get(k, 0)) for k, seen in lives.items())
