"""How long linking takes and how much memory, and how well it finds the tracks again when all labels are forgotten.

Movies of 100 to 5,000 drifting discs, of which some are hidden now and then, are timed; simulated movies, and with
``--truth`` those of true labels, ids of which are the same object in every frame (``SEG`` of a Cell Tracking Challenge
movie), are linked again with the labels of each frame shuffled and the tracks compared with the truth; then the same
with objects left out, grown together or cut in two::

    python benchmarks/linking.py --truth DATA/ctc/Fluo-N2DL-HeLa/01_ST/SEG DATA/ctc/PhC-C2DL-PSC/02_ST/SEG

Mothers of the movies of ``--truth`` are taken from the ids: where a track ends and two begin in the next frame within
1.6 diameters, it is their mother. (The daughters' distance is all that is looked at; linking judges divisions by other
things as well.)
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_osvos.instance_scores import object_overlap
from napari_osvos.io import read_labels
from napari_osvos.lineage import Lineage, Track
from napari_osvos.linking import Linking, link
from napari_osvos.objects import MovieObjects, objects_of
from napari_osvos.sample_data import simulate_movie
from napari_osvos.tracking_scores import tracking_scores

Frame = npt.NDArray[np.int32]
Disturb = Callable[[Frame, np.random.Generator], Frame]


def discs(n_objects: int, n_frames: int, seed: int = 0) -> list[Frame]:
    """Discs of 12 px that drift by 2 px a frame; one in fifty is hidden in each."""
    rng = np.random.default_rng(seed)
    rows = int(np.ceil(np.sqrt(n_objects)))
    places = np.stack(np.divmod(np.arange(n_objects), rows), 1) * 16.0 + 12
    y, x = np.mgrid[-6:7, -6:7]
    disc = np.stack(np.nonzero(y**2 + x**2 <= 36), 1) - 6
    frames = []
    for _ in range(n_frames):
        places += rng.normal(0, 1.4, places.shape)
        shown = np.flatnonzero(rng.random(n_objects) > 0.02)
        frame = np.zeros((16 * rows + 24, 16 * rows + 24), np.int32)
        pixels = (np.rint(places[shown])[:, None] + disc).astype(int).clip(0, len(frame) - 1)
        frame[pixels[..., 0], pixels[..., 1]] = rng.permutation(len(shown))[:, None] + 1
        frames.append(frame)
    return frames


def time_sizes(sizes: Sequence[int], n_frames: int) -> None:
    import laptrack  # noqa: F401  # its import is not timed

    print(f"{n_frames} frames each; seconds of one core\n")
    print("| objects a frame | tabulate, s | tables, MB | link, s | link again, s | link, MB at most |")
    print("|---|---|---|---|---|---|")
    for n in sizes:
        frames, objects = discs(n, n_frames), MovieObjects()
        start = time.process_time()
        for t, frame in enumerate(frames):
            objects.add(t, frame)
        tabulated = time.process_time()
        first = link(objects)
        linked = time.process_time()
        objects.add(n_frames // 2, frames[n_frames // 2])
        link(objects, previous=first)
        again = time.process_time()
        tracemalloc.start()
        link(objects)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        seconds = [f"{s:.2f}" for s in (tabulated - start, linked - tabulated, again - linked)]
        row = [f"{n:,}", seconds[0], f"{objects.nbytes / 1e6:.1f}", *seconds[1:], f"{peak / 1e6:.0f}"]
        print("| " + " | ".join(row) + " |", flush=True)
    # Linux counts in KiB, macOS in bytes
    unit = 1e6 if sys.platform == "darwin" else 1e3
    print(f"\nThe whole process held {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.0f} MB at most.")


def shuffled(frame: Frame, rng: np.random.Generator) -> tuple[Frame, dict[int, int]]:
    """Give the objects labels that tell nothing; the second says which true id each has."""
    ids = np.unique(frame[frame > 0])
    table = np.zeros(int(frame.max(initial=0)) + 1, np.int32)
    table[ids] = rng.permutation(len(ids)) + 1
    return table[frame], dict(zip(table[ids].tolist(), ids.tolist(), strict=True))


def drop(frame: Frame, rng: np.random.Generator) -> Frame:
    """Leave out 3 % of the objects."""
    ids = np.unique(frame[frame > 0])
    return np.where(np.isin(frame, ids[rng.random(len(ids)) < 0.03]), 0, frame)


def merge(frame: Frame, rng: np.random.Generator) -> Frame:
    """Let a tenth of the objects that touch grow together."""
    pairs = [np.stack((frame[1:].ravel(), frame[:-1].ravel())), np.stack((frame[:, 1:].ravel(), frame[:, :-1].ravel()))]
    touching = np.unique(np.concatenate(pairs, 1), axis=1)
    touching = touching[:, (touching[0] != touching[1]) & touching.all(0)]
    merged = frame.copy()
    for a, b in touching[:, rng.random(touching.shape[1]) < 0.1].T:
        merged[merged == b] = a
    return merged


def split(frame: Frame, rng: np.random.Generator) -> Frame:
    """Cut 3 % of the objects in two."""
    objects, cut = objects_of(frame), frame.copy()
    for n in np.flatnonzero(rng.random(len(objects)) < 0.03).tolist():
        (top, left), (bottom, right) = objects.boxes[n]
        tall = bottom - top > right - left
        half = (
            np.s_[(top + bottom) // 2 : bottom, left:right] if tall else np.s_[top:bottom, (left + right) // 2 : right]
        )
        cut[half][frame[half] == objects.labels[n]] = frame.max() + n + 1
    return cut


def mothers(frames: Sequence[Frame]) -> Lineage:
    """Tracks of true labels; the mother of two that begin near the end of another is that one."""
    tables = [objects_of(frame) for frame in frames]
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for t, table in enumerate(tables):
        for name in table.labels.tolist():
            first.setdefault(name, t)
            last[name] = t
    families = []
    for name, t in last.items():
        born = [n for n, start in first.items() if start == t + 1]
        if len(born) < 2:
            continue
        here, there = tables[t], tables[t + 1]
        m = int(np.searchsorted(here.labels, name))
        apart = np.linalg.norm(there.centroids[np.searchsorted(there.labels, born)] - here.centroids[m], axis=1)
        near = np.argsort(apart)[:2]
        if apart[near[1]] < 1.6 * here.diameters[m]:
            families.append((float(apart[near].sum()), name, [born[i] for i in near]))
    mother: dict[int, int] = {}
    for _, name, daughters in sorted(families):
        if not mother.keys() & set(daughters):
            mother |= dict.fromkeys(daughters, name)
    return Lineage(Track(n, first[n], last[n], mother.get(n, 0)) for n in first)


def simulated(look: str, seed: int) -> tuple[list[Frame], Lineage]:
    """True labels of a simulated movie of 24 frames, and its tracks with the mothers that were seen."""
    movie = simulate_movie(look, n_frames=24, shape=(300, 300), seed=seed)
    frames = [frame.astype(np.int32) for frame in movie.labels]
    alone = mothers(frames)
    ended = {d: m for d, m in movie.mothers.items() if alone[m].last < alone[d].first}
    return frames, Lineage(Track(n, track.first, track.last, ended.get(n, 0)) for n, track in alone.items())


def score_truth(name: str, truth: Sequence[Frame], lineage: Lineage, seeds: int) -> None:
    print(f"\n{name}: {len(truth)} frames, {len(lineage)} tracks, {len(lineage.divisions)} divisions\n")
    print("| masks | TRA | DET | links right | links wrong | divisions found | divisions wrong |")
    print("|---|---|---|---|---|---|---|")
    disturbances: dict[str, tuple[Disturb, ...]] = {
        "as in the truth": (),
        "3 % dropped": (drop,),
        "3 % dropped, touching merged": (drop, merge),
        "3 % cut in two": (split,),
    }
    for name, steps in disturbances.items():
        rows = [_score(truth, lineage, steps, seed) for seed in range(seeds if steps else 1)]
        tra, det, right, wrong, found, false = np.mean(rows, axis=0)
        print(f"| {name} | {tra:.4f} | {det:.4f} | {right:.2%} | {wrong:.2%} | {found:.1f} | {false:.1f} |", flush=True)


def _score(truth: Sequence[Frame], lineage: Lineage, steps: Sequence[Disturb], seed: int) -> tuple[float, ...]:
    rng, objects, frames, ids = np.random.default_rng(seed), MovieObjects(), [], []
    for t, frame in enumerate(truth):
        for step in steps:
            frame = step(frame, rng)
        labels, names = shuffled(frame, rng)
        objects.add(t, labels)
        frames.append(labels)
        ids.append(names)
    linking = link(objects)
    overlaps = ((t, object_overlap(linking.relabel(t, frames[t]), truth[t])) for t in range(len(truth)))
    scores = tracking_scores(overlaps, lineage=linking.lineage, truth_lineage=lineage)
    true = _links(dict(enumerate(ids)), ids)
    found = _links(linking, ids)
    families, ours = _families(dict(enumerate(ids)), ids, lineage), _families(linking, ids, linking.lineage)
    return (
        scores.tra or 0.0,
        scores.det,
        len(true & found) / len(true),
        len(found - true) / len(found),
        len(families & ours),
        len(ours - families),
    )


Node = tuple[int, int]


def _links(tracks: Linking | dict[int, dict[int, int]], ids: Sequence[dict[int, int]]) -> set[tuple[Node, Node]]:
    """Pairs of (frame, true id) that follow each other in a track within four frames."""
    last: dict[int, Node] = {}
    links = set()
    for t, names in enumerate(ids):
        for label, track in tracks[t].items():
            node = (t, names[label])
            if track in last and t - last[track][0] <= 4:
                links.add((last[track], node))
            last[track] = node
    return links


def _families(
    tracks: Linking | dict[int, dict[int, int]], ids: Sequence[dict[int, int]], lineage: Lineage
) -> set[tuple[Node, tuple[Node, ...]]]:
    """The last (frame, true id) of each mother with the first ones of her daughters."""
    first: dict[int, Node] = {}
    last: dict[int, Node] = {}
    for t, names in enumerate(ids):
        for label, track in tracks[t].items():
            first.setdefault(track, (t, names[label]))
            last[track] = (t, names[label])
    return {
        (last[mother], tuple(sorted(first[d] for d in daughters if d in first)))
        for mother, daughters in lineage.divisions.items()
        if mother in last
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="*", default=[100, 1000, 5000], help="objects of a frame")
    parser.add_argument("--frames", type=int, default=20, help="frames of each movie")
    parser.add_argument("--truth", type=Path, nargs="+", default=[], help="folders of true labels to link again")
    parser.add_argument("--seeds", type=int, default=3, help="how often masks are disturbed")
    wish = parser.parse_args()
    if wish.objects:
        time_sizes(wish.objects, wish.frames)
    for look in ("fluorescence", "phase"):  # the others show the same cells in another light
        score_truth(f"simulated {look}", *simulated(look, seed=3), wish.seeds)
    for folder in wish.truth:
        truth = [np.asarray(frame) for frame in read_labels(folder)]
        score_truth(str(folder), truth, mothers(truth), wish.seeds)


if __name__ == "__main__":
    main()
