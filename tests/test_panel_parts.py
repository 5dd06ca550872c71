"""Parts of the panel by themselves: forms, dial, layers of a round, news from the engine. No engine is started."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="the panel needs napari and a Qt binding")

import dask.array
import zarr
from panel_driver import run_events, wait_until
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_osvos._qt import round_layers
from napari_osvos._qt.background import Background
from napari_osvos._qt.engine_bridge import INTERVAL, EngineBridge
from napari_osvos._qt.expected_time import ExpectedTime
from napari_osvos._qt.messages import Message
from napari_osvos._qt.movie_layer import MovieLayer, guessed_axes
from napari_osvos._qt.progress_section import ProgressSection
from napari_osvos._qt.quality_dial import QualityDial, time_in_words
from napari_osvos._qt.run import Run, words_at_the_end
from napari_osvos._qt.save_dialog import ask_where
from napari_osvos._qt.settings_section import ConfigForm, SettingsSection
from napari_osvos._qt.wish import movie_token
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig, PredictConfig
from napari_osvos.worker.calibration import Calibration
from napari_osvos.worker.events import Cancelled, Event, Finished, FrameDone, Preview, TrainingProgress


def kept(qtbot: Any, widget: Any) -> Any:
    qtbot.addWidget(widget)
    return widget


@pytest.mark.parametrize("config", [FineTuneConfig, PredictConfig])
def test_every_number_goes_through_the_form_unchanged(qtbot: Any, config: Any) -> None:
    numbers = [s.name for s in dataclasses.fields(config) if isinstance(s.default, (int, float, type(None)))]
    numbers = [name for name in numbers if not isinstance(getattr(config(), name), bool)]
    form = kept(qtbot, ConfigForm(config, numbers))
    assert form.values() == {}
    assert config.from_dict(form.values()) == config()
    given = {name: getattr(config(), name) for name in numbers if getattr(config(), name) is not None}
    if config is FineTuneConfig:
        given |= {"learning_rate": 1e-8, "steps": 7, "seconds": 0.1}
    form.fill(given)
    assert form.values() == given


def test_a_wrong_number_is_named(qtbot: Any) -> None:
    form = kept(qtbot, ConfigForm(FineTuneConfig, ["crops", "learning_rate"]))
    form.editors["crops"].setText("many")
    with pytest.raises(ValueError, match="Crops is 'many'; it must be a number."):
        form.values()
    form.editors["crops"].setText("0")
    with pytest.raises(ValueError, match="crops is 0; it must be from 1 to 256"):
        form.values()


def test_settings_survive_being_saved(qtbot: Any) -> None:
    settings = kept(qtbot, SettingsSection())
    settings.offer_devices(["cuda:0", "cpu"])
    settings.probabilities.setChecked(True)
    settings.device.setCurrentIndex(2)
    settings.threads.setValue(3)
    settings.tuning.fill({"steps": 9})
    plain = settings.plain()
    other = kept(qtbot, SettingsSection())
    other.offer_devices(["cuda:0", "cpu"])
    other.restore(plain)
    assert other.plain() == plain
    assert other.tuning_config("fast") == FineTuneConfig(quality="fast", steps=9)
    other.restore({"threads": "x", "tuning": 3, "device": "gone"})  # a damaged file
    assert other.device_name == "auto"


def test_settings_without_a_say_are_closed(qtbot: Any) -> None:
    settings = kept(qtbot, SettingsSection())
    editors = settings.tuning.editors
    assert all(editor.isEnabled() for editor in editors.values())
    settings.published.setChecked(True)
    closed = {name for name, editor in editors.items() if not editor.isEnabled()}
    assert closed == FineTuneConfig(quality="published").idle & set(editors)
    assert "crops" in closed
    settings.published.setChecked(False)
    assert all(editor.isEnabled() for editor in editors.values())


def test_the_dial_says_how_long_it_will_take(qtbot: Any) -> None:
    dial = kept(qtbot, QualityDial())
    assert dial.quality == "balanced"
    assert dial.words.text() == "Balanced"
    dial.expect({"fast": 5.2, "balanced": 130})
    assert dial.words.text() == "Balanced · about 2 min"
    dial.quality = "fast"
    assert dial.words.text() == "Fast · about 5 s"
    assert [time_in_words(s) for s in (0.2, 61, 600, 7200)] == ["1 s", "61 s", "10 min", "2.0 h"]


def test_a_run_may_end_while_napari_draws_its_progress(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    section = kept(qtbot, ProgressSection())
    section.begin("Learning", learns=False)
    section._told = 0.0
    monkeypatch.setattr(section._activity, "set_description", lambda words: section.end())
    section.show_progress(0.5, "Learning")
    assert not section.bar.isVisibleTo(section)


def test_expectations_are_corrected_by_what_a_run_took() -> None:
    expected = ExpectedTime()
    clip, tuning = Clip(np.zeros((10, 100, 100), np.uint8)), FineTuneConfig(quality="fast")
    assert expected.of(clip, tuning) is None
    expected.calibration = Calibration("cpu", seconds_per_step=0.1, seconds_per_megapixel=1.0)
    thought = expected.of(clip, tuning)
    assert thought is not None
    for _ in range(8):
        now = expected.of(clip, tuning)
        assert now is not None
        expected.correct(now, 2 * thought[0], None)
    corrected = expected.of(clip, tuning)
    assert corrected is not None
    assert corrected[0] == pytest.approx(2 * thought[0], rel=0.01)
    assert corrected[1] == thought[1]


def test_a_message_unfolds_its_details(qtbot: Any) -> None:
    message = kept(qtbot, Message())
    assert message.isHidden()
    message.say("It failed.", "error", details="line 1\nline 2", action="Mend it")
    assert not message.isHidden()
    assert message.details == "line 1\nline 2"
    with qtbot.waitSignal(message.acted):
        message.press()
    message.clear()
    assert message.isHidden()


class Sink:
    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.frames: list[int] = []

    def write(self, frame: int, labels: Any, probability: Any = None, uncertainty: Any = None) -> None:
        self.threads.add(threading.get_ident())
        self.frames.append(frame)

    def write_preview(self, frame: int, z: int | None, plane: Any, probability: Any = None) -> None:
        self.threads.add(threading.get_ident())


def test_news_come_bundled_and_frames_are_written_outside_the_thread_of_the_viewer(qtbot: Any) -> None:
    bridge = EngineBridge()
    bridge.sink = sink = Sink()
    bundles: list[list[Any]] = []
    bridge.told.connect(bundles.append)
    plane = np.zeros((4, 4), np.uint8)

    def engine() -> None:
        for step in range(200):
            bridge.take(TrainingProgress(step, 200, 0.1, 0.0, 0.0))
            time.sleep(0.0005)
        for _ in range(50):
            bridge.take(Preview(0, None, plane, None, 0))
        for t in range(20):
            bridge.take(FrameDone(t, plane.astype(np.uint16), None, 1.0, t + 1, 20, 0.0))

    thread = threading.Thread(target=engine)
    began = time.monotonic()
    thread.start()
    wait_until(lambda: sum(isinstance(e, FrameDone) for bundle in bundles for e in bundle) == 20, "all frames")
    thread.join()
    news = [event for bundle in bundles for event in bundle]
    assert len(bundles) <= (time.monotonic() - began) / INTERVAL * 1000 + 2
    assert [e.step for e in news if isinstance(e, TrainingProgress)] == list(range(200))
    assert sum(isinstance(e, Preview) for e in news) < 5
    assert sink.frames == list(range(20))
    assert threading.get_ident() not in sink.threads
    bridge.close()


@pytest.mark.parametrize("limit", [10**9, 100])  # in memory, and in the session folder
def test_a_round_is_filled_previewed_and_wiped(
    make_napari_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(round_layers, "LARGEST_IN_MEMORY", limit)
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((6, 5, 20, 30), np.uint8), name="a/b", scale=(1, 2, 1, 1))
    selected = set(viewer.layers.selection)
    movie = MovieLayer(image, guessed_axes(image))
    layers = round_layers.RoundLayers(viewer, movie, 1, True, tmp_path)
    layers.show()
    assert set(viewer.layers.selection) == selected
    assert isinstance(layers.labels, np.ndarray) == (limit > 1000)
    frame = np.ones((5, 20, 30), np.uint16)
    layers.write(2, frame, frame.astype(np.float32) / 2)
    layers.write_preview(2, 0, np.zeros((20, 30), np.uint8))  # came late
    layers.write_preview(3, 4, np.ones((20, 30), np.uint8), np.ones((20, 30), np.float16))
    layers.refresh()
    masks = np.asarray(viewer.layers["a/b masks 1"].data)
    assert masks[2].all()
    assert masks[3].any(axis=(1, 2)).tolist() == [False] * 4 + [True]
    assert not layers.finish()
    masks = np.asarray(viewer.layers["a/b masks 1"].data)
    assert masks[2].all()
    assert not masks[3].any()  # a preview is no prediction
    layers.write(4, frame)  # too late
    assert not np.asarray(viewer.layers["a/b masks 1"].data)[4].any()
    assert np.asarray(viewer.layers["a/b probabilities 1"].data)[2].max() == 0.5


def test_masks_whose_layer_got_other_pixels_come_in_a_new_layer(make_napari_viewer: Any, tmp_path: Path) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((3, 20, 30), np.uint8), name="cells")
    layers = round_layers.RoundLayers(viewer, MovieLayer(image, guessed_axes(image)), 1, False, tmp_path)
    layers.show()
    layers.write(1, np.ones((20, 30), np.uint16))
    viewer.layers["cells masks 1"].data = np.zeros((3, 20, 30), np.uint16)
    assert layers.finish()
    assert layers.labels_layer.data[1].all()
    run_events(0.05)


def test_layers_that_were_deleted_come_back_and_the_others_stay_single(make_napari_viewer: Any, tmp_path: Path) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((3, 20, 30), np.uint8), name="cells")
    names = {"cells", "cells masks 1", "cells probabilities 1"}
    for deleted in ("cells masks 1", "cells probabilities 1"):
        layers = round_layers.RoundLayers(viewer, MovieLayer(image, guessed_axes(image)), 1, True, tmp_path)
        layers.show()
        layers.write(0, np.ones((20, 30), np.uint16), np.ones((20, 30), np.float32))
        viewer.layers.remove(deleted)
        layers.finish()
        assert sorted(layer.name for layer in viewer.layers) == sorted(names)
        for name in names - {"cells"}:
            viewer.layers.remove(name)


def test_work_in_the_background_is_done_one_after_the_other(qtbot: Any) -> None:
    background = Background()
    told: list[Any] = []
    background.done.connect(told.append)
    background.failed.connect(lambda error: told.append(str(error)))
    free = threading.Event()

    def fail() -> None:
        raise OSError("no")

    for work in (free.wait, fail, lambda: "segmenter"):
        background.start(work)
    free.set()
    wait_until(lambda: len(told) == 3, "all of it")
    assert told == [True, "no", "segmenter"]


@pytest.mark.parametrize(
    ("typed", "format", "answer", "path"),
    [
        ("cells", "OME-Zarr", True, "cells.ome.zarr"),
        ("cells.tif", "OME-Zarr", True, "cells.tif"),
        ("cells.v2", "TIFF stack", True, "cells.v2.tif"),
        ("there.v2", "TIFF stack", True, "there.v2.tif"),
        ("there.v2", "TIFF stack", False, None),
    ],
)
def test_a_file_gets_the_ending_of_its_format_and_replaces_none_unasked(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, format: str, answer: bool, path: str | None
) -> None:
    (tmp_path / "there.v2.tif").write_text("x")
    parent = kept(qtbot, QWidget())
    asked: list[str] = []

    def press(dialog: QFileDialog) -> int:
        dialog.setDirectory(str(tmp_path))
        dialog.selectNameFilter(next(words for words in dialog.nameFilters() if words.startswith(format)))
        dialog.filterSelected.emit(dialog.selectedNameFilter())
        dialog.selectFile(typed)
        return 1

    def question(parent: Any, title: str, words: str) -> Any:
        asked.append(words)
        return QMessageBox.StandardButton.Yes if answer else QMessageBox.StandardButton.No

    monkeypatch.setattr(QFileDialog, "exec", press)
    monkeypatch.setattr(QMessageBox, "question", question)
    chosen = ask_where(parent, "Save labels", "labels", {"TIFF stack": "tif", "OME-Zarr": "ome.zarr"})
    assert chosen == (None if path is None else tmp_path / path)
    assert len(asked) == typed.startswith("there")


def test_a_movie_is_known_to_be_the_same_only_where_that_can_be_told(make_napari_viewer: Any, tmp_path: Path) -> None:
    viewer = make_napari_viewer()

    def token(array: Any) -> str:
        layer = viewer.add_image(array, contrast_limits=(0, 1))
        movie = MovieLayer(layer, guessed_axes(layer))
        same = movie_token(movie)
        assert same == movie_token(movie)
        viewer.layers.remove(layer)
        return same

    frames = np.zeros((3, 20, 30), np.uint8)
    assert token(frames) != token(frames)  # another layer
    layer = viewer.add_image(frames, contrast_limits=(0, 1))
    movie = MovieLayer(layer, guessed_axes(layer))
    before = movie_token(movie)
    frames[2] = 9
    assert movie_token(movie) != before
    stored = zarr.create_array(str(tmp_path / "a.zarr"), shape=frames.shape, dtype="u1")
    assert token(frames[:, ::2]) == token(dask.array.from_array(frames)) == token(stored) == ""


@pytest.mark.parametrize(
    ("event", "kept_frames", "segmenter", "words"),
    [
        (Finished(6, 3.0, False), 6, None, "6 frames are in 'masks', after 3 s."),
        (Finished(6, 3.0, False), 1, None, "1 of 6 frames are in 'masks', after 3 s."),
        (Finished(1, 3.0, True), 1, None, "The 1 frame done is in 'masks', after 3 s."),
        (Finished(0, 3.0, True), 0, Path("round04.osvos"), "Stopped. What was learned is kept as round 4."),
        (Cancelled(), 2, None, "Cancelled. The 2 frames done are in 'masks'."),
        (Cancelled(), 0, Path("round04.osvos"), "Cancelled. What was learned is kept as round 4."),
        (Cancelled(), 0, None, "Cancelled. Nothing of this run was kept."),
    ],
)
def test_the_end_of_a_run_is_said_as_it_is(event: Event, kept_frames: int, segmenter: Path | None, words: str) -> None:
    layers: Any = SimpleNamespace(labels_layer=SimpleNamespace(name="masks"))
    wish: Any = SimpleNamespace(movie=SimpleNamespace(axes=SimpleNamespace(n_frames=6)))
    run = Run(wish, 4, layers, None, "over", segmenter=segmenter)
    said, kind, _ = words_at_the_end(run, event, kept_frames)
    assert said == words
    assert (kind == "warning") == ("of 6" in words)
    run.notes.append("The disk is full.")
    said, kind, _ = words_at_the_end(run, event, kept_frames)
    assert ((said, kind) == (f"{words} The disk is full.", "warning")) == isinstance(event, Finished)
