"""Folders as they come, told apart, trained on, and what comes of it: a parent that learns a movie."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from toy_clip import overlap, quick, toy_clip, toy_frames

from napari_osvos import stored_source
from napari_osvos.config import ParentConfig
from napari_osvos.davis_folder import davis_palette
from napari_osvos.finetune import FineTuner
from napari_osvos.parent import ParentNetwork
from napari_osvos.parent_training import ParentTraining, train_parent
from napari_osvos.sampling import KNOWN, MASK
from napari_osvos.stored_source import StoredSource
from napari_osvos.training_images import read_movie, read_training_set
from napari_osvos.training_sets import TrainingSet, find_training_sets

pytestmark = pytest.mark.slow

RECIPE = ParentConfig(network="tiny", steps=4, crops=2, crop_size=32, object_diameter=16.0, simulated_share=0.0)


def _picture(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette(davis_palette().tobytes())
    picture.save(path)


def _davis(folder: Path, year: int = 2017, size: str = "480p/") -> Path:
    """Two sequences to train on and one to validate with, of three frames each."""
    frames, truth = toy_frames(3)
    for name in ("bear", "car", "dog"):
        for t, (frame, mask) in enumerate(zip(frames, truth, strict=True)):
            _picture(folder / "JPEGImages" / f"{size}{name}" / f"{t:05d}.jpg", np.stack([frame] * 3, -1))
            marks = 255 * mask if year == 2016 else mask * 2
            _picture(folder / "Annotations" / f"{size}{name}" / f"{t:05d}.png", marks, palette=year == 2017)
    return folder


def _davis_2017(folder: Path) -> Path:
    _davis(folder)
    for year, names in (("2016", "bear\n"), ("2017", "bear\ncar\n")):
        (folder / "ImageSets" / year).mkdir(parents=True)
        (folder / "ImageSets" / year / "train.txt").write_text(names)
    (folder / "ImageSets" / "2017" / "val.txt").write_text("dog\n")
    return folder


def _davis_2016(folder: Path) -> Path:
    _davis(folder, 2016)
    (folder / "ImageSets" / "480p").mkdir(parents=True)
    lines = [
        f"/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png\n"
        for name, t in (("bear", 0), ("bear", 2), ("car", 1))
    ]
    (folder / "ImageSets" / "480p" / "train.txt").write_text("".join(lines))
    return folder


def _youtube_vos(folder: Path) -> Path:
    """Of one video every frame is there, and every other one is annotated."""
    _davis(folder, size="")
    for path in sorted((folder / "Annotations").rglob("00001.png")):
        path.unlink()
    (folder / "meta.json").write_text("{}")
    return folder


def _youtube_objects(folder: Path) -> Path:
    frames, truth = toy_frames(2)
    for shot in ("cat/data/0001/shots/001", "dog/data/0003/shots/002"):
        for t, (frame, mask) in enumerate(zip(frames, truth, strict=True)):
            _picture(folder / shot / "images" / f"frame{t:04d}.jpg", frame)
            _picture(folder / shot / "labels" / f"frame{t:04d}.jpg.png", 255 * mask)
    return folder


def _ctc(folder: Path) -> Path:
    frames, truth = toy_frames(3)
    for t, (frame, mask) in enumerate(zip(frames, truth, strict=True)):
        for path, pixels in (
            (folder / "01" / f"t{t:03d}.tif", frame),
            (folder / "01_ST" / "SEG" / f"man_seg{t:03d}.tif", mask.astype(np.uint16)),
            (folder / "01_GT" / "SEG" / f"man_seg{t:03d}.tif", 0 * mask.astype(np.uint16)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, pixels)
    return folder


def _stills(folder: Path) -> Path:
    frames, truth = toy_frames(4)
    for t, (frame, mask) in enumerate(zip(frames, truth, strict=True)):
        _picture(folder / "discs" / "images" / f"{t}.png", frame)
        _picture(folder / "discs" / "labels" / f"{t}.png", mask)
    return folder


KINDS: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "DAVIS-2016": (_davis_2016, 3, "DAVIS-2016 480p/train"),
    "DAVIS-2017": (_davis_2017, 6, "DAVIS-2017 2017/train"),
    "YouTube-VOS": (_youtube_vos, 6, "YouTube-VOS"),
    "YouTube-Objects": (_youtube_objects, 4, "YouTube-Objects"),
    "Cells": (_ctc, 3, "Cells"),
    "stills": (_stills, 4, "discs"),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_a_parent_is_trained_on_each_kind_and_learns_a_movie(kind: str, tmp_path: Path) -> None:
    write, count, name = KINDS[kind]
    (found,) = find_training_sets(write(tmp_path / kind))
    assert found.name == name
    sources = read_training_set(found, RECIPE)
    assert len(sources) == count
    assert sum(source.weight for source in sources) == pytest.approx(count**RECIPE.set_exponent)
    for source in sources:
        still = stored_source.opened(source)
        assert still.positive_share == pytest.approx(197 / 2240, rel=0.1)
        assert still.zoom * still.targets.shape[-1] / 56 == pytest.approx(1, rel=0.2)
    for step in train_parent(RECIPE, sources, tmp_path / "parent"):
        assert np.isfinite(step.loss)
    clip, painted, truth = toy_clip()
    segmenter = FineTuner(ParentNetwork.load(tmp_path / "parent" / "parent.safetensors"), quick(), "cpu").fit(
        clip, painted
    )
    assert overlap(dict(segmenter.iter_labels(clip))[2], truth[2]) > 0.7


def test_images_of_videos_are_read_when_they_are_drawn_and_only_some_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = find_training_sets(_davis_2017(tmp_path / "D"))
    sources = read_training_set(found, RECIPE)
    read: list[Path] = []

    def watched(reader: Callable[[Path], Any], path: Path) -> Any:
        read.append(path)
        return reader(path)

    for name in ("read_picture", "read_marks"):
        monkeypatch.setattr(stored_source, name, functools.partial(watched, getattr(stored_source, name)))
    stored_source._read.cache_clear()
    training = ParentTraining(RECIPE.replace(images=1), sources)
    assert read == []
    list(training.steps())
    assert len(read) == 2  # an image and its labels
    assert len(training.sources) == 1
    assert stored_source._read.cache_info().maxsize == stored_source.KEPT_IN_MEMORY
    stored_source._read.cache_clear()


def test_so_many_images_as_wanted_are_drawn_by_the_seed(tmp_path: Path) -> None:
    (found,) = find_training_sets(_davis_2017(tmp_path / "D"))

    def chosen(seed: int, images: int | None) -> list[Path]:
        sources = read_training_set(found, RECIPE)
        return [s.labels for s in ParentTraining(RECIPE.replace(seed=seed, images=images), sources).sources]  # type: ignore[union-attr]

    assert len(chosen(0, None)) == len(chosen(0, 100)) == 6
    assert chosen(0, 3) == chosen(0, 3) != chosen(1, 3)
    assert len(set(chosen(0, 3))) == 3


def test_a_checkpoint_of_other_videos_is_refused(tmp_path: Path) -> None:
    folder = _davis_2017(tmp_path / "D")
    for split in ("train", "val"):
        (found,) = find_training_sets(folder, split)
        steps = train_parent(RECIPE, read_training_set(found, RECIPE), tmp_path / "parent")
        if split == "train":
            list(steps)
        else:
            with pytest.raises(ValueError, match="was trained on 6 annotated images; this run has 3"):
                next(steps)


def test_lists_of_davis_are_chosen_by_name(tmp_path: Path) -> None:
    folder = _davis_2017(tmp_path / "D")

    def names(split: str | None) -> set[str]:
        (found,) = find_training_sets(folder, split)
        return {labels.parent.name for _, labels in found.pictures}

    assert names(None) == names("train") == names("2017/train") == {"bear", "car"}
    assert names("2016/train") == {"bear"}
    assert names("val") == {"dog"}
    with pytest.raises(ValueError, match=r"has no list 'test'; there are 2016/train, 2017/train, 2017/val\."):
        names("test")
    with pytest.raises(ValueError, match="has no lists of images to choose 'val' from"):
        find_training_sets(_stills(tmp_path / "stills"), "val")


def test_a_set_of_both_resolutions_gives_the_smaller(tmp_path: Path) -> None:
    folder = _davis(_davis(tmp_path / "D"), size="Full-Resolution/")
    (found,) = find_training_sets(folder)
    assert {labels.parent.parent.name for _, labels in found.pictures} == {"480p"}
    assert len(found.pictures) == 9


def test_what_is_void_does_not_count(tmp_path: Path) -> None:
    marks = np.zeros((20, 30), np.uint8)
    marks[2:6, 2:6], marks[10:12, 3:9] = 3, 255
    _picture(tmp_path / "a.jpg", np.zeros((20, 30, 3), np.uint8))
    _picture(tmp_path / "a.png", marks, palette=True)
    source = StoredSource(tmp_path / "a.jpg", tmp_path / "a.png", None).read()
    assert int(source.targets[MASK].sum()) == 16
    assert int((source.targets[KNOWN] == 0).sum()) == 12
    _picture(tmp_path / "b.png", np.where(marks == 255, 255, 0).astype(np.uint8))  # a mask
    source = StoredSource(tmp_path / "a.jpg", tmp_path / "b.png", None).read()
    assert int(source.targets[MASK].sum()) == 12
    assert bool(source.targets[KNOWN].all())


def test_gold_truth_that_leaves_objects_out_is_left_out(tmp_path: Path) -> None:
    frames, truth = toy_frames(3)
    masks, markers = truth.astype(np.uint16), truth.astype(np.uint16)
    markers[1, -4:, -4:] = 2  # of this one there is no mask
    for t in range(3):
        for name, pixels in (("01/t", frames), ("01_GT/SEG/man_seg", masks), ("01_GT/TRA/man_track", markers)):
            path = tmp_path / f"{name}{t:03d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, pixels[t])
    (found,) = find_training_sets(tmp_path)
    assert found == TrainingSet(tmp_path.name, movies=((tmp_path / "01", tmp_path / "01_GT" / "SEG"),))
    assert len(read_training_set(found, RECIPE)) == 2
    for t in range(3):
        tifffile.imwrite(tmp_path / "01_GT" / "TRA" / f"man_track{t:03d}.tif", markers[1])
    with pytest.raises(ValueError, match="shows only some of the objects of each frame"):
        read_movie(tmp_path / "01", tmp_path / "01_GT" / "SEG", RECIPE)


def test_a_folder_of_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty" / "JPEGImages").mkdir(parents=True)
    for name in ("empty", "nowhere"):
        with pytest.raises(ValueError, match=f"{name} holds nothing to train on: a set is a folder"):
            find_training_sets(tmp_path / name)
    (tmp_path / "empty" / "Annotations").mkdir()
    with pytest.raises(ValueError, match="holds no labels with images of the same names"):
        find_training_sets(tmp_path / "empty")


def test_labels_of_another_size_are_named(tmp_path: Path) -> None:
    _picture(tmp_path / "a.jpg", np.zeros((20, 30, 3), np.uint8))
    _picture(tmp_path / "a.png", np.zeros((20, 29), np.uint8))
    with pytest.raises(ValueError, match=r"a.png is 20 x 29 pixels; its image is 20 x 30\."):
        StoredSource(tmp_path / "a.jpg", tmp_path / "a.png", None).read()


# -- the published schedule --------------------------------------------------------------------


def test_the_published_schedule_trains_whole_images_and_is_resumed(tmp_path: Path) -> None:
    recipe = ParentConfig.published().replace(
        network="tiny", base="random", edges="mirrored", steps=4, passes=2, checkpoint_every=2
    )
    (found,) = find_training_sets(_davis_2017(tmp_path / "D"))
    sources = read_training_set(found, recipe)
    assert stored_source.opened(sources[0]).zoom == 1
    whole = [step.loss for step in train_parent(recipe, sources, tmp_path / "whole")]
    assert len(whole) == 4
    parts = []
    for step in train_parent(recipe, sources, tmp_path / "parts"):
        parts.append(step.loss)
        if step.step == 2:
            break
    parts += [step.loss for step in train_parent(recipe, sources, tmp_path / "parts")]
    assert parts == whole
    parents = [ParentNetwork.load(tmp_path / name / "parent.safetensors") for name in ("whole", "parts")]
    assert parents[0].digest() == parents[1].digest()
    training = ParentTraining(recipe, sources)
    assert not training.net.batch_norm
    assert isinstance(training.optimiser, torch.optim.SGD)
