"""What contour snapping does to J and F, on movies of one object or class: ``python benchmarks/snapping.py --help``.

Each movie is fine-tuned once on its first annotated frame; every n-th other frame is predicted, and its mask is scored
as it is and snapped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from napari_osvos.annotations import Annotations
from napari_osvos.benchmark_movies import read_movies
from napari_osvos.config import FineTuneConfig
from napari_osvos.evaluation import evaluate
from napari_osvos.finetune import FineTuner
from napari_osvos.io import read_clip, read_labels
from napari_osvos.labels import Labels, frame_positions
from napari_osvos.parent import ParentNetwork


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", type=Path, default=Path(__file__).with_name("development.toml"), help="movies")
    parser.add_argument("--root", type=Path, required=True, help="folder that the paths of the list start from")
    parser.add_argument("--movies", nargs="*", help="names of movies (default: all of the list that are there)")
    parser.add_argument("--every", type=int, default=4, help="predict every n-th frame (default: 4)")
    parser.add_argument("--quality", default="balanced", help="of fine-tuning (default: balanced)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| movie | frames | J | J snapped | F (2 px) | F (2 px) snapped | s/frame | s/frame snapped |")
    print("|---|---|---|---|---|---|---|---|")
    for movie in read_movies(given.list, given.root):
        if given.movies and movie.name not in given.movies:
            continue
        clip, truth = read_clip(movie.movie), read_labels(movie.truth)
        place = {truth.frame_numbers[i]: t for i, t in frame_positions(truth, clip).items()}
        numbers = [n for n in place if n not in movie.skip_frames and truth.frame(n).any()]
        frame = Labels((truth.frame(numbers[0]) > 0).astype(np.uint8)[None], frame_numbers=numbers[:1])
        annotations = Annotations.from_labels(frame).aligned_to(clip)
        config = FineTuneConfig(quality=given.quality, task="distinct")
        segmenter = FineTuner(ParentNetwork.bundled(), config).fit(clip, annotations)
        scored = numbers[1 :: given.every]
        cells = []
        for snap in (False, True):
            segmenter.config = segmenter.config.replace(snap=snap)
            began = time.perf_counter()
            found = [labels for _, labels in segmenter.iter_labels(clip, [place[n] for n in scored])]
            seconds = (time.perf_counter() - began) / len(scored)
            cells.append((evaluate(Labels(np.stack(found), frame_numbers=scored), truth, border=movie.border), seconds))
        (plain, slow), (snapped, slower) = cells
        print(
            f"| {movie.name} | {len(scored)} | {plain.j_mean:.3f} | {snapped.j_mean:.3f} "
            f"| {plain.f_2px_mean:.3f} | {snapped.f_2px_mean:.3f} | {slow:.2f} | {slower:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
