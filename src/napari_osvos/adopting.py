"""A predicted frame taken over as paint, around what is painted there already."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def adopt(
    prediction: npt.NDArray[Any],
    paint: npt.NDArray[Any],
    *,
    objects: bool,
    keep_ids: bool = True,
    largest: int = 0,
) -> npt.NDArray[Any]:
    """Return the paint of a frame with its prediction taken over.

    Pixels that are painted stay as they are. Labels that are classes (`objects` False) fill the others. Of objects,

    * one that is painted already (half of its pixels at least) is left out;
    * one that holds most of a painted object, such as a scribble in a cell, completes it: it takes that label;
    * any other comes under a label that no painted object has: its own where it may be kept, else a new one.

    Parameters
    ----------
    prediction : (Y, X) or (Z, Y, X) unsigned integer array
        Labels, 0 is background.
    paint : integer array
        What is painted there, of the same shape; 0 is unpainted.
    objects : bool
        Whether labels tell objects of one kind apart; else they are classes.
    keep_ids : bool
        Whether the labels of the prediction mean the same objects as those of the paint: they were followed through
        time. Otherwise all are new.
    largest : int
        The largest label that is taken on any frame; new ones are above it.

    Returns
    -------
    array
        Of the shape and dtype of `paint`.

    Raises
    ------
    ValueError
        If the shapes differ, or a label is too large for the paint's dtype.
    """
    if prediction.shape != paint.shape:
        raise ValueError(f"The prediction has shape {prediction.shape}; the paint has {paint.shape}.")
    found = np.flatnonzero(np.bincount(prediction.ravel()))
    found = found[found > 0]
    table = np.zeros(int(prediction.max(initial=0)) + 1, np.int64)
    if not objects:
        table[found] = found
    elif found.size:
        _fill_table(table, found, prediction, paint, keep_ids=keep_ids, largest=largest)
    limit = np.iinfo(paint.dtype).max
    if table.max() > limit:
        raise ValueError(f"The prediction needs the label {table.max()}; the layer of paint holds {limit} at most.")
    return np.where(paint != 0, paint, table.astype(paint.dtype)[prediction])


def _fill_table(
    table: npt.NDArray[np.int64],
    found: npt.NDArray[np.intp],
    prediction: npt.NDArray[Any],
    paint: npt.NDArray[Any],
    *,
    keep_ids: bool,
    largest: int,
) -> None:
    """Say for each predicted object what it becomes; 0: nothing."""
    painted = paint != 0
    area = np.bincount(prediction.ravel(), minlength=table.size)
    under = np.bincount(prediction[painted], minlength=table.size)
    labels, sizes = np.unique(paint[painted], return_counts=True)
    size_of = dict(zip(labels.tolist(), sizes.tolist(), strict=True))
    completes = _completed(prediction[painted], paint[painted], size_of)
    taken = set(size_of)
    fresh = max(largest, max(taken, default=0), int(found[-1]) if keep_ids else 0)
    for value in found.tolist():
        if 2 * under[value] >= area[value]:
            continue
        if value in completes:
            table[value] = completes[value]
        elif keep_ids and value not in taken:
            table[value] = value
        else:
            fresh += 1
            table[value] = fresh


def _completed(prediction: npt.NDArray[Any], paint: npt.NDArray[Any], size_of: dict[int, int]) -> dict[int, int]:
    """Which painted object each predicted one holds most of; given the pixels that are painted."""
    pairs = np.stack([prediction.astype(np.int64), paint.astype(np.int64)])
    pairs, counts = np.unique(pairs, axis=1, return_counts=True) if pairs.size else (pairs, np.zeros(0, np.int64))
    best: dict[int, tuple[int, int]] = {}
    for value, label, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        if value and 2 * count > size_of[label]:
            best[value] = max(best.get(value, (0, 0)), (count, label))
    return {value: label for value, (_, label) in best.items()}
