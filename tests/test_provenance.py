"""Which frames of a movie a segmenter has learned from, by what it says of its origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_osvos.clip import Clip
from napari_osvos.provenance import frames_learned_from, looks, movie_named


def test_frames_are_known_of_the_same_movie_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = np.zeros((4, 2, 2), np.uint8)
    origin = {"movie": "movie.tif", "annotated_frames": [8, 40, 99]}
    for name, learned in (
        ("movie.tif", (1, 3)),
        (str(tmp_path / "movie.tif"), (1, 3)),
        ("./movie.tif", (1, 3)),
        ("other/movie.tif", ()),
    ):
        assert frames_learned_from(origin, Clip(frames, frame_numbers=[0, 8, 16, 40], name=name)) == learned
    assert frames_learned_from({}, Clip(frames)) == ()


def test_a_movie_of_the_same_name_in_another_folder_is_another_movie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.zeros((2, 2, 2), np.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "movie.tif").touch()
    monkeypatch.chdir(tmp_path / "a")
    origin = {"movie": movie_named(Clip(frames, name="movie.tif")), "annotated_frames": [0]}
    assert frames_learned_from(origin, Clip(frames, name="movie.tif")) == (0,)
    monkeypatch.chdir(tmp_path / "b")
    assert frames_learned_from(origin, Clip(frames, name="movie.tif")) == ()
    assert frames_learned_from(origin, Clip(frames, name="../a/movie.tif")) == (0,)
    assert movie_named(Clip(frames, name="no file")) == "no file"


def test_arrays_without_a_name_are_told_apart_by_their_looks() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, top, (4, 9, 9), dtype=np.uint8) for top in (200, 90))
    origin = {"movie": movie_named(Clip(one)), "looks": looks(Clip(one)), "annotated_frames": [1]}
    assert frames_learned_from(origin, Clip(one.copy())) == (1,)
    assert frames_learned_from(origin, Clip(other)) == ()
    assert frames_learned_from(origin, Clip(one[:3])) == ()
    assert looks(Clip(one, name="cells")) is None
