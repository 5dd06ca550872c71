"""Sentences from other threads, as long as there is a panel to say them."""

from __future__ import annotations

import contextlib
from typing import Any


class Sentences:
    """Passes sentences on to a signal, from any thread; call it with one.

    Parameters
    ----------
    signal : Signal
        Of a single text.
    """

    def __init__(self, signal: Any) -> None:
        self._signal = signal

    def __call__(self, sentence: str) -> None:
        """Say it."""
        signal = self._signal
        if signal is not None:
            with contextlib.suppress(RuntimeError):  # the panel was closed meanwhile
                signal.emit(sentence)

    def end(self) -> None:
        """Say nothing more: Qt destroys what the signal is of, and to emit it then would end the process."""
        self._signal = None
