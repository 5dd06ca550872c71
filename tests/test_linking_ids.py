"""Ids that the user painted win over linking, and ids that were there before stay."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos.annotations import Annotations
from napari_osvos.linking import LinkConfig, Linking, link
from napari_osvos.objects import MovieObjects
from napari_osvos.sample_data import simulate_movie


def tabled(frames: np.ndarray) -> MovieObjects:
    objects = MovieObjects()
    for t, frame in enumerate(frames):
        objects.add(t, frame)
    return objects


def still(n_frames: int, *places: tuple[int, int]) -> np.ndarray:
    """Labels (T, 24, 48): squares of 5 x 5 that stay where they are."""
    frames = np.zeros((n_frames, 24, 48), np.int32)
    for label, (y, x) in enumerate(places, 1):
        frames[:, y : y + 5, x : x + 5] = label
    return frames


def painted(frames: np.ndarray, names: dict[tuple[int, int], int], partial: bool = False) -> Annotations:
    """Paint whole objects: (position, label) -> id."""
    paint = np.zeros_like(frames)
    for (t, label), name in names.items():
        paint[t][frames[t] == label] = name
    return Annotations.from_labels(paint, partial=partial)


def spans(linking: Linking) -> dict[int, tuple[int, int, int]]:
    return {t.id: (t.first, t.last, t.mother) for t in linking.lineage.values()}


def test_a_cell_painted_7_on_frames_0_and_40_is_7_throughout() -> None:
    frames = still(41, (3, 3), (3, 20))
    linking = link(tabled(frames), painted(frames, {(0, 1): 7, (40, 1): 7}))
    assert spans(linking) == {7: (0, 40, 0), 8: (0, 40, 0)}
    assert all(linking[t][1] == 7 for t in range(41))


def test_a_painted_id_is_joined_over_a_gap_of_any_length_and_distance() -> None:
    frames = still(41, (3, 3))
    frames[5:30] = 0
    frames[30:] = np.roll(frames[30:], 30, axis=2)
    linking = link(tabled(frames), painted(frames, {(0, 1): 7, (40, 1): 7}))
    assert spans(linking) == {7: (0, 40, 0)}


def test_a_painted_id_is_followed_from_one_frame_to_the_next_over_any_distance() -> None:
    frames = still(6, (3, 3))
    frames[3:] = np.roll(frames[3:], 30, axis=2)
    assert len(link(tabled(frames)).lineage) == 2
    linking = link(tabled(frames), painted(frames, {(2, 1): 7, (3, 1): 7}))
    assert spans(linking) == {7: (0, 5, 0)}


def test_a_painted_id_survives_occlusion_of_three_frames() -> None:
    frames = still(10, (3, 3), (3, 30))
    frames[4:7][frames[4:7] == 1] = 0
    linking = link(tabled(frames), painted(frames, {(1, 1): 5}))
    assert spans(linking) == {5: (0, 9, 0), 6: (0, 9, 0)}


def test_two_painted_ids_are_never_merged_and_the_track_is_cut_where_it_is_weakest() -> None:
    frames = still(12, (3, 3))
    frames[7:] = np.roll(frames[7:], 4, axis=2)  # the only jump
    linking = link(tabled(frames), painted(frames, {(0, 1): 3, (11, 1): 9}))
    assert spans(linking) == {3: (0, 6, 0), 9: (7, 11, 0)}


def test_neighbouring_frames_painted_differently_are_not_joined() -> None:
    frames = still(4, (3, 3))
    linking = link(tabled(frames), painted(frames, {(1, 1): 3, (2, 1): 9}))
    assert spans(linking) == {3: (0, 1, 0), 9: (2, 3, 0)}


def test_a_gap_is_not_closed_between_two_painted_ids_nor_through_a_third_piece() -> None:
    frames = still(9, (3, 3))
    frames[[2, 5]] = 0
    linking = link(tabled(frames), painted(frames, {(0, 1): 1, (8, 1): 2}))
    ids = [linking[t].get(1, 0) for t in range(9)]
    assert ids[0] == 1
    assert ids[8] == 2
    assert set(ids) == {0, 1, 2}


def test_paint_sets_right_two_cells_that_linking_had_swapped() -> None:
    frames = still(10, (3, 3), (3, 10))
    frames[5:] = np.where(frames[5:] > 0, 3 - frames[5:], 0)  # labels swap, positions stay
    linking = link(tabled(frames), painted(frames, {(0, 1): 1, (0, 2): 2, (9, 1): 1, (9, 2): 2}))
    assert linking[0] == {1: 1, 2: 2}
    assert linking[9] == {1: 1, 2: 2}
    for t in range(10):
        assert set(linking[t].values()) >= {1} or set(linking[t].values()) >= {2}
        assert len(set(linking[t].values())) == 2


def test_of_two_tracks_of_one_painted_id_the_earlier_ends_where_the_later_begins() -> None:
    frames = still(10, (3, 3), (3, 30))
    frames[:4][frames[:4] == 2] = 0
    linking = link(tabled(frames), painted(frames, {(0, 1): 7, (9, 2): 7}))
    assert spans(linking) == {7: (0, 9, 0), 8: (4, 9, 0)}
    assert [linking[3][1], linking[4][1], linking[4][2]] == [7, 8, 7]


def test_what_was_not_painted_is_numbered_above_all_that_was() -> None:
    frames = still(3, (3, 3), (3, 15), (3, 30))
    linking = link(tabled(frames), painted(frames, {(1, 2): 12}))
    assert linking[0] == {1: 13, 2: 12, 3: 14}


def test_a_stroke_within_a_cell_names_it_in_partial_paint() -> None:
    frames = still(5, (3, 3), (3, 8))
    paint = np.zeros_like(frames)
    paint[2, 5, 4:7] = 4  # in the first
    paint[2, 4:6, 9:14] = 2  # in the second and a little beyond it
    paint[2, 20] = 1
    linking = link(tabled(frames), Annotations.from_labels(paint, partial=True, background_label=1))
    assert linking[0] == {1: 4, 2: 2}


def test_paint_without_an_object_is_told() -> None:
    frames = still(3, (3, 3))
    paint = np.zeros_like(frames)
    paint[1, 15:20, 30:35] = 9
    paint[1][frames[1] == 1] = 2
    linking = link(tabled(frames), Annotations.from_labels(paint))
    assert linking.missing == {1: (9,)}
    assert spans(linking) == {2: (0, 2, 0)}


def dividing() -> np.ndarray:
    frames = np.zeros((8, 12, 24), np.int32)
    frames[:4, 3:9, 8:14] = 1
    frames[4:, 3:9, 6:9] = 1
    frames[4:, 3:9, 13:16] = 2
    return frames


@pytest.mark.parametrize("mother", [0, 3])
@pytest.mark.parametrize("daughters", [4, 7])
def test_a_painted_mother_and_her_painted_daughters_stay_a_family(mother: int, daughters: int) -> None:
    frames = dividing()
    names = {(mother, 1): 7, (daughters, 1): 9, (daughters, 2): 8}
    linking = link(tabled(frames), painted(frames, names))
    assert spans(linking) == {7: (0, 3, 0), 8: (4, 7, 7), 9: (4, 7, 7)}


def test_who_paints_mother_and_daughter_alike_says_that_it_did_not_divide() -> None:
    frames = dividing()
    linking = link(tabled(frames), painted(frames, {(0, 1): 7, (7, 1): 7}))
    assert spans(linking) == {7: (0, 7, 0), 8: (4, 7, 0)}


def test_paint_in_a_slice_names_an_object_of_a_stack() -> None:
    frames = np.zeros((3, 3, 12, 12), np.int32)
    frames[:, 0:2, 3:7, 3:7] = 1
    paint = np.zeros_like(frames)
    paint[1, 1, 3:7, 3:7] = 6
    linking = link(tabled(frames), Annotations.from_labels(paint))
    assert spans(linking) == {6: (0, 2, 0)}


def test_paint_of_another_size_is_refused() -> None:
    frames = still(2, (3, 3))
    with pytest.raises(ValueError, match="both must be of one size"):
        link(tabled(frames), painted(frames[:, :20], {(0, 1): 1}))


def test_correcting_one_frame_leaves_all_other_ids() -> None:
    frames = simulate_movie("fluorescence", n_frames=12, shape=(128, 128), seed=3).labels.astype(np.int32)
    before = link(tabled(frames))
    objects = tabled(frames)
    corrected = frames[6].copy()
    first, second, *_ = np.unique(corrected[corrected > 0])
    corrected[corrected == first] = 0  # one was no cell
    corrected[corrected == second] = 900  # one has another label
    corrected[:3, -3:] = 901  # and one was not found
    objects.add(6, corrected)
    after = link(objects, previous=before)
    for t in {*range(12)} - {6}:
        assert after[t] == before[t]
    kept = {label: name for label, name in after[6].items() if label < 900}
    assert kept == {label: name for label, name in before[6].items() if label not in (first, second)}
    assert after[6][900] == before[6][int(second)]
    assert after[6][901] == max(before.lineage) + 1


def test_ids_outlast_a_correction_that_alters_who_comes_first() -> None:
    frames = still(6, (3, 3), (3, 20), (15, 10))
    before = link(tabled(frames[:, :, :]))
    fewer = frames.copy()
    fewer[0][fewer[0] == 1] = 0
    fewer[0][fewer[0] > 0] += 50
    objects = tabled(fewer)
    assert link(objects)[5] != before[5]
    assert link(objects, previous=before)[5] == before[5]


def test_paint_wins_over_ids_that_were_there() -> None:
    frames = still(6, (3, 3), (3, 20), (15, 10))
    objects = tabled(frames)
    before = link(objects)
    after = link(objects, painted(frames, {(2, 1): 2}), previous=before)
    assert after[0] == {1: 2, 2: 4, 3: 3}
    again = link(objects, painted(frames, {(2, 1): 2}), previous=after)
    assert dict(again) == dict(after)


def test_a_track_that_was_cut_leaves_its_id_to_the_longer_piece() -> None:
    frames = still(12, (3, 3))
    before = link(tabled(frames))
    cut = frames.copy()
    cut[2:4] = 0
    after = link(tabled(cut), config=LinkConfig(gap=0), previous=before)
    assert spans(after) == {1: (4, 11, 0), 2: (0, 1, 0)}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_painted_every_painted_object_has_its_id_and_none_is_there_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = simulate_movie("fluorescence", n_frames=10, shape=(96, 96), seed=seed).labels.astype(np.int32)
    for frame in frames:  # objects are lost
        names = np.unique(frame[frame > 0])
        frame[np.isin(frame, names[rng.random(len(names)) < 0.2])] = 0
    names = {}
    for t in (1, 4, 5, 9):
        labels = np.unique(frames[t][frames[t] > 0])
        chosen = rng.choice(labels, min(4, len(labels)), replace=False)
        names |= {(t, int(label)): int(name) for label, name in zip(chosen, rng.permutation(9) + 1, strict=False)}
    objects, annotations = tabled(frames), painted(frames, names)
    linking = link(objects, annotations)
    for (t, label), name in names.items():
        assert linking[t][label] == name
    for t, ids in linking.items():
        assert len(set(ids.values())) == len(ids)
        for name in ids.values():
            assert linking.lineage[name].first <= t <= linking.lineage[name].last
        assert all(name > max(names.values()) or name in names.values() for name in ids.values())
    again = link(objects, annotations, previous=linking)
    assert dict(again) == dict(linking)
    assert dict(again.lineage) == dict(linking.lineage)
    unpainted = link(objects, previous=linking)
    assert all(len(set(ids.values())) == len(ids) for ids in unpainted.values())
