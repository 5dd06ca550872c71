"""The verb ``train-parent`` on folders as they come, as published, with a base; and ``--export davis:``."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_clip import toy_frames
from toy_files import QUICK, write_toy_files

from napari_osvos.cli import ablation_parents, build_parser, main, train_parent
from napari_osvos.cli.console import Console
from napari_osvos.cli.train_parent import _recipe
from napari_osvos.config import ParentConfig
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
    assert main([*words, "--force"]) == 0
    assert _card(tmp_path / "p")["images"] == {"DAVIS 2017/train": 3}


def test_images_that_were_not_drawn_are_not_counted(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, toy = tmp_path / "report.json", write_toy_files(tmp_path)
    pair = f"{toy.movie}:{toy.truth}"
    words = ["train-parent", str(davis), "--sequence", pair, "-o", str(tmp_path / "p"), "--json", str(report), *SMALL]
    found = {"DAVIS 2017/train": 3, pair: 4}
    for drawn, force in ((2, []), (7, ["--force"])):
        assert main([*words, "--images", str(drawn), *force]) == 0
        card, facts, said = _card(tmp_path / "p"), json.loads(report.read_text()), capsys.readouterr().err
        assert card["recipe"]["images"] == drawn  # type: ignore[index]
        assert sum(card["images"].values()) == drawn  # type: ignore[attr-defined]
        assert card["images_found"] == facts["images_found"] == found
        assert facts["images"] == card["images"]
        of_davis = card["images"]["DAVIS 2017/train"]  # type: ignore[index]
        counts = f"{of_davis} of 3" if drawn == 2 else "3"
        assert f"DAVIS 2017/train: {counts} images, {pair}: " in said


def test_ctrl_c_keeps_what_was_learned_and_says_where(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_osvos import parent_training

    words = ["train-parent", str(davis), "-o", str(tmp_path / "p"), *SMALL, "--steps", "4"]
    checkpoint, real = tmp_path / "p" / "checkpoint.safetensors", parent_training.segmentation_loss
    calls: list[int] = []

    def pressed_in_the_third(*args: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **more)  # type: ignore[arg-type]

    for force, command in (([], "the same command"), (["--force"], "the same command without --force")):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(parent_training, "segmentation_loss", pressed_in_the_third)
            assert main([*words, *force]) == 130
        sentence = f"stopped. What was learned in 2 steps is in {checkpoint}; {command} goes on from there."
        assert _error(capsys).endswith(sentence)
    assert main(words) == 0
    assert f"Going on from {checkpoint}." in capsys.readouterr().err
    assert _card(tmp_path / "p")["steps"] == 4


def test_ctrl_c_outside_of_the_training_keeps_it_too(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def advance(done: int, *_: object) -> None:
        if done == 1:
            raise KeyboardInterrupt

    def progress(console: Console, verb: str, total: int) -> object:
        return contextlib.nullcontext(advance if verb == "training" else lambda *_: None)

    monkeypatch.setattr(Console, "progress", progress)
    assert main(["train-parent", str(davis), "-o", str(tmp_path / "p"), *SMALL]) == 130
    assert "What was learned in 1 step is in " in _error(capsys)


def test_options_that_have_no_effect_are_refused(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train-parent", str(davis), "-o", str(tmp_path / "p"), "--network", "tiny", "--base", "random"]
    published = ["--schedule", "published", "--edges", "mirrored", "--steps", "1"]
    for more, sentence in (
        (
            [*published, "--learning-rate", "0.5", "--weight-decay", "0.3"],
            "--learning-rate 0.5 and --weight-decay 0.3 can have no effect with --schedule published; leave them out.",
        ),
        (["--reduction", "sum"], "--reduction sum can have no effect with --schedule crops; leave it out."),
        ([*published, "--crops", "2"], "--crops 2 can have no effect with --schedule published; leave it out."),
        (
            ["--simulated-images", "9", "--simulated-share", "0"],
            "--simulated-images 9 can have no effect with --simulated-share 0; leave it out.",
        ),
    ):
        assert main([*words, *more]) == 2
        assert _error(capsys) == f"napari-osvos: error: {sentence}"
    assert not list((tmp_path / "p").iterdir())


def test_the_ablations_of_the_page_train_parents_that_differ_in_their_images_alone() -> None:
    page = (Path(__file__).parents[1] / "docs" / "parent-training.md").read_text(encoding="utf-8")
    lines = re.findall(r"^napari-osvos .*$", page.replace("\\\n", ""), re.MULTILINE)
    given = [build_parser().parse_args(shlex.split(line)[1:]) for line in lines if not line.endswith("--help")]
    (benchmark,) = (one for one in given if one.verb == "benchmark")
    recipes: list[ParentConfig] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_parent, "train_parent", lambda given, console: recipes.append(_recipe(given)[0]))
        files = ablation_parents.train(benchmark, Console(quiet=True))
    assert sorted(recipe.images or 0 for recipe in recipes) == [0, 100, 200]
    assert {recipe.replace(images=None) for recipe in recipes} == {ParentConfig(simulated_share=0.0)}
    assert files == tuple(f"ablations_parents/parent-{n}/parent.safetensors" for n in ("all", "200", "100"))


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
