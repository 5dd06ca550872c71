"""A fine-tuned network on whole movies: tiles, flips, zoom, odd frames, files, confidence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from toy_clip import VARIED, overlap, quick, tiny_parent, toy_clip, toy_frames

from napari_osvos.certainty import confidence
from napari_osvos.checkpoint import read_header
from napari_osvos.clip import Clip
from napari_osvos.config import NetworkConfig, PredictConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.network import OSVOSNet
from napari_osvos.segmenter import Segmenter

LITE = NetworkConfig.lite().replace(widths=(4, 6, 6, 6), side_channels=4)
VGG16 = NetworkConfig.vgg16().replace(widths=(3, 3, 4, 4, 4), side_channels=2)


def _segmenter(config: NetworkConfig | None = None, zoom: float = 1.0, **predict: Any) -> Segmenter:
    """An untrained network: each pixel has a probability that depends on its surroundings."""
    torch.manual_seed(0)
    return Segmenter(OSVOSNet(config or NetworkConfig.tiny()), zoom, config=PredictConfig(**predict), device="cpu")


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def _probability(segmenter: Segmenter, frames: np.ndarray, axes: str | None = None) -> np.ndarray:
    return np.stack([p for _, p in segmenter.iter_probabilities(Clip(frames, axes))])


@pytest.fixture(scope="module")
def learned() -> Segmenter:
    """A segmenter that has learned the disc of the toy movie, at a zoom of about 1.5."""
    clip, annotations, _ = toy_clip()
    return FineTuner(tiny_parent(), quick(steps=60, object_diameter=24.0), device="cpu", augment=VARIED).fit(
        clip, annotations
    )


# -- tiles and flips -------------------------------------------------------------------------------


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize(
    ("config", "shape", "zoom"),
    [
        (NetworkConfig.tiny(), (203, 250), 1.0),
        (NetworkConfig.tiny(), (130, 161), 1.7),
        (NetworkConfig.tiny(), (280, 320), 0.75),
        (NetworkConfig.tiny(), (16, 400), 1.0),
        (LITE, (40, 430), 1.0),
        (VGG16, (50, 430), 1.0),
        (VGG16.replace(edges="published"), (50, 435), 1.0),
    ],
    ids=["tiny", "enlarged", "reduced", "strip", "lite", "vgg16", "published"],
)
def test_tiles_equal_the_whole(config: NetworkConfig, shape: tuple[int, int], zoom: float, flips: bool) -> None:
    frame = _noise(1, *shape)
    whole, tiled = (_segmenter(config, zoom, tile=tile, flips=flips) for tile in (4096, 64))
    parts: list[tuple[int, ...]] = []
    tiled.net.stages[0].register_forward_pre_hook(lambda module, inputs: parts.append(tuple(inputs[0].shape)))
    expected, found = _probability(whole, frame), _probability(tiled, frame)
    assert len(parts) > (4 if flips else 1)  # there were several tiles
    np.testing.assert_allclose(found, expected, atol=4e-6)
    assert expected.std() > 1e-3


def test_a_tile_need_not_fit_the_stride() -> None:
    frame = _noise(1, 250, 250)
    found = _probability(_segmenter(tile=77), frame)
    np.testing.assert_allclose(found, _probability(_segmenter(), frame), atol=4e-6)


def test_flips_make_mirror_images_alike() -> None:
    frame = _noise(1, 32, 48)
    averaged, plain = _segmenter(flips=True), _segmenter()
    for axes in ((1,), (2,), (1, 2)):
        mirrored = np.flip(frame, axes).copy()
        np.testing.assert_allclose(
            np.flip(_probability(averaged, mirrored), axes), _probability(averaged, frame), atol=1e-6
        )
        assert np.abs(np.flip(_probability(plain, mirrored), axes) - _probability(plain, frame)).max() > 1e-3
    parts = [np.flip(_probability(plain, np.flip(frame, axes).copy()), axes) for axes in ((), (1,), (2,), (1, 2))]
    np.testing.assert_allclose(_probability(averaged, frame), np.mean(parts, 0), atol=1e-6)


# -- frames of any kind ----------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [0.05, 0.4, 1.0, 2.5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 7), (33, 50)])
def test_frames_of_any_size_come_out_at_their_size(shape: tuple[int, int], zoom: float) -> None:
    clip = Clip(_noise(2, *shape))
    for flips in (False, True):
        prediction = next(_segmenter(zoom=zoom, flips=flips).iter_frames(clip))
        assert prediction.probability.shape == prediction.labels.shape == shape
        assert prediction.probability.dtype == np.float32
        assert prediction.labels.dtype == np.uint16
        assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1
        assert 0 <= prediction.confidence <= 1
        assert prediction.seconds >= 0


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", ">u2", "i4", "u8", "f2", "f4", ">f8", "longdouble"])
def test_any_dtype_is_taken(dtype: str) -> None:
    frames = np.random.default_rng(0).integers(0, 2, (1, 20, 24))
    expected = _probability(_segmenter(), frames.astype(np.uint8))
    np.testing.assert_allclose(_probability(_segmenter(), frames.astype(dtype)), expected, atol=1e-6)


def test_large_integers_keep_their_digits() -> None:
    frames = _noise(1, 20, 24).astype(np.int64)
    expected = _probability(_segmenter(), frames)
    np.testing.assert_allclose(_probability(_segmenter(), frames + 2_000_000_000), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_one_to_four_channels_are_taken(channels: int) -> None:
    frames = _noise(2, 16, 20, channels)
    assert _probability(_segmenter(), frames, "TYXC").shape == (2, 16, 20)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_that_are_not_finite_stay_a_local_matter(dtype: Any) -> None:
    frames = _noise(1, 16, 200).astype(dtype)
    broken = frames.copy()
    broken[0, :4, :4] = np.nan
    broken[0, 5, 5], broken[0, 6, 6] = np.inf, -np.inf
    for zoom in (1.0, 0.5):
        segmenter = _segmenter(zoom=zoom)
        found, expected = _probability(segmenter, broken), _probability(segmenter, frames)
        assert np.isfinite(found).all()
        # The percentiles of the movie are a little different.
        np.testing.assert_allclose(found[..., 150:], expected[..., 150:], atol=0.02)


def test_slices_of_a_volume_are_predicted_like_frames() -> None:
    frames = _noise(6, 20, 24)
    volumes = frames.reshape(3, 2, 20, 24)
    segmenter = _segmenter()
    flat = [prediction.probability for prediction in segmenter.iter_frames(Clip(frames))]
    found = list(segmenter.iter_frames(Clip(volumes)))
    assert [prediction.frame for prediction in found] == [0, 1, 2]
    assert found[0].labels.shape == (2, 20, 24)
    np.testing.assert_array_equal(np.concatenate([prediction.probability for prediction in found]), np.stack(flat))
    assert segmenter.predict(Clip(volumes)).shape == (3, 2, 20, 24)
    assert [p for p, _ in segmenter.iter_probabilities(Clip(volumes), (5, 0))] == [5, 0]
    single = Clip(volumes[:, :1])
    assert segmenter.predict(single).shape == (3, 1, 20, 24)


def test_a_lazy_movie_is_taken() -> None:
    frames = _noise(3, 20, 24)
    lazy = Clip(da.from_array(frames, chunks=(1, 20, 24)))
    np.testing.assert_array_equal(_segmenter().predict(lazy), _segmenter().predict(Clip(frames)))


# -- order -----------------------------------------------------------------------------------------


def test_frames_come_in_the_order_asked_for_and_each_alone() -> None:
    clip, segmenter = Clip(_noise(4, 20, 24)), _segmenter()
    everything = list(segmenter.iter_frames(clip))
    assert [prediction.frame for prediction in everything] == [0, 1, 2, 3]
    some = list(segmenter.iter_frames(clip, (2, 0, 2)))
    assert [prediction.frame for prediction in some] == [2, 0, 2]
    for prediction in some:
        np.testing.assert_array_equal(prediction.probability, everything[prediction.frame].probability)
        assert prediction.confidence == everything[prediction.frame].confidence
    for t, labels in segmenter.iter_labels(clip, iter([3, 1])):
        np.testing.assert_array_equal(labels, everything[t].labels)
    np.testing.assert_array_equal(segmenter.predict(clip), [prediction.labels for prediction in everything])
    planes = dict(segmenter.iter_probabilities(clip))
    assert all((planes[t] == everything[t].probability).all() for t in range(4))


def test_a_frame_is_predicted_when_it_is_asked_for() -> None:
    clip, segmenter = Clip(_noise(3, 20, 24)), _segmenter()
    calls: list[int] = []
    segmenter.net.stages[0].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    frames = segmenter.iter_frames(clip)
    assert len(calls) == 0
    next(frames)
    assert len(calls) == 1


@pytest.mark.parametrize("t", [3, -1])
def test_a_frame_that_is_not_there_is_named(t: int) -> None:
    with pytest.raises(ValueError, match=f"the movie has no plane {t}; its planes are 0 to 2"):
        list(_segmenter().iter_frames(Clip(_noise(3, 20, 24)), (t,)))


@pytest.mark.parametrize("verb", ["predict", "iter_maps", "iter_probabilities"])
def test_an_array_is_told_how_to_become_a_movie(verb: str) -> None:
    movie: Any = _noise(3, 20, 24)
    with pytest.raises(
        TypeError, match="The movie is of type ndarray, not a Clip; Clip.array. and read_clip.path. make"
    ):
        list(getattr(_segmenter(), verb)(movie))


def test_a_prediction_leaves_no_gradients_and_draws_no_random_numbers() -> None:
    segmenter = _segmenter()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    segmenter.predict(Clip(_noise(1, 20, 24)))
    assert torch.equal(torch.rand(2), expected)
    assert all(p.grad is None for p in segmenter.net.parameters())


# -- threshold -------------------------------------------------------------------------------------


def test_labels_are_where_the_probability_reaches_the_threshold() -> None:
    clip = Clip(_noise(1, 20, 24))
    torch.manual_seed(0)
    net = OSVOSNet(NetworkConfig.tiny())
    default = next(Segmenter(net, threshold=0.4, device="cpu").iter_frames(clip))
    np.testing.assert_array_equal(default.labels, default.probability >= 0.4)
    assert 0 < default.labels.sum() < default.labels.size
    for threshold in (0.0, 0.6, 1.0):
        config = PredictConfig(threshold=threshold)
        other = next(Segmenter(net, threshold=0.4, config=config, device="cpu").iter_frames(clip))
        np.testing.assert_array_equal(other.labels, other.probability >= threshold)
        assert other.confidence == confidence(other.probability, threshold)


# -- zoom ------------------------------------------------------------------------------------------


def test_an_object_is_found_where_it_is_at_any_zoom() -> None:
    frames, truth = toy_frames()
    clip, annotations, _ = toy_clip()
    for diameter in (8.0, 32.0):
        config = quick(steps=60, object_diameter=diameter)
        segmenter = FineTuner(tiny_parent(), config, device="cpu", augment=VARIED).fit(clip, annotations)
        assert abs(segmenter.zoom - 1) > 0.4
        assert min(overlap(labels, truth[t]) for t, labels in segmenter.iter_labels(Clip(frames))) > 0.7


def test_the_movie_sets_the_intensities_not_the_frame(learned: Segmenter) -> None:
    """A frame without objects stays empty: it is not stretched until its noise looks like some."""
    frames, truth = toy_frames()
    background = np.where(truth[0] | np.roll(truth[0], 3, 1), np.roll(frames[0], 25, 1), frames[0])
    prediction = list(learned.iter_frames(Clip(np.concatenate([frames, background[None]]))))
    assert overlap(prediction[1].labels, truth[1]) > 0.8
    assert prediction[3].labels.mean() < 0.02


# -- files -----------------------------------------------------------------------------------------


def test_a_segmenter_comes_back_from_its_file_bit_by_bit(learned: Segmenter, tmp_path: Path) -> None:
    clip, _, _ = toy_clip()
    learned.save(tmp_path / "toy.osvos")
    found = Segmenter.load(tmp_path / "toy.osvos", "cpu")
    assert found.zoom == learned.zoom
    assert found.threshold == learned.threshold
    assert found.config == learned.config
    assert found.provenance == learned.provenance
    assert found.net.config == learned.net.config
    for before, after in zip(learned.iter_frames(clip), found.iter_frames(clip), strict=True):
        np.testing.assert_array_equal(after.probability, before.probability)
        np.testing.assert_array_equal(after.labels, before.labels)
        assert after.confidence == before.confidence
    kind, header = read_header(tmp_path / "toy.osvos")
    assert kind == "segmenter"
    assert header["provenance"]["movie"] == "toy"


def test_settings_of_prediction_are_kept(tmp_path: Path) -> None:
    segmenter = _segmenter(zoom=0.123456789, tile=640, flips=True, threshold=0.3)
    segmenter.save(tmp_path / "x.osvos")
    found = Segmenter.load(tmp_path / "x.osvos", "cpu")
    assert found.config == PredictConfig(tile=640, flips=True, threshold=0.3)
    assert found.zoom == 0.123456789
    assert found.provenance == {}


def test_a_segmenter_that_cannot_be_written_is_named(learned: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "file" / "x.osvos"
    path.parent.touch()
    with pytest.raises(OSError, match=re.escape(f"Cannot write {path}")):
        learned.save(path)


# -- confidence ------------------------------------------------------------------------------------


def test_confidence_is_the_overlap_to_expect() -> None:
    """Of masks drawn from the probabilities, the mean overlap with the thresholded one."""
    rng = np.random.default_rng(0)
    probability = rng.beta(0.3, 0.6, (40, 40)).astype(np.float32)
    for threshold in (0.3, 0.5, 0.8):
        mask = probability >= threshold
        draws = [overlap(mask, rng.random((40, 40)) < probability) for _ in range(200)]
        assert confidence(probability, threshold) == pytest.approx(np.mean(draws), abs=0.01)


def test_confidence_of_clear_and_unclear_frames() -> None:
    sure = np.zeros((10, 10), np.float32)
    assert confidence(sure) == 1  # empty, and sure of it
    sure[:5] = 1
    assert confidence(sure) == 1
    assert confidence(np.full((10, 10), 0.5, np.float32)) == 0.5
    assert confidence(np.full((10, 10), 0.3, np.float32)) == pytest.approx(0.7)
    assert confidence(np.full((4, 10, 10), 1.0, np.float32), 1.0) == 1
    halo = sure.copy()
    halo[5:7] = 0.4  # perhaps more belongs to it
    assert confidence(halo) == pytest.approx(50 / 58)


def test_the_confidence_falls_where_the_movie_becomes_unclear(learned: Segmenter) -> None:
    frames, _ = toy_frames(2)
    murky = (0.3 * frames[1] + 45 + np.random.default_rng(0).normal(0, 12, frames[1].shape)).astype(np.uint8)
    clear, unclear = learned.iter_frames(Clip(np.concatenate([frames, murky[None]])), (1, 2))
    assert clear.confidence > 0.7
    assert unclear.confidence < clear.confidence
