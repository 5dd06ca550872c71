"""What is lost where only a fifth of the cells of one frame are painted: ``python benchmarks/partial_paint.py --help``.

Four users paint the first frame: the first all of its cells; the others a fifth of them (drawn at random), of whom the
second also scribbles background around the painted cells and says that the rest is unknown; the third does the same
with half as wide a scribble; and the fourth lets the rest count as background, as if the frame were complete.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from napari_osvos.annotations import Annotations
from napari_osvos.benchmark_movies import BenchmarkMovie, read_movies
from napari_osvos.config import FineTuneConfig
from napari_osvos.evaluation import evaluate
from napari_osvos.finetune import FineTuner
from napari_osvos.io import read_clip, read_labels
from napari_osvos.labels import Labels, frame_positions
from napari_osvos.object_size import object_diameter
from napari_osvos.parent import ParentNetwork

USERS = ("all cells", "a fifth, the rest unknown", "a fifth, narrow background", "a fifth, the rest as background")


def paint(truth: np.ndarray, user: str, share: float, seed: int) -> tuple[np.ndarray, int | None]:
    """Return what a user paints of a frame (Y, X), and the label that paints background, if any."""
    if user == USERS[0]:
        return truth, None
    cells = np.unique(truth[truth > 0])
    rng = np.random.default_rng(seed)
    chosen = np.isin(truth, rng.choice(cells, max(1, round(share * len(cells))), replace=False))
    painted = np.where(chosen, truth, 0)
    if user == USERS[3]:
        return painted, None
    background = int(truth.max()) + 1
    reach = object_diameter([truth]) * (0.5 if user == USERS[2] else 1.0)
    near = ndimage.distance_transform_edt(~chosen) <= reach
    clear = ndimage.distance_transform_edt((truth == 0) | chosen) > 2  # the brush keeps away from other cells
    painted[near & (truth == 0) & clear] = background
    return painted, background


def measure(movie: BenchmarkMovie, user: str, given: argparse.Namespace) -> tuple[float, float, tuple[str, ...]]:
    """Return J and F1 at an IoU of 0.5 on the unpainted frames, and what fine-tuning remarked."""
    clip, truth = read_clip(movie.movie), read_labels(movie.truth)
    place = {truth.frame_numbers[i]: t for i, t in frame_positions(truth, clip).items()}
    numbers = [n for n in place if n not in movie.skip_frames and truth.frame(n).any()]
    painted, background = paint(truth.frame(numbers[0]), user, given.share, given.seed)
    labels = Labels(painted[None].astype(np.int32), frame_numbers=numbers[:1])
    annotations = Annotations.from_labels(
        labels, partial=background is not None, background_label=background
    ).aligned_to(clip)
    config = FineTuneConfig(quality=given.quality, task="look-alike", seed=given.seed)
    tuner = FineTuner(ParentNetwork.bundled(), config)
    segmenter = tuner.fit(clip, annotations)
    scored = numbers[1 :: given.every]
    found = [labels for _, labels in segmenter.iter_labels(clip, [place[n] for n in scored])]
    scores = evaluate(Labels(np.stack(found), frame_numbers=scored), truth, border=movie.border, instances=True)
    assert scores.instances is not None
    return scores.j_mean, scores.instances.at_50.f1, tuner.remarks


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path, default=Path(__file__).with_name("development.toml"), help="movies")
    parser.add_argument("--root", type=Path, required=True, help="folder that the paths of the list start from")
    parser.add_argument("--movies", nargs="*", help="names of movies (default: all of the list with instances)")
    parser.add_argument("--share", type=float, default=0.2, help="of the cells that are painted (default: 0.2)")
    parser.add_argument("--every", type=int, default=4, help="predict every n-th frame (default: 4)")
    parser.add_argument("--quality", default="balanced", help="of fine-tuning (default: balanced)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| movie | painted | J | F1 | pointed out as half painted |")
    print("|---|---|---|---|---|")
    for movie in read_movies(given.list, given.root):
        if (given.movies and movie.name not in given.movies) or not movie.instances:
            continue
        for user in USERS:
            j, f1, remarks = measure(movie, user, given)
            print(f"| {movie.name} | {user} | {j:.3f} | {f1:.3f} | {'yes' if remarks else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
