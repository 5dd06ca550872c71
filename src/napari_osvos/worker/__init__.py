"""The engine: a process of its own that learns and predicts, and the client that a panel or a script drives it with.

The client side (`client`, `events`, `request`, `calibration`) knows neither torch nor a screen.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import Calibration, estimated_seconds
    from .client import Engine
    from .request import Request

__all__ = ["Calibration", "Engine", "Request", "estimated_seconds"]

_HOMES = {
    "Calibration": "calibration",
    "Engine": "client",
    "Request": "request",
    "estimated_seconds": "calibration",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use: the engine process has no need of its client."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
