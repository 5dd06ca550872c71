"""Seconds and peak memory of predicting frames of up to 16384 x 16384 pixels, each in a process of its own.

    python benchmarks/huge_frames.py -o benchmarks/results/huge_frames

A simulated movie of 512 x 512 pixels is learned from once; its second frame, mirrored and repeated, fills the large
ones. They hold few cells or many, and are uint16 TIFF or OME-Zarr. The command that users have predicts them.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES = (2048, 4096, 8192, 16384)
SMALL = 512
CELLS = {"sparse": 12, "dense": 160}
COLUMNS = ("cells", "format", "edge", "device", "objects", "seconds", "predict_s", "peak_MB", "device_MB")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="without ending: a .csv and a .md are written")
    parser.add_argument("--edges", type=int, nargs="+", default=list(EDGES))
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=list(CELLS))
    parser.add_argument("--formats", nargs="+", choices=("tif", "zarr"), default=["tif", "zarr"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the movies lie meanwhile (up to 1 GB at a time)")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(" ".join(f"{name:>10}" for name in COLUMNS))
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        for cells in given.cells:
            frame = learned(folder, cells)
            for edge, ending in itertools.product(given.edges, given.formats):
                row = {"cells": cells, "format": ending, "edge": edge}
                row |= measured(folder, frame, cells, edge, ending, given.device, given.threads)
                rows.append(row)
                print(" ".join(f"{row[name]!s:>10}" for name in COLUMNS), flush=True)
                if given.output:
                    write(given.output, rows)


def learned(folder: Path, cells: str) -> NDArray[np.uint16]:
    """Fine-tune on the first frame of a simulated movie, keep the segmenter, and return the second frame."""
    from napari_osvos import Annotations, Clip, FineTuneConfig, FineTuner, ParentNetwork, simulate_movie

    movie = simulate_movie("fluorescence", n_frames=2, shape=(SMALL, SMALL), n_objects=CELLS[cells])
    frames = movie.frames.astype(np.uint16) * (16 if movie.frames.dtype == np.uint8 else 1)
    annotations = Annotations.from_labels(movie.labels, frames=[0])
    tuner = FineTuner(
        ParentNetwork.bundled(), FineTuneConfig(quality="fast", task="look-alike", object_diameter=32.0), device="cpu"
    )
    tuner.fit(Clip(frames), annotations).save(folder / f"{cells}.osvos")
    second: NDArray[np.uint16] = frames[1]
    return second


def bands(frame: NDArray[np.uint16], edge: int) -> Iterator[NDArray[np.uint16]]:
    """Yield the rows of a large frame, as many at a time as the small one has."""
    pair = np.concatenate([frame, frame[:, ::-1]], 1)
    band = np.concatenate([pair] * -(-edge // pair.shape[1]), 1)[:, :edge]
    for k in range(-(-edge // SMALL)):
        yield (band[::-1] if k % 2 else band)[: edge - k * SMALL]


def measured(
    folder: Path, frame: NDArray[np.uint16], cells: str, edge: int, ending: str, device: str, threads: int
) -> dict[str, Any]:
    """Write a frame, predict it in a process of its own, and return what that took."""
    movie, labels, report = folder / f"movie.{ending}", folder / f"labels.{ending}", folder / "report.json"
    store(movie, frame, edge)
    words = ["predict", f"{folder / cells}.osvos", movie, "-o", labels, "--json", report, "--force", "--quiet"]
    words += ["--axes", "YX", "--device", device, "--threads", threads]
    code = "import sys; from napari_osvos.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, env=environment)
    told = json.loads(report.read_text())
    movie_labels = read(labels)
    found: dict[str, Any] = {
        "device": told["device"],
        "objects": int(movie_labels),
        "seconds": round(sum(told["seconds"].values()), 1),
        "predict_s": round(told["seconds"]["predict"], 1),
        "peak_MB": round((told["peak_memory_bytes"] or 0) / 1e6),
        "device_MB": round((told.get("peak_device_memory_bytes") or 0) / 1e6),
    }
    return found


def store(path: Path, frame: NDArray[np.uint16], edge: int) -> None:
    """Write a large frame, band by band."""
    import tifffile
    import zarr

    if path.suffix == ".tif":
        tifffile.imwrite(path, bands(frame, edge), shape=(edge, edge), dtype=np.uint16, rowsperstrip=SMALL)
        return
    array = zarr.create_array(str(path), shape=(edge, edge), dtype=np.uint16, chunks=(1024, 1024), overwrite=True)
    for k, band in enumerate(bands(frame, edge)):
        array[k * SMALL : k * SMALL + len(band)] = band


def read(path: Path) -> int:
    """Return how many objects a frame of labels holds."""
    from napari_osvos import read_labels

    return int(read_labels(path).at(0).max())


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write what was measured as CSV and as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(row[name]) for name in COLUMNS) + " |" for row in rows]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
