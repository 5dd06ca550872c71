"""The only optimisation loop: parents are trained and movies are fine-tuned by it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_osvos.optimiser import Optimiser


@dataclass(frozen=True)
class TrainingStep:
    """One update of the weights.

    Attributes
    ----------
    step, steps : int
        Updates done, and planned. With a time limit, ``steps`` is the current estimate.
    loss : float
        Of this update's crops, before the update.
    learning_rate : float
        Of the first parameter group.
    seconds : float
        Since the loop began.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float

    @property
    def seconds_left(self) -> float:
        """Estimated seconds until the last update."""
        return self.seconds / max(self.step, 1) * max(self.steps - self.step, 0)


class WeightAverage:
    """Exponential moving average of a network's weights.

    The decay grows from 0 as (1 + n) / (10 + n) up to `decay`, so that a short run is not
    dominated by where it began.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take the current weights in."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = net.state_dict()
        floats = [name for name, value in current.items() if value.dtype.is_floating_point]
        torch._foreach_lerp_([self.average[n] for n in floats], [current[n] for n in floats], 1 - decay)
        for name in current.keys() - floats:  # counters of BatchNorm
            self.average[name].copy_(current[name])


def cosine(progress: float, warm_up: float = 0.0, floor: float = 0.01) -> float:
    """Return the factor on the learning rate at `progress` in [0, 1]: linear rise, cosine fall."""
    if progress < warm_up:
        return max(progress / warm_up, floor)
    fall = (progress - warm_up) / max(1 - warm_up, 1e-9)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


def training_steps(
    net: nn.Module,
    loss_of_step: Callable[[int, float], Tensor],
    optimiser: Optimiser,
    steps: int,
    *,
    first_step: int = 0,
    seconds: float | None = None,
    schedule: Callable[[float], float] = cosine,
    average: WeightAverage | None = None,
    autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    clip_norm: float | None = None,
    passes: int = 1,
) -> Iterator[TrainingStep]:
    """Update the weights of `net`, one step at a time.

    Parameters
    ----------
    net : Module
        Trained in place.
    loss_of_step : callable
        Takes the number of the pass, which is that of the step where each has one, and the progress in [0, 1]; returns
        a scalar loss.
    optimiser : Optimiser
        Its learning rates at the call are the base on which `schedule` acts.
    steps, first_step : int
        Updates in all, and those done before (when a run is resumed).
    seconds : float, optional
        End after so many seconds instead; the schedule follows the time.
    schedule : callable
        Factor on the learning rate at a progress in [0, 1].
    average : WeightAverage, optional
        Updated after each step.
    autocast : callable
        Returns the context in which the loss is computed.
    clip_norm : float, optional
        Largest norm of the gradient.
    passes : int
        Passes whose mean loss makes one update; the memory of one suffices for all.

    Yields
    ------
    TrainingStep

    Raises
    ------
    FloatingPointError
        If the loss is not finite, or the gradient where it is clipped; the weights are those before the step.
    """
    base = [group.setdefault("base_lr", group["lr"]) for group in optimiser.param_groups]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    began = time.perf_counter()
    step = first_step
    while True:
        elapsed = time.perf_counter() - began if step > first_step else 0.0  # a first step there is in any time
        progress = step / steps if seconds is None else min(elapsed / seconds, 1.0)
        if progress >= 1.0:
            return
        factor = schedule(progress)
        for group, rate in zip(optimiser.param_groups, base, strict=True):
            group["lr"] = rate * factor
        optimiser.zero_grad(set_to_none=True)
        value = 0.0
        for i in range(passes):
            with autocast():
                loss = loss_of_step(step * passes + i, progress) / passes
            value += float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(f"The loss at step {step} is {value}; training cannot go on from here.")
            loss.backward()
        if clip_norm is not None:
            norm = float(nn.utils.clip_grad_norm_(parameters, clip_norm))
            if not math.isfinite(norm):
                raise FloatingPointError(f"The gradient at step {step} is {norm}; training cannot go on from here.")
        optimiser.step()
        if average is not None:
            average.update(net)
        step += 1
        elapsed = time.perf_counter() - began
        planned = steps if seconds is None else max(step, round(step * seconds / max(elapsed, 1e-9)))
        yield TrainingStep(step, planned, value, optimiser.param_groups[0]["lr"], elapsed)
