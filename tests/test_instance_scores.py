"""Scores of objects against answers counted by hand."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from ctc_metrics.utils.representations import match
from tifffile import imwrite

from napari_osvos.instance_scores import FrameMatches, InstanceScores, instance_scores, object_overlap


def _score(*pairs: tuple[np.ndarray, np.ndarray], border: int = 0) -> InstanceScores:
    """Scores of pairs of frames, (labels, truth)."""
    matches = [FrameMatches.of(object_overlap(labels, truth, border=border)) for labels, truth in pairs]
    return instance_scores(range(len(pairs)), matches)


def _counts(labels: np.ndarray, truth: np.ndarray, iou: float = 0.5) -> tuple[int, int, int]:
    """Matched, spurious and missed objects of one frame."""
    overlap = object_overlap(labels, truth)
    n = overlap.matched_at(iou)
    return n, len(overlap.found) - n, len(overlap.wanted) - n


def test_overlap_is_a_table_of_objects_that_share_pixels(drawn):
    found, truth = drawn("77.99 77.99 ..... 5....", "11111 11111 ..... .3...")
    overlap = object_overlap(found, truth)
    assert overlap.found.tolist() == [5, 7, 9]
    assert overlap.wanted.tolist() == [1, 3]
    assert overlap.found_sizes.tolist() == [1, 4, 4]
    assert overlap.wanted_sizes.tolist() == [10, 1]
    assert sorted(zip(*overlap.pairs.tolist(), overlap.shared.tolist(), strict=True)) == [(1, 0, 4), (2, 0, 4)]
    assert overlap.unions.tolist() == [10, 10]


def test_numbers_of_labels_do_not_matter(drawn):
    found, truth = drawn("11.22 11.22", "55.44 55.44")
    scores = _score((found.astype(np.int64) * 100_000_000, truth))
    assert (scores.at_50.f1, scores.at_75.f1, scores.seg) == (1, 1, 1)


def test_an_object_that_was_split_in_two_unequal_parts(drawn):
    found, truth = drawn("111122 111122", "333333 333333")
    scores = _score((found, truth))  # IoU 8 / 12 and 4 / 12
    assert _counts(found, truth) == (1, 1, 0)
    assert _counts(found, truth, 0.75) == (0, 2, 1)
    assert scores.at_50.f1 == 2 / 3
    assert (scores.at_50.precision, scores.at_50.recall) == (1 / 2, 1)
    assert scores.at_75.f1 == 0
    assert scores.seg == 8 / 12


def test_two_objects_that_were_merged(drawn):
    found, truth = drawn("111111 111111", "223333 223333")
    scores = _score((found, truth))  # the one found covers both: IoU 4 / 12 and 8 / 12
    assert _counts(found, truth) == (1, 0, 1)
    assert scores.at_50.recall == 1 / 2
    assert scores.seg == pytest.approx((4 / 12 + 8 / 12) / 2)


def test_an_object_missed_and_another_in_vain(drawn):
    found, truth = drawn("11...2 11...2", "33.4.. 33.4..")
    scores = _score((found, truth))
    assert _counts(found, truth) == (1, 1, 1)
    assert (scores.at_50.f1, scores.at_50.precision, scores.at_50.recall) == (0.5, 0.5, 0.5)
    assert scores.seg == 1 / 2  # one in vain costs nothing


def test_an_iou_of_exactly_one_half_matches_once(drawn):
    half, truth = drawn("11.. 11..", "3333 3333")
    assert _counts(half, truth) == (1, 0, 0)
    assert _counts(half[:1], truth[:1], 0.51) == (0, 1, 1)
    assert _score((half, truth)).seg == 0  # the challenge wants more than half of the object
    halves = drawn("1122 1122")[0]
    assert _counts(halves, truth) == (1, 1, 0)
    assert _counts(truth, halves) == (1, 0, 1)


def test_where_halves_tie_as_many_pairs_are_made_as_can_be(drawn):
    """Objects of the truth A of a, b and B of b, c, of 2 pixels each: a taken for A leaves b for B."""
    found, truth = drawn("1.23", "4455")
    assert object_overlap(found, truth).matched_at(0.5) == 2
    found, truth = drawn("1122.. 1122..", ".3344. .3344.")  # each pair shares 2 of 6 pixels
    assert object_overlap(found, truth).matched_at(1 / 3) == 2


def test_counts_are_summed_over_the_movie_not_averaged(drawn):
    one, four = drawn("1... ....", "1.2. 3.4.")
    nothing = np.zeros_like(one)
    scores = _score((one, one), (nothing, four))
    assert scores.at_50.matched == (1, 0)
    assert scores.at_50.spurious == (0, 0)
    assert scores.at_50.missed == (0, 4)
    assert scores.at_50.f1 == 2 / 6
    assert scores.at_50.f1_per_frame == (1, 0)
    assert scores.seg == 1 / 5
    assert scores.seg_per_frame == (1, 0)


def test_empty_frames(drawn):
    some = drawn("1.2. ....")[0]
    nothing = np.zeros_like(some)
    both = _score((nothing, nothing))
    assert (both.at_50.f1, both.at_50.precision, both.at_50.recall, both.seg) == (1, 1, 1, 1)
    missed = _score((nothing, some))
    assert (missed.at_50.f1, missed.at_50.precision, missed.at_50.recall, missed.seg) == (0, 0, 0, 0)
    spurious = _score((some, nothing))
    assert (spurious.at_50.f1, spurious.at_50.precision, spurious.at_50.recall, spurious.seg) == (0, 0, 0, 0)


def test_empty_frames_add_nothing_to_a_movie(drawn):
    some = drawn("1.2. ....")[0]
    nothing = np.zeros_like(some)
    scores = _score((some, some), (nothing, nothing))
    assert (scores.at_50.f1, scores.seg) == (1, 1)
    assert scores.at_50.matched == (2, 0)


def test_volumes(drawn):
    found, truth = drawn("11.. 11.. ....", "11.. 11.. ...."), drawn("11.. 11.. ....", ".... .... ...2")
    scores = _score((found, truth))  # 4 of 8 voxels; the other is missed
    assert scores.at_50.matched == (1,)
    assert scores.at_50.missed == (1,)
    assert scores.seg == (4 / 8) / 2


def test_objects_outside_of_the_inner_field_do_not_count_and_others_count_whole(drawn):
    found, truth = drawn(
        """
        11......
        11.222..
        ...222..
        ...222.3
        .......3
        """,
        """
        ........
        ...222..
        ...222..
        .44222..
        .44.....
        """,
    )
    overlap = object_overlap(found, truth, border=2)  # the inner field is a row of 4 pixels
    assert overlap.found.tolist() == [2]
    assert overlap.wanted.tolist() == [2]
    assert overlap.found_sizes.tolist() == [9]  # pixels in the band, too
    assert overlap.shared.tolist() == [9]
    assert _score((found, truth)).at_50.f1 == 2 / 5
    assert _score((found, truth), border=2).at_50.f1 == 1
    assert _score((found, truth), border=1).at_50.missed == (1,)  # 4 has a pixel in the field, 3 has none
    assert _score((found, truth), border=1).at_50.spurious == (1,)  # 1 has one


def test_bands_lie_along_y_and_x_only(drawn):
    volume = np.stack([drawn(".... .1.. .... ....")[0], np.zeros((4, 4), np.uint16)])
    assert object_overlap(volume, volume, border=1).found.tolist() == [1]


def test_matches_are_those_of_the_library(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(5):
        truth = np.kron(rng.integers(0, 9, (6, 6)), np.ones((5, 5), int)).astype(np.uint16)
        found = np.roll(truth, rng.integers(0, 3), axis=rng.integers(0, 2)) + np.where(truth > 6, 5, 0)
        imwrite(tmp_path / "truth.tif", truth)
        imwrite(tmp_path / "found.tif", found.astype(np.int32))  # the library adds to it in place
        _, _, wanted, partners, ious = match(str(tmp_path / "truth.tif"), str(tmp_path / "found.tif"))
        overlap = object_overlap(found, truth)
        covered = overlap.covered()
        rows, columns = overlap.pairs[:, covered]
        ours = zip(
            overlap.wanted[columns], overlap.found[rows], (overlap.shared / overlap.unions)[covered], strict=True
        )
        assert len(wanted) > 5, k
        assert sorted(ours) == sorted(zip(wanted, partners, ious, strict=True))


def test_five_thousand_objects_in_a_frame():
    truth = np.kron(np.arange(1, 5001).reshape(50, 100), np.ones((8, 8), np.int32))
    found = np.roll(truth, 1, axis=1)
    tracemalloc.start()
    scores = _score((found, truth))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6  # a table of all by all has 200 MB
    assert scores.at_75.matched == (5000,)
    assert scores.seg == pytest.approx(56 / 72)


def test_scores_as_dict(drawn):
    found, truth = drawn("11...2 11...2", "33.4.. 33.4..")
    plain = json.loads(json.dumps(_score((found, truth)).to_dict()))
    assert plain["F1@0.5"] == {
        "value": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "matched": 1,
        "spurious": 1,
        "missed": 1,
        "per_frame": [0.5],
    }
    assert set(plain) == {"F1@0.5", "F1@0.75", "SEG"}
    assert plain["SEG"] == {"value": 0.5, "per_frame": [0.5]}


def test_bad_input_gets_its_sentence(drawn):
    one = drawn("1. ..")[0]
    with pytest.raises(ValueError, match=r"have the same shape .* not \(2, 2\) and \(2, 1\)"):
        object_overlap(one, one[:, 1:])
    with pytest.raises(ValueError, match="The IoU from which on objects match is 0; it must be above 0 and at most 1"):
        object_overlap(one, one).matched_at(0)
