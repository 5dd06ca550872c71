"""Session folders: paint is there again after a crash, whatever happened to some of the files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_osvos.movie_facts import MovieFacts
from napari_osvos.session import (
    FOLDER_VARIABLE,
    PAINTING,
    SessionFolder,
    choose_root,
    default_root,
    find_recoverable,
    known_roots,
)

SHAPE = (24, 32, 40)
MOVIE = MovieFacts("movie.tif", None, SHAPE, "uint8")


def begin(root: Path, name: str = "movie.tif", source: str | None = None) -> SessionFolder:
    return SessionFolder.for_movie(name, source, SHAPE, np.uint8, root)


def paint(label: int = 1) -> np.ndarray:
    labels = np.zeros((32, 40), np.uint16)
    labels[3:9, 4:12] = label
    return labels


CRASHING = f"""
import sys, time
from pathlib import Path
import numpy as np
from napari_osvos.session import SessionFolder
session = SessionFolder.for_movie("movie.tif", None, {SHAPE}, "uint8", Path(sys.argv[1]))
labels = np.zeros((32, 40), np.uint16)
labels[3:9, 4:12] = 7
session.save_frames({{5: labels}})
session.save_settings({{"quality": "fast"}})
print("saved", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other_viewer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a session on the movie, with frame 5 painted."""
    process = subprocess.Popen([sys.executable, "-c", CRASHING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "saved\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({3: paint(2), 17: paint(9)})
    session.save_settings({"quality": "best", "channels": [0, 2], "partial": [17]})
    again = SessionFolder.open(session.path)
    assert again.movie == session.movie == MOVIE
    assert again.frames == (3, 17)
    assert again.has_paint
    np.testing.assert_array_equal(again.read_frame(3), paint(2))
    assert again.settings() == {"quality": "best", "channels": [0, 2], "partial": [17]}
    frames, complaints = again.read_frames()
    assert sorted(frames) == [3, 17]
    assert complaints == []


@pytest.mark.parametrize(
    ("label", "dtype"), [(1, np.uint16), (65_535, np.uint16), (65_536, np.uint32), (2**40, np.int64), (-1, np.int64)]
)
def test_every_label_survives(tmp_path: Path, label: int, dtype: type) -> None:
    session = begin(tmp_path)
    labels = np.zeros((32, 40), np.int64)
    labels[3, 4] = label
    session.save_frames({0: labels})
    np.testing.assert_array_equal(session.read_frame(0), labels)
    assert session.read_frame(0).dtype == dtype


@pytest.mark.parametrize("shape", [(1, 32, 40), (5, 32, 3), (5, 1, 40), (32, 1), (3, 4)])
def test_frames_of_every_shape_survive(tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = np.arange(1, 1 + np.prod(shape), dtype=np.uint16).reshape(shape)
    session = begin(tmp_path)
    session.save_frames({2: labels})
    np.testing.assert_array_equal(session.read_frame(2), labels)


def test_frames_are_plain_compressed_tiff_files(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({12: paint()})
    file = session.path / "frames" / "frame00012.tif"
    np.testing.assert_array_equal(tifffile.imread(file), paint())
    assert file.stat().st_size < paint().nbytes / 2


def test_only_frames_that_changed_are_written(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({1: paint(), 2: paint()})
    untouched = session.path / "frames" / "frame00001.tif"
    os.utime(untouched, (1, 1))
    session.save_frames({2: paint(5)})
    assert untouched.stat().st_mtime == 1
    assert session.frames == (1, 2)
    assert session.read_frame(2).max() == 5


def test_erased_frames_leave(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({1: paint(4), 2: paint()})
    session.save_frames({1: None, 2: np.zeros((32, 40), np.uint16), 9: None})
    assert session.frames == ()
    assert [path.name for path in (session.path / "frames").iterdir()] == ["index.json"]
    session.save_frames({1: paint(5)})
    assert session.frames == (1,)
    assert session.read_frame(1).max() == 5
    with pytest.raises(OSError, match="holds no painted frame 2"):
        session.read_frame(2)


def test_nothing_is_made_before_something_is_saved(tmp_path: Path) -> None:
    session = begin(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    assert session.frames == ()
    assert session.settings() == {}
    session.close()
    assert list(tmp_path.iterdir()) == []


def test_a_session_without_paint_leaves_nothing_behind(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_settings({"quality": "fast"})
    assert session.path.exists()
    session.close()
    session.close()
    assert not session.path.exists()


def test_a_crashed_session_is_offered(tmp_path: Path, other_viewer: subprocess.Popen[str]) -> None:
    assert find_recoverable(MOVIE, tmp_path) == []  # its viewer still has it
    mine = begin(tmp_path)
    mine.save_frames({5: paint(1)})
    other_viewer.kill()
    other_viewer.wait()
    (found,) = find_recoverable(MOVIE, tmp_path)
    assert found.path != mine.path
    assert found.settings() == {"quality": "fast"}
    assert found.read_frame(5).max() == 7
    assert mine.read_frame(5).max() == 1  # neither wrote over the other
    assert found.in_words.startswith("1 painted frame (5) of movie.tif, saved on ")
    found.settle()
    assert find_recoverable(MOVIE, tmp_path) == []
    assert found.read_frame(5).max() == 7


def test_a_closed_session_is_offered_and_an_open_one_is_not(tmp_path: Path) -> None:
    first, second = begin(tmp_path), begin(tmp_path)
    assert first.path != second.path
    first.save_frames({1: paint()})
    second.save_frames({2: paint()})
    assert find_recoverable(MOVIE, tmp_path) == []
    first.close()
    (found,) = find_recoverable(MOVIE, tmp_path)
    assert found.path == first.path
    second.close()
    os.utime(first.path / "frames" / "index.json", (1, 1))
    assert [found.path for found in find_recoverable(MOVIE, tmp_path)] == [second.path, first.path]


def test_a_process_number_given_out_again_does_not_look_alive(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({1: paint()})
    facts = json.loads((session.path / "session.json").read_text())
    facts["owner"]["started"] -= 1000
    (session.path / "session.json").write_text(json.dumps(facts))
    (found,) = find_recoverable(MOVIE, tmp_path)
    assert found.path == session.path


def test_a_movie_is_known_by_its_facts() -> None:
    movie = MovieFacts("movie", "/a/movie.tif", SHAPE, "uint8")
    assert movie.is_same_movie(MovieFacts("renamed layer", "/a/movie.tif", SHAPE, "uint8"))
    assert movie.is_same_movie(MovieFacts("movie", "/moved/movie.tif", SHAPE, "uint8"))
    assert movie.is_same_movie(MovieFacts("movie", None, SHAPE, "uint8"))
    assert movie.is_same_movie(MovieFacts("renamed", "/a/movie.tif", list(SHAPE), np.uint8))  # type: ignore[arg-type]
    assert not movie.is_same_movie(MovieFacts("other", None, SHAPE, "uint8"))
    assert not movie.is_same_movie(MovieFacts("movie", "/a/movie.tif", (25, 32, 40), "uint8"))
    assert not movie.is_same_movie(MovieFacts("movie", "/a/movie.tif", SHAPE, "uint16"))


def test_damaged_files_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({1: paint(), 2: paint(), 3: paint()})
    session.save_settings({"quality": "fast"})
    damaged = session.path / "frames" / "frame00002.tif"
    damaged.write_bytes(damaged.read_bytes()[:40])
    (session.path / "frames" / "frame00003.tif").unlink()
    (session.path / "settings.json").write_text("{")
    frames, complaints = session.read_frames()
    assert sorted(frames) == [1]
    assert len(complaints) == 2
    assert "frame00002.tif" in complaints[0]
    assert "frame00003.tif" in complaints[1]
    assert session.settings() == {}


def test_without_its_index_the_files_say_what_is_painted(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({1: paint(), 2: paint(6)})
    session.save_frames({1: None})
    (session.path / "frames" / "index.json").write_text("damaged")
    assert session.frames == (2,)
    assert session.read_frame(2).max() == 6
    session.save_frames({4: paint()})
    assert session.frames == (2, 4)


def test_foreign_and_damaged_folders_are_passed_over(tmp_path: Path) -> None:
    session = begin(tmp_path)
    session.save_frames({1: paint()})
    session.close()
    (tmp_path / "a file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, text in (("damaged", "{"), ("other", "[]"), ("older", '{"movie": {}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "session.json").write_text(text)
    assert [found.path for found in find_recoverable(MOVIE, tmp_path)] == [session.path]
    assert find_recoverable(MOVIE, tmp_path / "nowhere") == []
    with pytest.raises(OSError, match="session.json"):
        SessionFolder.open(tmp_path / "damaged")


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    session = begin(tmp_path / "file")
    for save in (lambda: session.save_frames({1: paint()}), lambda: session.save_settings({"a": 1})):
        with pytest.raises(OSError, match=r"^The session folder .*file.* cannot be written \(.*\); choose another one"):
            save()


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(tmp_path)
    session.save_frames({1: paint(3)})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(OSError, match="No space left on device"):
        session.save_frames({1: paint(4), 2: paint()})
    assert session.frames == (1,)
    assert session.read_frame(1).max() == 3
    assert [path.name for path in (session.path / "frames").iterdir() if path.name.startswith(".")] == []


def test_where_the_segmenter_of_a_round_is_kept(tmp_path: Path) -> None:
    session = begin(tmp_path)
    assert session.rounds.is_empty
    path = session.segmenter_path(2)
    assert path.parent.is_dir()
    path.write_bytes(b"weights")
    assert session.rounds.segmenters == (2,)
    assert session.rounds.segmenter(2) == path


@pytest.mark.parametrize("name", ["round01.osvos", "round01-masks.zarr/zarr.json", "round01.json"])
def test_what_a_run_has_written_outlives_the_session(tmp_path: Path, name: str) -> None:
    session = begin(tmp_path)
    written = session.segmenter_path(1).parent / name
    written.parent.mkdir(exist_ok=True)
    written.write_bytes(b"x")
    session.close()
    assert written.exists()


def test_an_unused_layer_to_paint_on_does_not(tmp_path: Path) -> None:
    session = begin(tmp_path)
    (session.segmenter_path(0).parent / PAINTING.format("1")).write_bytes(b"x")
    session.close()
    assert not session.path.exists()


def test_several_threads_may_save_at_once(tmp_path: Path) -> None:
    session = begin(tmp_path)
    threads = [threading.Thread(target=session.save_frames, args=({t: paint(t + 1)},)) for t in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.frames == (0, 1, 2, 3, 4, 5)


def test_the_folder_of_all_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
    assert SessionFolder.for_movie("m", None, SHAPE, np.uint8).path.parent == tmp_path / "mine"
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert default_root().name == "sessions"
    assert "napari-osvos" in str(default_root())


def test_chosen_folders_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "default"))
    default, one, two = (tmp_path / name for name in ("default", "one", "two"))
    assert known_roots() == (default,)
    choose_root(one)
    choose_root(two)
    assert known_roots() == (two, one, default)
    choose_root(default)
    assert known_roots() == (default, two, one)
    sessions = [begin(root) for root in (one, two)]
    for session in sessions:
        session.save_frames({1: paint()})
        session.close()
    shutil.rmtree(default.parent / "two")
    assert [found.path for found in find_recoverable(MOVIE)] == [sessions[0].path]
    assert len(find_recoverable(MOVIE, one, one / ".." / "one")) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"folders": "/a"}', '{"folders": [1, "", null]}'])
def test_damaged_notes_of_chosen_folders_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "folders.json").write_text(text)
    assert known_roots() == (tmp_path,)
    choose_root(tmp_path / "one")
    assert known_roots() == (tmp_path / "one", tmp_path)


def test_a_folder_that_cannot_be_remembered_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"^Sessions are not kept in .*file the next time \(.*\); choose a folder again"):
        choose_root(tmp_path / "file")
    assert known_roots() == (tmp_path,)


def test_odd_names_make_plain_folders(tmp_path: Path) -> None:
    for name in ("a/b\\c: *?", "", "日本", "x" * 300):
        session = begin(tmp_path, name)
        session.save_frames({0: paint()})
        assert session.path.parent == tmp_path
        assert SessionFolder.open(session.path).movie.name == name
