"""The verb ``info``: versions, device and bundled parents, or what a file holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_osvos.cli.console import PROGRAM, Console
from napari_osvos.cli.options import add_machine, add_reporting
from napari_osvos.cli.report import check_outputs, write_json
from napari_osvos.machine import versions

_EXAMPLES = f"""\
examples:
  {PROGRAM} info                 # what this installation is and what it will compute on
  {PROGRAM} info cells.osvos     # where a segmenter comes from
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "info",
        usage=f"{PROGRAM} info [FILE] [options]",
        help="show versions, device and bundled parents, or what a file holds",
        description="Show versions, device and bundled parents, or the provenance of a segmenter or parent.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="segmenter (.osvos) or parent (.safetensors)"
    )
    add_machine(parser)
    add_reporting(parser, force="overwrite the --json file if it exists")
    parser.set_defaults(run=info)


def info(given: argparse.Namespace, console: Console) -> None:
    """Print what is known of this installation, or of a file."""
    check_outputs({"--json": given.json}, inputs=[given.file] if given.file else [], force=given.force)
    facts = _of_file(given.file) if given.file else _of_installation(given)
    if given.json:
        write_json(given.json, facts)
    console.show("\n".join(_lines(facts)))


def _of_file(path: Path) -> dict[str, Any]:
    from napari_osvos.checkpoint import read_header

    kind, header = read_header(path)
    first = [key for key in ("provenance", "card") if key in header]  # where it comes from before how it is built
    return {"file": str(path), "kind": kind, **{key: header[key] for key in [*first, *header]}}


def _of_installation(given: argparse.Namespace) -> dict[str, Any]:
    import torch

    from napari_osvos.device import available_devices, describe_device, precision_name, resolve_device
    from napari_osvos.parent import ParentNetwork

    if given.threads:
        torch.set_num_threads(given.threads)
    in_bfloat16 = precision_name(torch.device("cpu")) == "bfloat16"
    return {
        "versions": versions(),
        "device": describe_device(resolve_device(given.device)),
        "devices": available_devices(),
        "threads": torch.get_num_threads(),
        "bfloat16 on the CPU": "yes" if in_bfloat16 else "no, it is not faster here",
        "parents": {name: ParentNetwork.bundled(name).card for name in ParentNetwork.bundled_names()},
    }


def _lines(facts: Any, indent: str = "") -> list[str]:
    """Spell plain data out, one fact a line; long lists are shortened."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")] if value else [f"{indent}{key}: none"]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{key}:")
            for entry in value:
                first, *others = _lines(entry, indent + "    ")
                lines += [f"{indent}  - {first.strip()}", *others]
        elif isinstance(value, list):
            shown = [str(v) for v in value[:8]] + (["..."] if len(value) > 8 else [])
            lines.append(f"{indent}{key}: {', '.join(shown)}")
        else:
            lines.append(f"{indent}{key}: {value:.4g}" if isinstance(value, float) else f"{indent}{key}: {value}")
    return lines
