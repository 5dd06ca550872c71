"""Scores of whole movies against answers counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_osvos.evaluation import evaluate
from napari_osvos.labels import Labels


@pytest.fixture
def truth() -> np.ndarray:
    """Four frames of 20 x 24 with one square of 4 x 4, which moves right by 1 px a frame."""
    labels = np.zeros((4, 20, 24), np.uint16)
    for t in range(4):
        labels[t, 8:12, 8 + t : 12 + t] = 3
    return labels


def test_perfect_labels_score_1(truth):
    scores = evaluate(truth > 0, truth)
    assert scores.frames == (0, 1, 2, 3)
    assert scores.j == scores.f == scores.f_2px == (1, 1, 1, 1)
    assert scores.tolerance == 1  # 0.8 % of 31 px, rounded up
    assert (scores.j_mean, scores.f_mean, scores.f_2px_mean) == (1, 1, 1)


def test_a_mask_that_stays_behind(truth):
    stays = np.repeat(truth[:1], 4, axis=0)
    scores = evaluate(stays, truth)
    assert scores.j == (1, 12 / 20, 8 / 24, 4 / 28)
    assert scores.region_similarity.recall == 0.5
    assert scores.f[1] == 1  # within 1 px
    assert scores.f[2] < 1
    assert scores.f_2px[2] == 1
    assert scores.f_2px[3] < 1


def test_skipped_frames_are_left_out(truth):
    stays = np.repeat(truth[:1], 4, axis=0)
    scores = evaluate(stays, truth, skip_frames=[0, 3])
    assert scores.frames == (1, 2)
    assert scores.skipped == (0, 3)
    assert scores.j == (12 / 20, 8 / 24)


def test_a_border_is_left_out(truth):
    dirty = truth.copy()
    dirty[:, :2] = 1
    dirty[:, :, -2:] = 1
    assert evaluate(dirty, truth).j_mean < 0.5
    scores = evaluate(dirty, truth, border=2)
    assert scores.j == scores.f == (1, 1, 1, 1)
    assert scores.border == 2


def test_sparse_truth_is_matched_by_its_numbers(truth):
    sparse = Labels(truth[[1, 3]], frame_numbers=[1, 3])
    assert evaluate(truth, sparse).frames == (1, 3)
    assert evaluate(truth, sparse).j == (1, 1)
    assert evaluate(truth, sparse, skip_frames=[0, 1]).frames == (3,)  # frame 0 is annotated but has no truth


def test_both_may_be_sparse(truth):
    found = Labels(truth[[0, 3, 2]], frame_numbers=[40, 43, 42])
    wanted = Labels(truth[1:], frame_numbers=[41, 42, 43])
    scores = evaluate(found, wanted)
    assert scores.frames == (42, 43)
    assert scores.j == (1, 1)


def test_numbers_given_for_the_labels(truth):
    wanted = Labels(truth, frame_numbers=[10, 20, 30, 40])
    scores = evaluate(truth[[1, 3]], wanted, frame_numbers=[20, 40])
    assert scores.frames == (20, 40)
    assert scores.j == (1, 1)


def test_as_many_frames_without_numbers_are_taken_in_order(truth):
    numbered = Labels(truth, frame_numbers=[10, 20, 30, 40])
    assert evaluate(truth, numbered).frames == (10, 20, 30, 40)
    assert evaluate(numbered, truth, skip_frames=[10]).frames == (20, 30, 40)


def test_numbers_of_the_labels_are_positions_in_a_plain_truth(truth):
    found = Labels(truth[[2, 3]], frame_numbers=[2, 3])
    scores = evaluate(found, truth)
    assert scores.frames == (2, 3)
    assert scores.j == (1, 1)


def test_volumes(truth):
    volumes = np.stack([truth, np.zeros_like(truth)], axis=1)
    filled = np.stack([truth, truth], axis=1)
    assert evaluate(filled, volumes).j == (0.5,) * 4


def test_scores_as_dict_and_text(truth):
    scores = evaluate(np.repeat(truth[:1], 4, axis=0), truth, skip_frames=[0], border=1)
    plain = json.loads(json.dumps(scores.to_dict()))
    assert plain["frames"] == [1, 2, 3]
    assert plain["J"]["mean"] == pytest.approx((12 / 20 + 8 / 24 + 4 / 28) / 3)
    assert plain["F2px"]["per_frame"] == list(scores.f_2px)
    table = scores.to_markdown(per_frame=True)
    assert "| J | 0.359 | 0.333 |" in table
    assert "| 3 | 0.143 |" in table
    assert str(scores).startswith("J 0.359, F ")
    assert str(scores).endswith("3 frames scored, without frame 0, without 1 px along the edges.")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"border": 10}, "The border is 10 px; in frames of 20 x 24 pixels it may be 0 to 9"),
        ({"border": -1}, "The border is -1 px"),
        ({"skip_frames": [0, 1, 2, 3]}, r"No frame is left to score: all frames with truth \(0 to 3\) are skipped"),
        ({"skip_frames": [0, 17]}, "There is no frame 17 to skip; the truth has 0 to 3"),
    ],
)
def test_bad_settings_get_their_sentence(truth, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate(truth, truth, **options)


def test_movies_that_do_not_fit_get_their_sentence(truth):
    with pytest.raises(ValueError, match="frames of 20 x 23 pixels and the truth of 20 x 24; they must be the same"):
        evaluate(truth[:, :, 1:], truth)
    with pytest.raises(ValueError, match="have 3 frames and the truth 4, and neither says which they are"):
        evaluate(truth[1:], truth)
    with pytest.raises(ValueError, match=r"\(frames 7, 8\) and the truth \(frames 1, 2\) have no frame in common"):
        evaluate(Labels(truth[:2], frame_numbers=[7, 8]), Labels(truth[:2], frame_numbers=[1, 2]))
    with pytest.raises(ValueError, match=r"Frame 0 of The labels holds the value 0\.5; labels must be whole numbers"):
        evaluate(np.full(truth.shape, 0.5), truth)
