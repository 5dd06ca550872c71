"""How seconds and memory grow with frames, with the size of a frame, and with annotated frames.

    python benchmarks/scaling.py --threads 2 -o benchmarks/results/scaling.csv

Each point is a process of its own, kept in the CSV file at once, and not taken again: stop it whenever you like. Leave
the machine alone while it runs. ``--quick`` takes a toy of each series. Workers are another benchmark's matter.

Frames lie in an OME-Zarr on disk and are read one by one; labels are written as they are finished. ``--series long`` is
one movie of 1000 frames of 2048 x 2048, 16 bits (a few GB of disk under ``--scratch``), from which memory is counted;
its discs are large enough not to be enlarged, which saves half of the hours.
Predicted are seconds in proportion to frames and to pixels, memory in proportion to neither beyond a tile, and
learning that does not care how many frames are annotated. Fitted is seconds ~ size ^ exponent, over the upper half of
each series, where fixed costs no longer count; a point further than a quarter from its line is said to deviate.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from points import Points, in_own_process, machine, table, tell, told_machines

from napari_osvos import Annotations, FineTuneConfig, FineTuner, ParentNetwork, Segmenter
from napari_osvos.machine import default_threads, peak_memory, replacing

KEYS = ("series", "size", "frames", "edge", "painted")
VALUES = ("seconds", "seconds_per_frame", "memory_mb", "peak_mb")
SIZES = {
    "frames": (10, 30, 100, 300, 1000),
    "edge": (256, 512, 1024, 2048, 4096, 8192),
    "painted": (1, 2, 5, 10, 20),
    "long": (1000,),
}
QUICK = {"frames": (3, 6, 12), "edge": (64, 128, 256), "painted": (1, 2, 3), "long": (8,)}
AXES = {
    "frames": "frames",
    "edge": "edge of a frame, px",
    "painted": "annotated frames",
    "long": "frames of a long movie",
}
EXPECTED = {
    "frames": "seconds: 1, memory: 0",
    "edge": "seconds a frame: 2, memory: 2 up to a tile, then that of the frame itself",
    "painted": "seconds of learning: 0.5 up to four, 0 beyond, but for reading and looking at each; memory: 0",
    "long": "",
}
DIAMETER, LONG_DIAMETER, DEVIATES = 32, 64, 0.25


def write_movie(folder: Path, frames: int, edge: int, diameter: int = DIAMETER) -> Path:
    """Write a movie of discs that move right over noise, as OME-Zarr, frame by frame; uint16."""
    import zarr

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:edge, :edge]
    step = 2 * diameter
    disc = ((y % step - diameter) ** 2 + (x % step - diameter) ** 2 <= (diameter / 2) ** 2).astype(np.uint16)
    noise = rng.normal(2000, 300, (edge, edge)).astype(np.uint16)
    axes: list[Any] = [{"name": n, "type": "time" if n == "t" else "space"} for n in "tyx"]
    scales: list[Any] = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]}]
    group = zarr.open_group(str(folder / "movie.zarr"), mode="w")
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"name": "movie", "axes": axes, "datasets": scales}]}
    array = group.create_array(
        "0", shape=(frames, edge, edge), chunks=(1, min(edge, 1024), min(edge, 1024)), dtype="uint16"
    )
    for t in range(frames):
        array[t] = 3000 * np.roll(disc, 3 * t, 1) + np.roll(noise, 7 * t, 0)
    return folder / "movie.zarr"


def painted_frames(edge: int, count: int, diameter: int = DIAMETER) -> Annotations:
    """Return the paint of the first frames: each disc has a number."""
    y, x = np.mgrid[:edge, :edge]
    step = 2 * diameter
    ids = (y // step) * (edge // step + 1) + x // step + 1
    disc = (y % step - diameter) ** 2 + (x % step - diameter) ** 2 <= (diameter / 2) ** 2
    painted = np.where(disc, ids, 0).astype(np.int32)
    return Annotations.from_labels(np.stack([np.roll(painted, 3 * t, 1) for t in range(count)]))


# -- one point, in its own process -----------------------------------------------------------------


def point(order: dict[str, Any]) -> None:
    """Predict a movie, or learn from some of its frames, and tell seconds and memory."""
    import torch

    from napari_osvos import read_clip

    torch.set_num_threads(order["threads"])
    clip = read_clip(order["movie"])
    if order["series"] == "painted":
        annotations = painted_frames(order["edge"], order["painted"])
        tuner = FineTuner(ParentNetwork.bundled(), FineTuneConfig(steps=order["steps"]), order["device"])
        before, began = peak_memory() or 0, time.perf_counter()
        segmenter = tuner.fit(clip, annotations)
        count = 1
    else:
        segmenter = Segmenter.load(order["segmenter"], order["device"])
        before, began, count = peak_memory() or 0, time.perf_counter(), 0
        import zarr

        folder = Path(order["movie"]).parent / "labels.zarr"
        labels = zarr.create_array(
            str(folder), shape=(clip.n_frames, *clip.plane_shape), chunks=(1, *clip.plane_shape), dtype="uint16",
            overwrite=True,
        )  # fmt: skip
        for prediction in segmenter.iter_frames(clip):
            labels[prediction.frame] = prediction.labels
            count += 1
    seconds, peak = time.perf_counter() - began, peak_memory() or 0
    tell(
        {
            "seconds": seconds,
            "seconds_per_frame": seconds / count,
            "memory_mb": (peak - before) / 1e6,
            "peak_mb": peak / 1e6,
        }
    )


# -- all of them -----------------------------------------------------------------------------------------


def fitted(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return factor and exponent of the power law through the upper half of a series, at least two points."""
    half = max(2, math.ceil(len(sizes) / 2))
    x, y = np.log(sizes[-half:]), np.log(np.maximum(values[-half:], 1e-9))
    exponent, factor = np.polyfit(x, y, 1)
    return float(np.exp(factor)), float(exponent)


def summary(points: Points) -> str:
    """Return Markdown: a table for each series, its exponents, and what deviates."""
    lines = ["# Scaling", "", *told_machines(points.rows), "![seconds and memory](" + points.path.stem + ".png)", ""]
    for series, axis in AXES.items():
        rows = sorted(points.there(series=series), key=lambda row: float(row["size"]))
        if not rows:
            continue
        lines += [f"## {axis}", "", f"Predicted: {EXPECTED[series]}." if EXPECTED[series] else "", ""]
        cells = [[r[c] for c in ("size", "frames", "edge", "painted", *VALUES)] for r in rows]
        columns = ["", "frames", "edge", "painted", "seconds", "a frame", "memory above the start, MB", "peak, MB"]
        lines += table(columns, cells)
        if len(rows) < 2:
            continue
        sizes = [float(r["size"]) for r in rows]
        for column, word in ((_seconds(series), "Seconds"), ("memory_mb", "Memory")):
            values = [float(r[column]) for r in rows]
            factor, exponent = fitted(sizes, values)
            shares = {s: v / (factor * s**exponent) for s, v in zip(sizes, values, strict=True)}
            far = [f"{s:g} ({k:.2f} times the line)" for s, k in shares.items() if abs(k - 1) > DEVIATES]
            lines.append(f"{word} grow with size ^ {exponent:.2f}; deviating: {', '.join(far) or 'none'}.")
        lines.append("")
    return "\n".join(lines)


def _seconds(series: str) -> str:
    """Return the column that is fitted: larger frames come in shorter movies."""
    return "seconds_per_frame" if series == "edge" else "seconds"


def plot(points: Points, path: Path) -> None:
    """Draw seconds and memory of each series on logarithmic axes, with the fitted lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    there = [s for s in AXES if len(points.there(series=s)) > 1]
    figure = Figure(figsize=(4 * max(len(there), 1), 6), layout="constrained")
    FigureCanvasAgg(figure)
    for i, series in enumerate(there):
        rows = sorted(points.there(series=series), key=lambda row: float(row["size"]))
        sizes = [float(r["size"]) for r in rows]
        for j, (column, word) in enumerate(
            ((_seconds(series), _seconds(series).replace("_", " ")), ("memory_mb", "memory above the start, MB"))
        ):
            axes = figure.add_subplot(2, len(there), j * len(there) + i + 1)
            values = [max(float(r[column]), 1e-3) for r in rows]
            factor, exponent = fitted(sizes, values)
            axes.loglog(sizes, values, "o")
            axes.loglog(sizes, [factor * s**exponent for s in sizes], "-", label=f"exponent {exponent:.2f}")
            axes.set_xlabel(AXES[series])
            axes.set_ylabel(word)
            axes.legend()
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def main() -> None:
    """Measure what is missing, then write summary and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/scaling.csv"))
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads (default: all cores)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--series", choices=AXES, action="append", help="may be given again (default: all but long)")
    parser.add_argument("--scratch", type=Path, help="folder for movies (default: that of temporary files)")
    parser.add_argument("--quick", action="store_true", help="a toy: small sizes, few updates")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point:
        point(json.loads(given.point))
        return
    points = Points(given.output, KEYS, VALUES)
    for series in given.series or ("frames", "edge", "painted"):
        for size in (QUICK if given.quick else SIZES)[series]:
            key = {"series": series, "size": size, **_shape(series, size, given.quick)}
            if points.there(**key):
                continue
            with tempfile.TemporaryDirectory(prefix="scaling-", dir=given.scratch) as scratch:
                take(points, key, Path(scratch), given.threads, given.device, given.quick)
    with replacing(given.output.with_suffix(".md")) as partial:
        partial.write_text(summary(points), encoding="utf-8")
    plot(points, given.output.with_suffix(".png"))


def _shape(series: str, size: int, quick: bool) -> dict[str, int]:
    """Return frames, edge and annotated frames of a point."""
    if series == "edge":
        return {"frames": 2 if quick else max(2, min(20, 2**23 // size**2)), "edge": size, "painted": 1}
    if series == "painted":
        return {"frames": size, "edge": 128 if quick else 512, "painted": size}
    edge = (128 if quick else 512) if series == "frames" else (256 if quick else 2048)
    return {"frames": size, "edge": edge, "painted": 1}


def take(points: Points, key: dict[str, Any], scratch: Path, threads: int, device: str, quick: bool) -> None:
    """Make the movie and the segmenter of a point, and measure it in a process of its own."""
    diameter = LONG_DIAMETER if key["series"] == "long" else DIAMETER
    movie = write_movie(scratch, key["frames"], key["edge"], diameter)
    steps = 4 if quick else None
    order = {**key, "movie": str(movie), "threads": threads, "steps": steps, "device": device}
    if key["series"] != "painted":
        from napari_osvos import read_clip

        first = write_movie(scratch / "first", 1, min(key["edge"], 512), diameter)
        config = FineTuneConfig(quality="fast", steps=steps, seed=0)
        tuner = FineTuner(ParentNetwork.bundled(), config, device)
        painted = painted_frames(min(key["edge"], 512), 1, diameter)
        tuner.fit(read_clip(first), painted).save(scratch / "discs.osvos")
        order["segmenter"] = str(scratch / "discs.osvos")
    about = machine(threads)
    for found in in_own_process(__file__, order, threads):
        points.add({**key, **found, **about})
        print(key, found, flush=True)


if __name__ == "__main__":
    main()
