"""Frames of any size: labels of tiles are those of the whole, and what is huge is held in less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_osvos import segmenter as segmenter_module
from napari_osvos import tiling
from napari_osvos.clip import Clip
from napari_osvos.config import NetworkConfig, PredictConfig
from napari_osvos.instances import SeparationConfig
from napari_osvos.labelling import LabelMeaning
from napari_osvos.network import OSVOSNet
from napari_osvos.resampling import Taps, resample, rescaled
from napari_osvos.segmenter import Segmenter

ALIKE = LabelMeaning("look-alike", (1,), 5.0, SeparationConfig(smallest=4))
DISTINCT = LabelMeaning("distinct", (3, 8))


def _segmenter(meaning: LabelMeaning, zoom: float, **predict: Any) -> Segmenter:
    torch.manual_seed(0)
    foreground = ("foreground",) if len(meaning.values) == 1 else ("foreground-3", "foreground-8")
    net = OSVOSNet(NetworkConfig.tiny().replace(heads=(*foreground, "contour", "distance")))
    return Segmenter(net, zoom, 0.45, PredictConfig(**predict), device="cpu", meaning=meaning)


def _smooth(*shape: int) -> np.ndarray:
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32))
    smooth = F.avg_pool2d(noise, 9, 1, 4)[0].numpy()
    return (1000 + 8000 * smooth).clip(0, 65535).astype(np.uint16)


def _differ(one: np.ndarray, other: np.ndarray) -> float:
    assert one.max() > 0
    return float((one != other).mean())


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("zoom", [0.4, 1.0, 1.6])
@pytest.mark.parametrize("meaning", [ALIKE, DISTINCT], ids=["alike", "distinct"])
def test_labels_of_tiles_are_those_of_the_whole(meaning: LabelMeaning, zoom: float, flips: bool) -> None:
    clip = Clip(_smooth(1, 331, 407))
    whole, tiled = (next(_segmenter(meaning, zoom, tile=tile, flips=flips).iter_frames(clip)) for tile in (2048, 64))
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=2e-5)
    assert _differ(tiled.labels > 0, whole.labels > 0) < 1e-4
    assert tiled.labels.max() == whole.labels.max()
    assert _differ(tiled.labels, whole.labels) < 2e-3


@pytest.mark.parametrize("shape", [(43, 200), (200, 43), (43, 107)])
def test_a_last_tile_of_less_than_a_pixel_is_no_tile(shape: tuple[int, int]) -> None:
    """Enlarged three times, 43 pixels are two tiles of 64 network pixels and one of 1."""
    clip = Clip(_smooth(1, *shape))
    whole, tiled = (next(_segmenter(ALIKE, 3.0, tile=tile).iter_frames(clip)) for tile in (2048, 64))
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=2e-5)


def test_tiles_of_a_stack_are_those_of_its_slices() -> None:
    clip = Clip(_smooth(2, 190, 210)[None])
    whole, tiled = (next(_segmenter(ALIKE, 1.3, tile=tile).iter_frames(clip)) for tile in (2048, 64))
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=2e-5)
    assert tiled.labels.shape == (2, 190, 210)


@pytest.mark.parametrize("meaning", [ALIKE, DISTINCT], ids=["alike", "distinct"])
def test_a_huge_frame_is_held_in_half_precision(meaning: LabelMeaning, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip(_smooth(1, 200, 240))
    fine = next(_segmenter(meaning, 1.0, tile=64).iter_frames(clip))
    monkeypatch.setattr(segmenter_module, "FINE", 1000)
    coarse = next(_segmenter(meaning, 1.0, tile=64).iter_frames(clip))
    assert (fine.probability.dtype, coarse.probability.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(coarse.probability, fine.probability, atol=1e-3)
    assert _differ(coarse.labels > 0, fine.labels > 0) < 2e-3
    assert coarse.confidence == pytest.approx(fine.confidence, abs=1e-3)


@pytest.mark.parametrize(("learned", "contour"), [(0.5, 0.5), (0.25, 2.0), (0.0, 1.0), (1.0, 0.0)])
def test_of_a_huge_frame_contour_and_distance_are_one_map_with_the_same_objects(
    learned: float, contour: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    meaning = replace(ALIKE, separation=SeparationConfig(learned=learned, contour=contour))
    clip, found = Clip(_smooth(1, 200, 240)), []
    monkeypatch.setattr(segmenter_module, "FINE", 1000)
    for blended in (True, False):
        if not blended:
            monkeypatch.setattr(LabelMeaning, "relief", None)
        segmenter = _segmenter(meaning, 1.0, tile=64)
        maps = next(segmenter.iter_maps(clip))
        assert (maps.planes[0].contour is None) == (blended and learned > 0)
        found.append(segmenter.frame_prediction(maps).labels)
    assert found[0].max() > 1
    np.testing.assert_array_equal(found[0] > 0, found[1] > 0)
    assert _differ(*found) < 0.01  # rounding may move a border between two objects


def test_nothing_wide_of_a_large_frame_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "STRIP", 4096)
    seen: list[int] = []
    normalise = tiling.IntensityScale.normalise

    def watched(self: Any, raw: torch.Tensor) -> torch.Tensor:
        seen.append(raw.numel())
        return normalise(self, raw)

    monkeypatch.setattr(tiling.IntensityScale, "normalise", watched)
    next(_segmenter(ALIKE, 0.4, tile=64).iter_frames(Clip(_smooth(1, 400, 500))))
    assert max(seen) < 2 * 4096


def test_what_apples_gpu_cannot_is_rescaled_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without pixels stands for the CPU that such a GPU has beside it."""
    seen: list[str] = []
    plain = F.interpolate

    def watched(x: torch.Tensor, **how: Any) -> torch.Tensor:
        seen.append(x.device.type)
        return plain(x if x.device.type == "cpu" else torch.zeros(x.shape), **how)

    monkeypatch.setattr("napari_osvos.resampling.crops_on", lambda device: torch.device("meta"))
    monkeypatch.setattr(F, "interpolate", watched)
    segmenter = _segmenter(ALIKE, 1.6)
    for antialias in (False, True):
        assert rescaled(torch.ones(1, 3, 9, 7), (4, 5), antialias=antialias).device.type == "cpu"
    assert seen == ["cpu", "meta"]
    for zoom in (0.4, 1.6):  # there and back: what gets smaller is antialiased
        segmenter.zoom = zoom
        seen.clear()
        next(segmenter.iter_frames(Clip(_smooth(1, 40, 48))))
        assert "meta" in seen


@pytest.mark.parametrize(("shape", "size"), [((60, 51), (83, 70)), ((60, 51), (25, 13)), ((40, 33), (40, 90))])
def test_a_part_is_rescaled_as_in_the_whole(shape: tuple[int, int], size: tuple[int, int]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, *shape)).astype(np.float32))
    whole = F.interpolate(x, size=size, mode="bilinear", antialias=size < shape)
    rows, columns = (
        Taps.bilinear(shape[0], size[0], np.arange(7, 20)),
        Taps.bilinear(shape[1], size[1], np.arange(2, 13)),
    )
    part = resample(x[..., rows.span, columns.span], rows, columns)
    torch.testing.assert_close(part, whole[..., 7:20, 2:13], atol=2e-6, rtol=0)
