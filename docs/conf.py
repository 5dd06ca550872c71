"""Configuration of Sphinx. Nothing is fetched from the network, neither here nor by a reader's browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import napari_osvos
import napari_osvos.config

project = "napari-osvos"
author = "napari-osvos contributors"
copyright = f"2026, {author}"
version = release = napari_osvos.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.programoutput"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = "napari-osvos"

myst_enable_extensions = ["colon_fence"]  # no maths: MathJax would come from the network
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc says the types, with shapes and ranges
napoleon_google_docstring = False
default_role = "py:obj"


def _allowed(metadata: Mapping[str, Any]) -> str:
    """Say in words what a setting may be."""
    if metadata.get("choices"):
        return ", ".join(f"`{choice}`" for choice in metadata["choices"])
    low, high = metadata.get("minimum"), metadata.get("maximum")
    if low is None and high is None:
        return ""
    return f"≥ {low}" if high is None else f"≤ {high}" if low is None else f"{low} to {high}"


def _write_settings(*_: Any) -> None:
    """Write one table a config, from the metadata that the command line's help uses too."""
    pages = []
    for name, config in vars(napari_osvos.config).items():
        if not (dataclasses.is_dataclass(config) and config.__module__ == napari_osvos.config.__name__):
            continue
        rows = [
            f"| `{field.name}` | {about['help']} | `{field.default}` | {about['unit']} | {_allowed(about)} |"
            for field in dataclasses.fields(config)
            for about in [field.metadata]
        ]
        head = ["| setting | what it is | default | unit | allowed |", "|---|---|---|---|---|"]
        pages.append("\n".join([f"### `{name}`", "", config.__doc__.strip().splitlines()[0], "", *head, *rows, ""]))
    folder = Path(__file__).parent / "_generated"
    folder.mkdir(exist_ok=True)
    (folder / "settings.md").write_text("\n".join(pages), encoding="utf-8")


def setup(app: Any) -> None:
    """Hook into the build."""
    app.connect("builder-inited", _write_settings)
