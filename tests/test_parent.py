"""Parents: trained from stills, resumed after a kill, saved in half precision, read from files and folders."""

from __future__ import annotations

import csv
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import tifffile
import torch
from resumable_training import RECIPE, toy_stills, training
from skimage.io import imsave
from toy_clip import tiny_parent

from napari_osvos import parent_training
from napari_osvos.checkpoint import read_header, save_tensors, weights_digest
from napari_osvos.config import NetworkConfig, ParentConfig
from napari_osvos.intensity import IntensityScale
from napari_osvos.parent import ParentNetwork
from napari_osvos.parent_log import ParentLog, plot_losses
from napari_osvos.parent_training import ParentTraining, train_parent
from napari_osvos.sampling import KNOWN, MASK, Source
from napari_osvos.stills import find_still_sets, read_still_sets, simulated_sources, still_source
from napari_osvos.stored_source import StoredSource
from napari_osvos.training import TrainingStep, WeightAverage


def _log(folder: Path) -> list[list[str]]:
    """Rows of the log without their seconds."""
    with open(folder / "log.csv", newline="") as stream:
        return [row[:3] for row in csv.reader(stream)]


# -- training and resuming -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny parent was trained without interruption."""
    folder = tmp_path_factory.mktemp("parent") / "new" / "folder"
    assert [step.step for step in training(folder)] == list(range(1, RECIPE.steps + 1))
    return folder


def test_a_folder_receives_checkpoint_log_plot_and_parent(trained: Path) -> None:
    names = ["checkpoint.safetensors", "log.csv", "loss.png", "parent.safetensors"]
    assert sorted(path.name for path in trained.iterdir()) == names
    log = _log(trained)
    assert log[0] == ["step", "loss", "learning_rate"]
    assert [row[0] for row in log[1:]] == ["50", "100", "110"]
    losses = [float(row[1]) for row in log[1:]]
    assert losses[1] < losses[0]
    assert matplotlib.image.imread(trained / "loss.png").shape[:2] == (420, 720)
    card = ParentNetwork.load(trained / "parent.safetensors").card
    assert card["name"] == "tiny"
    assert card["data"] == "toy"
    assert card["steps"] == RECIPE.steps
    assert ParentConfig.from_dict(card["recipe"]) == RECIPE
    assert [step for step, _ in card["curve"]] == [50, 100, 110]


def test_a_parent_tells_objects_from_background(trained: Path) -> None:
    parent = ParentNetwork.load(trained / "parent.safetensors")
    still = toy_stills()[0]
    with torch.no_grad():
        probability = torch.sigmoid(parent.net(still.whole()[0][None]))[0, 0]
    mask = still.targets[MASK] > 0
    assert float(probability[mask].mean()) > float(probability[~mask].mean()) + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [20, 72])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(trained: Path, tmp_path: Path, killed_at: int) -> None:
    """Killed before the first checkpoint (30), and between a checkpoint (60) and the next one (90), after a log row."""
    script = Path(__file__).parent / "resumable_training.py"
    command = [sys.executable, str(script), str(tmp_path / "run"), str(killed_at)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "here\n"
        run.kill()
        run.wait()
    assert run.returncode != 0
    left = tmp_path / "run"
    assert read_header(left / "checkpoint.safetensors")[1]["step"] == killed_at // 30 * 30
    assert len(_log(left)) == 1 + killed_at // 50
    steps = [step.step for step in training(left)]
    assert steps[0] == killed_at // 30 * 30 + 1
    assert _log(left) == _log(trained)
    whole, resumed = (ParentNetwork.load(folder / "parent.safetensors") for folder in (trained, left))
    assert resumed.digest() == whole.digest()
    unlike = ("seconds", "trained")
    assert {k: v for k, v in resumed.card.items() if k not in unlike} == {
        k: v for k, v in whole.card.items() if k not in unlike
    }


SHORT = RECIPE.replace(steps=7, checkpoint_every=100)


def _short(folder: Path, recipe: ParentConfig = SHORT) -> Generator[TrainingStep, None, None]:
    stills = toy_stills()
    return train_parent(recipe, stills[:2], folder, stills[2:])


def _in_update(monkeypatch: pytest.MonkeyPatch, number: int, what: tuple[object, str], before: bool) -> None:
    """Have Ctrl+C pressed once, in that update, before or after something is done."""
    owner, name = what
    real, calls = getattr(owner, name), itertools.count(1)

    def pressed(*args: object, **more: object) -> object:
        now = next(calls) == number
        if now and before:
            raise KeyboardInterrupt
        result = real(*args, **more)
        if now:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, pressed)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny parent was trained briefly, without interruption."""
    folder = tmp_path_factory.mktemp("short")
    list(_short(folder))
    return folder


def _same_end(folder: Path, short: Path) -> bool:
    """Whether a run that has ended learned and wrote the same as the one that was not interrupted."""
    parents = [ParentNetwork.load(one / "parent.safetensors") for one in (folder, short)]
    return parents[0].digest() == parents[1].digest() and _log(folder) == _log(short)


@pytest.mark.parametrize(
    ("what", "before"),
    [
        pytest.param((parent_training, "segmentation_loss"), False, id="statistics of BatchNorm changed"),
        pytest.param((WeightAverage, "update"), True, id="weights changed"),
        pytest.param((ParentLog, "add"), False, id="weights, average and log changed"),
    ],
)
def test_ctrl_c_in_an_update_loses_none_of_those_before(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: tuple[object, str], before: bool
) -> None:
    with monkeypatch.context() as patch:
        _in_update(patch, 5, what, before)
        with pytest.raises(KeyboardInterrupt):
            list(_short(tmp_path))
    assert read_header(tmp_path / "checkpoint.safetensors")[1]["step"] == 4
    assert [step.step for step in _short(tmp_path)] == [5, 6, 7]
    assert _same_end(tmp_path, short)


def test_who_leaves_the_loop_goes_on_from_there(short: Path, tmp_path: Path) -> None:
    for step in _short(tmp_path):
        if step.step == 3:
            break
    assert [step.step for step in _short(tmp_path)] == [4, 5, 6, 7]
    assert _same_end(tmp_path, short)


def test_a_second_ctrl_c_while_the_first_is_obeyed_damages_nothing(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = SHORT.replace(checkpoint_every=2)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        steps = _short(tmp_path, recipe)
        while next(steps).step < 3:
            pass
        before = (tmp_path / "checkpoint.safetensors").read_bytes()
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            steps.throw(KeyboardInterrupt())
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".png", ".safetensors", ".safetensors"]
    assert [step.step for step in _short(tmp_path, recipe)] == [3, 4, 5, 6, 7]
    assert _same_end(tmp_path, short)


def test_how_often_checkpoints_are_written_may_change(short: Path, tmp_path: Path) -> None:
    steps = _short(tmp_path)
    next(steps)
    steps.close()
    assert [step.step for step in _short(tmp_path, SHORT.replace(checkpoint_every=3))] == [2, 3, 4, 5, 6, 7]
    assert _same_end(tmp_path, short)


def test_what_crops_have_to_do_with_has_no_say_in_the_published_schedule(tmp_path: Path) -> None:
    recipe = ParentConfig(schedule="published", network="tiny", steps=2, simulated_share=0)
    other = {name: value / 2 for name, value in recipe.to_dict().items() if name in recipe.idle}
    assert set(other) == recipe.idle
    other |= {"crops": 1, "crop_size": 40}  # whole numbers
    losses = []
    for changed in (recipe, recipe.replace(**other)):
        losses.append([step.loss for step in train_parent(changed, toy_stills(), tmp_path / str(len(losses)))])
    assert losses[0] == losses[1]
    assert not list(train_parent(recipe.replace(**other), toy_stills(), tmp_path / "0"))  # gone on with


@pytest.mark.parametrize("schedule", ["crops", "published"])
def test_a_longer_run_is_another_one(tmp_path: Path, schedule: str) -> None:
    recipe = ParentConfig(schedule=schedule, network="tiny", crop_size=32, crops=1, steps=2, simulated_share=0)
    list(train_parent(recipe, toy_stills(), tmp_path))
    with pytest.raises(ValueError, match=r"was trained with steps = 2; this run has steps = 3\.$"):
        next(train_parent(recipe.replace(steps=3), toy_stills(), tmp_path))


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path: Path) -> None:
    recipe = ParentConfig(network="tiny", crop_size=32, crops=1, steps=1, simulated_share=0)
    for here, there in (("crops", "published"), ("published", "crops")):
        list(train_parent(recipe.replace(schedule=here), toy_stills(), tmp_path / here))
        with pytest.raises(ValueError, match=f"trained with schedule = {here}; this run has schedule = {there}"):
            next(train_parent(recipe.replace(schedule=there), toy_stills(), tmp_path / here))


def test_a_run_that_is_complete_has_no_steps_left(trained: Path) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    assert list(training(trained)) == []
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_a_line_of_the_log_that_was_cut_short_is_left_out(trained: Path, tmp_path: Path) -> None:
    for name in ("checkpoint.safetensors", "log.csv"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    with open(tmp_path / "log.csv", "a") as stream:
        stream.write("150,0.3")
    assert list(training(tmp_path)) == []
    assert _log(tmp_path) == _log(trained)


def test_a_checkpoint_of_another_recipe_is_refused(trained: Path) -> None:
    steps = train_parent(RECIPE.replace(learning_rate=0.5), toy_stills(), trained)
    checkpoint = trained / "checkpoint.safetensors"
    sentence = f"{checkpoint} was trained with learning_rate = 0.002; this run has learning_rate = 0.5."
    with pytest.raises(ValueError, match=sentence):
        next(steps)


def test_a_checkpoint_of_other_images_is_refused(trained: Path) -> None:
    stills, checkpoint = toy_stills(), trained / "checkpoint.safetensors"
    for sources, simulated, sentence in (
        (stills[:1], stills[2:], f"{checkpoint} was trained on 2 annotated images; this run has 1."),
        (stills[:2], stills[3:], f"{checkpoint} was trained on 2 simulated images; this run has 1."),
        (stills[1:3], stills[2:], f"{checkpoint} was trained on other images than this run has, though on as many."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            next(train_parent(RECIPE, sources, trained, simulated))


def test_log_and_plot_are_replaced_whole_or_not_at_all(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)  # the last moment at which a stop may come
    with pytest.raises(KeyboardInterrupt):
        list(training(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        plot_losses([], tmp_path / "loss.png")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_is_no_checkpoint_is_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match="holds a parent; a checkpoint is wanted here"):
        ParentTraining(RECIPE, toy_stills()).resume(trained / "parent.safetensors")


def test_another_seed_is_another_run() -> None:
    first, same, other = (
        [step.loss for step in ParentTraining(RECIPE.replace(steps=2, seed=seed), toy_stills()).steps()]
        for seed in (0, 0, 1)
    )
    assert first == same
    assert first != other


def test_there_must_be_something_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no annotated image to train a parent on"):
        next(train_parent(RECIPE, [], tmp_path))


def test_simulated_images_have_their_share() -> None:
    stills = toy_stills()
    stills[0].weight, stills[1].weight = 3.0, 1.0
    drawn = ParentTraining(RECIPE, stills[:2], stills[2:]).sources
    assert [source.weight for source in drawn] == pytest.approx([0.5625, 0.1875, 0.125, 0.125])
    assert [source.weight for source in stills] == [3.0, 1.0, 1.0, 1.0]  # for the next parent they are as they were
    assert drawn[0].image is stills[0].image
    none = ParentTraining(RECIPE.replace(simulated_share=0.0), toy_stills()[:2], toy_stills()[2:]).sources
    assert len(none) == 2


def test_a_plot_of_nothing_is_a_plot(tmp_path: Path) -> None:
    plot_losses([], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 0


# -- files -----------------------------------------------------------------------------------------


def test_a_parent_comes_back_in_half_precision_with_its_card(tmp_path: Path) -> None:
    parent = tiny_parent()
    parent.card |= {"name": "mine", "licences": ["CC0"]}
    parent.save(tmp_path / "p.safetensors")
    found = ParentNetwork.load(tmp_path / "p.safetensors")
    half = {name: value.half().float() for name, value in parent.net.state_dict().items()}
    assert found.digest() == weights_digest(half)
    assert found.card == parent.card
    assert found.name == "mine"
    assert not found.net.training
    found.save(tmp_path / "again.safetensors")
    assert ParentNetwork.load(tmp_path / "again.safetensors").digest() == found.digest()
    parent.save(tmp_path / "whole.safetensors", torch.float32)
    assert ParentNetwork.load(tmp_path / "whole.safetensors").digest() == parent.digest()
    assert read_header(tmp_path / "whole.safetensors")[0] == "parent"


def test_a_random_parent_is_that_of_its_seed_and_disturbs_no_other_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    digests = [ParentNetwork.random(NetworkConfig.tiny(), seed).digest() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert digests[0] == digests[1] != digests[2]
    assert ParentNetwork.random().net.config == NetworkConfig.lite()


def test_an_unknown_bundled_parent_is_named_beside_those_there_are() -> None:
    names = ParentNetwork.bundled_names()
    with pytest.raises(ValueError, match=f"There is no bundled parent 'resnet'; there are {', '.join(names)}"):
        ParentNetwork.bundled("resnet")


@pytest.mark.parametrize("name", ParentNetwork.bundled_names())
def test_each_bundled_parent_loads_and_says_where_it_comes_from(name: str) -> None:
    parent = ParentNetwork.bundled(name)
    assert parent.name == name
    assert {"recipe", "steps", "seconds", "curve"} <= parent.card.keys()
    with torch.no_grad():
        assert parent.net(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_weights_beyond_half_precision_are_refused_when_read(tmp_path: Path) -> None:
    weights = {name: value + 1e6 for name, value in tiny_parent().net.state_dict().items()}
    header = {"network": NetworkConfig.tiny().to_dict()}
    save_tensors(tmp_path / "p", {name: value.half() for name, value in weights.items()}, header, "parent")
    with pytest.raises(ValueError, match="not finite"):
        ParentNetwork.load(tmp_path / "p")


# -- stills ----------------------------------------------------------------------------------------


def _write_still(folder: Path, name: str, image: np.ndarray, labels: np.ndarray, suffix: str = ".png") -> None:
    for part, pixels in (("images", image), ("labels", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        imsave(folder / part / f"{name}{suffix}", pixels, check_contrast=False)


def _square_still(edge: int = 12, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((40, 50), np.uint16)
    labels[8 : 8 + edge, 8 : 8 + edge] = 300
    image = np.where(labels > 0, 200, 20).astype(np.uint8)
    return (image if channels == 1 else np.stack([image] * channels, -1)), labels


def test_stills_are_read_by_set_and_weighted_by_set(tmp_path: Path) -> None:
    for i in range(4):
        _write_still(tmp_path / "many", f"still{i}", *_square_still())
    _write_still(tmp_path / "one", "colour", *_square_still(channels=3))
    _write_still(tmp_path / "tiff", "a", *_square_still(channels=4), suffix=".tif")
    (tmp_path / "notes").mkdir()
    assert list(find_still_sets(tmp_path)) == ["many", "one", "tiff"]
    config = ParentConfig(set_exponent=0.5, object_diameter=24.0)
    sources = list(read_still_sets([tmp_path], config))
    assert len(sources) == 6
    weights = [source.weight for source in sources]
    assert weights == pytest.approx([0.5] * 4 + [1.0, 1.0])
    assert [len(source.image) for source in sources] == [1, 1, 1, 1, 3, 3]
    for source in sources:
        assert float(source.targets[MASK].sum()) == 144
        assert bool(source.targets[KNOWN].all())
        assert source.zoom == pytest.approx(24 / 12 * 0.785, rel=0.3)
    alone = list(read_still_sets([tmp_path / "many"], config))
    assert len(alone) == 4


def test_a_still_without_objects_is_left_out(tmp_path: Path) -> None:
    image, labels = _square_still()
    _write_still(tmp_path / "s", "empty", image, 0 * labels)
    _write_still(tmp_path / "s", "full", image, labels)
    assert len(list(read_still_sets([tmp_path / "s"], ParentConfig()))) == 1


@pytest.mark.parametrize(
    ("dtype", "suffix", "other", "objects", "void"),
    [
        (np.uint8, ".png", 7, 16, 12),
        (np.uint8, ".png", 0, 12, 0),  # a mask
        (np.uint16, ".png", 7, 28, 0),
        (np.uint8, ".tif", 7, 28, 0),
    ],
    ids=["8 bits", "mask", "16 bits", "TIFF"],
)
def test_void_is_255_beside_other_labels_in_a_picture_of_8_bits(
    tmp_path: Path, dtype: type, suffix: str, other: int, objects: int, void: int
) -> None:
    marks = np.zeros((20, 30), dtype)
    marks[2:6, 2:6], marks[10:12, 3:9] = other, 255
    _write_still(tmp_path / "s", "a", np.zeros((20, 30), np.uint8), marks, suffix)
    (still,) = read_still_sets([tmp_path / "s"], ParentConfig.published())
    stored = StoredSource(tmp_path / "s" / "images" / f"a{suffix}", tmp_path / "s" / "labels" / f"a{suffix}", None)
    for source in (still, stored.read()) if suffix == ".png" else (still,):
        assert int(source.targets[MASK].sum()) == objects
        assert int((source.targets[KNOWN] == 0).sum()) == void


def test_the_zoom_of_a_still_has_its_limits() -> None:
    for edge, zoom in ((1, 3.0), (400, 1 / 6)):
        labels = np.zeros((420, 420), np.int32)
        labels[5 : 5 + edge, 5 : 5 + edge] = 1
        source = still_source(labels.astype(np.uint8), labels, 36.0, 1.0)
        assert source.zoom * source.targets.shape[-1] / 420 == pytest.approx(zoom, rel=0.02)


@pytest.mark.parametrize("name", ["nowhere", "empty", "images_only"])
def test_a_folder_without_stills_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "images_only" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{name} has no set of stills: a set is a folder with the folders"):
        next(read_still_sets([tmp_path / name], ParentConfig()))


def _remove_labels(folder: Path) -> str:
    (folder / "labels" / "a.png").unlink()
    return "The image a.png of the set s has no labels of the same name."


def _shrink_labels(folder: Path) -> str:
    imsave(folder / "labels" / "a.png", np.ones((40, 49), np.uint8), check_contrast=False)
    return "a.png is 40 x 49 pixels; its image is 40 x 50."


def _colour_labels(folder: Path) -> str:
    colours = np.stack([np.full((40, 50), value, np.uint8) for value in (1, 2, 3)], -1)
    imsave(folder / "labels" / "a.png", colours, check_contrast=False)
    return "a.png is a colour"


def _stack_images(folder: Path) -> str:
    (folder / "images" / "a.png").unlink()
    tifffile.imwrite(folder / "images" / "a.tif", np.zeros((5, 40, 50), np.uint8))
    return "a.tif holds 5 images; a still holds one."


def _halve_labels(folder: Path) -> str:
    (folder / "labels" / "a.png").unlink()
    imsave(folder / "labels" / "a.tif", np.full((40, 50), 0.5, np.float32), check_contrast=False)
    return "a.tif holds the value 0.5; labels must be whole numbers."


def _break_image(folder: Path) -> str:
    (folder / "images" / "a.png").write_bytes(b"no picture")
    return "a.png cannot be read"


def _break_labels(folder: Path) -> str:
    (folder / "labels" / "a.png").unlink()
    (folder / "labels" / "a.tif").write_bytes(b"no picture")
    return "a.tif cannot be read"


@pytest.mark.parametrize(
    "spoil",
    [_remove_labels, _shrink_labels, _colour_labels, _stack_images, _halve_labels, _break_image, _break_labels],
    ids=lambda spoil: spoil.__name__,
)
def test_a_still_that_cannot_be_used_is_named(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    _write_still(tmp_path / "s", "a", *_square_still())
    sentence = spoil(tmp_path / "s")
    with pytest.raises((ValueError, OSError), match=sentence):
        list(read_still_sets([tmp_path / "s"], ParentConfig()))


def test_simulated_stills_are_those_of_the_seed() -> None:
    def first(seed: int) -> Source:
        return next(simulated_sources(ParentConfig(seed=seed, simulated_images=2)))

    assert torch.equal(first(0).image, first(0).image)
    assert first(0).image.shape != first(1).image.shape or not torch.equal(first(0).image, first(1).image)
    assert isinstance(first(0).intensity, IntensityScale)


def test_a_crop_must_fit_the_stride_of_the_network() -> None:
    with pytest.raises(ValueError, match="ParentConfig.crop_size is 100; for tiny it must be a multiple of 8 px"):
        ParentTraining(RECIPE.replace(crop_size=100), toy_stills())
