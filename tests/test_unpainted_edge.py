"""A band along the edge says nothing where objects that chance would have put there are missing."""

from __future__ import annotations

import numpy as np

from napari_osvos.unpainted_edge import unpainted_edge


def _squares(margin: int, step: int = 20) -> np.ndarray:
    """Squares of 10 x 10 pixels, `step` apart, none closer to the edge of 200 x 200 pixels than `margin`."""
    labels = np.zeros((200, 200), int)
    places = [(y, x) for y in range(margin, 191 - margin, step) for x in range(margin, 191 - margin, step)]
    for i, (y, x) in enumerate(places):
        labels[y : y + 10, x : x + 10] = i + 1
    return labels


def test_many_objects_and_none_at_the_edge_leave_a_band() -> None:
    assert unpainted_edge(_squares(8), 10.0) == 8


def test_an_object_at_the_edge_shows_that_it_was_painted() -> None:
    labels = _squares(8)
    labels[0, 50] = 99
    assert unpainted_edge(labels, 10.0) == 0


def test_few_objects_may_miss_the_edge_by_chance() -> None:
    assert unpainted_edge(_squares(8, step=90), 10.0) == 0


def test_a_colony_in_the_middle_has_background_around_it() -> None:
    assert unpainted_edge(_squares(40, step=12), 10.0) == 0


def test_nothing_painted_is_no_band() -> None:
    assert unpainted_edge(np.zeros((50, 60), int), 10.0) == 0
