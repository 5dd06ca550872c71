"""The log of a parent in training: rows, plot, and the files of TensorBoard, also after a run was killed."""

from __future__ import annotations

import csv
import struct
import sys
from pathlib import Path

import pytest
from resumable_training import RECIPE, toy_stills

from napari_osvos import parent_log
from napari_osvos.parent_log import LogRow, ParentLog
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


def test_the_plot_is_there_at_once_and_renewed_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[list[int], list[int]]] = []
    real = parent_log.plot_losses

    def plot(rows: list[LogRow], path: Path, recent: list[tuple[int, float]]) -> None:
        drawn.append(([row.step for row in rows], [step for step, _ in recent]))
        real(rows, path, recent)

    seconds = iter(range(0, 10_000, 10))  # ten pass at each look
    monkeypatch.setattr(parent_log, "plot_losses", plot)
    monkeypatch.setattr(parent_log, "monotonic", lambda: float(next(seconds)))
    with ParentLog(tmp_path, 48, [0.5] * 48) as log:
        for step in range(49, 54):
            log.add(step, 0.5, 1e-3, 1.0)
            log.plot(at_once=False)
            assert (tmp_path / "loss.png").exists()
        log.plot()
    assert drawn == [([], list(range(1, 50))), ([50], [51, 52]), ([50], [51, 52, 53])]


def test_a_parent_in_training_is_plotted_before_its_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(parent_log, "plot_losses", lambda rows, _, recent: drawn.append([*rows, *recent][-1][0]))
    for every, wanted in ((float("inf"), [1, 4, 6]), (0.0, [1, 2, 3, 4, 5, 6])):
        drawn.clear()
        monkeypatch.setattr(parent_log, "PLOT_EVERY", every)
        list(train_parent(RECIPE.replace(steps=6, checkpoint_every=4), toy_stills(), tmp_path / str(every)))
        assert drawn == wanted


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
