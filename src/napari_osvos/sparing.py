"""Updates of the weights where memory is short: of smaller batches, then on the CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch

from napari_osvos.memory import OUT_OF_MEMORY, Shortage, free_memory, is_out_of_memory
from napari_osvos.training import TrainingStep


class Batches:
    """How the crops of an update are divided, and where they are learned from.

    Parameters
    ----------
    crops : int
        In each update.
    device : torch.device
        Where to begin.
    shortage : Shortage
        Tells.
    to_cpu : callable
        Takes network, averages and optimiser to the CPU.

    Attributes
    ----------
    passes : int
        Batches whose gradients make one update.
    """

    def __init__(
        self, crops: int, device: torch.device, shortage: Shortage, to_cpu: Callable[[], None] = lambda: None
    ) -> None:
        self.crops, self.device, self.shortage, self._to_cpu = crops, device, shortage, to_cpu
        self.passes = 1

    @property
    def size(self) -> int:
        """Crops in a batch."""
        return -(-self.crops // self.passes)

    def updates(self, begin: Callable[[int, float], Iterator[TrainingStep]]) -> Iterator[TrainingStep]:
        """Yield updates; after one that ran out of memory, go on from the last that did not.

        Parameters
        ----------
        begin : callable
            Takes the updates done and the seconds spent, returns those to come.

        Raises
        ------
        torch.OutOfMemoryError, MemoryError, RuntimeError
            If even a single crop does not fit into the memory of the computer.
        """
        done, spent = 0, 0.0
        while True:
            before = spent
            try:
                for step in begin(done, before):
                    done, spent = step.step, before + step.seconds
                    yield dataclasses.replace(step, seconds=spent)
                return
            except OUT_OF_MEMORY as error:
                if not is_out_of_memory(error):
                    raise
                if self.size > 1:
                    self.passes *= 2
                    self.shortage.say("batch", "Memory ran short: learning from fewer crops at a time.")
                else:
                    self.shortage.to_cpu(error, self.device)
                    self.device, self.passes = torch.device("cpu"), 1
                    self._to_cpu()
            free_memory()  # only here is the error gone, and with it what it kept alive
