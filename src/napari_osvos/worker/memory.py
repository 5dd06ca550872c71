"""Out of memory: how torch says so, and what can be done."""

from __future__ import annotations

import gc

import torch

from napari_osvos.config import PredictConfig

OUT_OF_MEMORY = (torch.OutOfMemoryError, RuntimeError, MemoryError)
"""What is raised; a RuntimeError may be something else, see `is_out_of_memory`."""
SMALLEST_TILE = 256


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on the GPU or the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "not enough memory" in words)


def smaller_tile(error: BaseException, config: PredictConfig) -> PredictConfig | None:
    """Return settings for another try with tiles of half the edge; None where they are as small as is sensible.

    Raises
    ------
    RuntimeError
        The error itself, if it is about something else.
    """
    if not is_out_of_memory(error):
        raise error
    return config.replace(tile=config.tile // 2) if config.tile // 2 >= SMALLEST_TILE else None


def free_memory() -> None:
    """Give the memory that torch keeps for later back to the GPU."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
