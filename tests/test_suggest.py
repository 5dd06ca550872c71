"""Which frame to annotate next: the ranking follows what is seen of the frames, and says why."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from toy_clip import VARIED, quick, tiny_parent, toy_frames

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.expected_accuracy import (
    HELD_OUT,
    LEARNED,
    ExpectedAccuracy,
    PaintFit,
    expected_accuracy,
    expected_logit,
)
from napari_osvos.finetune import FineTuner
from napari_osvos.held_out import HeldOutScore
from napari_osvos.segmenter import FramePrediction
from napari_osvos.suggest import REASONS, FrameReview, Suggestion, suggest_frames

HELD = HeldOutScore(
    "4 blocks of frame 0", (90.0,) * 4, (100.0,) * 4, (90.0,) * 4, (100.0,) * 4, (3,) * 4, (4,) * 4, (3,) * 4
)


def _prediction(frame: int, confidence: float, novelty: float = 0.0, shift: int = 0) -> FramePrediction:
    labels = np.zeros((64, 64), np.uint16)
    labels[20:40, 10 + shift : 30 + shift] = 1
    return FramePrediction(frame, labels, labels.astype(np.float32), confidence, 0.1, novelty)


def _review(
    confidences: list[float], annotated: tuple[int, ...] = (0,), held: HeldOutScore | None = None
) -> FrameReview:
    review = FrameReview(len(confidences), annotated, held)
    for t, confidence in reversed(list(enumerate(confidences))):
        review.add(_prediction(t, confidence))
    return review


def test_the_least_confident_frame_comes_first_and_annotated_ones_not_at_all() -> None:
    confidences = [0.5] + [0.95] * 19 + [0.2] + [0.95] * 19
    ranking = _review(confidences).ranking()
    assert ranking[0].frame == 20
    assert ranking[0].reason == "borders uncertain"
    assert {s.frame for s in ranking} == set(range(1, 40))
    assert [s.gain for s in ranking] == sorted((s.gain for s in ranking), reverse=True)
    assert min(ranking, key=lambda s: s.confidence).frame == 20
    assert all(0 <= s.gain <= 1 and 0 <= s.confidence <= 1 and s.reason in REASONS for s in ranking)


def test_the_second_suggestion_is_not_the_neighbour_of_the_first() -> None:
    """Two stretches are doubtful: the paint of one frame settles its neighbours."""
    confidences = [0.95] * 60
    confidences[20:25] = [0.3] * 5
    confidences[45:50] = [0.4] * 5
    chosen = [s.frame for s in _review(confidences, (0, 15, 30, 38, 59)).ranking()[:2]]
    assert sorted(20 <= frame < 25 for frame in chosen) == [False, True]
    assert sorted(45 <= frame < 50 for frame in chosen) == [False, True]


def test_the_reason_is_what_speaks_most_for_the_frame() -> None:
    def first(novelty: int = -1, jump: int = -1) -> Suggestion:
        review = FrameReview(20, (0, 6, 13, 19))
        for t in range(20):
            review.add(_prediction(t, 0.9, float(t == novelty), 30 if t == jump else 0))
        return next(s for s in review.ranking() if s.frame in (novelty, jump))

    assert first(novelty=9).reason == "objects unlike those painted"
    assert first(jump=9).reason == "jumps against its neighbours"
    far = FrameReview(20, (0,))
    for t in range(20):
        far.add(_prediction(t, 0.9))
    assert far.ranking()[0].reason == "far from the painted frames"


@pytest.mark.parametrize("confidences", [[0.9], [0.9, 0.9], [1.0, 0.0, 1.0]])
def test_short_and_even_movies_are_ranked_without_a_warning(confidences: list[float]) -> None:
    ranking = _review(confidences).ranking()
    assert len(ranking) == len(confidences) - 1
    assert _review(confidences, (), HELD).expected() is not None


def test_frames_that_were_not_predicted_are_not_ranked() -> None:
    review = FrameReview(100, (0,))
    assert review.ranking() == ()
    assert review.expected() is None
    review.add(_prediction(7, 0.8))
    assert [s.frame for s in review.ranking()] == [7]


def test_a_suggestion_goes_through_json() -> None:
    one = _review([0.9, 0.5, 0.7]).ranking()[0]
    assert Suggestion.from_dict(json.loads(json.dumps(one.to_dict()))) == one


# -- expected accuracy -----------------------------------------------------------------------------


def test_without_held_out_paint_nothing_is_said_of_accuracy() -> None:
    assert _review([0.9] * 5).expected() is None


def test_equal_confidence_gives_what_was_measured() -> None:
    expected = _review([0.9] * 5, held=HELD).expected()
    assert expected is not None
    assert expected.j == pytest.approx(0.9)
    assert expected.j_low < 0.9 < expected.j_high
    assert expected.f1 == pytest.approx(24.5 / 29)
    assert expected.f1_low is not None
    assert expected.f1_high is not None
    assert expected.f1_low < expected.f1 < expected.f1_high
    assert expected.in_words.startswith("J 0.90 (")
    assert expected.in_words.endswith("from 4 blocks of frame 0")


def test_what_j_fell_short_of_the_confidence_where_paint_is_known_is_taken_off() -> None:
    """HELD was found as surely as well; of learned paint an odds of 9 was expected and one of 4 was there."""
    fit = PaintFit(j=0.8, confidence=0.9)
    assert expected_logit(HELD, fit, 1.0) == pytest.approx(1.0 + LEARNED * np.log(4 / 9))
    blocks = HeldOutScore("", (80.0,), (100.0,), (90.0,), (100.0,))
    assert expected_logit(blocks, None, 1.0) == pytest.approx(1.0 + HELD_OUT * np.log(4 / 9))
    assert expected_logit(blocks, fit, 1.0) == pytest.approx(1.0 + (HELD_OUT + LEARNED) * np.log(4 / 9))


def test_objects_are_expected_to_be_found_better_where_pixels_are() -> None:
    better, as_measured = (expected_accuracy(HELD, np.full(3, j)).f1 for j in (0.95, 0.9))
    assert better is not None
    assert as_measured is not None
    assert better / (1 - better) / (as_measured / (1 - as_measured)) == pytest.approx(19 / 9)


def test_the_range_is_wider_where_blocks_disagree() -> None:
    even = expected_accuracy(HELD, np.full(3, 0.9))
    uneven = expected_accuracy(
        HeldOutScore("", (100.0, 60.0, 100.0, 100.0), (100.0,) * 4, (90.0,) * 4, (100.0,) * 4), np.full(3, 0.9)
    )
    assert uneven.j_high - uneven.j_low > even.j_high - even.j_low
    assert uneven.f1 is None


def test_perfect_blocks_give_a_range_within_0_and_1() -> None:
    perfect = expected_accuracy(HeldOutScore("", (9.0,), (9.0,), (9.0,), (9.0,), (2,), (2,), (2,)), np.ones(2))
    values = [perfect.j_low, perfect.j, perfect.j_high, perfect.f1_low, perfect.f1, perfect.f1_high]
    assert all(value is not None and 0 <= value <= 1 for value in values)
    assert all(a <= b for a, b in itertools.pairwise([perfect.j_low, perfect.j, perfect.j_high]))
    assert ExpectedAccuracy.from_dict(json.loads(json.dumps(perfect.to_dict()))) == perfect


# -- with a real network ---------------------------------------------------------------------------


def test_a_frame_that_looks_different_is_suggested() -> None:
    """The object is bright in all frames but in the seventh, where it is faint under strong noise."""
    frames, truth = toy_frames(5)
    movie = np.concatenate([frames, frames])
    rng = np.random.default_rng(3)
    movie[7] = (60 + 25 * truth[2] + rng.normal(0, 30, truth[2].shape)).clip(0, 255)
    clip = Clip(movie)
    annotations = Annotations.from_labels(np.concatenate([truth, truth]), frames=(0,))
    segmenter = FineTuner(tiny_parent(), quick(steps=60), device="cpu", augment=VARIED).fit(clip, annotations)
    review = FrameReview.of(segmenter, clip)
    novelty = {}
    for prediction in segmenter.iter_frames(clip):
        review.add(prediction)
        assert prediction.novelty is not None
        novelty[prediction.frame] = prediction.novelty
    assert max(novelty, key=lambda t: novelty[t]) == 7
    assert review.ranking()[0].frame == 7
    assert min(review.ranking(), key=lambda s: s.confidence).frame == 7
    assert suggest_frames(segmenter, clip) == review.ranking()
    assert 7 not in [s.frame for s in suggest_frames(segmenter, clip, (0, 7))]
    fit = PaintFit.of(segmenter.provenance)
    assert fit is not None
    painted = next(segmenter.iter_frames(clip, [0]))
    known = np.logical_and(painted.labels, truth[0]).sum() / np.logical_or(painted.labels, truth[0]).sum()
    assert fit.j == pytest.approx(known)
    assert fit.confidence == pytest.approx(painted.confidence, abs=1e-4)


def test_frames_that_are_painted_in_part_tell_how_well_paint_is_found() -> None:
    frames, truth = toy_frames(3)
    known = np.zeros(truth[0].shape, bool)
    known[: truth.shape[1] // 2] = True
    labels = np.where(known, np.where(truth[0] > 0, 1, 2), 0)
    annotations = Annotations.from_labels(labels[None], partial=(0,), background_label=2)
    segmenter = FineTuner(tiny_parent(), quick(steps=60), device="cpu", augment=VARIED).fit(Clip(frames), annotations)
    fit = PaintFit.of(segmenter.provenance)
    assert fit is not None
    found, painted = next(segmenter.iter_frames(Clip(frames), [0])).labels[known] > 0, truth[0][known] > 0
    assert fit.j == pytest.approx((found & painted).sum() / (found | painted).sum())
