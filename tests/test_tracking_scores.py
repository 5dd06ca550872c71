"""Scores of tracks against answers counted by hand, and against py-ctcmetrics run on folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ctc_metrics.scripts.evaluate import evaluate_sequence
from tifffile import imwrite

from napari_osvos.instance_scores import object_overlap
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.tracking_scores import (
    TrackingScores,
    check_lineage,
    find_track_truth,
    read_tracked_labels,
    tracking_scores,
)

SEVEN = Lineage([Track(1, 0, 1), Track(2, 2, 3, 1), Track(3, 2, 3, 1), Track(4, 0, 3)])


@pytest.fixture
def truth(drawn) -> np.ndarray:
    """Four frames: 1 divides into 2 and 3 after frame 1; 4 stays. 10 objects, 6 links within tracks, 2 to daughters."""
    before, after = "11.... 11..44 11..44 ......", "22.... 22..44 ....44 33...."
    return drawn(before, before, after, after)


def _score(
    labels: np.ndarray,
    truth: np.ndarray,
    lineage: Lineage | None = None,
    truth_lineage: Lineage | None = None,
    *,
    numbers: Sequence[int] | None = None,
    border: int = 0,
) -> TrackingScores:
    frames = [object_overlap(*each, border=border) for each in zip(labels, truth, strict=True)]
    numbered = zip(numbers or range(len(frames)), frames, strict=True)
    return tracking_scores(numbered, lineage=lineage, truth_lineage=truth_lineage)


def _mended(scores: TrackingScores) -> dict[str, int]:
    """The corrections that were needed at all."""
    return {name: n for name, n in vars(scores.corrections).items() if n}


def test_perfect_tracks(truth):
    scores = _score(
        truth * 3, truth, Lineage(Track(t.id * 3, t.first, t.last, t.mother * 3) for t in SEVEN.values()), SEVEN
    )
    assert (scores.det, scores.tra) == (1, 1)
    assert (scores.n_objects, scores.n_links) == (10, 8)
    assert scores.frames == (0, 1, 2, 3)
    assert scores.divisions
    assert not _mended(scores)


def test_a_division_that_was_missed(truth):
    scores = _score(truth, truth, None, SEVEN)
    assert scores.det == 1
    assert _mended(scores) == {"missing_links": 2}
    assert scores.tra == pytest.approx(1 - 2 * 1.5 / (10 * 10 + 8 * 1.5))


def test_a_division_taken_for_a_cell_that_lives_on(truth):
    lives_on = np.where(truth == 2, 1, truth)
    scores = _score(lives_on, truth, None, SEVEN)
    assert _mended(scores) == {"wrong_links": 1, "missing_links": 1}
    assert scores.tra == pytest.approx(1 - (1 + 1.5) / 112)


def test_a_division_that_is_none(truth):
    same = truth.copy()
    same[2:][truth[2:] == 4] = 5
    scores = _score(same, truth, Lineage([*SEVEN.values()][:3] + [Track(4, 0, 1), Track(5, 2, 3, 4)]), SEVEN)
    assert _mended(scores) == {"wrong_links": 1}


def test_divisions_are_not_scored_where_the_truth_tells_none(truth):
    scores = _score(truth, truth, SEVEN)
    assert not scores.divisions
    assert scores.tra == 1
    assert scores.n_links == 6


def test_two_ids_that_change_places(drawn):
    frame = "11..22 11..22"
    truth = drawn(frame, frame, frame, frame)
    switched = truth.copy()
    switched[2:] = np.array([0, 2, 1])[truth[2:]]
    scores = _score(switched, truth)
    assert scores.det == 1
    assert _mended(scores) == {"missing_links": 2, "spurious_links": 2}
    assert scores.tra == pytest.approx(1 - (2 * 1.5 + 2 * 1) / (8 * 10 + 6 * 1.5))


def test_an_object_missed_in_the_middle(truth):
    hole = truth.copy()
    hole[1][truth[1] == 4] = 0
    scores = _score(hole, truth, SEVEN, SEVEN)
    # over the gap the track found goes on by a link that the truth does not have
    assert _mended(scores) == {"missed": 1, "missing_links": 2, "spurious_links": 1}
    assert scores.det == pytest.approx(1 - 10 / 100)
    assert scores.tra == pytest.approx(1 - (10 + 2 * 1.5 + 1) / 112)


def test_an_object_hidden_in_the_truth_is_linked_over_the_gap(drawn):
    shown, hidden = "11..22 11..22", "11.... 11...."
    truth = drawn(shown, hidden, hidden, shown)
    scores = _score(truth, truth)
    assert scores.n_links == 4
    assert scores.tra == 1
    other = truth.copy()
    other[3][truth[3] == 2] = 3
    assert _mended(_score(other, truth)) == {"missing_links": 1}


def test_spurious_and_merged_objects(truth):
    more = truth.copy()
    more[:, 3, 5] = 9
    assert _score(more, truth, None, None).det == pytest.approx(1 - 4 * 1 / 100)
    assert _mended(_score(more, truth)) == {"spurious": 4}  # their links go with them
    merged = truth.copy()
    merged[3][truth[3] == 3] = 2
    scores = _score(merged, truth)
    assert _mended(scores) == {"splits": 1, "missing_links": 2}
    assert scores.det == pytest.approx(1 - 5 / 100)


def test_no_objects(truth):
    nothing = np.zeros_like(truth)
    neither, none_found, in_vain = _score(nothing, nothing), _score(nothing, truth, None, SEVEN), _score(truth, nothing)
    assert (neither.det, neither.tra) == (1, 1)
    assert (none_found.det, none_found.tra) == (0, 0)
    assert _mended(none_found) == {"missed": 10, "missing_links": 8}
    assert (in_vain.det, in_vain.tra) == (0, 0)


@pytest.mark.parametrize("kept", [[0], [0, 2], [0, 1, 3]])
def test_frames_that_are_not_consecutive_have_no_tra(truth, kept):
    scores = _score(truth[kept], truth[kept], numbers=kept)
    assert scores.det == 1
    assert scores.tra is None
    assert scores.n_links == 0


def test_frames_need_not_begin_at_0(truth):
    assert _score(truth, truth, numbers=[40, 41, 42, 43]).tra == 1


def test_outside_of_the_field_there_are_no_tracks(drawn):
    truth = drawn("1...... .......", "..1.... .......", "....... ......1", "...1... .......")
    found = np.where(truth == 1, 5, 0)
    found[2] = 0  # what was missed there does not count
    truth, found = (np.pad(each, ((0, 0), (1, 1), (0, 0))) for each in (truth, found))
    assert _score(found, truth).det < 1
    scores = _score(found, truth, border=1)
    assert (scores.det, scores.tra) == (1, 1)
    assert (scores.n_objects, scores.n_links) == (2, 1)


def test_volumes(truth):
    volumes = np.stack([truth, truth], axis=1)
    assert _score(volumes, volumes, SEVEN, SEVEN).tra == 1


def test_five_thousand_objects_a_frame():
    truth = np.kron(np.arange(1, 5001).reshape(50, 100), np.ones((2, 2), np.int32))[np.newaxis].repeat(3, axis=0)
    found = truth.copy()
    found[1][truth[1] % 10 == 0] = 0
    found[2][truth[2] % 10 == 1] += 1  # merges pairs
    scores = _score(found, truth)
    assert scores.corrections.missed == 500
    assert scores.corrections.splits == 500
    assert scores.n_links == 10_000


# -- the same by py-ctcmetrics on folders ---------------------------------------------------


def _cells(n_frames: int, seed: int) -> tuple[np.ndarray, Lineage]:
    """Squares of 4 x 4 that move in cells of 6 x 6 pixels; some divide into the cell below."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n_frames, 36, 48), np.uint16)
    tracks = []
    ids = iter(range(1, 1000))
    for row in range(0, 6, 2):
        for column in range(8):
            here = [(row, column)]
            division = int(rng.integers(1, 2 * n_frames))
            lives = [(here[0], next(ids), 0, min(division, n_frames) - 1, 0)]
            if division < n_frames:
                mother = lives[0][1]
                lives += [((row + k, column), next(ids), division, n_frames - 1, mother) for k in (0, 1)]
            for (y, x), id, first, last, mother in lives:
                tracks.append(Track(id, first, last, mother))
                for t in range(first, last + 1):
                    top, left = 6 * y + rng.integers(0, 3), 6 * x + rng.integers(0, 3)
                    labels[t, top : top + 4, left : left + 4] = id
    return labels, Lineage(tracks)


def _spoil(labels: np.ndarray, lineage: Lineage, seed: int) -> tuple[np.ndarray, Lineage]:
    """Miss some objects from the begin of their track on, invent, merge, shift, switch and lose mothers."""
    rng = np.random.default_rng(seed)
    spoilt = np.roll(labels, 1, axis=2)
    ids = list(lineage)
    tracks = {id: lineage[id] for id in ids}
    for id in rng.choice([id for id in ids if lineage[id].last > lineage[id].first], 6, replace=False):
        spoilt[tracks[id].first][spoilt[tracks[id].first] == id] = 0
        tracks[id] = Track(id, tracks[id].first + 1, tracks[id].last, tracks[id].mother)
    spoilt[:, 33:36, 0:2] = 900
    tracks[900] = Track(900, 0, len(labels) - 1)
    one, two = [id for id in ids if tracks[id].first == 0 and tracks[id].last == len(labels) - 1][:2]
    spoilt[2:] = np.where(spoilt[2:] == one, two, np.where(spoilt[2:] == two, one, spoilt[2:]))
    daughters = [id for id in ids if tracks[id].mother]
    for id in daughters[:3]:
        tracks[id] = Track(id, tracks[id].first, tracks[id].last)
    merged = daughters[4]
    spoilt[tracks[merged].last][spoilt[tracks[merged].last] == merged] = daughters[5]
    if tracks[merged].last > tracks[merged].first:
        tracks[merged] = Track(merged, tracks[merged].first, tracks[merged].last - 1, tracks[merged].mother)
    else:
        del tracks[merged]
    return spoilt, Lineage(tracks.values())


def _write(folder: Path, stem: str, labels: np.ndarray, lineage: Lineage | None = None) -> Path:
    folder.mkdir(parents=True)
    for t, frame in enumerate(labels):
        imwrite(folder / f"{stem}{t:03d}.tif", frame.astype(np.int32 if stem == "mask" else np.uint16))
    if lineage is not None:
        name = "res_track.txt" if stem == "mask" else "man_track.txt"
        lines = [f"{t.id} {t.first} {t.last} {t.mother}\n" for t in lineage.values()]
        (folder / name).write_text("".join(lines))
    return folder


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tracks_score_as_they_do_in_folders(tmp_path, seed):
    truth, true_lineage = _cells(6, seed)
    found, lineage = _spoil(truth, true_lineage, seed)
    _write(tmp_path / "01_RES", "mask", found, lineage)
    _write(tmp_path / "01_GT" / "TRA", "man_track", truth, true_lineage)
    theirs: dict[str, Any] = evaluate_sequence(
        str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), ["Valid", "DET", "TRA"], threads=1
    )
    ours = _score(found, truth, lineage, true_lineage)
    assert theirs["Valid"]
    assert 0.5 < theirs["TRA"] < 1
    assert ours.det == pytest.approx(theirs["DET"], abs=1e-12)
    assert ours.tra == pytest.approx(theirs["TRA"], abs=1e-12)
    mended = ours.corrections
    assert mended.splits == theirs["AOGM_NS"] > 0
    assert mended.missed == theirs["AOGM_FN"] > 0
    assert mended.spurious == theirs["AOGM_FP"] > 0
    assert mended.missing_links == theirs["AOGM_EA"] > 0
    assert mended.spurious_links == theirs["AOGM_ED"] > 0
    assert mended.wrong_links == theirs["AOGM_EC"]


def test_links_of_the_wrong_kind_score_as_they_do_in_folders(tmp_path, truth):
    lives_on = np.where(truth == 2, 1, truth)
    lineage = Lineage([Track(1, 0, 3), Track(3, 2, 3), Track(4, 0, 3)])
    _write(tmp_path / "01_RES", "mask", lives_on, lineage)
    _write(tmp_path / "01_GT" / "TRA", "man_track", truth, SEVEN)
    theirs = evaluate_sequence(str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), ["Valid", "TRA"], threads=1)
    assert theirs["AOGM_EC"] == 1
    assert _score(lives_on, truth, lineage, SEVEN).tra == pytest.approx(theirs["TRA"], abs=1e-12)


def test_a_gap_scores_as_in_a_folder_where_the_track_is_in_pieces(tmp_path):
    truth, true_lineage = _cells(5, 3)
    lone = next(t.id for t in true_lineage.values() if (t.first, t.last) == (0, 4))
    found = truth.copy()
    found[2][truth[2] == lone] = 0
    pieces = np.where((found == lone) & (np.arange(5) > 2)[:, None, None], 500, found)
    cut = [t for t in true_lineage.values() if t.id != lone] + [Track(lone, 0, 1), Track(500, 3, 4, lone)]
    _write(tmp_path / "01_RES", "mask", pieces, Lineage(cut))
    _write(tmp_path / "01_GT" / "TRA", "man_track", truth, true_lineage)
    theirs = evaluate_sequence(str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), ["Valid", "DET", "TRA"], threads=1)
    assert theirs["Valid"]
    whole = _score(found, truth, true_lineage, true_lineage)
    assert whole.tra == pytest.approx(theirs["TRA"], abs=1e-12)
    assert whole == _score(pieces, truth, Lineage(cut), true_lineage)


# -- folders -------------------------------------------------------------------------------


def test_true_tracks_are_found_where_the_challenge_has_them(tmp_path, truth):
    tracks = _write(tmp_path / "01_GT" / "TRA", "man_track", truth, SEVEN)
    for name in ("01_GT", "01_GT/TRA", "01_GT/SEG", "01_ST", "01_ST/SEG"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        found = find_track_truth(tmp_path / name)
        assert found is not None, name
        assert found.labels.name == str(tracks)
        assert dict(found.lineage) == dict(SEVEN)
    assert find_track_truth(tmp_path / "02_ST" / "SEG") is None
    assert find_track_truth(tmp_path / "truth.tif") is None


def test_labels_bring_their_tracks_from_the_file_beside_them(tmp_path, truth):
    labels, lineage = read_tracked_labels(_write(tmp_path / "01_RES", "mask", truth, SEVEN))
    np.testing.assert_array_equal(labels, truth)
    assert dict(lineage) == dict(SEVEN)
    labels, lineage = read_tracked_labels(_write(tmp_path / "02_RES", "mask", truth))
    assert isinstance(labels, Labels)
    assert lineage is None


def test_a_lineage_that_does_not_fit_gets_its_sentence():
    with pytest.raises(ValueError, match="Frame 2 of the labels shows the id 8, which no track of its lineage has"):
        check_lineage(np.array([2, 8]), 2, SEVEN, "the labels")
    with pytest.raises(ValueError, match="Frame 2 of the labels shows track 1, which lives from frame 0 to 1"):
        check_lineage(np.array([1]), 2, SEVEN, "the labels")
    with pytest.raises(ValueError, match="There are no frames whose tracks could be scored"):
        tracking_scores([])
