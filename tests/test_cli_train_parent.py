"""The verb ``train-parent`` on folders as they come, as published, with a base; and ``--export davis:``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_clip import toy_frames
from toy_files import QUICK, write_toy_files

from napari_osvos.cli import main
from napari_osvos.io import read_labels
from napari_osvos.parent import ParentNetwork

SMALL = ["--network", "tiny", "--steps", "2", "--crops", "2", "--crop-size", "32", "--simulated-share", "0"]


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    frames, truth = toy_frames(3)
    folder = tmp_path / "DAVIS"
    for split, name in (("train", "bear"), ("val", "dog")):
        (folder / "ImageSets" / "2017").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "2017" / f"{split}.txt").write_text(f"{name}\n")
        for part, pictures, ending in (("JPEGImages", frames, "jpg"), ("Annotations", truth, "png")):
            (folder / part / "480p" / name).mkdir(parents=True)
            for t, pixels in enumerate(pictures):
                Image.fromarray(pixels).save(folder / part / "480p" / name / f"{t:05d}.{ending}")
    return folder


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().split("\n")[-1]


def _card(folder: Path) -> dict[str, object]:
    return ParentNetwork.load(folder / "parent.safetensors").card


def test_a_folder_of_davis_is_trained_on_by_its_lists(davis: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["train-parent", str(davis), "-o", str(tmp_path / "p"), "--quiet", *SMALL]
    assert main([*words, "--split", "val", "--json", str(report)]) == 0
    assert json.loads(report.read_text())["images"] == {"DAVIS 2017/val": 3}
    assert main([*words, "--force", "--images", "2"]) == 0
    card = _card(tmp_path / "p")
    assert card["images"] == {"DAVIS 2017/train": 3}
    assert card["recipe"]["images"] == 2  # type: ignore[index]


def test_the_published_schedule_brings_its_own_defaults(davis: Path, tmp_path: Path) -> None:
    words = ["train-parent", str(davis), "-o", str(tmp_path / "p"), "--quiet", "--schedule", "published"]
    # all but what would take a GPU
    assert main([*words, "--network", "tiny", "--base", "random", "--edges", "mirrored", "--steps", "1"]) == 0
    recipe = _card(tmp_path / "p")["recipe"]
    assert (recipe["passes"], recipe["deep_supervision"], recipe["simulated_share"]) == (10, 1.0, 0.0)  # type: ignore[index]


def test_a_base_network_must_be_there_and_fit(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train-parent", str(davis), "-o", str(tmp_path / "p"), "--quiet", "--steps", "1"]
    words += ["--simulated-share", "0"]
    assert main([*words, "--base", "imagenet-v1:vgg.pth"]) == 2
    assert "There is no base network vgg.pth" in _error(capsys)
    assert main([*words, "--network", "lite", "--base", "imagenet-v1"]) == 2
    assert "base is 'imagenet-v1', which fits the network vgg16, not lite." in _error(capsys)
    (tmp_path / "vgg.pth").write_bytes(b"?")
    assert main([*words, "--base", str(tmp_path / "vgg.pth")]) == 2
    assert "is none of torchvision's files" in _error(capsys)
    assert main([*words, "--base", f"imagenet-v1:{tmp_path / 'vgg.pth'}"]) == 2
    assert "vgg.pth holds no weights that can be read without running code of the file." in _error(capsys)
    assert not (tmp_path / "p" / "checkpoint.safetensors").exists()


def test_a_log_for_tensorboard_needs_its_package(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert main(["train-parent", str(davis), "-o", str(tmp_path / "p"), "--quiet", *SMALL, "--tensorboard"]) == 2
    assert "needs one more package: pip install napari-osvos[tensorboard]." in _error(capsys)


def test_a_folder_of_nothing_and_a_list_that_is_not_there_are_named(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-o", str(tmp_path / "p"), "--quiet", *SMALL]
    assert main(["train-parent", str(davis / "ImageSets"), *words]) == 2
    assert "ImageSets holds nothing to train on" in _error(capsys)
    assert main(["train-parent", str(davis), "--split", "test", *words]) == 2
    assert "has no list 'test'; there are 2017/train, 2017/val." in _error(capsys)


def test_segment_exports_what_the_evaluation_of_davis_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy, result = write_toy_files(tmp_path), tmp_path / "results" / "toy"
    words = ["segment", toy.movie, "-a", toy.painted, "-o", tmp_path / "labels.tif", "--parent", toy.parent, *QUICK]
    words += ["--task", "distinct", "--export", f"davis:{result}", "--quiet"]
    assert main([str(word) for word in words]) == 0
    labels = read_labels(tmp_path / "labels.tif")
    assert sorted(p.name for p in result.iterdir()) == [f"{t:05d}.png" for t in range(labels.n_frames)]
    np.testing.assert_array_equal(read_labels(result), labels)
    assert main(["evaluate", str(result), str(toy.truth), "--quiet"]) == 0
    assert "| J | 0." in capsys.readouterr().out
