"""How fast a movie is segmented: 100 frames of 512 x 512, one painted frame, in a warm process.

    python benchmarks/speed.py --threads 2 -o benchmarks/results/speed.csv

writes a CSV file with a line for each repeat, and a summary in Markdown beside it. A repeat that is in the file is not
taken again: stop it whenever you like. Leave the machine alone while it runs. ``--quick`` shows in minutes that it
works.

Measured are `balanced` and `fast` through the engine that the panel uses (from `run()` to the first preview, to the end
of learning, to the last frame), the random forest, and OSVOS as published on VGG16. Of the published 500 updates only
some are made (in multiples of 6 each scale of the frame has its share), and the first ten of the frames are predicted:
the seconds are extrapolated from them, and there is no J, unless ``--published-steps 500``. Where there is a GPU, the
network is timed by itself, too, and 500 published updates on a frame of 480 x 854.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from engine import Watch
from points import Points, in_own_process, machine, table, tell, told_machines

from napari_osvos import Annotations, Clip, FineTuneConfig, FineTuner, ParentNetwork
from napari_osvos.config import NetworkConfig
from napari_osvos.machine import default_threads, replacing
from napari_osvos.metrics import region_similarity
from napari_osvos.sample_data import simulate_movie
from napari_osvos.worker.events import Event, Finished, FrameDone, Preview, TrainingDone

KEYS = ("what", "frames", "edge", "device", "repeat")
VALUES = ("first_mask_s", "learned_s", "movie_s", "J", "value", "unit", "remark")
OURS, FAST, FOREST, PUBLISHED = "balanced", "fast", "random-forest", "published-vgg16"
STEPS = 500
"""Updates of the published method."""
FLOOR_MS = {"forward": 0.33, "step": 0.98}
"""Of VGG16 on 480 x 854 on an H100: 258 and 774 GFLOP at its peak in bfloat16 without sparsity, 790 TFLOP/s usable."""
PUBLISHED_FRAMES = 10
GROWING = 20


def movie(frames: int, *shape: int) -> tuple[Clip, Annotations, np.ndarray]:
    """Return a simulated movie of nuclei, square if one edge is given, the paint of its first frame, and its truth.

    It goes to and fro between its first `GROWING` frames: later on the nuclei, which divide, would fill all there is.
    """
    made = simulate_movie("fluorescence", min(frames, GROWING), (shape[0], shape[-1]), seed=0)
    there = np.arange(len(made.frames))
    turns = np.resize(np.concatenate([there, there[-2:0:-1]]), frames)
    images, labels = made.frames[turns], made.labels[turns]
    return Clip(images, name="simulated"), Annotations.from_labels(labels, frames=(0,)), labels


def similarity(labels: dict[int, np.ndarray], truth: np.ndarray) -> float:
    """Return the mean J of the frames that are not painted."""
    return statistics.fmean(region_similarity(found > 0, truth[t] > 0) for t, found in labels.items() if t)


# -- one point, in its own process -----------------------------------------------------------------


class Collecting(Watch):
    """Keeps the labels of frames, too."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: dict[int, np.ndarray] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, FrameDone):
            self.labels[event.frame] = event.labels
        super().__call__(event)


def ours(order: dict[str, Any]) -> None:
    """Time `balanced` or `fast` as the panel has it: the engine in its own process, previews of the painted frame."""
    from napari_osvos.worker import Engine, Request
    from napari_osvos.worker.events import EngineReady

    clip, annotations, truth = movie(order["frames"], order["edge"])
    watch = Collecting()
    engine = Engine(watch)
    watch.begin()
    engine.start()
    watch.wait_for(EngineReady)

    def run(tuning: FineTuneConfig) -> tuple[float, ...]:
        watch.labels = {}
        watch.begin()
        # The frame after the painted one is in view: a mask of what is painted already would say nothing.
        view = min(1, clip.n_frames - 1)
        engine.run(
            Request(
                clip, annotations, tuning, frame_in_view=view, device=order["device"], threads=order["threads"] or None
            )
        )
        end = watch.wait_for(Finished, 7200)
        return watch.times.get(Preview, watch.times[FrameDone]), watch.times[TrainingDone], end

    run(FineTuneConfig(quality="fast", steps=4))  # warm
    for _ in range(order["repeats"]):
        first, learned, end = run(FineTuneConfig(quality=order["what"], steps=order["steps"]))
        tell({"first_mask_s": first, "learned_s": learned, "movie_s": end, "J": similarity(watch.labels, truth)})
    engine.close()


def forest(order: dict[str, Any]) -> None:
    """Time the random forest on the same frames."""
    from napari_osvos.baseline_forest import RandomForest

    clip, annotations, truth = movie(order["frames"], order["edge"])
    for repeat in range(order["repeats"] + 1):
        began = time.perf_counter()
        method = RandomForest(0, order["threads"], instances=True)
        method.fit(clip, annotations)
        learned = time.perf_counter() - began
        labels: dict[int, np.ndarray] = {}
        first = 0.0
        for t, found in method.iter_labels(clip, [1, 0, *range(2, clip.n_frames)] if repeat else [0]):
            labels[t] = found
            first = first or time.perf_counter() - began
        if repeat:  # the first one was to warm up
            seconds = time.perf_counter() - began
            tell({"first_mask_s": first, "learned_s": learned, "movie_s": seconds, "J": similarity(labels, truth)})


def published(order: dict[str, Any]) -> None:
    """Time OSVOS as published on VGG16, and extrapolate to 500 updates and all frames."""
    import torch

    torch.set_num_threads(order["threads"])
    clip, annotations, truth = movie(order["frames"], order["edge"])
    parent, steps = ParentNetwork.bundled("vgg16"), order["steps"]
    for _ in range(order["repeats"]):
        tuner = FineTuner(parent, FineTuneConfig(quality="published", steps=steps + 1), order["device"])
        began, ticks = time.perf_counter(), []
        for _step in tuner.steps(clip, annotations):
            ticks.append(time.perf_counter() - began)
        each = (ticks[-1] - ticks[0]) / steps  # the first update warms up
        learned = time.perf_counter() - began + each * (STEPS - len(ticks))
        count = clip.n_frames if steps >= STEPS else min(PUBLISHED_FRAMES, clip.n_frames)
        found, frame_seconds = {}, []
        for prediction in tuner.segmenter.iter_frames(clip, range(count)):
            found[prediction.frame] = prediction.labels
            frame_seconds.append(prediction.seconds)
        row = {
            "first_mask_s": learned + frame_seconds[0],
            "learned_s": learned,
            "movie_s": learned + statistics.fmean(frame_seconds) * clip.n_frames,
            "remark": f"extrapolated from {steps} updates and {count} frames" if steps < STEPS else "",
        }
        if steps >= STEPS:
            row["J"] = similarity(found, truth)
        tell(row)


def on_gpu(order: dict[str, Any]) -> None:
    """Time the networks by themselves on a CUDA GPU, without reading, copies and labels."""
    import torch

    from napari_osvos.device import autocast, resolve_device

    device = resolve_device(order["device"])
    clip, annotations, _ = movie(2, order["edge"])
    for repeat in range(order["repeats"] + 1):
        began = time.perf_counter()
        FineTuner(ParentNetwork.bundled(), FineTuneConfig(steps=order["steps"]), device).fit(clip, annotations)
        torch.cuda.synchronize()
        if repeat:
            tell({"name": "balanced, learning", "value": time.perf_counter() - began, "unit": "s"})

    wide, painted, _ = movie(2, 480, 854)
    vgg16, schedule = ParentNetwork.bundled("vgg16"), FineTuneConfig(quality="published", steps=order["steps"])
    for repeat in range(order["repeats"] + 1):
        began = time.perf_counter()
        FineTuner(vgg16, schedule, device).fit(wide, painted)
        torch.cuda.synchronize()
        if repeat:
            name = f"published, vgg16, 480 x 854, {schedule.planned_steps()} updates"
            tell({"name": name, "value": time.perf_counter() - began, "unit": "s", "remark": "wanted: 3 s"})

    def milliseconds(action: Callable[[], object], times: int = 30) -> float:
        for _ in range(5):
            action()
        starts, ends = ([torch.cuda.Event(enable_timing=True) for _ in range(times)] for _ in range(2))
        for start, end in zip(starts, ends, strict=True):
            start.record()
            action()
            end.record()
        torch.cuda.synchronize()
        return float(statistics.median(a.elapsed_time(b) for a, b in zip(starts, ends, strict=True)))

    with torch.autocast("cuda", dtype=torch.bfloat16):
        lite = ParentNetwork.bundled().net.to(device)
        for batch in (1, 4, 16):
            x = torch.randn(batch, 3, 1024, 1024, device=device).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                ms = milliseconds(lambda x=x: lite(x))  # type: ignore[misc]
            tell({"name": f"lite, 1024 x 1024, {batch} at a time", "value": 1e3 * batch / ms, "unit": "frames/s"})
    vgg = ParentNetwork.random(NetworkConfig.vgg16()).net.to(device)
    x = torch.randn(1, 3, 480, 854, device=device).contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.no_grad(), autocast(device):
            vgg(x)

    def step() -> None:
        with autocast(device):
            loss = vgg(x).float().square().mean()
        loss.backward()
        for p in vgg.parameters():
            p.grad = None

    for name, action in (("forward", forward), ("step", step)):
        ms = milliseconds(action)
        share = f"{100 * FLOOR_MS[name] / ms:.0f} % of the floor of an H100, {FLOOR_MS[name]} ms"
        tell({"name": f"vgg16, 480 x 854, {name}", "value": ms, "unit": "ms", "remark": share})


POINTS = {OURS: ours, FAST: ours, FOREST: forest, PUBLISHED: published, "gpu": on_gpu}


# -- all of them ---------------------------------------------------------------------------------------


def summary(points: Points) -> str:
    """Return medians, ranges and ratios in Markdown."""
    lines = ["# Speed", "", *told_machines(points.rows)]
    for frames, edge, device in dict.fromkeys((r["frames"], r["edge"], r["device"]) for r in points.rows):
        own = points.there(frames=frames, edge=edge, device=device)
        methods = (OURS, FAST, FOREST, PUBLISHED)
        timed = {what: [r for r in own if r["what"] == what and r["movie_s"]] for what in methods}
        reference = _median(timed[OURS], "movie_s")
        rows: list[list[object]] = []
        for what, of in timed.items():
            if of:
                seconds = [f"{_median(of, c):.2f}" for c in ("first_mask_s", "learned_s", "movie_s")]
                span = f"{min(float(r['movie_s']) for r in of):.1f} to {max(float(r['movie_s']) for r in of):.1f}"
                j = f"{_median(of, 'J'):.3f}" if of[0]["J"] else ""
                ratio = f"{_median(of, 'movie_s') / reference:.1f}" if timed[OURS] else ""
                rows.append([what, *seconds, span, ratio, j, len(of), of[0]["remark"]])
        lines += [f"## {frames} frames of {edge} x {edge}, {device}: medians, seconds", ""]
        lines += table(
            ["method", "click to first mask", "to the end of learning", "to the last frame", "least to most",
             "times `balanced`", "J", "repeats", ""], rows,
        )  # fmt: skip
        alone = [r for r in own if r["value"]]
        if alone:
            names = dict.fromkeys(r["what"] for r in alone)
            of_name = {n: [r for r in alone if r["what"] == n] for n in names}
            cells = [[n, f"{_median(r, 'value'):.4g}", r[0]["unit"], r[0]["remark"]] for n, r in of_name.items()]
            lines += table(["on the GPU", "median", "", ""], cells)
    return "\n".join(lines)


def _median(rows: Sequence[dict[str, str]], column: str) -> float:
    return statistics.median(float(row[column]) for row in rows) if rows else float("nan")


def main() -> None:
    """Measure what is missing and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/speed.csv"))
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads (default: all cores)")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--edge", type=int, default=512, help="of a frame, px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="updates of `balanced`, to try this out")
    parser.add_argument("--published-steps", type=int, default=24, help="updates made of the published method")
    parser.add_argument("--only", choices=POINTS, action="append", help="may be given several times")
    parser.add_argument("--quick", action="store_true", help="a toy: 4 frames of 128 x 128, few updates, one repeat")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point:
        order = json.loads(given.point)
        POINTS[order["what"]](order)
        return
    if given.quick:
        given.frames, given.edge, given.repeats, given.steps, given.published_steps = 4, 128, 1, 8, 1
    points = Points(given.output, KEYS, VALUES)
    for what in given.only or [w for w in POINTS if w != "gpu" or given.device != "cpu"]:
        key = {"frames": given.frames, "edge": given.edge, "device": "cpu" if what == FOREST else given.device}
        done = 0 if what == "gpu" else len(points.there(what=what, **key))
        if done >= given.repeats or (what == "gpu" and any(row["value"] for row in points.there(**key))):
            continue
        steps = given.published_steps if what == PUBLISHED else given.steps
        order = {"what": what, **key, "threads": given.threads, "steps": steps, "repeats": given.repeats - done}
        about = machine(given.threads)
        for found in in_own_process(__file__, order, given.threads):
            name = found.pop("name", what)
            repeat = len(points.there(what=name, **key))
            points.add({"what": name, **key, "repeat": repeat, **found, **about})
            print(name, found, flush=True)
            about = machine(given.threads)
    with replacing(given.output.with_suffix(".md")) as partial:
        partial.write_text(summary(points), encoding="utf-8")


if __name__ == "__main__":
    main()
