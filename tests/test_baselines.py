"""The baselines: labels copied or carried along, Otsu's threshold, a random forest, Convpaint, and a U-Net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from toy_clip import quick, toy_clip

from napari_osvos.annotations import Annotations
from napari_osvos.baseline_flow import OpticalFlow
from napari_osvos.baseline_forest import RandomForest
from napari_osvos.baseline_otsu import Otsu
from napari_osvos.baselines import NearestMask
from napari_osvos.benchmark_cell import measure
from napari_osvos.benchmark_movies import BenchmarkMovie
from napari_osvos.benchmark_plan import plan
from napari_osvos.clip import Clip
from napari_osvos.config import NetworkConfig
from napari_osvos.evaluation import evaluate
from napari_osvos.finetune import FineTuner
from napari_osvos.unet import UNet, random_unet, unet_config
from napari_osvos.writing import write_labels

SMALL = unet_config().replace(widths=(8, 12, 16), convolutions=(1, 1, 1))


# -- annotated labels copied -----------------------------------------------------------------


def test_the_nearest_labels_are_copied(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    clip = Clip(np.concatenate([toy_movie, toy_movie[:2]]))
    method = NearestMask()
    method.fit(clip, Annotations.from_labels(np.concatenate([toy_labels, toy_labels[:2]]), frames=[0, 4]))
    found = dict(method.iter_labels(clip))
    assert list(found) == [0, 1, 2, 3, 4]
    for t, source in enumerate((0, 0, 0, 1, 1)):  # frame 2 is as far from 0 as from 4, which shows what frame 1 does
        np.testing.assert_array_equal(found[t], toy_labels[source])


def test_the_nearest_labels_of_a_stack_stay_in_their_slice(toy_labels: np.ndarray) -> None:
    labels = np.stack([toy_labels, toy_labels[::-1]], axis=1)  # (T, Z, Y, X)
    clip = Clip(labels.astype(np.uint8))
    method = NearestMask()
    method.fit(clip, Annotations.from_labels(labels, frames=[0]))
    found = dict(method.iter_labels(clip, frames=[2]))
    np.testing.assert_array_equal(found[2], labels[0])


# -- labels carried along --------------------------------------------------------------------


def _drifting(n_frames: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, 64, 64) of two textured objects that drift apart over a smooth background, and their labels."""
    from scipy.ndimage import gaussian_filter

    texture = gaussian_filter(np.random.default_rng(0).normal(0, 1, (64, 120)), 1.5) * 60
    y, x = np.mgrid[:64, :64]
    frames, labels = [], []
    for t in range(n_frames):
        frame, label = 40 + 0.3 * y, np.zeros((64, 64), np.int32)
        for value, (row, column) in ((3, (20 - t, 24)), (7, (44 + t, 36 + t))):
            inside = (y - row) ** 2 + (x - column) ** 2 <= 100
            frame = np.where(inside, 130 + texture[np.clip(y - row + 20, 0, 63), x - column + 40], frame)
            label[inside] = value
        frames.append(frame)
        labels.append(label)
    return np.stack(frames), np.stack(labels)


@pytest.mark.parametrize("painted", [0, 4, 2])
def test_labels_are_carried_along_forwards_and_backwards(painted: int) -> None:
    frames, labels = _drifting()
    method, copied = OpticalFlow(), NearestMask()
    scores = []
    for each in (method, copied):
        each.fit(Clip(frames), Annotations.from_labels(labels, frames=[painted]))
        found = dict(each.iter_labels(Clip(frames)))
        assert set(found) == set(range(5))
        np.testing.assert_array_equal(found[painted], labels[painted])
        assert set(np.unique(found[1])) == {0, 3, 7}  # ids stay what they were painted with
        stack = np.stack([found[t] for t in range(5)])
        scores.append(evaluate(stack, labels, skip_frames=[painted]).j_mean)
    assert scores[0] > 0.9
    assert scores[0] > scores[1] + 0.05


def test_only_the_frames_asked_for_come_and_slices_stay_apart() -> None:
    frames, labels = _drifting(3)
    clip = Clip(np.stack([frames, frames[::-1]], axis=1), "TZYX")
    annotated = np.stack([labels, labels[::-1]], axis=1)
    method = OpticalFlow()
    method.fit(clip, Annotations.from_labels(annotated, frames=[0]))
    ((t, found),) = method.iter_labels(clip, frames=[2])
    assert t == 2
    assert found.shape == (2, 64, 64)
    for z in range(2):
        assert ((found[z] > 0) == (annotated[2, z] > 0)).mean() > 0.95


# -- Otsu's threshold ------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_otsu_finds_bright_and_dark_objects(sign: int) -> None:
    truth = np.stack([discs([(20, 14 + t), (40, 40)], (56, 64), 8) for t in range(3)])
    frames = 100 + sign * 60 * (truth > 0) + np.random.default_rng(0).normal(0, 25, truth.shape)
    clip, method = Clip(frames), Otsu()
    method.fit(clip, Annotations.from_labels(truth, frames=[0]))
    assert method.settings.bright == (sign == 1)
    assert method.settings.smoothing > 0  # against the noise
    found = np.stack([labels for _, labels in method.iter_labels(clip)])
    assert set(np.unique(found)) == {0, 1}
    assert evaluate(found, truth, skip_frames=[0]).j_mean > 0.8


def test_otsu_takes_the_channel_and_the_threshold_that_fit() -> None:
    truth = np.stack([discs([(20, 14 + 4 * t)], (40, 56), 8) for t in range(4)])
    light = np.array([0, 40, 80, 120])[:, None, None]  # the lamp grows brighter: one threshold does not fit all
    green = 50 + 60 * (truth > 0) + light
    red = np.random.default_rng(0).normal(100, 60, truth.shape)
    clip = Clip(np.stack([red, green], axis=-1), "TYXC")
    method = Otsu()
    method.fit(clip, Annotations.from_labels(truth, frames=[0, 3]))
    assert method.settings.channel == 1
    assert method.settings.threshold is None
    found = np.stack([labels for _, labels in method.iter_labels(clip)])
    assert evaluate(found, truth, skip_frames=[0, 3]).j_mean > 0.95


# -- Convpaint -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_convpaint_finds_bright_objects(n_channels: int) -> None:
    from napari_osvos.baseline_convpaint import Convpaint, missing_convpaint

    if missing_convpaint():
        pytest.skip(missing_convpaint())

    truth = np.stack([discs([(20, 14 + 4 * t)], (40, 56), 8) for t in range(2)])
    grey = 60 + 100 * (truth > 0) + np.random.default_rng(0).normal(0, 8, truth.shape)
    clip = Clip(np.stack([grey] * n_channels, axis=-1).astype(np.uint8), "TYXC")
    method = Convpaint()
    method.fit(clip, Annotations.from_labels(truth, frames=[0]))
    found = np.stack([labels for _, labels in method.iter_labels(clip)])
    assert evaluate(found, truth, skip_frames=[0]).j_mean > 0.8


# -- the random forest -----------------------------------------------------------------------


def test_the_random_forest_finds_bright_objects(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 5, toy_movie.shape)
    for frames in (toy_movie + noise, np.repeat((toy_movie + noise)[..., None], 3, axis=-1)):  # grey, RGB
        clip = Clip(frames)
        forest = RandomForest(seed=1)
        forest.fit(clip, Annotations.from_labels(toy_labels, frames=[0]))
        labels = np.stack([frame for _, frame in forest.iter_labels(clip)])
        assert set(np.unique(labels)) == {0, 1}
        assert evaluate(labels, toy_labels, skip_frames=[0]).j_mean > 0.7


def test_the_random_forest_is_repeatable(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    def decide() -> np.ndarray:
        forest = RandomForest(seed=3)
        forest.fit(Clip(toy_movie), Annotations.from_labels(toy_labels, frames=[0]))
        return np.stack([frame for _, frame in forest.iter_labels(Clip(toy_movie))])

    np.testing.assert_array_equal(decide(), decide())


def test_the_random_forest_learns_from_known_pixels_only(toy_movie: np.ndarray, toy_labels: np.ndarray) -> None:
    forest = RandomForest()
    with pytest.raises(ValueError, match="All annotated pixels are foreground"):
        forest.fit(Clip(toy_movie), Annotations.from_labels(toy_labels, frames=[0], partial=True))


def discs(centres: list[tuple[int, int]], shape: tuple[int, int], radius: int) -> np.ndarray:
    """Labels of discs, each pixel that of the nearest centre."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    apart = np.stack([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in centres])
    return np.where(apart.min(0) <= radius**2, apart.argmin(0) + 1, 0)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_random_forest_cuts_touching_discs_apart(depth: int) -> None:
    planes = [discs([(16, 14 + t), (16, 32 + t), (40, 24)], (56, 64), 10) for t in range(2)]
    labels = np.stack([np.stack([plane] * depth) for plane in planes])  # (T, Z, Y, X)
    if depth == 1:
        labels = labels[:, 0]
    noise = np.random.default_rng(0).normal(0, 4, labels.shape)
    clip = Clip(100.0 * (labels > 0) + noise)
    forest = RandomForest(instances=True)
    forest.fit(clip, Annotations.from_labels(labels, frames=[0]))
    found = np.stack([frame for _, frame in forest.iter_labels(clip)])
    assert found.shape == labels.shape
    scores = evaluate(found, labels, skip_frames=[0], instances=True)
    assert scores.instances is not None
    assert scores.instances.at_75.f1 == 1


def test_the_random_forest_does_not_learn_from_an_edge_left_unpainted() -> None:
    centres = [(y, x) for y in range(4, 100, 16) for x in range(4, 100, 16)]
    truth = discs(centres, (89, 89), 6)
    painted = truth.copy()
    for edge in (truth[:1], truth[-1:], truth[:, :1], truth[:, -1:]):
        painted[np.isin(painted, edge[edge > 0])] = 0
    clip = Clip(100.0 * (truth > 0)[None])
    forest = RandomForest()
    forest.fit(clip, Annotations.from_labels(painted[None]))
    ((_, found),) = forest.iter_labels(clip)
    assert ((found > 0) == (truth > 0)).mean() > 0.97


# -- the U-Net -------------------------------------------------------------------------------


def test_a_unet_gives_logits_of_any_size() -> None:
    net = UNet(SMALL).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, 37, 50)).shape == (2, 2, 37, 50)
    with pytest.raises(ValueError, match="must be 'plain'"):
        UNet(NetworkConfig.tiny())


def test_a_unet_sees_no_farther_than_its_halo() -> None:
    net = random_unet(SMALL).net
    wide = 2 * net.halo + net.stride
    x = torch.randn(1, 3, wide, wide)
    middle = slice(net.halo, net.halo + net.stride)
    changed = torch.randn_like(x)
    changed[..., : 2 * net.halo + net.stride, : 2 * net.halo + net.stride] = x
    padded = torch.nn.functional.pad(x, (net.stride,) * 4, value=3.0)
    with torch.no_grad():
        whole = net(padded)[..., net.stride :, net.stride :]
        torch.testing.assert_close(whole[..., middle, middle], net(x)[..., middle, middle])


def test_a_new_head_of_a_unet_begins_as_foreground() -> None:
    net = random_unet(SMALL).net
    wider = net.with_heads(("foreground", "contour", "distance")).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before, after = net(x), wider(x)
    torch.testing.assert_close(after[:, :2], before)
    torch.testing.assert_close(after[:, 2], before[:, 0])


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_unet_learns_a_toy_movie(batch_norm: bool) -> None:
    clip, annotations, truth = toy_clip()
    tuner = FineTuner(random_unet(SMALL, batch_norm=batch_norm), quick(), device="cpu")
    with pytest.raises(RuntimeError, match="no segmenter"):
        _ = tuner.segmenter
    labels = tuner.fit(clip, annotations).predict(clip)
    assert evaluate(labels, truth, skip_frames=[0]).j_mean > 0.8


def test_a_unet_learns_instances_with_the_heads_of_ours() -> None:
    clip, annotations, _ = toy_clip()
    tuner = FineTuner(random_unet(SMALL), quick(steps=2, task="look-alike"), device="cpu")
    segmenter = tuner.fit(clip, annotations)
    assert segmenter.net.config.heads == ("foreground", "contour", "distance")
    assert segmenter.meaning.task == "look-alike"


@pytest.mark.parametrize("method", ["nearest-mask", "optical-flow"])
def test_slices_that_the_truth_leaves_blank_stay_blank(tmp_path: Path, method: str) -> None:
    truth = np.zeros((3, 4, 30, 30), np.uint16)
    truth[:, 2, 10:20, 10:20] = 1
    frames = (40 + 100 * truth + np.random.default_rng(0).normal(0, 3, truth.shape)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "movie.tif", frames, imagej=True, metadata={"axes": "TZYX"})
    write_labels(tmp_path / "truth.tif", truth)
    movie = BenchmarkMovie("stacks", tmp_path / "movie.tif", tmp_path / "truth.tif")
    (cell,) = plan([movie], methods=[method], counts=[1])
    assert measure(cell)["J"] > 0.95
