"""AdamW as a bare call of torch's fused kernel, ready at once.

The first step of any optimiser of `torch.optim` imports torch's compiler, which nothing here uses: 2.6 s on two
cores, and 10 s where Python may not write bytecode, half the time of a ``fast`` fine-tuning. The kernel is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Optimiser(Protocol):
    """What the training loop asks of an optimiser; those of `torch.optim` have it, too."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Update the weights once."""


class AdamW:
    """Adam with decoupled weight decay.

    Parameters
    ----------
    parameters : iterable of Parameter
        What to update; parameters without a gradient are left alone.
    lr : float
        Learning rate.
    weight_decay : float
        Share of each weight, times the learning rate, that is taken off in each step.
    betas : tuple of float
        Decay of the means of gradient and squared gradient.
    eps : float
        Added to the denominator.

    References
    ----------
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters), "lr": lr}]
        self.weight_decay, self.betas, self.eps = weight_decay, betas, eps
        self._state: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights once."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if p not in self._state:
                    none = torch.zeros((), dtype=torch.float32, device=p.device)
                    self._state[p] = (torch.zeros_like(p), torch.zeros_like(p), none)
            means, squares, steps = ([self._state[p][i] for p in parameters] for i in range(3))
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                parameters,
                [p.grad for p in parameters],
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=self.weight_decay,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )
