"""A frame marked complete of which objects were forgotten is pointed out; one that is complete is not."""

from __future__ import annotations

import numpy as np
import pytest
from toy_clip import VARIED, quick, tiny_parent

from napari_osvos.annotations import Annotations
from napari_osvos.clip import Clip
from napari_osvos.finetune import FineTuner
from napari_osvos.half_painted import found_in_vain, looks_half_painted


def _squares(places: list[tuple[int, int]], edge: int = 6, shape: tuple[int, int] = (40, 40)) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    for i, (y, x) in enumerate(places, start=1):
        labels[y : y + edge, x : x + edge] = i
    return labels


def test_objects_without_paint_are_counted_by_hand() -> None:
    painted = _squares([(2, 2), (2, 12)])
    seen = _squares([(2, 2), (3, 12), (20, 20), (30, 30)])  # the second is off by a row, two have no paint
    probability = np.where(seen > 0, 0.4, 0.1).astype(np.float32)
    probability[15, 15] = 0.9  # a speck
    known = np.ones(painted.shape, bool)
    assert found_in_vain(probability, painted, known) == (2, 2)
    known[28:] = False  # of the fourth nobody said anything
    assert found_in_vain(probability, painted, known) == (1, 2)
    assert found_in_vain(probability, np.where(painted == 2, 2**31 - 1, painted), known) == (1, 2)
    assert found_in_vain(np.zeros((40, 40), np.float32), painted, known) == (0, 2)
    assert found_in_vain(probability, np.zeros_like(painted), known) == (0, 0)


@pytest.mark.parametrize(("in_vain", "painted", "half"), [(2, 2, False), (3, 8, True), (3, 30, False), (0, 0, False)])
def test_a_few_objects_in_vain_are_chance(in_vain: int, painted: int, half: bool) -> None:
    assert looks_half_painted(in_vain, painted) == half


@pytest.mark.parametrize("painted", [16, 8])
def test_fine_tuning_remarks_on_a_frame_of_which_half_was_forgotten(painted: int) -> None:
    places = [(10 + 24 * i, 10 + 24 * j) for i in range(4) for j in range(4)]
    truth = _squares(places, 12, (104, 104))
    rng = np.random.default_rng(0)
    movie = (60 + 120 * (truth > 0)[None].repeat(2, 0) + rng.normal(0, 6, (2, 104, 104))).clip(0, 255).astype(np.uint8)
    # half of them, spread over the frame
    paint = np.where(np.isin(truth, 1 + rng.permutation(16)[:painted]), truth, 0)
    labels = np.stack([paint, np.zeros_like(paint)])
    tuner = FineTuner(tiny_parent(), quick(steps=60, task="look-alike"), device="cpu", augment=VARIED)
    tuner.fit(Clip(movie), Annotations.from_labels(labels, frames=(0,)))
    if painted == 16:
        assert tuner.remarks == ()
    else:
        (remark,) = tuner.remarks
        assert remark.startswith("Frame 0 looks painted in part only: the network finds some ")
    partial = Annotations.from_labels(np.where(labels > 0, labels, 0), frames=(0,), partial=())
    assert partial.frames == (0,)
