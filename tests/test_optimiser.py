"""Our AdamW takes the steps of torch's, and does without what makes torch's slow to start."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from napari_osvos.optimiser import AdamW


def _weights_after(kind: type, steps: int = 12) -> list[torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    untouched = nn.Parameter(torch.ones(3))
    optimiser = kind([*net.parameters(), untouched], lr=0.01, weight_decay=0.1)
    x = torch.randn(20, 5)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.01 / (step + 1)
        optimiser.zero_grad()
        net(x).square().mean().backward()
        optimiser.step()
    return [*(p.detach() for p in net.parameters()), untouched.detach()]


def test_it_takes_the_steps_of_torch() -> None:
    for ours, theirs in zip(_weights_after(AdamW), _weights_after(torch.optim.AdamW), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_loads_no_compiler() -> None:
    code = (
        "import sys, torch; from napari_osvos.optimiser import AdamW\n"
        "p = torch.nn.Parameter(torch.ones(2)); o = AdamW([p], 0.1); p.sum().backward(); o.step(); o.zero_grad()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
