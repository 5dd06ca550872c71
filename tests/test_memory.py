"""Where memory runs out: smaller tiles, smaller batches, the CPU; told once, and what is needed known before."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from toy_clip import VARIED, quick, tiny_parent, toy_clip

from napari_osvos import memory, simulate_movie
from napari_osvos.annotations import Annotations
from napari_osvos.appearance import Appearance
from napari_osvos.clip import Clip
from napari_osvos.config import FineTuneConfig, NetworkConfig, PredictConfig
from napari_osvos.finetune import FineTuner
from napari_osvos.intensity import movie_intensity
from napari_osvos.memory import MemoryShortWarning, Shortage, is_out_of_memory, network_bytes, prediction_need
from napari_osvos.optimiser import Muon
from napari_osvos.parent import ParentNetwork
from napari_osvos.segmenter import Segmenter
from napari_osvos.sparing import Batches
from napari_osvos.training import TrainingStep

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")
FRAMES = np.random.default_rng(0).integers(0, 255, (3, 700, 300), np.uint8)


def _short(net: torch.nn.Module, too_much: Callable[[torch.Tensor], bool], error: BaseException = CUDA) -> list[int]:
    """Let a network run out of memory; return the edges of what it is given."""
    given: list[int] = []

    def check(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        given.append(2 * max(inputs[0].shape[-2:]))  # 2 x 2 pixels are channels there
        if too_much(inputs[0]):
            raise error

    net.stages[0].register_forward_pre_hook(check)  # type: ignore[index,union-attr]
    return given


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError()], ids=["cuda", "cpu", "numpy"])
def test_tiles_get_smaller_and_the_labels_stay(error: BaseException) -> None:
    expected = list(Segmenter(tiny_parent().net, device="cpu").iter_frames(Clip(FRAMES)))
    segmenter = Segmenter(tiny_parent().net, device="cpu")
    given = _short(segmenter.net, lambda x: max(x.shape[-2:]) > 240, error)
    with pytest.warns(MemoryShortWarning, match="ran short of memory: going on in smaller tiles") as told:
        found = list(segmenter.iter_frames(Clip(FRAMES)))
    assert len(told) == 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)
    assert sum(edge > 480 for edge in given) == 1  # what did not fit is not tried again


def test_a_gpu_without_room_leaves_it_to_the_cpu() -> None:
    segmenter = Segmenter(tiny_parent().net, device="cpu")
    segmenter.device = torch.device("cuda:0")
    _short(segmenter.net, lambda x: segmenter.device.type == "cuda")
    told: list[str] = []
    segmenter.shortage = Shortage(told.append)
    expected = Segmenter(tiny_parent().net, device="cpu").predict(Clip(FRAMES))
    np.testing.assert_array_equal(segmenter.predict(Clip(FRAMES)), expected)
    assert all(sentence.startswith("The GPU (cuda:0) ") for sentence in told)
    assert [sentence.rpartition("going on ")[2].partition(",")[0] for sentence in told] == [
        "with fewer frames at once.", "in smaller tiles", "with the CPU"
    ]  # fmt: skip


def test_what_fits_nowhere_and_other_errors_are_raised() -> None:
    for error in (CUDA, RuntimeError("bad weights")):
        segmenter = Segmenter(tiny_parent().net, device="cpu")
        segmenter.shortage = Shortage(lambda sentence: None)
        _short(segmenter.net, lambda x: True, error)
        with pytest.raises(type(error), match=re.escape(str(error))):
            segmenter.predict(Clip(FRAMES))


def test_learning_goes_on_with_fewer_crops() -> None:
    clip, annotations, _ = toy_clip()
    told: list[str] = []
    tuner = FineTuner(tiny_parent(), quick(steps=6), device="cpu", augment=VARIED)
    tuner.shortage = Shortage(told.append)
    sizes: list[int] = []

    def check(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if torch.is_grad_enabled():
            sizes.append(len(inputs[0]))
            if len(inputs[0]) > 1:
                raise CUDA

    steps = []
    for step in tuner.steps(clip, annotations):
        steps.append(step.step)
        if step.step == 2:
            assert tuner.net is not None
            tuner.net.stages[0].register_forward_pre_hook(check)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert sizes == [2] + 4 * [1, 1]  # as many crops an update as before, one at a time
    assert told == ["Memory ran short: learning from fewer crops at a time."]


def test_learning_goes_on_with_the_cpu() -> None:
    clip, annotations, _ = toy_clip()
    told: list[str] = []
    tuner = FineTuner(tiny_parent(), quick(steps=5, crops=1), device="cpu", augment=VARIED)
    tuner.shortage = Shortage(told.append)
    batches = Batches(1, torch.device("cuda:0"), tuner.shortage, lambda: moved.append(1))
    moved: list[int] = []

    def begin(done: int, spent: float) -> Iterator[TrainingStep]:
        for step in range(done + 1, 5):
            if step == 3 and not moved:
                raise CUDA
            yield TrainingStep(step, 4, 0.5, 1e-3, 1.0 * (step - done))

    steps = list(batches.updates(begin))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert [step.seconds for step in steps] == [1.0, 2.0, 3.0, 4.0]
    assert told == ["The GPU (cuda:0) has not enough memory for this: going on with the CPU, which takes longer."]
    moved.clear()
    with pytest.raises(torch.OutOfMemoryError):
        list(Batches(1, torch.device("cpu"), tuner.shortage).updates(begin))
    for step in tuner.steps(clip, annotations):  # moving in the middle of it changes nothing on the CPU
        if step.step == 2:
            assert tuner.net is not None
            tuner._to_cpu(Muon(tuner.net.parameters(), 1e-3))
    assert step.step == 5


@pytest.mark.slow
def test_the_memory_of_the_network_is_known_within_a_factor() -> None:
    """Measured in a process of its own: what the network holds at its peak for a megapixel."""
    code = """
import torch
from napari_osvos.config import NetworkConfig
from napari_osvos.machine import peak_memory
from napari_osvos.network import OSVOSNet
torch.set_num_threads(1)
net = OSVOSNet(NetworkConfig.lite()).to(memory_format=torch.channels_last).eval()
with torch.no_grad():
    net(torch.zeros(1, 3, 64, 64))
    before = peak_memory()
    net(torch.zeros(1, 3, 1280, 1280))
print((peak_memory() - before) / 1280**2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.6 < network_bytes(NetworkConfig.lite()) / float(done.stdout) < 1.7


def test_the_need_of_a_frame_grows_with_it_and_a_tile_bounds_what_the_network_takes() -> None:
    def need(edge: int, tile: int = 1024, **more: Any) -> memory.Need:
        return prediction_need(NetworkConfig.lite(), (1, edge, edge, 1), 2, zoom=1.0, tile=tile, halo=160, **more)

    assert need(16384).tile == need(8192).tile > 3 * need(16384, tile=256).tile
    assert need(16384).maps == 4 * need(8192).maps == 2 * need(16384, fine=False).maps
    assert need(16384, fine=False).ram(torch.device("cpu")) < 4e9
    assert need(8192).ram(torch.device("cuda:0")) <= need(8192).ram(torch.device("cpu"))


def test_a_tile_is_chosen_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    device = torch.device("cpu")

    def need(tile: int) -> memory.Need:
        return memory.Need(tile=tile * 1000, plane=100_000, maps=400_000, labels=200_000)

    for free, expected in ((10_000_000, 2048), (2_000_000, 1024), (1_000_000, 256), (10_000, 256)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert memory.planned_tile(need, 2048, device, Shortage(told.append)) == expected
    assert told == ["A frame of this movie takes some 756.0 kB of memory, of which 10.0 kB are free: it may not fit."]


def test_free_memory_is_known_and_errors_are_told_apart() -> None:
    assert 2**20 < memory.free_bytes(torch.device("cpu")) < 2**50
    assert is_out_of_memory(CPU)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


# -- numerics ----------------------------------------------------------------------------------------


def test_precision_and_device_change_less_than_half_a_percent_of_the_foreground(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    movie = simulate_movie("fluorescence", n_frames=2, shape=(160, 160))
    clip = Clip(movie.frames)
    config = FineTuneConfig(quality="fast", steps=12, task="look-alike", crop_size=96)
    monkeypatch.setenv("NAPARI_OSVOS_PRECISION", "float32")
    tuner = FineTuner(ParentNetwork.bundled(), config, device="cpu")
    segmenter = tuner.fit(clip, Annotations.from_labels(movie.labels, frames=[0]))
    segmenter.config = PredictConfig()
    exact = segmenter.predict(clip) > 0
    assert 0.05 < exact.mean() < 0.6
    monkeypatch.setenv("NAPARI_OSVOS_PRECISION", "bfloat16")
    others = [segmenter.predict(clip) > 0]
    if torch.cuda.is_available():
        net = segmenter.net
        others.append(Segmenter(net, segmenter.zoom, segmenter.threshold, None, None, "cuda").predict(clip) > 0)
    for other in others:
        assert (other != exact).any()  # it is another precision
        assert (other != exact).sum() < 0.005 * exact.sum()


# -- several planes at once, as on a GPU ------------------------------------------------------


@pytest.fixture
def in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU look at several planes at once, as a GPU does."""
    monkeypatch.setattr("napari_osvos.plane_prediction.ONE_BY_ONE", ())


def _inputs(segmenter: Segmenter) -> list[int]:
    """Return a list that is given the number of planes of each input of the network."""
    given: list[int] = []
    segmenter.net.stages[0].register_forward_pre_hook(lambda module, inputs: given.append(len(inputs[0])))
    return given


def _seeing(appearance: bool = False, **settings: Any) -> Segmenter:
    segmenter = Segmenter(tiny_parent().net, device="cpu", config=PredictConfig(**settings), zoom=0.9)
    if appearance:
        seen: list[torch.Tensor] = []
        clip = Clip(FRAMES)
        segmenter.plane_maps(clip.plane(0), movie_intensity(clip, segmenter.net.config.intensities), seen=seen)
        segmenter.appearance = Appearance.of(seen)
    return segmenter


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("flips", [False, True])
def test_frames_predicted_at_once_are_those_predicted_one_by_one(
    depth: int, flips: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (7, depth, 60, 50), np.uint8)
    clip = Clip(frames if depth > 1 else frames[:, 0])
    alone = list(_seeing(True, flips=flips).iter_frames(clip, [6, 0, 3, 4, 1]))
    monkeypatch.setattr("napari_osvos.plane_prediction.ONE_BY_ONE", ())
    monkeypatch.setattr("napari_osvos.plane_prediction.MOST_PLANES", 4)
    segmenter = _seeing(True, flips=flips)
    given = _inputs(segmenter)
    together = list(segmenter.iter_frames(clip, [6, 0, 3, 4, 1]))
    expected = {1: [4, 1], 2: [4, 4, 2], 5: [4, 1] * 5}[depth]
    assert given == [n for n in expected for _ in range(4 if flips else 1)]
    assert [p.frame for p in together] == [6, 0, 3, 4, 1]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-4)
        assert one.novelty == pytest.approx(other.novelty, abs=1e-3)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


@pytest.mark.usefixtures("in_batches")
def test_planes_at_once_take_no_more_than_a_tile() -> None:
    segmenter = _seeing(tile=100)
    given = _inputs(segmenter)
    segmenter.predict(Clip(FRAMES[:, :50, :50].repeat(3, 0)))
    assert given == [4, 4, 1]
    segmenter.zoom = 0.1  # so that the network sees next to nothing of them, but their maps are as large as before
    given.clear()
    segmenter.predict(Clip(FRAMES[:, :50, :50].repeat(3, 0)))
    assert given == [4, 4, 1]


@pytest.mark.usefixtures("in_batches")
def test_fewer_planes_are_looked_at_where_memory_runs_out() -> None:
    clip = Clip(FRAMES[:, :90, :80].repeat(3, 0))
    alone = Segmenter(tiny_parent().net, device="cpu", config=PredictConfig(tile=64)).predict(clip)
    segmenter = Segmenter(tiny_parent().net, device="cpu")
    given = _inputs(segmenter)
    _short(segmenter.net, lambda x: len(x) > 3)
    with pytest.warns(MemoryShortWarning, match="ran short of memory: going on with fewer frames at once") as told:
        labels = segmenter.predict(clip)
    assert len(told) == 1
    assert (labels != alone).mean() < 0.01
    assert given == [9, 4, 2, 2, 5, 2, 3]


def test_a_single_plane_at_once_stays_a_single_plane() -> None:
    shortage = Shortage(lambda sentence: None)
    for planes, left in (
        (8, 4),
        (4, 2),
        (2, 1),
        (2, 1),
    ):  # a second thread may be at two when one is known to be the most
        assert shortage.smaller(CUDA, planes, 512, torch.device("cuda:0"))
        assert shortage.batch == left


def test_images_that_a_gpu_has_no_room_for_are_cropped_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    moves: list[torch.device] = []

    def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        moves.append(device)
        if device.type == "cuda" and len(moves) > 1:
            raise CUDA
        return tensor

    monkeypatch.setattr("napari_osvos.finetune.crops_on", lambda device: torch.device("cuda:0"))
    monkeypatch.setattr("napari_osvos.sampling.to_device", to_device)
    clip, _, truth = toy_clip()
    tuner = FineTuner(tiny_parent(), quick(steps=2), device="cpu", augment=VARIED)
    tuner.shortage = Shortage(told.append)
    tuner.fit(clip, Annotations.from_labels(truth[:2]))
    assert [device.type for device in moves[-4:]] == ["cpu"] * 4  # images and targets of both frames
    assert told == ["Memory ran short: crops of the annotated frames are cut on the CPU."]
