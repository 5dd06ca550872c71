"""What the user wants of the present run, looked up between steps, frames and planes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from napari_osvos.worker.packing import Wishes


class RunCancelled(Exception):
    """The user has cancelled the run."""


class FillingStopped(Exception):
    """The user has stopped the filling and keeps the frames done."""


class Controls:
    """The latest `Wishes`, told by one thread and followed by another."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.wishes = Wishes()

    def update(self, wishes: Wishes) -> None:
        """Take in wishes, unless later ones have come already."""
        with self.changed:
            if wishes.turn > self.wishes.turn:
                self.wishes = wishes
                self.changed.notify_all()

    def wait_until(self, reached: Callable[[], bool], poll: float | None = None) -> None:
        """Wait; `changed` is notified when a look is worth while, else look every `poll` seconds.

        Raises
        ------
        RunCancelled, FillingStopped
            If the user wants that while it waits, or did before.
        """
        with self.changed:
            while True:
                self.check()
                if reached():
                    return
                self.changed.wait(poll)

    def check(self) -> None:
        """Raise what `wait_until` raises, at once."""
        if self.wishes.cancelled:
            raise RunCancelled
        if self.wishes.stop_filling:
            raise FillingStopped

    def wait_while_paused(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Return when the run is not paused; `meanwhile` is called after every change of the wishes.

        Raises
        ------
        RunCancelled, FillingStopped
            As `wait_until`.
        """
        while True:
            with self.changed:
                self.check()
                wishes = self.wishes
            if not wishes.paused or wishes.stop_learning:
                return
            if meanwhile is not None:
                meanwhile()
            self.wait_until(lambda seen=wishes: self.wishes is not seen, 0.2)  # type: ignore[misc]


def nearest_frame(left: Collection[int], view: int) -> int:
    """Return the frame that is next: the nearest to the one in view, the later of two."""
    return min(left, key=lambda t: (abs(t - view), t < view))
