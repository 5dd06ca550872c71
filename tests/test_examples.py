"""The examples run as they stand; here with a tiny network where a bundled one would take its time."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from toy_files import write_toy_files

from napari_osvos import FineTuneConfig, NetworkConfig, ParentNetwork, read_labels

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICK = FineTuneConfig(steps=40, crops=2, crop_size=64, object_diameter=20, learning_rate=0.02, average_decay=0.9)


def test_segment_a_simulated_movie(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "segment_a_movie.py"))
    parent = ParentNetwork.random(NetworkConfig.tiny())
    assert example["segment_a_simulated_movie"](parent, QUICK, size=96) > 0.5
    said = capsys.readouterr().out
    assert "step 40 of 40" in said
    assert "tracks, " in said
    assert "7 frames scored, without frame 0." in said


def test_segment_files(tmp_path: Path) -> None:
    toy = write_toy_files(tmp_path)
    example = runpy.run_path(str(EXAMPLES / "segment_a_movie.py"))
    labels = tmp_path / "labels.tif"
    example["segment_files"](toy.movie, toy.painted, labels, ParentNetwork.load(toy.parent), QUICK)
    assert read_labels(labels).shape == (4, 40, 56)


@pytest.mark.slow
def test_the_example_runs_without_arguments(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "segment_a_movie.py")], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "7 frames scored" in done.stdout
