"""Importing stays light, and public names agree with themselves; each check in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import napari_osvos

HEAVY = {"torch", "torchvision", "qtpy", "magicgui", "napari", "skimage", "sklearn", "scipy", "numpy", "zarr", "dask"}
SCREEN_AND_TORCH = {"torch", "torchvision", "qtpy", "magicgui", "napari", "PyQt5", "PyQt6", "PySide2", "PySide6"}


def modules_after(statement: str) -> set[str]:
    """The top-level modules loaded after a statement in an interpreter of its own."""
    probe = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    finished = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout.splitlines()[-1]))


def test_the_package_loads_no_library() -> None:
    assert not modules_after("import napari_osvos") & HEAVY


@pytest.mark.parametrize(
    "home", ["config", "clip", "annotations", "io", "metrics", "evaluation", "sample_data", "_sample", "cli"]
)
def test_data_and_doors_load_neither_torch_nor_a_screen(home: str) -> None:
    assert not modules_after(f"import napari_osvos.{home}") & SCREEN_AND_TORCH


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_asking_the_command_line_loads_no_torch(option: str) -> None:
    asking = f"""
import contextlib
from napari_osvos.cli import main
with contextlib.suppress(SystemExit):
    main([{option!r}])
"""
    assert not modules_after(asking) & SCREEN_AND_TORCH


@pytest.mark.slow
def test_loading_a_network_loads_nothing_that_takes_as_long_as_torch() -> None:
    before = modules_after("import torch\ntorch.nn.Conv2d(1, 1, 1, device='meta')")  # of old releases of torch
    assert "sympy" not in modules_after("from napari_osvos import ParentNetwork\nParentNetwork.bundled()") - before


@pytest.mark.parametrize("name", napari_osvos.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(napari_osvos, name) is not None
    assert name in dir(napari_osvos)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = napari_osvos.Segmentor
