"""Tiny movies, paint, truth and a tiny parent network as files, for tests that go through files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_osvos import NetworkConfig, ParentNetwork, write_labels

# The tiny network learns the toy movie with these in less than a second.
QUICK = (
    *("--steps", "30", "--crops", "2", "--crop-size", "48"),
    *("--learning-rate", "0.02", "--object-diameter", "24", "--average-decay", "0.9"),
)


@dataclass(frozen=True)
class ToyFiles:
    """Where the files are."""

    folder: Path
    movie: Path
    painted: Path
    truth: Path
    parent: Path


def write_toy_files(folder: Path, *, n_frames: int = 4) -> ToyFiles:
    """Write a movie (T, 40, 56) of a bright disc that moves right, its truth, frame 0 painted, and a tiny parent."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :56]
    truth = np.stack([((y - 18) ** 2 + (x - 14 - 6 * t) ** 2 <= 64).astype(np.uint16) for t in range(n_frames)])
    frames = (60 + 120 * truth + rng.normal(0, 8, truth.shape)).clip(0, 255).astype(np.uint8)
    painted = truth.copy()
    painted[1:] = 0
    files = ToyFiles(*(folder / name for name in ("", "movie.tif", "painted.tif", "truth.tif", "tiny.safetensors")))
    tifffile.imwrite(files.movie, frames, imagej=True, metadata={"axes": "TYX"})
    write_labels(files.painted, painted)
    write_labels(files.truth, truth)
    ParentNetwork.random(NetworkConfig.tiny(), seed=0).save(files.parent)
    return files


def write_cells(folder: Path) -> Path:
    """Write a movie of three discs, of which one divides after frame 2, its truth and paint, and a tiny parent."""
    y, x = np.mgrid[:64, :64]
    truth = np.zeros((5, 64, 64), np.uint16)
    for t, frame in enumerate(truth):
        for id, (cy, cx) in enumerate([(16 + t, 14), (46, 16 + t), (32, 46)], start=1):
            if id < 3 or t < 3:
                frame[(y - cy) ** 2 + (x - cx) ** 2 <= 49] = id
        if t >= 3:
            frame[(y - 24 + t) ** 2 + (x - 46) ** 2 <= 30] = 4
            frame[(y - 40 - t) ** 2 + (x - 46) ** 2 <= 30] = 5
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    frames = (50 + 120 * (truth > 0) + noise).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(folder / "movie.tif", frames, imagej=True, metadata={"axes": "TYX"})
    write_labels(folder / "truth.tif", truth)
    painted = np.zeros_like(truth)
    painted[0] = np.array([0, 7, 30, 2, 0, 0])[truth[0]]
    painted[4] = np.array([0, 7, 30, 0, 11, 12])[truth[4]]
    write_labels(folder / "painted.tif", painted)
    ParentNetwork.random(NetworkConfig.tiny(), seed=0).save(folder / "tiny.safetensors")
    return folder


def segment_words(toy: ToyFiles, *more: str | Path, output: str = "labels.tif") -> list[str]:
    """Return the words of the command line that segments the toy movie."""
    words = ["segment", toy.movie, "-a", toy.painted, "-o", toy.folder / output, "--parent", toy.parent, *QUICK, *more]
    return [str(word) for word in words]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on the standard error, which must be a sentence of ours."""
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Computing on ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("napari-osvos: error: ")
    assert lines[0].endswith((".", ")"))
    return lines[0]
