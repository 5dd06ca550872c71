"""The optimiser: orthogonalised momentum (Muon) for convolutions, AdamW for the rest; both ready at once.

A movie has to be learned in seconds. Muon gives every direction of a weight matrix a step of one length, where Adam
goes far along a few: with it 280 updates learn what takes AdamW 1000.

The first step of any optimiser of `torch.optim` imports torch's compiler, which nothing here uses: 2.6 s on two
cores, and 10 s where Python may not write bytecode, half the time of a ``fast`` fine-tuning. So AdamW is a bare call
of torch's fused kernel here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

# Coefficients of the Newton-Schulz iteration X -> a X + (b A + c A A) X, A = X X^T, which takes singular values in
# (0, 1] to near 1, and their number of times (Jordan et al., see `Muon`).
_NEWTON_SCHULZ, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5


class Optimiser(Protocol):
    """What the training loop asks of an optimiser; those of `torch.optim` have it, too."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Update the weights once."""


class Muon:
    """Momentum orthogonalised by Newton-Schulz for convolutions of some width, AdamW for all other parameters.

    Parameters
    ----------
    parameters : iterable of Parameter
        What to update; parameters without a gradient are left alone.
    lr : float
        Learning rate, of both.
    weight_decay : float
        Share of each weight of the convolutions, times the learning rate, that is taken off in each step.
    momentum : float
        Decay of the mean of the gradient of convolutions (Nesterov).
    betas : tuple of float
        Decay of the means of gradient and squared gradient of the others.
    eps : float
        Added to AdamW's denominator.
    update_rms : float
        Root mean square of an update of convolutions, in learning rates. That of Adam is 0.2 to 0.4.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is scalable for
    LLM training", 2025 (the scale of an update); Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR
    2019.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        *,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        update_rms: float = 0.4,
    ) -> None:
        parameters = list(parameters)
        matrices = [p for p in parameters if _is_matrix(p)]
        others = [p for p in parameters if not _is_matrix(p)]
        self.param_groups: list[dict[str, Any]] = [{"params": matrices, "lr": lr}, {"params": others, "lr": lr}]
        self.weight_decay, self.momentum, self.betas, self.eps = weight_decay, momentum, betas, eps
        self.update_rms = update_rms
        self._state: dict[nn.Parameter, dict[str, Tensor]] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights once."""
        matrices, others = self.param_groups
        self._orthogonal_step([p for p in matrices["params"] if p.grad is not None], matrices["lr"])
        self._adam_step([p for p in others["params"] if p.grad is not None], others["lr"])

    def _orthogonal_step(self, parameters: list[nn.Parameter], lr: float) -> None:
        if not parameters:
            return
        means = [self._state.setdefault(p, {}).setdefault("mean", torch.zeros_like(p)) for p in parameters]
        gradients = [cast(Tensor, p.grad) for p in parameters]
        torch._foreach_lerp_(means, gradients, 1 - self.momentum)
        # The order of a matrix' columns is of no account: that of channels_last needs no copies.
        directions = [d.permute(0, 2, 3, 1) for d in torch._foreach_lerp(gradients, means, self.momentum)]
        updates = orthogonalised([d.flatten(1).float() for d in directions])
        torch._foreach_mul_(cast(list[Tensor], parameters), 1 - lr * self.weight_decay)
        for p, direction, update in zip(parameters, directions, updates, strict=True):
            # An orthogonal (m, n) matrix has mean square 1 / max(m, n).
            scale = self.update_rms * max(update.shape) ** 0.5
            p.add_(update.reshape(direction.shape).permute(0, 3, 1, 2).to(p.dtype), alpha=-lr * scale)

    def _adam_step(self, parameters: list[nn.Parameter], lr: float) -> None:
        for p in parameters:
            if p not in self._state:
                none = torch.zeros((), dtype=torch.float32, device=p.device)
                self._state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), "step": none}
        states = [self._state[p] for p in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]
        steps = [state["step"] for state in states]
        if parameters:
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                cast(list[Tensor], parameters),
                gradients,
                [state["mean"] for state in states],
                [state["square"] for state in states],
                [],
                steps,
                lr=lr,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=0.0,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state in the form that optimisers of `torch.optim` give it: by position of the parameter."""
        groups: list[dict[str, Any]] = []
        positions: dict[nn.Parameter, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                positions[p] = len(positions)
            groups.append({**group, "params": [positions[p] for p in group["params"]]})
        return {"state": {positions[p]: dict(state) for p, state in self._state.items()}, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group |= {key: value for key, value in saved.items() if key != "params"}
        self._state = {}
        for position, tensors in state["state"].items():
            p = parameters[int(position)]
            self._state[p] = {
                name: value.to(p.device) if value.ndim == 0 else value.to(p.device).reshape(p.shape).clone()
                for name, value in tensors.items()
            }


def _is_matrix(p: Tensor) -> bool:
    """Whether a parameter is a convolution wide enough for its update to be worth orthogonalising."""
    return p.ndim == 4 and min(p.shape[0], p[0].numel()) >= 8


def orthogonalised(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return matrices with about the same singular vectors and all singular values about 1.

    Parameters
    ----------
    matrices : sequence of (m, n) Tensor
        Of any shapes.

    Returns
    -------
    list of (m, n) Tensor
        Singular values in 0.7 to 1.2, unless they were below some 0.001 of the norm of the matrix.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = _NEWTON_SCHULZ
    wide = [x.T if x.shape[0] > x.shape[1] else x for x in matrices]
    wide = [x / (x.norm() + 1e-12) for x in wide]
    alike: dict[int, list[int]] = {}
    for i, x in enumerate(wide):
        alike.setdefault(x.shape[0], []).append(i)
    orthogonal = list(wide)
    for places in alike.values():
        # Each iteration is X -> p(A) X with A = X X^T, so the square matrices may be iterated alone and X be
        # multiplied once, at the end: convolutions have many more columns than rows. Those of one size go together:
        # a GPU has fewer kernels to launch.
        square = torch.stack([wide[i] @ wide[i].T for i in places])
        product: Tensor | None = None
        for k in range(_ITERATIONS):
            polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
            polynomial.diagonal(dim1=1, dim2=2).add_(a)
            product = polynomial if product is None else polynomial @ product
            if k < _ITERATIONS - 1:
                square = polynomial @ square @ polynomial
        assert product is not None
        for i, left in zip(places, product, strict=True):
            orthogonal[i] = left @ wide[i]
    return [x.T if m.shape[0] > m.shape[1] else x for x, m in zip(orthogonal, matrices, strict=True)]
