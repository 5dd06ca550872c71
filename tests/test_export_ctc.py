"""Folders of the Cell Tracking Challenge: its own rules kept, and read back as they were."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from linked_toys import LINEAGE, toy_frames, toy_labels, toy_stack

from napari_osvos import ctc_folder
from napari_osvos.ctc_folder import read_ctc_folder, read_ctc_tracks, write_ctc_folder
from napari_osvos.formats import UnreadableFileError
from napari_osvos.io import read_labels
from napari_osvos.labels import Labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.sample_data import simulate_movie


def lived(labels: np.ndarray, mothers: dict[int, int]) -> Lineage:
    seen = {id: np.flatnonzero((labels == id).any(axis=(1, 2))) for id in np.unique(labels[labels > 0]).tolist()}
    return Lineage(Track(id, int(t[0]), int(t[-1]), mothers.get(id, 0)) for id, t in seen.items())


def score_against_itself(folder: Path, room: Path) -> dict[str, float]:
    """What py-ctcmetrics says of a folder that is truth and result at once."""
    from ctc_metrics.scripts.evaluate import evaluate_sequence

    truth = room / "truth" / "TRA"
    truth.mkdir(parents=True)
    for mask in folder.glob("mask*.tif"):
        shutil.copy(mask, truth / mask.name.replace("mask", "man_track"))
    shutil.copy(folder / "res_track.txt", truth / "man_track.txt")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty frame")
        return dict(evaluate_sequence(str(folder), str(truth.parent), ["Valid", "DET", "TRA"], threads=1))


def test_a_gap_is_cut_and_a_division_kept(tmp_path: Path) -> None:
    folder = tmp_path / "02_RES"
    write_ctc_folder(folder, toy_labels(), LINEAGE)
    assert sorted(p.name for p in folder.iterdir()) == [f"mask00{t}.tif" for t in range(5)] + ["res_track.txt"]
    # track 1 goes on as 10, the first free id, whose mother it is
    assert (folder / "res_track.txt").read_bytes() == b"1 0 1 0\n2 0 1 0\n3 2 4 2\n4 2 4 2\n9 4 4 0\n10 3 4 1\n"
    masks = np.stack([tifffile.imread(folder / f"mask00{t}.tif") for t in range(5)])
    expected = toy_frames()
    expected[3:][expected[3:] == 1] = 10
    assert masks.dtype == np.uint16
    np.testing.assert_array_equal(masks, expected)
    np.testing.assert_array_equal(read_labels(folder), expected)
    scores = score_against_itself(folder, tmp_path)
    assert (scores["Valid"], scores["DET"], scores["TRA"]) == (1, 1.0, 1.0)
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_folder_comes_back_with_its_gaps_joined(tmp_path: Path) -> None:
    write_ctc_folder(tmp_path / "out", toy_labels(), LINEAGE)
    labels, lineage = read_ctc_folder(tmp_path / "out")
    np.testing.assert_array_equal(labels, toy_frames())
    assert dict(lineage) == dict(LINEAGE)
    labels, lineage = read_ctc_folder(tmp_path / "out", join_gaps=False)
    assert lineage[10] == Track(10, 3, 4, 1)
    assert set(np.unique(labels.at(3))) == {0, 10, 3, 4}


def test_other_frame_numbers_come_back_too(tmp_path: Path) -> None:
    numbers = (1, 2, 3, 14, 15)
    at = dict(enumerate(numbers))
    lineage = Lineage(Track(t.id, at[t.first], at[t.last], t.mother) for t in LINEAGE.values())
    write_ctc_folder(tmp_path / "out", toy_labels(frame_numbers=numbers), lineage)
    assert (tmp_path / "out" / "mask000.tif").is_file()  # the challenge counts from 0, without holes
    labels, found = read_ctc_folder(tmp_path / "out")
    assert labels.frame_numbers == numbers
    assert dict(found) == dict(lineage)
    np.testing.assert_array_equal(labels, toy_frames())


def test_a_stack_comes_back(tmp_path: Path) -> None:
    stack, lineage, _ = toy_stack()
    write_ctc_folder(tmp_path / "out", stack, lineage)
    labels, found = read_ctc_folder(tmp_path / "out")
    assert labels.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(labels, np.asarray(stack))
    assert dict(found) == dict(lineage)
    assert score_against_itself(tmp_path / "out", tmp_path)["TRA"] == 1.0


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 2, 4, 5), (1, 4, 5)])
def test_a_movie_without_objects_comes_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_ctc_folder(tmp_path / "out", Labels(np.zeros(shape, np.uint8)), Lineage())
    labels, lineage = read_ctc_folder(tmp_path / "out")
    assert labels.shape == shape
    assert not np.asarray(labels).any()
    assert len(lineage) == 0
    assert (tmp_path / "out" / "res_track.txt").read_bytes() == b""


def test_a_frame_without_objects_is_valid(tmp_path: Path) -> None:
    frames = np.zeros((3, 4, 5), np.uint8)
    frames[0, 1:3, 1:3] = frames[2, 1:3, 2:4] = 1
    write_ctc_folder(tmp_path / "out", Labels(frames), Lineage([Track(1, 0, 2)]))
    assert (tmp_path / "out" / "res_track.txt").read_text() == "1 0 0 0\n2 2 2 1\n"
    assert score_against_itself(tmp_path / "out", tmp_path)["TRA"] == 1.0
    np.testing.assert_array_equal(read_ctc_folder(tmp_path / "out")[0], frames)


def test_a_simulated_movie_is_valid_and_comes_back(tmp_path: Path) -> None:
    movie = simulate_movie("phase", 12, (96, 96), seed=3)
    lineage = lived(movie.labels, movie.mothers)
    assert lineage.divisions
    write_ctc_folder(tmp_path / "out", Labels(movie.labels), lineage)
    scores = score_against_itself(tmp_path / "out", tmp_path)
    assert (scores["Valid"], scores["TRA"]) == (1, 1.0)
    labels, found = read_ctc_folder(tmp_path / "out")
    np.testing.assert_array_equal(labels, movie.labels)
    assert dict(found) == dict(lineage)


def test_a_thousand_frames_have_four_digits(tmp_path: Path) -> None:
    write_ctc_folder(tmp_path / "out", Labels(np.ones((1001, 1, 1), np.uint8)), Lineage([Track(1, 0, 1000)]))
    assert (tmp_path / "out" / "mask0000.tif").is_file()
    assert read_ctc_folder(tmp_path / "out")[0].frame_numbers == tuple(range(1001))


def test_ids_beyond_16_bits_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    labels, lineage = Labels(np.full((1, 2, 2), 65536)), Lineage([Track(65536, 0, 0)])
    with pytest.raises(ValueError, match="out cannot hold the id 65536: a folder .* has no ids above 65535; export"):
        write_ctc_folder(tmp_path / "out", labels, lineage)
    assert list(tmp_path.iterdir()) == []


def test_pieces_take_lower_ids_where_there_are_no_higher_and_run_out_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.array([[[1, 2]], [[0, 0]], [[1, 2]]]) * 65535 // 2  # 32767 and 65535
    lineage = Lineage([Track(32767, 0, 2), Track(65535, 0, 2)])
    write_ctc_folder(tmp_path / "out", Labels(frames), lineage)
    assert set(read_ctc_tracks(tmp_path / "out")) == {1, 2, 32767, 65535}
    np.testing.assert_array_equal(read_ctc_folder(tmp_path / "out")[0], frames)
    monkeypatch.setattr(ctc_folder, "LARGEST_ID", 2)
    small = Labels(np.array([[[1, 2]], [[0, 0]], [[1, 2]]]))
    with pytest.raises(ValueError, match="more cannot hold so many tracks: cut at their gaps they are more than 2"):
        write_ctc_folder(tmp_path / "more", small, Lineage([Track(1, 0, 2), Track(2, 0, 2)]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_an_interrupted_write_leaves_the_old_folder(tmp_path: Path) -> None:
    write_ctc_folder(tmp_path / "out", toy_labels(), LINEAGE)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_ctc_folder(tmp_path / "out", toy_labels(), LINEAGE, overwrite=True, progress=stop)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_only_an_exported_folder_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write_ctc_folder(folder, toy_labels(), LINEAGE)  # an empty one is as good as none
    with pytest.raises(FileExistsError, match="out exists; choose another name or allow overwriting it"):
        write_ctc_folder(folder, toy_labels(), LINEAGE)
    write_ctc_folder(folder, Labels(np.zeros((1, 2, 2), np.uint8)), Lineage(), overwrite=True)
    assert len(list(folder.iterdir())) == 2
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match="out holds notes.txt, which no exported folder does; choose another name"):
        write_ctc_folder(folder, toy_labels(), LINEAGE, overwrite=True)
    with pytest.raises(ValueError, match="notes.txt is a file"):
        write_ctc_folder(folder / "notes.txt", toy_labels(), LINEAGE, overwrite=True)


@pytest.mark.parametrize(
    ("tracks", "what"),
    [
        ([Track(1, 0, 4)], "Frame 0 of toy shows the id 2, which no track of the lineage has"),
        ([*LINEAGE.values(), Track(12, 1, 2)], "Frame 1 of toy does not show track 12, which begins or ends there"),
        ([*LINEAGE.values(), Track(12, 1, 7)], "Track 12 lives from frame 1 to 7, but toy has no frame 7"),
        ([Track(2, 1, 1), Track(1, 0, 4)], "Frame 0 of toy shows track 2, which lives from frame 1 to 1"),
    ],
)
def test_labels_and_lineage_must_say_the_same(tmp_path: Path, tracks: list[Track], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        write_ctc_folder(tmp_path / "out", toy_labels(), Lineage(tracks))
    assert list(tmp_path.iterdir()) == []


def test_frames_must_rise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The frame numbers of toy are 0, 1, 3, 2, 4; they must rise"):
        write_ctc_folder(tmp_path / "out", toy_labels(frame_numbers=(0, 1, 3, 2, 4)), LINEAGE)


def test_truth_of_the_challenge_is_read(tmp_path: Path) -> None:
    truth = tmp_path / "02_GT" / "TRA"
    truth.mkdir(parents=True)
    for t, frame in enumerate(toy_frames()):
        tifffile.imwrite(truth / f"man_track00{t}.tif", np.where(frame == 1, 0, frame))
    (truth / "man_track.txt").write_text("2\t0 1 0\n3 2 4 2\r\n4 2 4 2\n\n9 4 4 0")
    labels, lineage = read_ctc_folder(tmp_path / "02_GT")
    assert lineage == read_ctc_tracks(truth / "man_track.txt") == {k: v for k, v in LINEAGE.items() if k != 1}
    assert labels.shape == toy_frames().shape


def test_what_is_no_list_of_tracks_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no res_track.txt or man_track.txt"):
        read_ctc_tracks(tmp_path)
    file = tmp_path / "res_track.txt"
    file.write_text("1 0 1 0\n2 x 1 0\n")
    with pytest.raises(UnreadableFileError, match="Line 2 of .*res_track.txt is '2 x 1 0'; it must be four whole"):
        read_ctc_tracks(tmp_path)
    file.write_text("1 0 1 7\n")
    with pytest.raises(ValueError, match="res_track.txt: Track 1 comes from track 7, which does not exist"):
        read_ctc_tracks(file)
