"""Muon: orthogonal updates of convolutions, torch's AdamW for the rest, none of what makes torch's slow to start."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from napari_osvos.optimiser import Muon, orthogonalised


def _weights_after(kind: type, steps: int = 12) -> list[torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    untouched = nn.Parameter(torch.ones(3))
    optimiser = kind([*net.parameters(), untouched], lr=0.01, weight_decay=0.0)
    x = torch.randn(20, 5)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.01 / (step + 1)
        optimiser.zero_grad()
        net(x).square().mean().backward()
        optimiser.step()
    return [*(p.detach() for p in net.parameters()), untouched.detach()]


def test_what_is_no_convolution_takes_the_steps_of_torchs_adamw() -> None:
    for ours, theirs in zip(_weights_after(Muon), _weights_after(torch.optim.AdamW), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 12), (16, 90), (90, 16)])
def test_an_orthogonalised_matrix_keeps_its_singular_vectors(shape: tuple[int, int]) -> None:
    k = min(shape)
    left, right = (torch.linalg.qr(torch.randn(n, k, dtype=torch.float64))[0] for n in shape)
    values = torch.logspace(0, -1.5, k, dtype=torch.float64)
    x = (left * values) @ right.T
    inner = left.T @ orthogonalised([x.float()])[0].double() @ right
    assert inner.shape == (k, k)
    assert inner.diagonal().min() > 0.6
    assert inner.diagonal().max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 0.01


def test_a_convolution_moves_by_the_same_amount_however_large_its_gradient() -> None:
    moves = []
    for size in (1e-6, 1.0, 1e6):
        torch.manual_seed(0)
        p = nn.Parameter(torch.zeros(16, 8, 3, 3).contiguous(memory_format=torch.channels_last))
        p.grad = torch.randn(16, 8, 3, 3) * size
        Muon([p], lr=0.01, update_rms=0.4).step()
        moves.append(float(p.detach().square().mean().sqrt()))
    assert moves == pytest.approx([0.004] * 3, rel=0.15)


def test_weights_decay_by_the_learning_rate() -> None:
    p = nn.Parameter(torch.ones(8, 8, 3, 3))
    p.grad = torch.zeros(8, 8, 3, 3)
    Muon([p], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.full((8, 8, 3, 3), 0.95))


def test_it_goes_on_from_a_saved_state_bit_by_bit() -> None:
    def trained(stop: int | None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 1))
        net = net.to(memory_format=torch.channels_last)
        optimiser = Muon(net.parameters(), lr=0.01, weight_decay=0.1)
        x = torch.randn(4, 3, 8, 8)
        for step in range(8):
            if step == stop:
                state, optimiser = optimiser.state_dict(), Muon(net.parameters(), lr=0.5, weight_decay=0.1)
                optimiser.load_state_dict(state)
            optimiser.zero_grad()
            net(x).square().mean().backward()
            optimiser.step()
        return [p.detach() for p in net.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(trained(None), trained(4), strict=True))


def test_it_loads_no_compiler() -> None:
    code = (
        "import sys, torch; from napari_osvos.optimiser import Muon\n"
        "ps = [torch.nn.Parameter(torch.ones(n)) for n in ((2,), (8, 8, 3, 3))]; o = Muon(ps, 0.1)\n"
        "sum(p.sum() for p in ps).backward(); o.step(); o.zero_grad(); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_matrices_of_many_shapes_are_orthogonalised_as_each_by_itself() -> None:
    torch.manual_seed(0)
    matrices = [torch.randn(*shape) for shape in ((8, 27), (16, 72), (27, 8), (16, 16), (8, 90))]
    for together, alone in zip(orthogonalised(matrices), (orthogonalised([m])[0] for m in matrices), strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_layout_of_a_convolution_changes_nothing() -> None:
    def after(layout: torch.memory_format) -> torch.Tensor:
        torch.manual_seed(0)
        convolution = nn.Conv2d(12, 16, 3).to(memory_format=layout)
        optimiser = Muon(convolution.parameters(), lr=0.05, weight_decay=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            convolution(torch.randn(2, 12, 9, 9)).square().mean().backward()
            optimiser.step()
        return convolution.weight.detach()

    torch.testing.assert_close(after(torch.contiguous_format), after(torch.channels_last), rtol=1e-4, atol=1e-5)
