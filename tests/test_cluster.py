"""Prediction and fine-tuning on a real cluster: two worker processes of this machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from engine_desk import Desk, until
from toy_clip import tiny_parent, toy_clip
from toy_files import QUICK, ToyFiles, write_toy_files

pytest.importorskip("distributed", reason="the extra cluster is not installed")

from napari_osvos import Segmenter, cluster_tasks, read_clip
from napari_osvos.cli import main
from napari_osvos.clip import Clip
from napari_osvos.cluster import ClusterSegmenter
from napari_osvos.cluster_flow import AHEAD, Broadcast, Call, Flow
from napari_osvos.cluster_link import ClusterChoice, connected
from napari_osvos.frame_store import FrameStore
from napari_osvos.predict_job import PredictJob
from napari_osvos.worker import Request
from napari_osvos.worker.events import Finished, FrameDone, Noted
from napari_osvos.worker.request import MovieFile

# A cluster takes some seconds to start.
pytestmark = pytest.mark.slow
N_FRAMES = 12


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of two workers, with a thread each."""
    with connected(ClusterChoice(workers=2, threads=1)) as client:
        yield client


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyFiles:
    """A movie of 12 frames, and a segmenter that has learned nothing."""
    files = write_toy_files(tmp_path_factory.mktemp("toy"), n_frames=N_FRAMES)
    _segmenter().save(files.folder / "toy.osvos")
    return files


def _segmenter() -> Segmenter:
    return Segmenter(tiny_parent().net, device="cpu")


def _job(toy: ToyFiles, output: Path) -> PredictJob:
    return PredictJob(str(toy.movie), str(toy.folder / "toy.osvos"), str(output))


def _predict(client: Any, job: PredictJob, **more: Any) -> FrameStore:
    clip = job.open_clip()
    store = job.open_store(clip)
    ClusterSegmenter(client, _segmenter()).predict_frames(job, clip, store.missing, store, **more)
    return store


def _pids(client: Any) -> dict[str, int]:
    return dict(client.run(os.getpid))


def _workers_back(client: Any) -> None:
    """Wait until two workers are there and those who start them anew know it."""
    nannies = client.cluster.workers.values()

    def run(nanny: Any) -> bool:
        return nanny.process is not None and nanny.process.status.name == "running"

    until(lambda: len(client.nthreads()) == 2 and all(map(run, nannies)), 240)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# -- prediction ------------------------------------------------------------------------------


def test_a_cluster_makes_the_labels_of_one_process(client: Any, toy: ToyFiles, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    job = _job(toy, tmp_path / "labels.tif")
    store = _predict(client, job, advance=lambda done, total, note="": told.append((done, total)))
    alone = _segmenter().predict(read_clip(toy.movie))
    assert store.missing == ()
    for t in range(N_FRAMES):
        np.testing.assert_array_equal(store.labels(t), alone[t])
    assert told[-1] == (N_FRAMES, N_FRAMES)
    assert told == sorted(told)


def _loads() -> list[str]:
    return list(cluster_tasks.loads)


def test_each_worker_gets_and_loads_a_segmenter_once(client: Any, toy: ToyFiles, tmp_path: Path) -> None:
    before = {worker: len(loads) for worker, loads in client.run(_loads).items()}
    clip = read_clip(toy.movie)
    segmenter = _segmenter()
    segmenter.threshold = 0.321  # another than before
    on_cluster = ClusterSegmenter(client, segmenter)
    for name in ("one.tif", "two.tif"):
        job = _job(toy, tmp_path / name)
        store = job.open_store(clip)
        on_cluster.predict_frames(job, clip, store.missing, store)
        assert store.missing == ()
    assert on_cluster.payload.times_sent == 1
    after = client.run(_loads)
    loaded = [len(after[worker]) - before[worker] for worker in sorted(before)]
    assert max(loaded) == 1  # a quick worker may have left the other nothing to do


def test_what_was_begun_anew_at_the_same_place_is_filled_as_it_is_now(
    client: Any, toy: ToyFiles, tmp_path: Path
) -> None:
    """Workers outlive the runs of a scheduler: what they know of the folder of an earlier run is no more true."""
    _workers_back(client)
    job = _job(toy, tmp_path / "labels.tif")
    _predict(client, job).remove()
    store = _predict(client, replace(job, probabilities=True))
    assert store.missing == ()
    assert all(np.isfinite(store.probability(t)).all() for t in range(N_FRAMES))


def _wait(folder: str, name: str) -> str:
    """Begin, and end when the file ``go`` is there."""
    Path(folder, f"{name}-{os.getpid()}").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    return name


def test_a_worker_that_is_killed_costs_only_what_it_was_at(client: Any, tmp_path: Path) -> None:
    _workers_back(client)
    calls = iter([Call(_wait, (str(tmp_path), f"call{i}"), i) for i in range(8)])
    flow = Flow(client)
    outcomes: list[tuple[Any, Any]] = []
    thread = threading.Thread(
        target=lambda: outcomes.extend((c.about, o) for c, o in flow.run(lambda: next(calls, None)))
    )
    thread.start()
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("call*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim = next(iter(_pids(client).values()))
    os.kill(victim, signal.SIGKILL)
    time.sleep(0.2)
    (tmp_path / "go").touch()
    thread.join(240)
    assert sorted(outcomes) == [(i, f"call{i}") for i in range(8)]
    begun = [path.name for path in tmp_path.glob("call*")]
    assert len({name.partition("-")[0] for name in begun}) == 8
    assert len(begun) <= 8 + 1  # what the killed one was at was begun twice, nothing else


def test_a_prediction_survives_a_killed_worker(client: Any, toy: ToyFiles, tmp_path: Path) -> None:
    _workers_back(client)
    killed: list[int] = []

    def kill(done: int, total: int, note: str = "") -> None:
        if not killed:
            killed.append(next(iter(_pids(client).values())))
            os.kill(killed[0], signal.SIGKILL)

    store = _predict(client, _job(toy, tmp_path / "labels.tif"), advance=kill)
    alone = _segmenter().predict(read_clip(toy.movie))
    assert killed
    for t in range(N_FRAMES):
        np.testing.assert_array_equal(store.labels(t), alone[t])


def test_what_all_workers_take_with_them_is_sent_again(client: Any) -> None:
    _workers_back(client)
    payload = Broadcast(b"some bytes")
    calls = iter([Call(len, (payload,), i) for i in range(200)])
    lengths = []
    for number, (_, outcome) in enumerate(Flow(client).run(lambda: next(calls, None))):
        lengths.append(outcome)
        if number == 10:
            for pid in _pids(client).values():
                os.kill(pid, signal.SIGKILL)
    assert lengths == [10] * 200
    assert payload.times_sent >= 1


def test_a_bad_frame_is_named_and_the_others_are_finished(client: Any, toy: ToyFiles, tmp_path: Path) -> None:
    _workers_back(client)
    movie = tmp_path / "frames"
    movie.mkdir()
    for t, frame in enumerate(tifffile.imread(toy.movie)):
        tifffile.imwrite(movie / f"t{t:03d}.tif", frame)
    clip = read_clip(movie)
    clip.percentiles((0.5, 25.0, 50.0, 75.0, 99.5))
    _cut_short(movie / "t007.tif")
    job = PredictJob(str(movie), str(toy.folder / "toy.osvos"), str(tmp_path / "labels.tif"))
    store = job.open_store(clip)
    with pytest.raises(OSError, match=r"Frame 7 of .*frames could not be segmented: .*t007.tif") as caught:
        ClusterSegmenter(client, _segmenter()).predict_frames(job, clip, store.missing, store)
    assert store.missing == (7,)
    assert "The 11 finished frames are in" in str(caught.value)


def _words(toy: ToyFiles, client: Any, *movies: Path, output: Path) -> list[str]:
    words = ["predict", toy.folder / "toy.osvos", *movies, "-o", output, "--scheduler", client.scheduler.address]
    return [str(word) for word in words]


def test_the_command_line_predicts_on_a_scheduler(
    client: Any, toy: ToyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _workers_back(client)
    assert main(_words(toy, client, toy.movie, output=tmp_path / "there.tif")) == 0
    assert f"Computing on the scheduler {client.scheduler.address}." in capsys.readouterr().err
    assert main(_words(toy, client, toy.movie, output=tmp_path / "here.tif")[:-2]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "there.tif"), tifffile.imread(tmp_path / "here.tif"))
    assert not list(tmp_path.glob("unfinished-*"))


def test_a_plate_is_predicted_on_a_scheduler_and_a_broken_movie_is_told(
    client: Any, toy: ToyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _workers_back(client)
    plate = tmp_path / "plate"
    plate.mkdir()
    pixels = tifffile.imread(toy.movie)
    for name in ("A1", "A2"):
        tifffile.imwrite(plate / f"{name}.tif", pixels, imagej=True, metadata={"axes": "TYX"})
    frames = plate / "A3"
    frames.mkdir()
    for t, frame in enumerate(pixels):
        tifffile.imwrite(frames / f"t{t:03d}.tif", frame)
    _cut_short(frames / "t007.tif")
    movies = [plate / "A1.tif", plate / "A2.tif", frames]
    assert main([*_words(toy, client, *movies, output=tmp_path / "labels"), "--format", "tif"]) == 1
    said = capsys.readouterr().err
    assert "2 of 3 movies are done" in said
    assert (tmp_path / "labels" / "A1.tif").exists()
    assert (tmp_path / "labels" / "A2.tif").exists()
    assert "t007.tif cannot be read" in said


def test_a_run_that_lost_its_cluster_goes_on_without_one(client: Any, toy: ToyFiles, tmp_path: Path) -> None:
    """The frames that the workers finished are not predicted again."""
    _workers_back(client)
    output = tmp_path / "labels.tif"
    job = PredictJob(str(toy.movie), str(toy.folder / "toy.osvos"), str(output))
    clip = job.open_clip()
    store = job.open_store(clip)
    ClusterSegmenter(client, _segmenter()).predict_frames(job, clip, range(5), store)
    marks = {t: store.about(t) for t in store.finished}
    assert sorted(marks) == [0, 1, 2, 3, 4]
    again = job.open_store(clip)
    ClusterSegmenter(client, _segmenter()).predict_frames(job, clip, again.missing, again)
    assert {t: again.about(t) for t in marks} == marks
    assert again.missing == ()
    assert main(["predict", job.segmenter, job.movie, "-o", job.output]) == 0
    assert len(tifffile.imread(output)) == N_FRAMES


# -- the scheduler ---------------------------------------------------------------------------


def test_a_scheduler_that_does_not_answer_is_said_within_seconds(
    toy: ToyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = _list(tmp_path, toy)
    began = time.monotonic()
    code = main(["fine-tune", "--batch", str(listed), "-o", str(tmp_path), "--scheduler", "tcp://127.0.0.1:1"])
    assert time.monotonic() - began < 20
    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert lines[0].startswith("napari-osvos: error: No scheduler answers at tcp://127.0.0.1:1 within 5 s;")


def test_tls_without_certificates_is_one_sentence() -> None:
    with (
        pytest.raises(
            ValueError, match=r"answers at tls://127.0.0.1:1 within 5 s; check the certificates: certificate or"
        ),
        connected(ClusterChoice("tls://127.0.0.1:1")),
    ):
        pass


def test_the_scheduler_file_names_the_scheduler(client: Any, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": client.scheduler.address}))
    with connected(ClusterChoice(str(file))) as other:
        assert other.scheduler.address == client.scheduler.address


def test_another_version_is_one_sentence(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_osvos.__version__", "99.0")
    with (
        pytest.raises(
            ValueError, match=r"The worker tcp.* has napari-osvos .* and this process 99.0; they must be the s"
        ),
        connected(ClusterChoice(client.scheduler.address)),
    ):
        pass


# -- fine-tuning -----------------------------------------------------------------------------


def _list(folder: Path, toy: ToyFiles, *lines: str) -> Path:
    path = folder / "list.csv"
    rows = lines or (f"{toy.movie},{toy.painted},one.osvos,", f"{toy.movie},{toy.painted},two.osvos,3")
    path.write_text("\n".join(["movie,annotations,output,seed", *rows]) + "\n")
    return path


def test_movies_are_learned_side_by_side_and_those_that_are_there_are_kept(
    client: Any, toy: ToyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _workers_back(client)
    listed, report = _list(tmp_path, toy), tmp_path / "report.json"
    words = ["fine-tune", "--batch", str(listed), "-o", str(tmp_path), "--parent", str(toy.parent), *QUICK]
    where = ["--scheduler", client.scheduler.address]
    assert main([*words, *where, "--json", str(report)]) == 0
    facts = json.loads(report.read_text())
    assert {Path(one["output"]).name: one["seed"] for one in facts["movies"]} == {"one.osvos": 0, "two.osvos": 3}
    alone = tmp_path / "alone"
    assert main(["fine-tune", str(toy.movie), "-a", str(toy.painted), "-o", f"{alone}.osvos", *words[5:]]) == 0
    one, other = (Segmenter.load(path, "cpu") for path in (tmp_path / "one.osvos", f"{alone}.osvos"))
    assert all((a == b).all() for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True))
    written = (tmp_path / "one.osvos").stat().st_mtime_ns
    (tmp_path / "two.osvos").unlink()
    assert main([*words, *where]) == 0
    assert (tmp_path / "two.osvos").exists()
    assert (tmp_path / "one.osvos").stat().st_mtime_ns == written
    assert "1 of 2 segmenters are there already" in capsys.readouterr().err


# -- the panel's engine ----------------------------------------------------------------------


def _run(desk: Desk, scheduler: str, segmenter: Path, clip: Clip, file: MovieFile | None) -> dict[int, FrameDone]:
    desk.log.clear()
    desk.engine.run(Request(clip, None, start=segmenter, device="cpu", scheduler=scheduler, file=file, frame_in_view=5))
    desk.log.wait_for(Finished)
    return {event.frame: event for event in desk.log.of(FrameDone)}


@pytest.mark.parametrize("in_file", [True, False])
def test_the_engine_lets_a_cluster_fill(client: Any, desk: Desk, toy: ToyFiles, in_file: bool) -> None:
    _workers_back(client)
    clip = read_clip(toy.movie) if in_file else toy_clip(N_FRAMES)[0]
    file = MovieFile(toy.movie, "TYX")  # in which the other clip is not
    before = set().union(*client.run(_frames_done).values())
    found = _run(desk, client.scheduler.address, toy.folder / "toy.osvos", clip, file)
    alone = _segmenter().predict(clip)
    assert sorted(found) == list(range(N_FRAMES))
    for t, event in found.items():
        np.testing.assert_array_equal(event.labels, alone[t])
    assert desk.log.of(Noted) == []
    outwards = sorted(range(N_FRAMES), key=lambda t: (abs(t - 5), t < 5))  # as they are handed out, from that in view
    for n, t in enumerate(desk.log.frames):  # which of two workers ends first is theirs
        assert t in outwards[: n + 2 * AHEAD]
    after = set().union(*client.run(_frames_done).values())  # a call that an idle worker takes over is known to both
    assert len(after - before) == N_FRAMES


def _frames_done(dask_worker: Any) -> list[str]:
    """The calls that a worker has been given."""
    return [
        str(entry[0])
        for entry in dask_worker.state.log
        if entry[0].startswith("predict-") and entry[1] == "compute-task"
    ]


def test_the_engine_goes_on_by_itself_where_there_is_no_scheduler(desk: Desk, toy: ToyFiles) -> None:
    clip = read_clip(toy.movie)
    found = _run(desk, "tcp://127.0.0.1:1", toy.folder / "toy.osvos", clip, None)
    assert sorted(found) == list(range(N_FRAMES))
    noted = desk.log.of(Noted)
    assert len(noted) == 1
    assert "No scheduler answers at tcp://127.0.0.1:1" in noted[0].message
    assert noted[0].message.endswith("predicted on this computer.")
