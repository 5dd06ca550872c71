"""Objects counted strip by strip are as many as counted at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from napari_osvos import object_count
from napari_osvos.object_count import counting


def count(labels: np.ndarray) -> int:
    steps = counting(labels)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return int(done.value)


def test_labels_count_as_they_are_painted(drawn: Callable[..., np.ndarray]) -> None:
    assert count(drawn("11.2 .... 3333")[0]) == 3
    assert count(drawn(".... ....")[0]) == 0


def test_a_single_label_counts_by_its_parts(drawn: Callable[..., np.ndarray]) -> None:
    assert count(drawn("1..1 .1.. ...1 1...")[0]) == 4  # corners touch
    assert count(drawn("77.. 77.. ..7. ....")[0]) == 1


@pytest.mark.parametrize("strip", [1, 40, 1000])
@pytest.mark.parametrize("shape", [(31, 40), (5, 17, 23)])
def test_strips_do_not_matter(shape: tuple[int, ...], strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_count, "STRIP_PIXELS", strip)
    rng = np.random.default_rng(0)
    touch = np.ones((3, 3))
    if len(shape) == 3:  # slices touch by faces
        touch = np.stack([np.pad([[1]], 1), touch, np.pad([[1]], 1)])
    for share in (0.1, 0.3, 0.5):
        mask = rng.random(shape) < share
        assert count(mask * np.uint16(5)) == ndimage.label(mask, touch)[1]


def test_negative_and_signed_labels_count() -> None:
    assert count(np.array([[-1, 0, 5], [0, 0, 5]])) == 2
