"""What a second, third ... painted frame brings, and whether the frames that are suggested are the right ones.

A simulated user paints the truth of the first frame of each movie, then in each round that of one more frame, and
refines. Which one is chosen by the ranking (``suggested``), by halving the longest stretch (``uniform``), at random
(``random``, several seeds), or by the lowest true J (``oracle``, which no user knows)::

    python benchmarks/refinement.py --root DATA -o refinement.csv

Frames that are painted are not scored. Beside J, the table has Spearman's correlation over the unpainted frames of the
J to expect with the true J, and the accuracy that is said to be expected. A chain of rounds that is in the table is not
measured again; ``--summarise`` prints the summary of one or more tables as Markdown.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from refinement_summary import summary
from scipy.stats import spearmanr

from napari_osvos.annotations import Annotations
from napari_osvos.benchmark_movies import BenchmarkMovie, read_movies
from napari_osvos.config import FineTuneConfig
from napari_osvos.evaluation import evaluate
from napari_osvos.finetune import FineTuner
from napari_osvos.io import read_clip, read_labels
from napari_osvos.labels import Labels, frame_positions
from napari_osvos.machine import replacing
from napari_osvos.parent import ParentNetwork
from napari_osvos.segmenter import Segmenter
from napari_osvos.suggest import FrameReview

STRATEGIES = ("suggested", "uniform", "random", "oracle")


@dataclass(frozen=True)
class Round:
    """One line of the table: what a number of painted frames gave."""

    movie: str
    strategy: str
    seed: int
    painted: int
    frames: str
    J: float
    J_all: float
    spearman: float
    expected_J: float
    expected_low: float
    expected_high: float
    F1: float
    expected_F1: float
    learn_s: float


class Study:
    """One movie and its truth, some of whose frames can be painted and are scored."""

    def __init__(self, movie: BenchmarkMovie, given: argparse.Namespace) -> None:
        self.movie, self.given = movie, given
        self.clip, self.truth = read_clip(movie.movie), read_labels(movie.truth)
        place = {self.truth.frame_numbers[i]: t for i, t in frame_positions(self.truth, self.clip).items()}
        numbers = [n for n in place if n not in movie.skip_frames and self.truth.frame(n).any()]
        picks = np.unique(np.linspace(0, len(numbers) - 1, given.most_frames).round().astype(int))
        self.numbers = [numbers[i] for i in picks]
        self.place = {n: place[n] for n in self.numbers}
        self.first: tuple[Segmenter, float] | None = None

    def learn(self, painted: Sequence[int], seed: int, before: Segmenter | None) -> tuple[Segmenter, float]:
        """Fine-tune on painted frames; the first round is shared by all chains."""
        if before is None and self.first is not None:
            return self.first
        annotations = Annotations.from_labels(self.truth, frames=painted).aligned_to(self.clip)
        refines = before is not None and not self.given.from_parent
        quality = self.given.refine if refines else self.given.quality
        task = "look-alike" if self.movie.instances else "auto"
        start = before if before is not None and refines else ParentNetwork.bundled()
        began = time.perf_counter()
        segmenter = FineTuner(start, FineTuneConfig(quality=quality, seed=seed, task=task)).fit(self.clip, annotations)
        learned = segmenter, time.perf_counter() - began
        if before is None:
            self.first = learned
        return learned

    def rounds(self, strategy: str, seed: int) -> Iterator[Round]:
        """Paint and refine, round after round."""
        painted, before = [self.numbers[0]], None
        rng = np.random.default_rng(seed)
        while len(painted) <= min(self.given.rounds, len(self.numbers) - 2):
            before, seconds = self.learn(painted, self.given.seed, before)
            positions = {self.place[n]: n for n in self.numbers}
            annotated = [self.place[n] for n in painted]
            review = FrameReview.of(before, self.clip, annotated)
            found = {}
            for prediction in before.iter_frames(self.clip, list(positions)):
                review.add(prediction)
                found[positions[prediction.frame]] = prediction.labels
            labels = Labels(np.stack([found[n] for n in self.numbers]), frame_numbers=self.numbers)
            scores = evaluate(
                labels, self.truth, skip_frames=painted, border=self.movie.border, instances=self.movie.instances
            )
            j, ranking, expected = dict(zip(scores.frames, scores.j, strict=True)), review.ranking(), review.expected()
            believed = {positions[s.frame]: s.confidence for s in ranking}
            free = sorted(believed)
            nan = float("nan")
            yield Round(
                self.movie.name,
                strategy,
                seed,
                len(painted),
                " ".join(map(str, painted)),
                scores.j_mean,
                (sum(scores.j) + len(painted)) / len(self.numbers),
                float(spearmanr([believed[n] for n in free], [j[n] for n in free]).statistic),
                nan if expected is None else expected.j,
                nan if expected is None else expected.j_low,
                nan if expected is None else expected.j_high,
                scores.instances.at_50.f1 if scores.instances else nan,
                nan if expected is None or expected.f1 is None else expected.f1,
                seconds,
            )
            if strategy == "suggested":
                painted.append(positions[ranking[0].frame])
            elif strategy == "oracle":
                painted.append(min(free, key=lambda n: j[n]))
            elif strategy == "random":
                painted.append(int(rng.choice(free)))
            else:
                painted.append(self._halving(painted))

    def _halving(self, painted: Sequence[int]) -> int:
        """Return the last frame, then the one that is farthest from all painted ones."""
        places = {n: i for i, n in enumerate(self.numbers)}
        taken = [places[n] for n in painted]
        farthest: int = max(self.numbers, key=lambda n: min(abs(places[n] - t) for t in taken))
        return farthest


def read_rounds(paths: Sequence[Path]) -> list[Round]:
    """Read tables of rounds; none where there is no file."""
    kinds = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Round)}
    rounds = []
    for path in paths:
        if path.exists():
            with open(path, newline="", encoding="utf-8") as stream:
                rounds += [Round(**{k: kinds[k](v) for k, v in row.items()}) for row in csv.DictReader(stream)]
    return rounds


def write_rounds(path: Path, rounds: Sequence[Round]) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Round)], lineterminator="\n")
        writer.writeheader()
        for one in rounds:
            plain = asdict(one)
            writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in plain.items()})


def main() -> None:
    """Measure, or summarise what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path, default=Path(__file__).with_name("development.toml"), help="movies")
    parser.add_argument("--root", type=Path, help="folder that the paths of the list start from")
    parser.add_argument("--movies", nargs="*", help="names of movies (default: all of the list that are there)")
    parser.add_argument("-o", "--output", type=Path, help="table (.csv)")
    parser.add_argument("--strategies", nargs="*", default=STRATEGIES, choices=STRATEGIES)
    parser.add_argument("--rounds", type=int, default=5, help="painted frames at the end (default: 5)")
    parser.add_argument("--seeds", type=int, default=5, help="chains of the random user (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of fine-tuning (default: 0)")
    parser.add_argument("--most-frames", type=int, default=25, help="frames of a movie, evenly spread (default: 25)")
    parser.add_argument("--quality", default="balanced", help="of the first round (default: balanced)")
    parser.add_argument("--refine", default="fast", help="quality of the later rounds (default: fast)")
    parser.add_argument("--from-parent", action="store_true", help="each round begins anew, with --quality")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--summarise", nargs="+", type=Path, metavar="TABLE", help="print the summary of tables")
    given = parser.parse_args()
    if given.summarise:
        print(summary([asdict(one) for one in read_rounds(given.summarise)]))
        return
    if given.root is None or given.output is None:
        parser.error("--root and --output are needed")
    torch.set_num_threads(given.threads)
    done = read_rounds([given.output])
    for movie in read_movies(given.list, given.root):
        if given.movies and movie.name not in given.movies:
            continue
        study = Study(movie, given)
        for strategy in given.strategies:
            for seed in range(given.seeds if strategy == "random" else 1):
                if any((r.movie, r.strategy, r.seed) == (movie.name, strategy, seed) for r in done):
                    continue
                chain = list(study.rounds(strategy, seed))
                done += chain
                write_rounds(given.output, done)
                print(movie.name, strategy, seed, *(f"{r.painted}: {r.J:.3f}" for r in chain), flush=True)


if __name__ == "__main__":
    main()
