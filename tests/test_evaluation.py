"""Scores of whole movies against answers counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ctc_metrics.scripts.evaluate import evaluate_sequence
from tifffile import imwrite

from napari_osvos.cli import main
from napari_osvos.evaluation import evaluate
from napari_osvos.io import read_labels, write_labels
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.tracking_scores import TrackTruth


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


def test_void_pixels_count_for_neither(truth):
    unclear = truth.copy()
    unclear[:, :, 20:] = 255
    found = truth.copy()
    found[:, 2:5, 20:] = 7  # an object found where nobody can say
    assert evaluate(found, unclear).j_mean < 0.3
    scores = evaluate(found, unclear, void_label=255, instances=True, tracks=True)
    assert scores.j == scores.f == scores.f_2px == (1, 1, 1, 1)
    assert (scores.instances.at_50.f1, scores.instances.seg) == (1, 1)
    assert scores.tracks.tra == 1
    masks = Labels(np.where(unclear == 3, 0, unclear).astype(np.uint8), masks_255=True)
    assert evaluate(np.zeros_like(truth), masks, void_label=255).j == (1, 1, 1, 1)  # nothing but void


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


# -- objects and tracks ------------------------------------------------------------------------


@pytest.fixture
def cells(drawn) -> np.ndarray:
    """Four frames: 1 divides into 2 and 3 after frame 1; 4 stays. 10 objects, 6 links within tracks, 2 to daughters."""
    before, after = "11.... 11..44 11..44 ......", "22.... 22..44 ....44 33...."
    return drawn(before, before, after, after)


LINEAGE = Lineage([Track(1, 0, 1), Track(2, 2, 3, 1), Track(3, 2, 3, 1), Track(4, 0, 3)])


def test_objects_are_scored_where_both_hold_several(cells):
    missed = np.where(cells == 3, 0, cells)
    scores = evaluate(missed, cells, skip_frames=[0])
    assert scores.instances.frames == (1, 2, 3)
    assert scores.instances.at_50.missed == (0, 1, 1)
    assert scores.instances.at_50.f1 == 2 * 6 / (2 * 6 + 2)
    assert scores.instances.seg == 6 / 8
    assert scores.tracks is None
    assert evaluate(missed > 0, cells).instances is None
    assert evaluate(missed, cells > 0).instances is None
    assert evaluate(missed, cells, instances=False).instances is None
    assert evaluate(np.where(cells == 4, cells, 0), np.where(cells == 4, cells, 0)).instances is None


def test_objects_are_scored_on_request(cells):
    one_mask = (cells > 0).astype(int)
    scores = evaluate(one_mask, cells, instances=True)
    assert scores.instances.at_50.matched == (1, 1, 0, 0)  # 6 of 10 pixels, then 4 of 10
    assert scores.instances.seg == pytest.approx((2 * (0.6 + 0.4) + 2 * (0.4 + 0.4 + 0.2)) / 10)


def test_tracks_count_annotated_frames_too(cells):
    scores = evaluate(cells, cells, skip_frames=[0, 2], tracks=True)
    assert scores.instances.frames == (1, 3)
    assert scores.tracks.frames == (0, 1, 2, 3)
    assert scores.tracks.tra == 1
    assert not scores.tracks.divisions


def test_tracks_of_objects_that_are_alone_in_their_frame(truth):
    scores = evaluate(truth, truth, tracks=True)
    assert scores.instances.at_75.f1 == 1
    assert scores.tracks.tra == 1
    assert scores.tracks.n_links == 3


def test_divisions_found_and_missed(cells):
    true_tracks = TrackTruth(cells, LINEAGE)
    assert evaluate(cells, cells, tracks=true_tracks, lineage=LINEAGE).tracks.tra == 1
    missed = evaluate(cells, cells, tracks=true_tracks).tracks
    assert missed.corrections.missing_links == 2
    assert missed.tra == pytest.approx(1 - 2 * 1.5 / 112)


def test_true_tracks_may_be_another_truth(cells):
    """As TRA beside SEG: small markers, in more frames."""
    markers = np.zeros_like(cells)
    markers[:, 1] = cells[:, 1]
    markers[:, 3] = cells[:, 3]
    scores = evaluate(cells, Labels(cells[[1, 3]], frame_numbers=[1, 3]), tracks=TrackTruth(markers, LINEAGE))
    assert scores.frames == (1, 3)
    assert scores.instances.seg == 1
    assert scores.tracks.frames == (0, 1, 2, 3)
    assert scores.tracks.det == 1
    assert scores.tracks.corrections.missing_links == 2
    foreground = evaluate(cells > 0, cells, tracks=TrackTruth(markers, LINEAGE))
    assert foreground.tracks is None  # where objects are not scored, nor are tracks


def test_objects_with_tracks_are_scored_though_they_ran_together(cells):
    together, alone = np.where(cells > 0, 1, 0), Lineage([Track(1, 0, 3)])
    scores = evaluate(together, cells, tracks=TrackTruth(cells, LINEAGE), lineage=alone)
    assert scores.tracks.tra < 1
    assert scores.instances.at_50.f1 < 1
    nothing = evaluate(np.zeros_like(cells), cells, tracks=TrackTruth(cells, LINEAGE), lineage=Lineage())
    assert nothing.tracks.tra == 0
    assert nothing.instances.seg == 0


def test_the_command_says_why_tracks_are_not_scored(cells, tmp_path, capsys):
    folder = tmp_path / "01_GT" / "TRA"
    folder.mkdir(parents=True)
    for t, frame in enumerate(cells):
        imwrite(folder / f"man_track{t:03d}.tif", frame.astype(np.uint16))
    (folder / "man_track.txt").write_text("".join(f"{t.id} {t.first} {t.last} {t.mother}\n" for t in LINEAGE.values()))
    write_labels(tmp_path / "found.tif", (cells > 0).astype(np.uint16))
    words = ["evaluate", str(tmp_path / "found.tif"), str(tmp_path / "01_GT")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "TRA" not in said.out
    assert "so neither they nor tracks are scored" in said.err
    assert main([*words, "--stable-ids"]) == 0
    assert "| TRA | 0." in capsys.readouterr().out


def test_lineages_count_in_the_frame_numbers_of_their_labels(cells):
    later = Lineage(Track(t.id, t.first + 10, t.last + 10, t.mother) for t in LINEAGE.values())
    wanted = TrackTruth(Labels(cells, frame_numbers=[10, 11, 12, 13]), later)
    assert evaluate(cells, cells, tracks=wanted, lineage=LINEAGE).tracks.tra == 1
    with pytest.raises(ValueError, match="Frame 0 of The labels shows track 1, which lives from frame 10 to 11"):
        evaluate(cells, cells, tracks=wanted, lineage=later)


def test_objects_and_tracks_as_dict_and_text(cells):
    scores = evaluate(np.where(cells == 3, 0, cells), cells, skip_frames=[0], tracks=True)
    plain = json.loads(json.dumps(scores.to_dict()))
    assert plain["F1@0.5"]["matched"] == 6
    assert plain["F1@0.75"]["recall"] == 6 / 8
    assert plain["SEG"]["per_frame"] == [1, 2 / 3, 2 / 3]
    assert plain["DET"] == scores.tracks.det == 0.8
    assert plain["TRA"] == scores.tracks.tra
    assert plain["tracks"]["missed"] == 2
    table = scores.to_markdown(per_frame=True)
    assert "| F1 at IoU 0.5 | 0.857 | | |\n| F1 at IoU 0.75 | 0.857 | | |\n| SEG | 0.750 | | |" in table
    assert "| DET | 0.800 | | |" in table
    assert "F1 at IoU 0.5: 6 of 8 objects of the truth matched (recall 0.750), and 6 of 6 that were found (pre" in table
    assert "DET and TRA over all 4 frames, annotated ones too: 10 objects, 2 missed, 0 spurious, 0 to split" in table
    assert "without divisions, of which the truth does not tell." in table
    assert "| frame | J | F (1 px) | F (2 px) | F1 at IoU 0.5 | F1 at IoU 0.75 | SEG |" in table
    assert "| 3 | 0.800 |" in table
    assert "F1 at IoU 0.5 0.857, " in str(scores)
    sparse = evaluate(cells[[0, 2]], Labels(cells[[0, 2]], frame_numbers=[0, 2]), tracks=True)
    assert "| TRA | none | | |" in sparse.to_markdown()
    assert "No TRA: the frames are not consecutive." in sparse.to_markdown()
    assert sparse.to_dict()["TRA"] is None


def test_folders_of_the_challenge_score_as_py_ctcmetrics_scores_them(cells, tmp_path, capsys):
    big = np.kron(cells, np.ones((1, 6, 6), np.uint16))
    found = np.roll(big, 1, axis=2)
    found[3][found[3] == 4] = 0
    folders = {"01_RES": "mask", "01_GT/TRA": "man_track", "01_GT/SEG": "man_seg"}
    for folder, stem in folders.items():
        (tmp_path / folder).mkdir(parents=True)
        for t in (1, 3) if stem == "man_seg" else range(4):
            pixels = found.astype(np.int32) if stem == "mask" else big
            imwrite(tmp_path / folder / f"{stem}{t:03d}.tif", pixels[t])
    lines = [f"{t.id} {t.first} {t.last} {t.mother}\n" for t in LINEAGE.values()]
    (tmp_path / "01_GT" / "TRA" / "man_track.txt").write_text("".join(lines))
    (tmp_path / "01_RES" / "res_track.txt").write_text("".join(lines).replace("4 0 3 0", "4 0 2 0"))
    theirs = evaluate_sequence(str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), ["SEG", "DET", "TRA"], threads=1)
    capsys.readouterr()
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), "--json", str(scores)]) == 0
    said = capsys.readouterr()
    plain = json.loads(scores.read_text())
    ours = plain["scores"]
    assert ours["SEG"]["value"] == pytest.approx(theirs["SEG"], abs=1e-12)
    assert ours["DET"] == pytest.approx(theirs["DET"], abs=1e-12)
    assert ours["TRA"] == pytest.approx(theirs["TRA"], abs=1e-12)
    assert 0.5 < ours["SEG"]["value"] < ours["TRA"] < 1
    assert ours["frames"] == [1, 3]
    assert ours["tracks"]["divisions"]
    assert f"| TRA | {theirs['TRA']:.3f} |" in said.out
    assert "Evaluate sequence" not in said.out  # the library's own words
    assert plain["track_truth"] == str(tmp_path / "01_GT" / "TRA")
    from_python = evaluate(read_labels(tmp_path / "01_RES"), read_labels(tmp_path / "01_GT"))
    assert from_python.instances.seg == ours["SEG"]["value"]


def test_the_command_scores_tracks_where_ids_are_said_to_be_stable(cells, tmp_path, capsys):
    for name in ("found.tif", "truth.tif"):
        write_labels(tmp_path / name, cells)
    words = ["evaluate", str(tmp_path / "found.tif"), str(tmp_path / "truth.tif")]
    assert main(words) == 0
    assert "| SEG | 1.000 |" in capsys.readouterr().out
    assert main([*words, "--stable-ids"]) == 0
    assert "| TRA | 1.000 |" in capsys.readouterr().out
