"""Simulated movies: the truth fits the frames, and cells move, divide and come and go."""

from __future__ import annotations

import numpy as np
import pytest

from napari_osvos.sample_data import LOOKS, simulate_movie


@pytest.fixture(scope="module")
def long_movie():
    return simulate_movie("fluorescence", n_frames=30, shape=(96, 112), seed=1)


@pytest.mark.parametrize("look", LOOKS)
def test_each_look(look):
    movie = simulate_movie(look, n_frames=2, shape=(64, 80), seed=3)
    assert movie.look == look
    assert movie.frames.shape == movie.labels.shape == (2, 64, 80)
    assert movie.frames.dtype == (np.uint16 if look == "fluorescence" else np.uint8)
    assert movie.labels.dtype == np.uint16
    inside = movie.labels > 0
    assert 0.03 < inside.mean() < 0.6
    assert movie.frames.std() > 0
    edge_or_body = abs(float(movie.frames[inside].mean()) - float(movie.frames[~inside].mean()))
    texture = abs(float(movie.frames[inside].std()) - float(movie.frames[~inside].std()))
    assert max(edge_or_body, texture) > 0.1 * movie.frames.std()


def test_the_same_seed_gives_the_same_movie():
    first, again, other = (simulate_movie("dic", 3, (48, 48), seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_labels_count_up_in_the_order_of_appearance(long_movie):
    seen = 0
    for frame in long_movie.labels:
        present = np.unique(frame[frame > 0])
        new = present[present > seen]
        np.testing.assert_array_equal(new, np.arange(seen + 1, seen + 1 + new.size))
        seen += new.size
    assert seen == long_movie.labels.max()


def test_a_cell_keeps_its_label_and_stays_near(long_movie):
    for before, after in zip(long_movie.labels, long_movie.labels[1:], strict=False):
        for label in np.intersect1d(before[before > 0], after[after > 0]):
            steps = [np.argwhere(frame == label).mean(0) for frame in (before, after)]
            assert np.hypot(*(steps[1] - steps[0])) < 12


def test_cells_divide_into_daughters_with_new_labels(long_movie):
    assert long_movie.mothers
    for daughter, mother in long_movie.mothers.items():
        lives = [np.flatnonzero((long_movie.labels == label).any((1, 2))) for label in (mother, daughter)]
        assert mother < daughter
        assert lives[0].max() < lives[1].min()


def test_cells_enter_and_leave(long_movie):
    first = set(np.unique(long_movie.labels[0])) - {0}
    born = set(long_movie.mothers)
    everybody = set(range(1, int(long_movie.labels.max()) + 1))
    assert everybody - first - born  # entered
    gone = everybody - set(np.unique(long_movie.labels[-1])) - set(long_movie.mothers.values())
    assert gone  # left


def test_slices_of_em_do_not_divide():
    assert not simulate_movie("em", n_frames=12, shape=(48, 48), seed=0).mothers


@pytest.mark.parametrize("count", [1, 7, 40])
def test_the_number_of_objects_at_the_start(count):
    labels = simulate_movie("phase", n_frames=1, shape=(96, 96), n_objects=count, seed=2).labels
    assert abs((np.unique(labels).size - 1) - count) <= 2 + 0.4 * count  # neighbours of the frame may reach in


@pytest.mark.parametrize("shape", [(16, 16), (33, 150)])
def test_odd_and_tiny_sizes(shape):
    movie = simulate_movie("brightfield", n_frames=2, shape=shape)
    assert movie.frames.shape == (2, *shape)
    assert movie.labels.any()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"look": "x-ray"}, "Unknown look 'x-ray': choose one of fluorescence, phase, dic, brightfield, em"),
        ({"n_frames": 0}, "at least 1 frame, not 0"),
        ({"shape": (4, 64)}, r"at least 16 pixels each, not \(4, 64\)"),
        ({"n_objects": 0}, "at least 1 object, not 0"),
    ],
)
def test_bad_settings_get_their_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulate_movie(**settings)
