"""How a movie is predicted on workers of this machine: seconds against workers, and workers killed in mid-run.

    python benchmarks/cluster.py --frames 100 --size 512 --workers 1,2 -o benchmarks/results/cluster.md

Every worker has one thread, so that two of them have twice the machine of one. The network is the bundled parent, not
fine-tuned: that changes no second. Workers are killed with SIGKILL; counted are the frames that are there in the end,
and those whose labels are the same as without a cluster. Prints tables in Markdown. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_osvos import ParentNetwork, Segmenter, simulate_movie
from napari_osvos.cluster import ClusterSegmenter
from napari_osvos.cluster_link import ClusterChoice, connected
from napari_osvos.frame_store import FrameStore
from napari_osvos.pipeline import predict_frames
from napari_osvos.predict_job import PredictJob


def run(client: Any, segmenter: Segmenter, job: PredictJob, kill_at: int | None = None) -> tuple[float, FrameStore]:
    """Predict the movie into a new store; return the seconds, and the store."""
    clip = job.open_clip()
    store = job.open_store(clip)
    killed: list[int] = []

    def watch(done: int, total: int, note: str = "") -> None:
        if kill_at is not None and done >= kill_at and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    began = time.perf_counter()
    if client is None:
        predict_frames(segmenter, clip, store.missing, store)
    else:
        ClusterSegmenter(client, segmenter).predict_frames(job, clip, store.missing, store, watch)
    return time.perf_counter() - began, store


def same(store: FrameStore, other: FrameStore) -> int:
    """Count the frames whose labels are the same."""
    return sum(np.array_equal(store.labels(t), other.labels(t)) for t in store.finished)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3, help="runs in which a worker is killed")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args(arguments)
    lines = [f"{given.frames} frames of {given.size} x {given.size}, {platform.machine()}, {os.cpu_count()} cores", ""]
    lines += ["| workers | seconds (median) | start of the cluster | labels as by one process |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        movie = simulate_movie("fluorescence", n_frames=given.frames, shape=(given.size, given.size), seed=0)
        np.save(folder / "movie.npy", movie.frames)
        segmenter = Segmenter(ParentNetwork.bundled("lite").net, device="cpu")
        segmenter.save(folder / "lite.osvos")
        counter = iter(range(1000))

        def job() -> PredictJob:
            return PredictJob(
                str(folder / "movie.npy"), str(folder / "lite.osvos"), str(folder / f"{next(counter)}.tif"), axes="TYX"
            )

        import torch

        torch.set_num_threads(1)
        run(None, segmenter, job())  # warm
        alone = [run(None, segmenter, job()) for _ in range(given.repeats)]
        reference = alone[0][1]
        lines.append(f"| none, 1 thread | {statistics.median(seconds for seconds, _ in alone):.1f} | - | - |")
        for workers in map(int, given.workers.split(",")):
            began = time.perf_counter()
            with connected(ClusterChoice(workers=workers, threads=1)) as client:
                started = time.perf_counter() - began
                run(client, segmenter, job())  # workers load their libraries with the first frame
                runs = [run(client, segmenter, job()) for _ in range(given.repeats)]
                equal = min(same(store, reference) for _, store in runs)
                middle = statistics.median(seconds for seconds, _ in runs)
                lines.append(f"| {workers} | {middle:.1f} | {started:.1f} s | {equal} of {given.frames} frames |")
        lines += ["", "| killed after | seconds | frames finished | labels as by one process |", "|---|---|---|---|"]
        with connected(ClusterChoice(workers=2, threads=1)) as client:
            run(client, segmenter, job())
            for k in range(given.kills):
                at = round(given.frames * (k + 1) / (given.kills + 1))
                client.wait_for_workers(2, timeout=120)
                seconds, store = run(client, segmenter, job(), kill_at=at)
                lines.append(
                    f"| {at} frames | {seconds:.1f} | {len(store.finished)} of {given.frames} "
                    f"| {same(store, reference)} of {given.frames} |"
                )
    text = "\n".join(lines) + "\n"
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
