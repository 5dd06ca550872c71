"""CUDA graphs: the same losses and gradients with and without; on machines without such a GPU the plain way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_clip import quick, tiny_parent, toy_clip

from napari_osvos.device import crops_on, to_device
from napari_osvos.finetune import FineTuner
from napari_osvos.graphs import WARM_UP, GraphedLoss, records_graphs

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")


def _loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    return (logits[:, 0] - batch["mask"]).square().mean()


def _batches(device: torch.device, count: int, size: int = 16) -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    return [
        {"x": torch.randn(2, 3, size, size, device=device), "mask": torch.rand(2, size, size, device=device)}
        for _ in range(count)
    ]


def _gradients(device: torch.device, graphs: bool, monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    monkeypatch.setenv("NAPARI_OSVOS_CUDA_GRAPHS", "1" if graphs else "0")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)).to(device)
    graphed, found = GraphedLoss(net, _loss), []
    for batch in [*_batches(device, 8), *_batches(device, 1, 24)]:  # the last is of another shape
        net.zero_grad(set_to_none=True)
        loss = graphed(batch)
        loss.backward()
        found.append([loss.detach().cpu(), *(p.grad.cpu().clone() for p in net.parameters() if p.grad is not None)])
    assert graphed.is_recorded == (graphs and device.type == "cuda")
    return found


def test_without_a_gpu_every_batch_is_computed_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Conv2d(3, 1, 1)
    graphed = GraphedLoss(net, _loss)
    monkeypatch.setenv("NAPARI_OSVOS_CUDA_GRAPHS", "1")
    for batch in _batches(CPU, WARM_UP + 3):
        assert graphed(batch).item() == _loss(net(batch["x"]), batch).item()
    assert not graphed.is_recorded


def test_graphs_are_recorded_where_that_is_asked_for_and_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = {kind: torch.device(kind) for kind in ("cuda", "mps", "cpu")}
    monkeypatch.delenv("NAPARI_OSVOS_CUDA_GRAPHS", raising=False)
    assert not records_graphs(devices["cuda"])
    monkeypatch.setenv("NAPARI_OSVOS_CUDA_GRAPHS", "1")
    assert [kind for kind, device in devices.items() if records_graphs(device)] == ["cuda"]


def test_a_recording_that_fails_leaves_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be recorded must not end a run; here it is torch without CUDA that refuses."""
    attempts = []

    def refuse(*given: object, **how: object) -> None:
        attempts.append(given)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("napari_osvos.graphs.records_graphs", lambda device: True)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    net = nn.Conv2d(3, 1, 1)
    graphed = GraphedLoss(net, _loss)
    for batch in _batches(CPU, WARM_UP + 3):
        assert graphed(batch).item() == _loss(net(batch["x"]), batch).item()
    assert len(attempts) == 1


def test_only_single_passes_of_the_recorded_shape_use_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of a graph lie where its next launch writes: passes that are added up must not use it."""
    launches = []

    def record(whole: nn.Module, samples: tuple[Tensor, ...], **how: object) -> object:
        return lambda *tensors: launches.append(tensors) or whole(*tensors)

    monkeypatch.setattr("napari_osvos.graphs.records_graphs", lambda device: True)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    net = nn.Conv2d(3, 1, 1)
    graphed = GraphedLoss(net, _loss)
    for batch in _batches(CPU, WARM_UP + 2):
        assert graphed(batch).item() == _loss(net(batch["x"]), batch).item()
    assert len(launches) == 2
    graphed(_batches(CPU, 1)[0], passes=2)
    graphed(_batches(CPU, 1, 24)[0])
    assert len(launches) == 2


def test_crops_are_made_beside_the_network_on_cuda_and_otherwise_on_the_cpu() -> None:
    assert crops_on(torch.device("cuda:1")) == torch.device("cuda:1")
    assert crops_on(torch.device("mps")) == CPU
    assert crops_on(CPU) == CPU
    tensor = torch.arange(4)
    assert to_device(tensor, CPU) is tensor


@needs_cuda
def test_a_graph_gives_the_losses_and_gradients_of_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    with_graph, without = (_gradients(cuda, graphs, monkeypatch) for graphs in (True, False))
    torch.testing.assert_close(with_graph, without, rtol=1e-4, atol=1e-6)


@needs_cuda
def test_fine_tuning_on_cuda_learns_what_it_learns_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, annotations, truth = toy_clip()
    for graphs in ("1", "0"):
        monkeypatch.setenv("NAPARI_OSVOS_CUDA_GRAPHS", graphs)
        labels = {}
        for device, precision in (("cpu", "float32"), ("cuda", "bfloat16")):
            monkeypatch.setenv("NAPARI_OSVOS_PRECISION", precision)
            tuner = FineTuner(tiny_parent(), quick(), device=device)
            labels[device] = tuner.fit(clip, annotations).predict(clip) > 0
        differ = np.count_nonzero(labels["cpu"] != labels["cuda"])
        assert differ <= 0.05 * np.count_nonzero(truth)  # other noise, other sums: the same objects
