"""The faults that `faults.py` tries: each a function of the bench and the number of tries, giving rows of the table."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
import torch
import zarr
from fault_bench import N_FRAMES, Bench, Row, finished_frames, labels_of
from safetensors.torch import save_file

from napari_osvos import Annotations, Clip, FineTuneConfig
from napari_osvos.checkpoint import load_tensors, save_tensors
from napari_osvos.worker import Engine, Request
from napari_osvos.worker.events import Cancelled, EngineDied, Event, Failed, Finished, FrameDone


def commands_killed(bench: Bench, kills: int) -> Iterator[Row]:
    """`segment` and `predict` killed at random moments of their work, then given again."""
    for verb in ("segment", "predict"):
        row, kept = Row(f"`{verb}` killed (SIGKILL)"), []
        for _ in range(kills):
            words, out, ended = bench.killed(verb)
            kept.append(finished_frames(out))
            wrong = [] if ended.code == -9 else [f"exit code {ended.code}: {ended.said[-300:]}"]
            row.add(wrong + bench.goes_on(words, out, bench.expected[verb]), code=ended.code)
        row.said = "-"
        row.kept = f"{min(kept)} to {max(kept)} of {N_FRAMES} frames"
        row.same = f"{row.answered} of {row.tried}"
        yield row


class _Told:
    """Hears the engine."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def end(self, seconds: float = 300.0) -> Event | None:
        """Wait for the last event of a run; None if it does not come."""
        last = (Finished, Failed, Cancelled, EngineDied)
        with self.changed:
            self.changed.wait_for(lambda: any(isinstance(e, last) for e in self.events), seconds)
            return next((e for e in self.events if isinstance(e, last)), None)

    def frames(self) -> dict[int, np.ndarray]:
        """Return the labels that came."""
        return {e.frame: e.labels for e in self.events if isinstance(e, FrameDone)}


def engine_killed(bench: Bench, kills: int) -> Iterator[Row]:
    """The panel's engine killed at random moments of a run, then the same run again."""
    row, kept, told = Row("the panel's engine killed (SIGKILL)"), [], _Told()
    clip = Clip(bench.frames, name="movie")
    annotations = Annotations.from_labels(bench.truth, frames=(0,))
    tuning = FineTuneConfig(steps=12, crops=1, crop_size=64, object_diameter=24.0)
    engine = Engine(told)

    def run(kill_after: float | None = None) -> Event | None:
        told.events.clear()
        while not engine.is_ready:
            engine.start()
            time.sleep(0.05)
        told.events.clear()
        engine.run(Request(clip, annotations, tuning, device="cpu"))
        if kill_after is not None and told.end(kill_after) is None and engine.pid is not None:
            os.kill(engine.pid, 9)
        return told.end()

    began = time.perf_counter()
    run()
    began = time.perf_counter()  # of a warm engine
    run()
    seconds, expected = time.perf_counter() - began, told.frames()
    for _ in range(kills):
        wrong = []
        while isinstance(last := run(bench.random.uniform(0, seconds)), Finished):
            seconds *= 0.8  # it had ended by then, as the machine had more to do before: no kill
        before = told.frames()
        kept.append(len(before))
        if isinstance(last, EngineDied):
            row.said = last.message
        else:
            wrong.append(f"ended with {last}")
        wrong += [f"frame {t} differs" for t in before if not np.array_equal(before[t], expected[t])]
        if not isinstance(run(), Finished):
            wrong.append("the next run did not finish")
        after = told.frames()
        if after.keys() != expected.keys() or any(not np.array_equal(after[t], expected[t]) for t in after):
            wrong.append("other labels than undisturbed")
        row.add(wrong)
    engine.close()
    row.kept = f"{min(kept)} to {max(kept)} of {N_FRAMES} frames, paint and settings"
    row.same = f"{row.answered} of {row.tried}"
    yield row


def disk_full(bench: Bench, tries: int) -> Iterator[Row]:
    """A disk of few bytes, which is then enlarged; where none can be mounted, files of few bytes."""
    sizes = {"segment": [3_800_000, 200_000, 3_000_000], "predict": [130_000, 60_000, 200_000, 260_000]}
    for verb, all_sizes in sizes.items():
        row, kept, where = Row(f"disk full, `{verb}`"), [], bench.place() / "disk"
        where.mkdir()
        for size in all_sizes[:tries]:
            mounted = not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], capture_output=True
            ).returncode
            try:
                words = bench.words(verb, where)

                def limit(size: int = size) -> None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 10, size // 10))

                ended = bench.run(words, before=None if mounted else limit)
                kept.append(finished_frames(where))
                wrong = bench.faults_of(ended, (1,), where)
                if mounted:
                    subprocess.run(["mount", "-o", "remount,size=100m", str(where)], check=True)
                wrong += bench.goes_on(words, where, bench.expected[verb])
                row.add(wrong, code=ended.code, said=ended.sentence)
            finally:
                if mounted:
                    subprocess.run(["umount", str(where)], check=True)
        row.fault += " (a tmpfs)" if mounted else " (RLIMIT_FSIZE)"
        row.kept, row.same = f"{min(kept)} to {max(kept)} of {N_FRAMES} frames", f"{row.answered} of {row.tried}"
        yield row


# -- the movie -------------------------------------------------------------------------------


def _as_frames(bench: Bench) -> Path:
    folder = bench.place() / "frames"
    folder.mkdir()
    for t, frame in enumerate(bench.frames):
        tifffile.imwrite(folder / f"t{t:03d}.tif", frame)
    return folder


def _as_zarr(bench: Bench) -> Path:
    path = bench.place() / "movie.zarr"
    array = zarr.create_array(str(path), shape=bench.frames.shape, dtype="u1", chunks=(1, *bench.frames.shape[1:]))
    array[...] = bench.frames
    return path


def taken_away(bench: Bench, tries: int) -> Iterator[Row]:
    """Files that vanish or shrink while they are read, and come back."""
    cases: list[tuple[str, Callable[[Bench], Path], str]] = [
        ("a frame's file removed under the reader", _as_frames, f"t{N_FRAMES - 1:03d}.tif"),
        ("a TIFF cut short under the reader", lambda b: Path(shutil.copy2(b.movie, b.place() / "movie.tif")), ""),
    ]
    for name, write, part in cases:
        row, kept = Row(name), []
        for _ in range(tries):
            movie, out = write(bench), bench.place()
            target, words = movie / part if part else movie, bench.words("predict", out, movie)
            spare, about = target.read_bytes(), target.stat()

            def fault(target: Path = target, out: Path = out, whole: bool = bool(part), n: int = len(spare)) -> None:
                while not finished_frames(out):
                    time.sleep(0.001)
                target.unlink() if whole else os.truncate(target, n // 2)

            ended = bench.run(words, meanwhile=fault)
            kept.append(finished_frames(out))
            wrong = bench.faults_of(ended, (1, 2), out)
            if ended.code == 0:
                wrong = ["it had ended before the fault"]
            target.write_bytes(spare)
            os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))
            row.add(wrong + bench.goes_on(words, out, bench.expected["predict"]), code=ended.code, said=ended.sentence)
        row.kept, row.same = f"{min(kept)} to {max(kept)} of {N_FRAMES} frames", f"{row.answered} of {row.tried}"
        yield row


def bad_movies(bench: Bench, tries: int) -> Iterator[Row]:
    """Movies that are damaged from the start."""
    folder = bench.place()
    packed = folder / "packed.tif"
    tifffile.imwrite(packed, bench.frames, imagej=True, metadata={"axes": "TYX"}, compression="zlib")
    row = Row("truncated TIFF (plain and deflated)")
    for share, source in itertools.product((0.6, 0.001, 0.3, 0.97)[:tries], (bench.movie, packed)):
        cut, out = folder / "cut.tif", bench.place()
        cut.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
        ended = bench.run(bench.words("predict", out, cut))
        row.add(bench.faults_of(ended, (2,), out), code=ended.code, said=ended.sentence)
    yield row

    frames = bench.frames.astype(np.float32)
    frames[3], frames[5, :40], frames[6, 0, 0] = np.nan, np.nan, np.inf
    for name, pixels, codes in (
        ("a NaN frame, NaN and infinite pixels", frames, (0,)),
        ("nothing but NaN", np.full_like(frames, np.nan), (2,)),
    ):
        row, out, movie = Row(name), bench.place(), folder / "nan.npy"
        np.save(movie, pixels)
        ended = bench.run(bench.words("predict", out, movie))
        wrong = bench.faults_of(ended, codes, out, sentence=codes != (0,))
        if ended.code == 0 and labels_of(out / "labels.tif")[3].any():
            wrong.append("labels in a frame of NaN")
        row.add(wrong, code=ended.code, said=ended.sentence)
        row.same = "the other frames are labelled" if codes == (0,) else "-"
        yield row

    for name, damage, codes in (
        ("a zarr with a missing chunk", Path.unlink, (0,)),
        ("a zarr with a corrupt chunk", lambda chunk: chunk.write_bytes(b"\0" * 99), (2,)),
    ):
        row, out, movie = Row(name), bench.place(), _as_zarr(bench)
        damage(movie / "c" / str(N_FRAMES - 2) / "0" / "0")
        ended = bench.run(bench.words("predict", out, movie))
        row.add(bench.faults_of(ended, codes, out), code=ended.code, said=ended.sentence)
        row.kept = f"{N_FRAMES if ended.code == 0 else finished_frames(out)} of {N_FRAMES} frames"
        yield row


# -- model files -----------------------------------------------------------------------------


class _Trap:
    """A pickle that leaves a file behind if it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def bad_models(bench: Bench, tries: int) -> Iterator[Row]:
    """Segmenters and parents that are damaged, or meant to do harm."""
    trap, folder = bench.folder / "sprung", bench.place()
    tensors, header = load_tensors(bench.segmenter, "segmenter")
    held = bench.segmenter.read_bytes()
    network = header["network"]
    first = next(name for name in tensors if name.startswith("stages"))

    def network_of(**changes: Any) -> Callable[[Path], None]:
        return lambda path: save_tensors(path, tensors, header | {"network": network | changes}, "segmenter")

    def long_header(path: Path) -> None:
        about = {"format": "napari-osvos", "version": "1", "kind": "segmenter", "header": json.dumps("x" * 80_000_000)}
        save_file(tensors, path, metadata=about)

    def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
        return lambda path: save_tensors(path, tensors | {first: change(tensors[first])}, header, "segmenter")

    cases: dict[str, list[Callable[[Path], object]]] = {
        "model file: a pickle": [
            lambda path: path.write_bytes(pickle.dumps(_Trap(trap))),
            lambda path: torch.save({"weights": _Trap(trap)}, path),
        ],
        "model file: huge header": [lambda path: path.write_bytes(struct.pack("<Q", 2**62) + held[8:]), long_header],
        "model file: network of terabytes": [
            network_of(widths=[10**6] * 4),
            network_of(widths=[4096] * 12, convolutions=[32] * 12),
            network_of(convolutions=[10**9] * 4),
            network_of(heads=["foreground"] * 10**5),
        ],
        "model file: wrong shapes": [weights(lambda held: held[:1]), network_of(widths=[32, 64, 128, 200])],
        "model file: NaN weights": [weights(lambda held: held * np.nan), weights(lambda held: held.double() + 1e300)],
        "model file: strange numbers": [
            lambda path, change=change: save_tensors(path, tensors, header | change, "segmenter")  # type: ignore[misc]
            for change in ({"zoom": 1e9}, {"zoom": -1}, {"threshold": "much"}, {"meaning": [1]})
        ],
        "model file: cut short": [lambda path, n=n: path.write_bytes(held[:n]) for n in (0, 7, 500, len(held) - 9)],  # type: ignore[misc]
        "model file: a folder": [Path.mkdir],
    }
    for name, damages in cases.items():
        row = Row(name)
        for k, damage in enumerate(damages[: 2 * tries]):
            verb, ending = ("predict", "osvos") if k % 2 == 0 else ("segment", "safetensors")
            path, out = folder / f"{name[12:].replace(' ', '-')}-{k}.{ending}", bench.place()
            damage(path)
            words = bench.words(verb, out, segmenter=path)
            ended = bench.run(words if verb == "predict" else [*words, "--continue", str(path)])
            wrong = bench.faults_of(ended, (2,), out)
            if path.name not in ended.sentence:
                wrong.append(f"the file is not named: {ended.sentence}")
            if trap.exists():
                wrong.append("the pickle was loaded")
            row.add(wrong, code=ended.code, said=ended.sentence)
        yield row


# -- other -----------------------------------------------------------------------------------


def worker_killed(bench: Bench, tries: int) -> Iterator[Row]:
    """A worker of a cluster of this machine killed in mid-run, where there are clusters."""
    if importlib.util.find_spec("napari_osvos.cluster") is None or importlib.util.find_spec("distributed") is None:
        return
    row, killed = Row("a worker killed in a cluster run (`--workers 2`)"), list[int]()
    for _ in range(tries):
        out = bench.place()

        def kill_one(out: Path = out) -> None:
            while not finished_frames(out):
                time.sleep(0.01)
            for process in psutil.Process().children(recursive=True):
                if "spawn_main" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(finished_frames(out))
                    return

        ended = bench.run([*bench.words("predict", out), "--workers", "2"], meanwhile=kill_one)
        wrong = bench.faults_of(ended, (0,), out, sentence=False)
        if ended.code == 0 and not np.array_equal(labels_of(out / "labels.tif"), bench.expected["predict"]):
            wrong.append("other labels than undisturbed")
        if len(killed) <= row.tried:
            wrong.append("no worker was there to kill")
        row.add(wrong, code=ended.code)
    row.kept, row.same = f"all frames; killed after {killed} of {N_FRAMES}", f"{row.answered} of {row.tried}"
    yield row


def malformed(bench: Bench, tries: int) -> Iterator[Row]:
    """The malformed inputs that hypothesis draws in the tests."""
    test = Path(__file__).parents[1] / "tests" / "test_malformed_inputs.py"
    if not test.is_file() or importlib.util.find_spec("hypothesis") is None:
        return
    row = Row("malformed files, metadata, headers, arrays and options, drawn by hypothesis")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--hypothesis-show-statistics",
        str(test),
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    shown = ended.stdout
    row.tried = sum(int(line.split(" passing")[0].split()[-1]) for line in shown.splitlines() if " passing" in line)
    row.answered = row.tried if ended.returncode == 0 else 0
    row.codes, row.said = [0, 1, 2], "one each"
    row.wrong = [] if ended.returncode == 0 else [shown[-2000:]]
    yield row


KINDS: dict[str, Callable[[Bench, int], Iterator[Row]]] = {
    "commands": commands_killed,
    "engine": engine_killed,
    "disk": disk_full,
    "taken": taken_away,
    "movies": bad_movies,
    "models": bad_models,
    "cluster": worker_killed,
    "malformed": malformed,
}
