"""CUDA graphs: what is done again and again with tensors of one shape is recorded once, and launched as a whole.

The compact network is so small that a GPU waits for the CPU to launch its kernels. Graphs are recorded where the
environment variable NAPARI_OSVOS_CUDA_GRAPHS is ``1``; otherwise the same functions are called as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from napari_osvos.device import without_cache

WARM_UP = 3
"""Plain calls before a recording: libraries choose their kernels in them."""


def records_graphs(device: torch.device) -> bool:
    """Return whether graphs are recorded on this device."""
    return device.type == "cuda" and os.environ.get("NAPARI_OSVOS_CUDA_GRAPHS") == "1"


class GraphedLoss:
    """The loss of a network on batches; on a CUDA GPU its forward and backward pass become graphs.

    Parameters
    ----------
    net : Module
        Whose weights stay where they are: an optimiser changes them in place.
    loss : callable
        Takes logits and the tensors of a batch by name, returns a scalar.
    """

    def __init__(self, net: nn.Module, loss: Callable[[Tensor, Mapping[str, Tensor]], Tensor]) -> None:
        self._net, self._loss = net, loss
        self._shapes: dict[str, torch.Size] = {}
        self._calls = 0
        self._graph: Callable[..., Tensor] | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether there is a graph."""
        return self._graph is not None

    def __call__(self, batch: Mapping[str, Tensor], passes: int = 1) -> Tensor:
        """Return the loss of a batch.

        The first few batches, and those that differ from the recorded one in shape or device, are computed plainly.

        Parameters
        ----------
        batch : mapping of str to Tensor
            With the input of the network as ``x``.
        passes : int
            Batches whose gradients are added up. Those of a graph lie where its next launch writes, so more than one
            pass is computed plainly.
        """
        if records_graphs(batch["x"].device) and passes == 1:
            shapes = {name: part.shape for name, part in batch.items()}
            if self._calls == WARM_UP:
                self._record(batch)
                self._shapes = shapes
            self._calls += 1
            if self._graph is not None and shapes == self._shapes:
                with without_cache("cuda"):
                    return self._graph(*batch.values())
        return self._loss(self._net(batch["x"]), batch)

    def _record(self, batch: Mapping[str, Tensor]) -> None:
        """Record both passes; where that fails, all goes on without."""
        whole = _Whole(self._net, self._loss, tuple(batch))
        samples = tuple(part.clone() for part in batch.values())
        try:
            with torch.cuda.device_of(batch["x"]), without_cache("cuda"):  # it records what its own stream gets
                recorded = torch.cuda.make_graphed_callables(whole, samples, allow_unused_input=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # an operation that cannot be recorded, or another thread that uses the GPU meanwhile
            return
        self._graph = cast(Callable[..., Tensor], recorded)


class _Whole(nn.Module):
    """Network and loss as one, from tensors in a fixed order."""

    def __init__(
        self, net: nn.Module, loss: Callable[[Tensor, Mapping[str, Tensor]], Tensor], names: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.net, self.loss, self.names = net, loss, names

    def forward(self, *tensors: Tensor) -> Tensor:
        batch = dict(zip(self.names, tensors, strict=True))
        return self.loss(self.net(batch["x"]), batch)
