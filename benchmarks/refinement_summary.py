"""The summary of the tables that ``refinement.py`` writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]


def summary(rows: Rows) -> str:
    """Return Markdown: J against painted frames, areas, what is closed of the gap, correlation, expected accuracy."""
    movies = list(dict.fromkeys(row["movie"] for row in rows))
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    counts = sorted({row["painted"] for row in rows})
    lines = ["## J against painted frames", ""]
    lines += _head(["movie", "chosen", *map(str, counts), "area"])
    areas: dict[tuple[str, str], float] = {}
    for movie in movies:
        for strategy in strategies:
            of = [row for row in rows if (row["movie"], row["strategy"]) == (movie, strategy)]
            if not of:
                continue
            curve = [_mean(row["J"] for row in of if row["painted"] == n) for n in counts]
            areas[movie, strategy] = _mean(curve)
            lines.append(_line([movie, strategy, *(f"{j:.3f}" for j in curve), f"{areas[movie, strategy]:.4f}"]))
    for strategy in strategies:
        of = [row for row in rows if row["strategy"] == strategy]
        curves = [[_mean(r["J"] for r in of if (r["movie"], r["painted"]) == (m, n)) for n in counts] for m in movies]
        means = np.nanmean(np.array(curves, float), 0)
        lines.append(_line(["**mean**", strategy, *(f"{j:.3f}" for j in means), f"{np.nanmean(means):.4f}"]))
    lines += ["", *_comparison(areas, movies, strategies), "", *_gains(rows, movies), "", *_beliefs(rows, movies)]
    return "\n".join(lines)


def _comparison(areas: Mapping[tuple[str, str], float], movies: Sequence[str], strategies: Sequence[str]) -> list[str]:
    """Say how suggested frames compare with the others, by the area under the curve."""
    if "suggested" not in strategies:
        return []
    lines = ["## Suggested frames against others", ""]
    for other in strategies:
        both = [m for m in movies if {(m, "suggested"), (m, other)} <= areas.keys()]
        if other == "suggested" or not both:
            continue
        ahead = sum(areas[m, "suggested"] > areas[m, other] for m in both)
        difference = mean(areas[m, "suggested"] - areas[m, other] for m in both)
        lines.append(f"* against {other}: ahead on {ahead} of {len(both)} movies, mean difference {difference:+.4f}")
    both = [m for m in movies if {(m, s) for s in ("suggested", "random", "oracle")} <= areas.keys()]
    gap = sum(areas[m, "oracle"] - areas[m, "random"] for m in both)
    if both and gap:
        closed = sum(areas[m, "suggested"] - areas[m, "random"] for m in both) / gap
        lines.append(f"* share closed of the gap from random to oracle: {closed:.2f} (gap {gap / len(both):+.4f})")
    return lines


def _gains(rows: Rows, movies: Sequence[str]) -> list[str]:
    """Say how much of the error of one painted frame is gone with more."""
    counts = sorted({row["painted"] for row in rows} - {1})
    lines = ["## Share of the error (1 - J) of one frame that is removed, suggested frames", ""]
    lines += _head(["movie", *map(str, counts)])
    shares = []
    for movie in movies:
        curve = {r["painted"]: r["J"] for r in rows if (r["movie"], r["strategy"]) == (movie, "suggested")}
        if 1 in curve:
            share = [1 - (1 - curve[n]) / max(1 - curve[1], 1e-9) if n in curve else float("nan") for n in counts]
            shares.append(share)
            lines.append(_line([movie, *(f"{s:+.2f}" for s in share)]))
    if shares:
        lines.append(_line(["**mean**", *(f"{s:+.2f}" for s in np.nanmean(np.array(shares), 0))]))
    return lines


def _beliefs(rows: Rows, movies: Sequence[str]) -> list[str]:
    """Say how well the J to expect fits the true one, frame by frame and for the whole movie."""
    lines = ["## What is expected against what is true", ""]
    lines += _head(["movie", "Spearman", "mean |error| of J", "mean error of J", "in range", "mean |error| of F1"])
    table = []
    for movie in movies:
        of = [row for row in rows if row["movie"] == movie]
        # the first round is the same in all chains
        of = [r for r in of if r["painted"] > 1] + [r for r in of if r["painted"] == 1][:1]
        known = [r for r in of if r["expected_J"] == r["expected_J"]]
        error = [r["expected_J"] - r["J"] for r in known]
        inside = [r["expected_low"] <= r["J"] <= r["expected_high"] for r in known]
        objects = [abs(r["expected_F1"] - r["F1"]) for r in known if r["expected_F1"] == r["expected_F1"]]
        table.append(
            [_mean(r["spearman"] for r in of), _mean(map(abs, error)), _mean(error), _mean(inside), _mean(objects)]
        )
        lines.append(_line([movie, *(f"{value:.3f}" for value in table[-1])]))
    lines.append(_line(["**mean**", *(f"{value:.3f}" for value in np.nanmean(np.array(table, float), 0))]))
    return lines


def _mean(values: Iterable[float]) -> float:
    kept = [float(v) for v in values if v == v]
    return mean(kept) if kept else float("nan")


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), "|" + "---|" * len(names)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
