"""Objects of single frames become tracks: links, gaps, divisions, and movies at the edge of what there can be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_osvos.linking import LinkConfig, Linking, link, relabel
from napari_osvos.objects import MovieObjects, objects_of, overlaps
from napari_osvos.sample_data import simulate_movie

Drawn = Callable[..., np.ndarray]


def tabled(frames: np.ndarray, scale: tuple[float, ...] | None = None) -> MovieObjects:
    objects = MovieObjects(scale)
    for t, frame in enumerate(frames):
        objects.add(t, frame)
    return objects


def relabelled(linking: Linking, frames: np.ndarray) -> np.ndarray:
    return np.stack([linking.relabel(t, frame) for t, frame in enumerate(frames)])


def shuffled(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same objects with labels that tell nothing of those in other frames."""
    rng = np.random.default_rng(seed)
    out = np.zeros(frames.shape, np.int32)
    for t, frame in enumerate(frames):
        names = np.unique(frame[frame > 0])
        table = np.zeros(int(frame.max()) + 1, np.int32)
        table[names] = rng.permutation(len(names)) + 1
        out[t] = table[frame]
    return out


def square(frame: np.ndarray, label: int, y: int, x: int, size: int = 5) -> None:
    frame[y : y + size, x : x + size] = label


@pytest.fixture
def division() -> np.ndarray:
    """Labels (6, 12, 20): one cell that lives for three frames, then two of half its size."""
    frames = np.zeros((6, 12, 20), np.int32)
    frames[:3, 3:9, 6:12] = 1
    frames[3:, 3:9, 4:7] = 5
    frames[3:, 3:9, 11:14] = 3
    return frames


def test_the_table_of_a_frame_holds_centres_areas_and_boxes(drawn: Drawn) -> None:
    (frame,) = drawn("2... 22.9 2..9")
    objects = objects_of(frame, scale=(1, 0.5))
    assert objects.labels.tolist() == [2, 9]
    assert objects.pixels.tolist() == [4, 2]
    assert objects.areas.tolist() == [2, 1]
    assert objects.centroids.tolist() == [[1, 0.125], [1.5, 1.5]]
    assert objects.boxes.tolist() == [[[0, 0], [3, 2]], [[1, 3], [3, 4]]]


def test_overlaps_are_the_pixels_that_two_frames_share() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 5, 6, 7))
    found = zip(*overlaps(objects_of(first), objects_of(second)), strict=True)
    expected = [(i, j, np.sum((first == i + 1) & (second == j + 1))) for i in range(3) for j in range(3)]
    assert [*found] == [pair for pair in expected if pair[2]]


def test_objects_keep_their_id_while_they_move(toy_labels: np.ndarray) -> None:
    frames = shuffled(toy_labels)
    linking = link(tabled(frames))
    tracks = relabelled(linking, frames)
    for old in (1, 2):
        new = tracks[toy_labels == old][0]
        assert np.array_equal(tracks == new, toy_labels == old)
    assert [(t.first, t.last, t.mother) for t in linking.lineage.values()] == [(0, 2, 0), (0, 2, 0)]


def test_a_drawn_division_yields_a_parent_and_two_daughters(division: np.ndarray) -> None:
    linking = link(tabled(division), frame_numbers=range(10, 16))
    assert [(t.id, t.first, t.last, t.mother) for t in linking.lineage.values()] == [
        (1, 10, 12, 0),
        (2, 13, 15, 1),
        (3, 13, 15, 1),
    ]
    assert linking.lineage.divisions == {1: (2, 3)}


def test_without_divisions_nobody_has_a_mother(division: np.ndarray) -> None:
    linking = link(tabled(division), config=LinkConfig(divisions=False))
    assert not linking.lineage.divisions
    assert len(linking.lineage) in (2, 3)


def test_a_piece_that_is_there_for_one_frame_is_no_daughter() -> None:
    frames = np.zeros((7, 12, 20), np.int32)
    frames[:, 3:9, 6:12] = 1
    frames[3, 3:9, 9:12] = 2
    linking = link(tabled(frames))
    assert not linking.lineage.divisions
    assert linking[0][1] == linking[6][1]


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_an_object_that_is_hidden_for_a_while_keeps_its_id(hidden: int) -> None:
    frames = np.zeros((8, 16, 16), np.int32)
    for t in range(8):
        square(frames[t], t + 1, 5, 3 + t // 2)
    frames[2 : 2 + hidden] = 0
    linking = link(tabled(frames))
    assert [(t.first, t.last) for t in linking.lineage.values()] == [(0, 7)]
    shorter = link(tabled(frames), config=LinkConfig(gap=hidden - 1))
    assert len(shorter.lineage) == 2


def test_two_objects_never_share_a_track_in_one_frame() -> None:
    frames = np.zeros((3, 16, 24), np.int32)
    square(frames[0], 1, 5, 4)
    square(frames[0], 2, 5, 10)
    frames[1, 5:10, 4:15] = 1  # both, grown together
    square(frames[2], 1, 5, 4)
    square(frames[2], 2, 5, 10)
    linking = link(tabled(frames))
    for t in range(3):
        assert len(set(linking[t].values())) == len(linking[t])


def test_objects_appear_and_disappear() -> None:
    frames = np.zeros((6, 20, 40), np.int32)
    for t in range(6):
        square(frames[t], 1, 2, 2)
    for t in range(2, 4):
        square(frames[t], 2, 12, 30)
    lineage = link(tabled(frames)).lineage
    assert [(t.first, t.last, t.mother) for t in lineage.values()] == [(0, 5, 0), (2, 3, 0)]


def test_frames_added_in_any_order_give_the_same_linking_again_and_again() -> None:
    frames = shuffled(simulate_movie("fluorescence", n_frames=8, shape=(96, 96), seed=1).labels)
    forward = link(tabled(frames))
    for seed in range(3):
        objects = MovieObjects()
        for t in np.random.default_rng(seed).permutation(len(frames)).tolist():
            objects.add(t, frames[t])
        again = link(objects)
        assert dict(again) == dict(forward)
        assert dict(again.lineage) == dict(forward.lineage)


def test_a_simulated_movie_is_linked_as_it_was_made() -> None:
    movie = simulate_movie("fluorescence", n_frames=16, shape=(160, 160), seed=2)
    frames = shuffled(movie.labels)
    tracks = relabelled(link(tabled(frames)), frames)
    links = right = 0
    for old in np.unique(movie.labels[movie.labels > 0]):
        for t in range(15):
            now, then = movie.labels[t] == old, movie.labels[t + 1] == old
            if now.any() and then.any():
                links += 1
                right += tracks[t][now][0] == tracks[t + 1][then][0]
    assert right / links > 0.97


def test_specks_far_from_each_other_are_tracks_of_one_frame() -> None:
    frames = np.zeros((6, 60, 60), np.int32)
    for t in range(6):
        square(frames[t], 1, 2, 2)
        square(frames[t], 2, 50 - 30 * (t % 2), 15 + 6 * t)
    lineage = link(tabled(frames)).lineage
    assert [(t.first, t.last, t.mother) for t in lineage.values()] == [(0, 5, 0), *((t, t, 0) for t in range(6))]
    nothing_near = link(tabled(np.where(frames == 2, frames, 0)))
    assert len(nothing_near.lineage) == 6


def test_movies_without_objects_have_no_tracks() -> None:
    assert not link(MovieObjects()).lineage
    empty = link(tabled(np.zeros((3, 8, 8), np.int32)))
    assert not empty.lineage
    assert dict(empty) == {0: {}, 1: {}, 2: {}}
    assert not empty.relabel(1, np.zeros((8, 8), np.int32)).any()


def test_one_object_in_one_frame_is_a_track() -> None:
    frames = np.zeros((4, 8, 8), np.int32)
    frames[2, 3, 3] = 9
    (track,) = link(tabled(frames)).lineage.values()
    assert (track.id, track.first, track.last, track.mother) == (1, 2, 2, 0)


def test_frames_that_are_not_there_are_not_seen() -> None:
    objects = MovieObjects()
    frame = np.zeros((12, 12), np.int32)
    square(frame, 4, 3, 3)
    for t in (2, 40, 4):  # position 3 is a gap that can be closed, 5 to 39 is not
        objects.add(t, frame)
    lineage = link(objects).lineage
    assert [(t.first, t.last) for t in lineage.values()] == [(2, 4), (40, 40)]


def test_stacks_are_linked_in_true_proportions() -> None:
    frames = np.zeros((2, 4, 12, 12), np.int32)
    frames[0, 0, 4:8, 4:8] = 1
    frames[0, 3, 4:8, 4:8] = 2
    frames[1, 0, 5:9, 4:8] = 2
    frames[1, 3, 5:9, 4:8] = 1
    linking = link(tabled(frames, scale=(5, 1, 1)))
    assert linking[0][1] == linking[1][2] != linking[0][2] == linking[1][1]


def test_more_than_a_thousand_objects_in_a_frame_are_linked() -> None:
    frames = np.zeros((2, 400, 400), np.int32)
    frames[0, 2:-4, 2:-4] = np.kron(np.arange(1, 1601).reshape(40, 40), np.pad(np.ones((6, 6), int), ((0, 4), (0, 4))))[
        2:-4, 2:-4
    ]
    frames[1] = np.roll(frames[0], (1, 1), (0, 1))
    linking = link(tabled(frames))
    assert linking[0] == linking[1]
    assert len(linking.lineage) == 1600


def test_relabel_says_what_is_not_a_track() -> None:
    assert relabel(np.array([[0, 3], [10**6, 3]]), {3: 1, 10**6: 2}).tolist() == [[0, 1], [2, 1]]
    with pytest.raises(ValueError, match="holds label 4, which has no track"):
        relabel(np.array([[0, 4]]), {3: 1})


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (np.zeros((4, 4)), "dtype float64"),
        (np.zeros(4, int), "1 axes"),
        (np.full((2, 2), -1), "hold -1; labels must be 0 or more"),
    ],
)
def test_what_is_no_frame_of_labels_is_refused(labels: np.ndarray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MovieObjects().add(0, labels)


def test_frames_of_different_sizes_are_refused() -> None:
    objects = MovieObjects()
    objects.add(0, np.zeros((4, 4), int))
    with pytest.raises(ValueError, match=r"Frame 1 is \(4, 5\) pixels, others are \(4, 4\)"):
        objects.add(1, np.zeros((4, 5), int))
    with pytest.raises(ValueError, match="position of a frame is -1"):
        objects.add(-1, np.zeros((4, 4), int))
    with pytest.raises(ValueError, match="scale"):
        MovieObjects((1, 1, 1)).add(0, np.zeros((4, 4), int))


def test_frame_numbers_that_do_not_fit_are_refused(toy_labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="position 2 of the movie but 2 frame numbers"):
        link(tabled(toy_labels), frame_numbers=[0, 1])
    with pytest.raises(ValueError, match="Frame number 1 follows 5; frame numbers must rise"):
        link(tabled(toy_labels), frame_numbers=[5, 1, 2])


def test_objects_that_came_after_linking_are_kept_apart_from_all_tracks() -> None:
    frames = np.zeros((2, 20, 20), np.uint16)
    square(frames[0], 3, 2, 2)
    square(frames[1], 5, 2, 2)
    linking = link(tabled(frames))
    square(frames[1], 9, 12, 12)
    square(frames[1], 1, 12, 2)  # a number that a track has, but nothing of this frame
    with pytest.raises(ValueError, match="has no track"):
        linking.relabel(1, frames[1])
    found = linking.relabel(1, frames[1], strangers=True)
    assert found[4, 4] == linking.relabel(0, frames[0])[4, 4] == 1
    assert sorted(np.unique(found).tolist()) == [0, 1, 2, 3]
