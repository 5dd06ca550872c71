"""The log of a parent in training: rows, plot, and the files of TensorBoard, also after a run was killed."""

from __future__ import annotations

import csv
import struct
import sys
from pathlib import Path

import pytest
from resumable_training import RECIPE, toy_stills

from napari_osvos.parent_log import ParentLog
from napari_osvos.parent_training import train_parent


def _rows(folder: Path) -> list[tuple[int, float]]:
    with open(folder / "log.csv", newline="") as stream:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(stream)]


def _log(folder: Path, first: int, last: int, **more: bool) -> ParentLog:
    with ParentLog(folder, first, [], **more) as log:
        for step in range(first + 1, last + 1):
            log.add(step, step / 10, 1e-3, float(step), last=step == last)
    return log


def test_a_row_is_the_mean_of_fifty_steps(tmp_path: Path) -> None:
    log = _log(tmp_path, 0, 120)
    assert dict(_rows(tmp_path)) == pytest.approx({50: 2.55, 100: 7.55, 120: 11.05})
    assert log.curve() == [(50, 2.55), (100, 7.55), (120, 11.05)]


def test_rows_beyond_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    _log(tmp_path, 0, 200)
    _log(tmp_path, 100, 150)
    assert [step for step, _ in _rows(tmp_path)] == [50, 100, 150]
    _log(tmp_path, 0, 50)  # a run of its own
    assert [step for step, _ in _rows(tmp_path)] == [50]


def _scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Scalars in TensorBoard's files: records of length, checksum, event, checksum; without those taken back."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found: list[tuple[str, int, float]] = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                found = [scalar for scalar in found if scalar[1] < event.step]
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_shows_the_same_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra 'tensorboard' is not installed")
    _log(tmp_path, 0, 150, tensorboard=True)
    # files are named by the second, and read in the order of their names
    (first,) = (tmp_path / "tensorboard").iterdir()
    first.rename(first.with_name("events.out.tfevents.0"))
    _log(tmp_path, 100, 200, tensorboard=True)
    found = _scalars(tmp_path / "tensorboard")
    assert [step for tag, step, _ in found if tag == "loss"] == [50, 100, 150, 200]
    assert {step: value for tag, step, value in found if tag == "loss"} == pytest.approx(dict(_rows(tmp_path)))
    assert {tag for tag, _, _ in found} == {"loss", "learning_rate"}


def test_a_parent_in_training_writes_them_if_asked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra 'tensorboard' is not installed")
    for wanted in (False, True):
        folder = tmp_path / str(wanted)
        list(train_parent(RECIPE.replace(steps=2), toy_stills(), folder, tensorboard=wanted))
        assert (folder / "tensorboard").exists() is wanted
    assert [step for _, step, _ in _scalars(tmp_path / "True" / "tensorboard")] == [2, 2]


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    sentence = r"needs one more package: pip install napari-osvos\[tensorboard\]\.$"
    with pytest.raises(ValueError, match=sentence):
        ParentLog(tmp_path, 0, [], tensorboard=True)
    with pytest.raises(ValueError, match=sentence):
        next(train_parent(RECIPE.replace(steps=2), toy_stills(), tmp_path, tensorboard=True))
