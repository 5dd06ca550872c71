"""Saving in the background: nothing waits, nothing is lost, and an error is told once."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from napari_osvos.autosave import Autosaver
from napari_osvos.session import SessionFolder


def begin(root: Path) -> SessionFolder:
    return SessionFolder.for_movie("movie", None, (24, 32, 40), np.uint8, root)


def paint(label: int = 1) -> np.ndarray:
    return np.full((32, 40), label, np.uint16)


def never(sentence: str) -> None:
    raise AssertionError(sentence)


def test_frames_and_settings_are_saved(tmp_path: Path) -> None:
    session = begin(tmp_path)
    saver = Autosaver(session, never)
    saver.save({1: paint()}, {"quality": "fast"})
    saver.save({2: paint(3)})
    assert saver.wait(120)
    assert session.frames == (1, 2)
    assert session.settings() == {"quality": "fast"}
    saver.close()
    assert not session.is_in_use


def test_closing_saves_what_waits(tmp_path: Path) -> None:
    session = begin(tmp_path)
    saver = Autosaver(session, never)
    saver.save({1: paint()})
    saver.close()
    saver.close()
    assert session.frames == (1,)
    with pytest.raises(RuntimeError, match="was closed"):
        saver.save({2: paint()})
    assert not [thread for thread in threading.enumerate() if "autosave" in thread.name]


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    session = begin(tmp_path)
    saver = Autosaver(session, never)
    saver.save({}, {"quality": "fast"})
    assert saver.wait(120)
    (session.path / "settings.json").unlink()
    saver.save({}, {"quality": "fast"})
    assert saver.wait(120)
    assert not (session.path / "settings.json").exists()
    saver.save({}, {"quality": "best"})
    assert saver.wait(120)
    assert session.settings() == {"quality": "best"}
    saver.close()


def test_settings_changed_after_the_call_are_saved_as_they_were(tmp_path: Path) -> None:
    session = begin(tmp_path)
    saver = Autosaver(session, never)
    settings = {"channels": [0]}
    saver.save(settings=settings)
    settings["channels"].append(1)
    assert saver.wait(120)
    assert session.settings() == {"channels": [0]}
    saver.close()


def test_an_error_is_told_once_and_nothing_is_lost(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("in the way")
    session = begin(tmp_path / "file")
    saver = Autosaver(session, said.append)
    saver.save({1: paint(1), 2: paint()})
    assert not saver.wait(120)
    saver.save({1: paint(5)})
    assert not saver.wait(120)
    assert len(said) == 1
    assert said[0].startswith("The session folder ")
    (tmp_path / "file").unlink()
    saver.save()
    assert saver.wait(120)
    assert session.frames == (1, 2)
    assert session.read_frame(1).max() == 5  # the newest
    saver.close()


def test_saving_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(tmp_path)
    begun, go_on = threading.Event(), threading.Event()
    write = session.save_frames

    def slow(frames: dict[int, np.ndarray | None]) -> None:
        begun.set()
        assert go_on.wait(30)
        write(frames)

    monkeypatch.setattr(session, "save_frames", slow)
    saver = Autosaver(session, never)
    saver.save({1: paint()})
    assert begun.wait(30)
    for t in range(2, 6):
        saver.save({t: paint()})  # comes back although the disk does not
    assert session.frames == ()
    assert not saver.wait(0.01)
    go_on.set()
    assert saver.wait(120)
    assert session.frames == (1, 2, 3, 4, 5)
    saver.close()
