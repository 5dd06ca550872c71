"""What napari reads of the package."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

import numpy as np
from npe2 import PluginManifest

from napari_osvos._sample import simulated


def test_napari_finds_the_manifest_and_its_commands() -> None:
    (entry,) = entry_points(group="napari.manifest", name="napari-osvos")
    assert entry.value == "napari_osvos:napari.yaml"
    manifest = PluginManifest.from_distribution("napari-osvos")
    commands = {command.python_name for command in manifest.contributions.commands or ()}
    assert "napari_osvos._qt.panel:Panel" in commands
    for name in commands:
        module, function = name.split(":")
        if "._qt." not in name or find_spec("napari"):  # the panel needs napari and a Qt binding
            assert callable(getattr(import_module(module), function))


def test_the_sample_is_a_movie_with_its_first_frame_painted() -> None:
    (frames, image, image_kind), (painted, labels, labels_kind) = simulated()
    assert (image_kind, labels_kind) == ("image", "labels")
    assert image["name"] != labels["name"]
    assert frames.shape == painted.shape
    assert frames.ndim == 3
    assert np.issubdtype(painted.dtype, np.integer)
    assert painted[0].any()
    assert not painted[1:].any()
