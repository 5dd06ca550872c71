"""Graphs in GEFF: valid by the library's own rules, and read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from linked_toys import LINEAGE, toy_labels, toy_stack

from napari_osvos.formats import UnreadableFileError
from napari_osvos.geff_file import read_geff, write_geff
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track


def edges_of(path: Path) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """Edges as pairs of (frame, track id)."""
    import zarr

    nodes, _ = read_geff(path)
    name = list(zip(nodes["t"].tolist(), nodes["track_id"].tolist(), strict=True))
    return {(name[a], name[b]) for a, b in np.asarray(zarr.open_group(path, mode="r")["edges/ids"]).tolist()}


def test_tracks_with_a_gap_and_a_division_come_back(tmp_path: Path) -> None:
    path = tmp_path / "toy.geff"
    write_geff(path, toy_labels(), LINEAGE)
    nodes, lineage = read_geff(path)  # which validates structure, graph, tracklets and lineages
    assert dict(lineage) == dict(LINEAGE)
    rows = list(zip(*(nodes[name].tolist() for name in ("t", "track_id", "area", "y", "x")), strict=True))
    assert rows[:4] == [(0, 1, 4, 0.5, 0.5), (0, 2, 6, 1.0, 5.5), (1, 1, 4, 0.5, 1.5), (1, 2, 6, 1.0, 5.5)]
    assert rows[-1] == (4, 9, 1, 3.0, 0.0)
    assert len(rows) == 13
    assert edges_of(path) == {
        *(((0, 1), (1, 1)), ((1, 1), (3, 1)), ((3, 1), (4, 1))),  # over the gap
        *(((0, 2), (1, 2)), ((1, 2), (2, 3)), ((1, 2), (2, 4))),  # the division
        *(((2, 3), (3, 3)), ((3, 3), (4, 3)), ((2, 4), (3, 4)), ((3, 4), (4, 4))),
    }
    families = set(zip(nodes["track_id"].tolist(), nodes["lineage_id"].tolist(), strict=True))
    assert families == {(1, 1), (2, 2), (3, 2), (4, 2), (9, 9)}
    assert [p.name for p in tmp_path.iterdir()] == ["toy.geff"]


def test_axes_have_units(tmp_path: Path) -> None:
    from geff import GeffMetadata

    stack, lineage, _ = toy_stack()
    write_geff(tmp_path / "a.geff", stack, lineage, scale=(2.0, 0.5, 0.25), seconds_per_frame=60)
    axes = GeffMetadata.read(str(tmp_path / "a.geff")).axes
    assert axes is not None
    said = [(a.name, a.type, a.unit, a.scale, a.scaled_unit, a.min, a.max) for a in axes]
    assert said == [
        ("t", "time", "frame", 60.0, "second", 0, 1),
        ("z", "space", "pixel", 2.0, "micrometer", 0.5, 1.5),
        ("y", "space", "pixel", 0.5, "micrometer", 1.5, 1.5),
        ("x", "space", "pixel", 0.25, "micrometer", 1.0, 2.0),
    ]
    nodes, found = read_geff(tmp_path / "a.geff")
    assert nodes["volume"].tolist() == [12, 12]
    assert dict(found) == dict(lineage)
    write_geff(tmp_path / "b.geff", stack, lineage)
    assert [a.scaled_unit for a in GeffMetadata.read(str(tmp_path / "b.geff")).axes or ()] == [None] * 4


def test_an_only_daughter_is_of_her_mothers_tracklet_but_keeps_her_track(tmp_path: Path) -> None:
    labels = Labels(np.array([[[1, 0]], [[2, 0]]]))
    lineage = Lineage([Track(1, 0, 0), Track(2, 1, 1, 1)])
    write_geff(tmp_path / "a.geff", labels, lineage)
    nodes, found = read_geff(tmp_path / "a.geff")
    assert (nodes["tracklet_id"].tolist(), nodes["track_id"].tolist()) == ([1, 1], [1, 2])
    assert dict(found) == dict(lineage)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 3, 4, 5)])
def test_a_movie_without_objects_is_an_empty_graph(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_geff(tmp_path / "a.geff", Labels(np.zeros(shape, np.uint8)), Lineage())
    nodes, lineage = read_geff(tmp_path / "a.geff")
    assert len(nodes["t"]) == len(lineage) == 0


def test_one_object_has_no_edge(tmp_path: Path) -> None:
    write_geff(tmp_path / "a.geff", Labels(np.array([[[0, 3]]])), Lineage([Track(3, 0, 0)]))
    assert dict(read_geff(tmp_path / "a.geff")[1]) == {3: Track(3, 0, 0)}
    assert edges_of(tmp_path / "a.geff") == set()


def test_a_graph_of_another_program_is_read_by_its_tracklets(tmp_path: Path) -> None:
    import networkx as nx
    from geff import GeffMetadata, write

    graph = nx.DiGraph()
    graph.add_nodes_from([(10 + t, {"frame": t, "y": 1.0, "x": 2.0, "number": 4}) for t in range(3)])
    graph.add_edges_from([(10, 11), (11, 12)])
    notes = GeffMetadata(
        directed=True, node_props_metadata={}, edge_props_metadata={}, track_node_props={"tracklet": "number"}
    )
    how = {"axis_names": ["frame", "y", "x"], "axis_types": ["time", "space", "space"]}
    write(graph, str(tmp_path / "a.geff"), metadata=notes, **how)
    assert dict(read_geff(tmp_path / "a.geff")[1]) == {4: Track(4, 0, 2)}


def test_what_is_no_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file or folder .*a.geff"):
        read_geff(tmp_path / "a.geff")
    (tmp_path / "a.geff").mkdir()
    with pytest.raises(UnreadableFileError, match="a.geff cannot be read; it may be damaged"):
        read_geff(tmp_path / "a.geff")
    with pytest.raises(ValueError, match="a.geff is a folder that is no zarr, which is never overwritten"):
        write_geff(tmp_path / "a.geff", toy_labels(), LINEAGE, overwrite=True)


def test_an_interrupted_write_leaves_the_old_graph(tmp_path: Path) -> None:
    stack, lineage, _ = toy_stack()
    write_geff(tmp_path / "a.geff", stack, lineage)
    with pytest.raises(FileExistsError, match="a.geff exists"):
        write_geff(tmp_path / "a.geff", toy_labels(), LINEAGE)
    with pytest.raises(ValueError, match="which no track of the lineage has"):
        write_geff(tmp_path / "a.geff", toy_labels(), lineage, overwrite=True)
    assert dict(read_geff(tmp_path / "a.geff")[1]) == dict(lineage)
    write_geff(tmp_path / "a.geff", toy_labels(), LINEAGE, overwrite=True)
    assert dict(read_geff(tmp_path / "a.geff")[1]) == dict(LINEAGE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.geff"]


def test_a_merge_is_named(tmp_path: Path) -> None:
    import networkx as nx
    from geff import GeffMetadata, write

    graph = nx.DiGraph()
    graph.add_nodes_from([(n, {"t": t, "track_id": n + 1}) for n, t in enumerate((0, 0, 1))])
    graph.add_edges_from([(0, 2), (1, 2)])
    notes = GeffMetadata(directed=True, node_props_metadata={}, edge_props_metadata={})
    write(graph, str(tmp_path / "a.geff"), metadata=notes)
    with pytest.raises(UnreadableFileError, match=r"a.geff: track 3 comes from (1 and 2|2 and 1); a track has one"):
        read_geff(tmp_path / "a.geff")
