"""The client of an engine process: what a panel or a script drives it with. No torch and no screen here."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping

from napari_osvos.worker.event_queue import EventQueue
from napari_osvos.worker.events import Cancelled, Event
from napari_osvos.worker.packing import Wishes
from napari_osvos.worker.request import Request
from napari_osvos.worker.serving import Run
from napari_osvos.worker.supervisor import Supervisor

GRACE = 0.5
"""Seconds that the engine has to end a run that was cancelled before it is killed."""
TURNS = 1_000_000
"""Wishes of one run that can be told from those of the next."""


class Engine:
    """An engine process and what it is doing.

    Thread-safe; no method blocks its caller for more than some milliseconds. One run at a time.

    Parameters
    ----------
    on_event : callable
        Called with every `events.Event`, in order, from one background thread. It may call the engine's methods.
    environment : mapping, optional
        Environment variables of the process, beside those of this one.
    """

    def __init__(self, on_event: Callable[[Event], None], *, environment: Mapping[str, str] | None = None) -> None:
        self._now = Supervisor(EventQueue(on_event), dict(environment or {}))
        self._runs = 0
        atexit.register(self._exit)

    # -- what the user wants ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the process if it is not alive; `EngineReady` comes when it is warm.

        Raises
        ------
        RuntimeError
            After `close`.
        OSError
            If there is no place for temporary files.
        """
        self._now.start()

    def run(self, request: Request) -> None:
        """Begin a run, as soon as the engine is ready; starts the process if it is not alive.

        Raises
        ------
        ValueError
            If a run is going on.
        RuntimeError, OSError
            As `start`.
        """
        with self._now.lock:
            if self._now.run is not None:
                raise ValueError("The engine is busy with a run; wait for its end or cancel it.")
            self._runs += 1
            wishes = Wishes(self._runs, self._runs * TURNS, request.frame_in_view, request.z_in_view)
            self._now.begin(Run(request, wishes))

    def calibrate(self, device: str = "auto", threads: int | None = None) -> None:
        """Have the speed measured on another device, or with another number of threads; `Calibrated` tells it.

        It is measured when the engine is ready and nothing else is wanted, and again after every start.
        """
        self._now.measure(device, threads)

    def view(self, frame: int, z: int = 0) -> None:
        """Say which frame (and slice) is on the screen: the preview moves there, filling goes on around it.

        Without a run, or for a frame that the movie does not have, nothing happens.
        """
        with self._now.lock:
            run = self._now.run
            if run is None or not (0 <= frame < run.request.clip.n_frames and 0 <= z < run.request.clip.depth):
                return
            if (run.wishes.frame, run.wishes.z) != (frame, z):
                run.wish(frame=int(frame), z=int(z))

    def pause(self) -> None:
        """Halt after the present step or plane, until `resume`; the preview still follows the view."""
        self._pause(True)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._pause(False)

    def stop_and_keep(self) -> None:
        """While learning: end it, keep the network and fill the movie. While filling: end it, keep the frames done."""
        with self._now.lock:
            run = self._now.run
            if run is not None and run.is_learning:
                run.wish(stop_learning=True, paused=False)
            elif run is not None:
                run.wish(stop_filling=True, paused=False)

    def cancel(self) -> None:
        """End the run; `Cancelled` comes within a second, and nothing of the run after it.

        The engine is asked first; if it has not ended the run after half a second it is killed, and another starts.
        """
        with self._now.lock:
            run = self._now.run
            if run is None or run.wishes.cancelled:
                return
            run.wish(cancelled=True)
            if not run.is_sent:
                self._now.end_run(Cancelled())
                return
        timer = threading.Timer(GRACE, self._now.end_by_force, (run, Cancelled()))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """End the process; nothing is told after that. Also called when Python exits. May be called again."""
        self._now.close()
        atexit.unregister(self._exit)

    def _exit(self) -> None:
        connection = self._now.close()
        if connection is not None:
            connection.wait(1.0)

    def _pause(self, paused: bool) -> None:
        with self._now.lock:
            run = self._now.run
            if run is not None and run.wishes.paused != paused:
                run.wish(paused=paused)

    # -- how it is -------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool:
        """Whether there is an engine process."""
        connection = self._now.connection
        return connection is not None and connection.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether `EngineReady` has come from the present process."""
        return self.is_alive and self._now.is_ready

    @property
    def is_busy(self) -> bool:
        """Whether a run is going on, or waits for the engine to be ready."""
        return self._now.run is not None

    @property
    def pid(self) -> int | None:
        """Process id of the engine; None while there is none."""
        connection = self._now.connection
        return None if connection is None else connection.pid
