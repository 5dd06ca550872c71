"""Put a trained parent into the package: weights in half precision, and its model card.

    python benchmarks/bundle_parent.py parent-lite --scores scores.csv --note "machine and time"

The folder is one of `napari-osvos train-parent`; the scores are the table that
`napari-osvos benchmark` wrote with this parent.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path

import napari_osvos
from napari_osvos.benchmark_table import COLUMNS, Row, read_table
from napari_osvos.machine import replacing
from napari_osvos.parent import ParentNetwork

HERE = Path(__file__).resolve().parent
PARENTS = Path(napari_osvos.__file__).parent / "parents"
SCORES = ("movie", "method", "n_annotated", "seed", "J", "F", "F2px", "adapt_s")
"""What the card shows of the benchmark's columns."""


def main() -> None:
    """Write ``<name>.safetensors`` and ``<name>.md`` into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of train-parent")
    parser.add_argument("--scores", type=Path, help="CSV file of the benchmark")
    parser.add_argument("--note", default="", help="what else the card should say, such as the machine")
    given = parser.parse_args()
    with open(HERE / "training_sets.toml", "rb") as stream:
        known = tomllib.load(stream)
    if given.scores and not given.scores.exists():
        parser.error(f"There is no file {given.scores}.")
    scores = read_table(given.scores) if given.scores else []
    parent = ParentNetwork.load(given.folder / "parent.safetensors")
    images = parent.card.get("images", {})
    parent.card["sets"] = {name: {"images": n, **known.get(name, {})} for name, n in images.items()}
    parent.card["note"] = given.note
    path = PARENTS / f"{parent.name}.safetensors"
    parent.save(path)
    stored = ParentNetwork.load(path)
    card = model_card(stored, path.stat().st_size, scores)
    with replacing(path.with_suffix(".md")) as partial:
        partial.write_text(card, encoding="utf-8")


def model_card(parent: ParentNetwork, size: int, scores: Sequence[Row] = ()) -> str:
    """Return the card of a parent, whose file has a size in bytes, with the rows of a benchmark."""
    card, net = parent.card, parent.net
    parameters = sum(p.numel() for p in net.parameters())
    lines = [
        f"# Parent network `{parent.name}`",
        "",
        "Tells objects from background in any microscope's images; it is what one-shot fine-tuning starts from, not a",
        "segmentation tool by itself.",
        "",
        f"- {parameters / 1e6:.2f} M parameters, half precision, {size / 1e6:.1f} MB",
        f"- SHA-256 of the weights in single precision: `{parent.digest()}`",
        f"- trained {card.get('trained')}: {card.get('steps')} steps, {card.get('seconds', 0) / 60:.0f} minutes",
        *([f"- {card['note']}"] if card.get("note") else []),
        "- licence of the weights: BSD-3-Clause; the licences of the images are below",
        "",
        "## Data",
        "",
        "| set | images | what | licence | cite |",
        "|---|---|---|---|---|",
    ]
    for name, about in card["sets"].items():
        row = (name, about["images"], about.get("what", ""), about.get("licence", ""), about.get("cite", ""))
        lines.append("| " + " | ".join(map(str, row)) + " |")
    lines += [
        "",
        "No movie of the Cell Tracking Challenge or DAVIS, and none used for choosing the recipe, is among them.",
        "",
    ]
    lines += ["## Recipe", "", "```toml"]
    lines += [f"{key} = {value!r}" for key, value in card["recipe"].items()]
    lines += ["```", "", "## Loss", "", "| step | loss |", "|---|---|"]
    lines += [f"| {step} | {loss} |" for step, loss in card["curve"][:: max(1, len(card["curve"]) // 12)]]
    if scores:
        lines += [
            "",
            "## Scores after one-shot fine-tuning",
            "",
            "Development movies, unpainted frames only; see `benchmarks/`.",
            "",
        ]
        columns = [c for c in COLUMNS if c in SCORES]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(row[c] for c in columns) + " |" for row in scores]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
