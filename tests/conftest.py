"""Fixtures that several tests share: movies small enough to check by hand."""

from __future__ import annotations

import os

# Before torch is first imported: the tests' networks are too small to gain from more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same numbers on every machine, whatever its processor does best.
os.environ.setdefault("NAPARI_OSVOS_PRECISION", "float32")

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# A shell that runs the tests in the background has them ignore Ctrl-C, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _drawn(*frames: str) -> np.ndarray:
    """Turn ASCII drawings, one a frame, into labels (T, Y, X): a digit is a label, a dot is background."""
    planes = [[[0 if c == "." else int(c) for c in row] for row in frame.split()] for frame in frames]
    return np.array(planes, dtype=np.uint16)


@pytest.fixture
def drawn() -> Callable[..., np.ndarray]:
    """``drawn("1. ..", ".1 ..")`` gives labels (T, Y, X): rows parted by blanks, digits are labels."""
    return _drawn


@pytest.fixture
def toy_labels() -> np.ndarray:
    """Labels (3, 8, 12) of two objects: 1 is a 3 x 3 square that moves right, 2 a bar that stays."""
    return _drawn(
        """
        ............
        .111........
        .111....2...
        .111....2...
        ........2...
        ........2...
        ............
        ............
        """,
        """
        ............
        ..111.......
        ..111...2...
        ..111...2...
        ........2...
        ........2...
        ............
        ............
        """,
        """
        ............
        ...111......
        ...111..2...
        ...111..2...
        ........2...
        ........2...
        ............
        ............
        """,
    )


@pytest.fixture
def toy_movie(toy_labels: np.ndarray) -> np.ndarray:
    """Frames (3, 8, 12), uint8, of `toy_labels`: objects 200, background 50."""
    return np.where(toy_labels > 0, 200, 50).astype(np.uint8)


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the panel's sessions, the test's own."""
    monkeypatch.setenv("NAPARI_OSVOS_SESSIONS", str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture
def opened(sessions: Path, make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Any, Any]]:
    """Opens a movie and a panel, whose engine only takes requests: what it tells, the test says (`round_driver`)."""
    from round_driver import open_movie

    monkeypatch.setattr("napari_osvos.worker.client.Engine.start", lambda engine: None)
    monkeypatch.setattr("napari_osvos.worker.client.Engine.run", lambda engine, request: None)
    return lambda: open_movie(make_napari_viewer())


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An engine with a tiny parent, for all tests of a file."""
    from engine_desk import open_desk

    yield from open_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def desk(shared_desk: Any) -> Iterator[Any]:
    """The shared engine, ready and with nothing to do."""
    from engine_desk import at_rest

    yield from at_rest(shared_desk)
