"""What annotated frames look like to a network: distances by hand, tiles as the whole, files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_clip import VARIED, quick, tiny_parent, toy_clip

from napari_osvos.appearance import MOST_TOKENS, Appearance, grid_tokens
from napari_osvos.checkpoint import load_tensors, save_tensors
from napari_osvos.finetune import FineTuner
from napari_osvos.intensity import movie_intensity
from napari_osvos.segmenter import Segmenter


def test_distances_count_in_spreads_of_the_annotated_frames() -> None:
    appearance = Appearance(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([1.0, 2.0]), usual=0.5)
    # (1, 0) and (4, 2 / 2 = 1): each is 1 away from the nearest, over two channels
    novelty = appearance.novelty([torch.tensor([[1.0, 4.0], [0.0, 2.0]])])
    assert novelty == pytest.approx(math.log(1 / math.sqrt(2) / 0.5), abs=1e-3)


def test_other_features_are_novel_and_like_ones_are_not() -> None:
    torch.manual_seed(0)
    appearance = Appearance.of([torch.randn(6, 500), torch.randn(6, 500)])
    assert appearance is not None
    assert abs(appearance.novelty([torch.randn(6, 800)])) < 0.2
    assert appearance.novelty([torch.randn(6, 800) + 3]) > 0.5


def test_most_features_are_forgotten() -> None:
    appearance = Appearance.of([torch.randn(3, 20_000)])
    assert appearance is not None
    assert appearance.tokens.shape == (MOST_TOKENS, 3)
    assert Appearance.of([torch.zeros(3, 1)]) is None
    assert Appearance.of([]) is None


def test_frames_are_compared_where_their_features_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of a file it is on the CPU, whatever the network is on; the device ``meta`` stands for a GPU."""
    appearance = Appearance(torch.zeros(2, 3), torch.ones(3), usual=1.0)
    there = torch.device("meta")

    def distance(tokens: torch.Tensor, others: torch.Tensor) -> float:
        assert tokens.device == others.device == there
        return math.e

    monkeypatch.setattr("napari_osvos.appearance._distance", distance)
    assert appearance.novelty([torch.zeros(3, 5, device=there)] * 2) == pytest.approx(1)


def test_the_grid_of_a_tile_is_that_of_the_whole() -> None:
    scale, height, width = 2, 512, 768
    features = torch.arange(height // scale * width // scale).view(1, height // scale, width // scale).float()
    whole = grid_tokens(features, (0, 0), (slice(0, height), slice(0, width)), (height, width), scale)
    assert 0.7 * 2 * MOST_TOKENS < whole.shape[1] < 1.4 * 2 * MOST_TOKENS
    parts = []
    for top in range(0, height, 128):
        for left in range(0, width, 128):
            begin = max(top - 16, 0), max(left - 16, 0)
            tile = features[:, begin[0] // scale : (top + 144) // scale, begin[1] // scale : (left + 144) // scale]
            own = (slice(top - begin[0], top - begin[0] + 128), slice(left - begin[1], left - begin[1] + 128))
            parts.append(grid_tokens(tile, begin, own, (height, width), scale))
    assert sorted(torch.cat(parts, 1)[0].tolist()) == sorted(whole[0].tolist())


def _learned() -> Segmenter:
    clip, annotations, _ = toy_clip()
    return FineTuner(tiny_parent(), quick(steps=5), device="cpu", augment=VARIED).fit(clip, annotations)


def test_tiles_see_what_the_whole_frame_sees() -> None:
    segmenter = _learned()
    plane = np.random.default_rng(0).integers(0, 255, (300, 260, 1)).astype(np.uint8)
    intensity = movie_intensity(toy_clip()[0], segmenter.net.config.intensities)
    seen: list[list[torch.Tensor]] = [[], []]
    for tokens, tile in zip(seen, (4096, 64), strict=True):
        segmenter.config = segmenter.config.replace(tile=tile)
        segmenter.plane_maps(plane, intensity, seen=tokens)
    assert len(seen[1]) > len(seen[0]) == 1
    whole, parts = (np.sort(torch.cat(tokens, 1).numpy(), 1) for tokens in seen)
    np.testing.assert_allclose(parts, whole, atol=2e-4)  # of features of up to some 10


def test_it_is_kept_in_the_file_of_the_segmenter(tmp_path: Path) -> None:
    segmenter, clip = _learned(), toy_clip()[0]
    segmenter.save(tmp_path / "kept.osvos")
    again = Segmenter.load(tmp_path / "kept.osvos", "cpu")
    before, after = ([p.novelty for p in one.iter_frames(clip)] for one in (segmenter, again))
    assert after == pytest.approx(before, abs=0.01)  # in half precision


@pytest.mark.parametrize("damage", ["missing", "shape", "finite"])
def test_a_file_with_damaged_features_is_refused(tmp_path: Path, damage: str) -> None:
    segmenter = _learned()
    path = tmp_path / "kept.osvos"
    segmenter.save(path)
    tensors, header = load_tensors(path, "segmenter")
    if damage == "missing":
        del tensors["appearance.usual"]
    elif damage == "shape":
        tensors["appearance.spread"] = torch.ones(1)
    else:
        tensors["appearance.tokens"][0] = float("nan")
    save_tensors(path, tensors, header, "segmenter")
    with pytest.raises(ValueError, match="damaged"):
        Segmenter.load(path, "cpu")


def test_a_file_from_before_has_no_features(tmp_path: Path) -> None:
    segmenter = _learned()
    segmenter.appearance = None
    segmenter.save(tmp_path / "old.osvos")
    again = Segmenter.load(tmp_path / "old.osvos", "cpu")
    assert again.appearance is None
    assert next(again.iter_frames(toy_clip()[0])).novelty is None
