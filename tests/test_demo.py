"""The demo, at toy size and with a network that has to learn everything from the one painted frame."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile
from skimage.io import imread

from napari_osvos import FineTuneConfig, NetworkConfig, ParentNetwork, read_labels
from napari_osvos.cli import main
from napari_osvos.demo import demonstrate


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    ParentNetwork.random(NetworkConfig.tiny()).save(path)
    return path


def _demo(folder: Path, parent: Path, *more: str) -> list[str]:
    size = ["--movie-frames", "3", "--size", "64", "--steps", "3", "--looks", "fluorescence,em"]
    return ["demo", "-o", str(folder), "--parent", str(parent), *size, *more]


def test_demo_writes_everything_and_says_what_to_do_next(
    tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert main(_demo(folder, parent)) == 0
    said = capsys.readouterr().out
    assert "fluorescence: J " in said
    assert "em: J " in said
    assert "tracks, " in said
    assert f"napari-osvos segment {folder / 'fluorescence' / 'movie.tif'}" in said
    assert imread(folder / "overlay.png").shape[0] > 200
    facts = json.loads((folder / "scores.json").read_text())
    assert facts["movies"]["em"]["scores"]["frames"] == [1, 2]
    assert {"n_tracks", "n_divisions"} < facts["movies"]["fluorescence"].keys()
    for look in ("fluorescence", "em"):
        assert tifffile.imread(folder / look / "movie.tif").shape == (3, 64, 64)
        assert read_labels(folder / look / "labels.tif").shape == (3, 64, 64)
        painted = read_labels(folder / look / "painted.tif")
        assert [bool(frame.any()) for frame in painted] == [True, False, False]


def test_demo_overwrites_only_by_force(tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    for name in ("scores.json", "em/labels.tif"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        assert main(_demo(folder, parent)) == 2
        assert f"{folder / name} exists already" in capsys.readouterr().err
        if "em" not in name:
            (folder / name).unlink()
    assert main(_demo(folder, parent, "--force", "--quiet")) == 0


def test_demo_of_an_unknown_look(tmp_path: Path, parent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_demo(tmp_path / "demo", parent, "--looks", "radar", "--quiet")) == 2
    assert "Unknown look 'radar'" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_the_tiny_network_learns_from_the_painted_frame(tmp_path: Path) -> None:
    config = FineTuneConfig(steps=50, crops=2, crop_size=64, object_diameter=20, learning_rate=0.02, average_decay=0.9)
    network = ParentNetwork.random(NetworkConfig.tiny())
    seen = demonstrate("fluorescence", tmp_path, parent=network, config=config, n_frames=3, shape=(96, 96))
    assert seen.scores.j_mean > 0.6
    assert set(seen.seconds) == {"simulate", "fine_tune", "predict", "link", "evaluate", "write"}
    with pytest.raises(ValueError, match="has 1 frames"):
        demonstrate("fluorescence", tmp_path, parent=network, config=config, n_frames=1)
