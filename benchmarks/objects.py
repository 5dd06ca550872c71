"""What objects cost beyond the network: seconds and memory of cutting foreground apart, linking and naming.

Frames of 10 to 5,000 cells that touch and drift are drawn as a network would show them: foreground, contour and
distance. One is cut into objects (`instances.separate`), all are tabulated (`objects.MovieObjects`) and linked
(`linking.link`), and one gets its track ids (`Linking.relabel`). Each number of objects runs in a process of its own,
on one core::

    python benchmarks/objects.py

Memory is the most that a step held beyond what there was before it (on Linux; elsewhere the columns are empty). The
best of three runs counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_osvos.instances import SeparationConfig, separate
from napari_osvos.linking import link
from napari_osvos.objects import MovieObjects

Maps = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]
RADIUS, SPACING = 13, 25  # px: neighbours on the grid touch
STEPS = ("separate", "tabulate", "link", "name")


def cells(places: npt.NDArray[np.float64], edge: int) -> npt.NDArray[np.int32]:
    """Labels (edge, edge) of discs at places (N, 2); where two overlap, a pixel is that of the nearer centre."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    disc = np.stack(np.nonzero(y**2 + x**2 <= RADIUS**2), 1) - RADIUS
    pixels = np.rint(places).astype(int)[:, None] + disc
    apart = ((pixels - places[:, None]) ** 2).sum(2)
    flat = pixels[..., 0] * edge + pixels[..., 1]
    nearest = np.full(edge * edge, np.inf)
    np.minimum.at(nearest, flat, apart)
    labels = np.zeros(edge * edge, np.int32)
    mine = apart == nearest[flat]
    labels[flat[mine]] = np.broadcast_to(np.arange(1, len(places) + 1)[:, None], flat.shape)[mine]
    return labels.reshape(edge, edge)


def maps_of(labels: npt.NDArray[np.int32], rng: np.random.Generator) -> Maps:
    """Foreground, contour and distance as a network shows them: blurred and a little wrong."""
    edges = (ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3)) & (labels > 0)
    depth = np.minimum(ndimage.distance_transform_edt((labels > 0) & ~edges) / RADIUS, 1)

    def seen(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        noise = ndimage.gaussian_filter(rng.normal(0, 0.2, labels.shape), 2)
        return np.asarray(ndimage.gaussian_filter(plane.astype(np.float32), 1) + noise, np.float32).clip(0, 1)

    return seen(labels > 0), seen(edges), seen(depth)


def cut(maps: Maps) -> npt.NDArray[np.int32]:
    """Cut a frame into objects."""
    return separate(maps[0], 0.5, maps[1], maps[2], RADIUS, SeparationConfig())


def measured(action: Callable[[], Any], repeats: int = 3) -> tuple[Any, float, float | None]:
    """What an action returns, its seconds, and the MB that it took at most."""
    before = _start_of_peak()
    returned = action()
    after = _memory("VmHWM")
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return returned, min(seconds), None if before is None or after is None else (after - before) / 1e6


def _start_of_peak() -> int | None:
    """Have Linux forget the largest memory so far; return what is held now, in bytes, or None elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def measure(n_objects: int, n_frames: int) -> dict[str, Any]:
    """Seconds and MB of each step, the size of a frame, and how many objects and tracks came out."""
    rng = np.random.default_rng(0)
    rows = int(np.ceil(np.sqrt(n_objects)))
    edge = SPACING * (rows + 1) + 2 * RADIUS
    places = np.stack(np.divmod(np.arange(n_objects), rows), 1) * float(SPACING) + SPACING + RADIUS / 2
    places += rng.normal(0, 2, places.shape)
    objects = MovieObjects()
    tabulated: list[float] = []
    taken: list[float | None] = []
    found: dict[str, Any] = {}
    for t in range(n_frames):
        places = (places + rng.normal(0, 1.4, places.shape)).clip(RADIUS, edge - 1 - RADIUS)
        maps = maps_of(cells(places, edge), rng)
        if t == 0:
            # once before, so that neither imports nor the first use of a library count
            cut((maps[0][:64, :64], maps[1][:64, :64], maps[2][:64, :64]))
            labels, *found["separate"] = measured(partial(cut, maps))
        else:
            labels = cut(maps)
        _, seconds, memory = measured(partial(objects.add, t, labels), repeats=1)
        tabulated.append(seconds)
        taken.append(memory)
    found["tabulate"] = [float(np.median(tabulated)), taken[-1]]
    link(objects)
    linking, *found["link"] = measured(partial(link, objects))
    _, *found["name"] = measured(partial(linking.relabel, n_frames - 1, labels))
    separated = round(float(np.mean([len(frame) for frame in objects.values()])))
    return {"edge": edge, "found": separated, "tracks": len(linking.lineage), **found}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 100, 1000, 5000], help="objects of a frame")
    parser.add_argument("--frames", type=int, default=10, help="frames of each movie")
    parser.add_argument("--only", type=int, help="measure this number of objects in this process and print JSON")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.frames)))
        return
    load = f"; load before: {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{given.frames} frames each, {platform.machine()}, Python {platform.python_version()}{load}\n")
    heads = [f"{step}, {unit}" for step in STEPS for unit in ("s", "MB")]
    heads = [head.replace("link, s", f"link {given.frames} frames, s") for head in heads]
    print(f"| objects | frame, px | cut apart as | {' | '.join(heads)} |")
    print("|" + "---:|" * (3 + len(heads)))
    # glibc is to give back what is freed at once: memory that it keeps for reuse would not show in the next step
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1000000"}
    for n in given.objects:
        command = [sys.executable, __file__, "--only", str(n), "--frames", str(given.frames)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        row = json.loads(done.stdout.splitlines()[-1])
        figures = []
        for step in STEPS:
            seconds, memory = row[step]
            figures += [f"{seconds:.3f}", "" if memory is None else f"{memory:.0f}"]
        print(f"| {n:,} | {row['edge']}² | {row['found']:,} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
