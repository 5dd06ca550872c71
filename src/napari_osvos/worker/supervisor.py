"""Which engine process there is, which run it does, and what becomes of the run when either ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from napari_osvos.worker.connection import Connection
from napari_osvos.worker.event_queue import EventQueue
from napari_osvos.worker.events import Calibrated, Cancelled, EngineDied, EngineReady, Event, Failed
from napari_osvos.worker.packing import unpack_event
from napari_osvos.worker.serving import Run

PRECISION = "NAPARI_OSVOS_PRECISION"
LAST_EVENTS = ("Finished", "Failed", "Cancelled")


class Supervisor:
    """Starts engine processes, hands them the run, and hears what they say.

    Parameters
    ----------
    events : EventQueue
        Takes what the user is to know.
    environment : mapping
        Environment variables of the process.

    Attributes
    ----------
    lock : RLock
        Held while anything here changes.
    connection : Connection or None
        The present process.
    run : Run or None
        The present run; it may wait for the process to be ready.
    is_ready : bool
        Whether the present process has said so.
    log : list of str
        Standard error of the process that ended last.
    """

    def __init__(self, events: EventQueue, environment: Mapping[str, str]) -> None:
        self.lock = threading.RLock()
        self.connection: Connection | None = None
        self.run: Run | None = None
        self.is_ready = False
        self.log: list[str] = []
        self._events, self._environment = events, environment
        self._kept: dict[str, str] = {}  # what the next process is to have of the first
        self._machine: tuple[str, int | None] = ("auto", None)  # device and threads whose speed is wanted
        self._measured: tuple[str, int | None] | None = None
        self._is_measuring = self._is_closed = False

    def start(self) -> None:
        """Start a process if there is none; see `client.Engine.start`."""
        with self.lock:
            if self._is_closed:
                raise RuntimeError("The engine is closed.")
            if self.connection is not None and not self.connection.is_alive:
                self._note_end(self.connection)  # which is about to be called anyhow
            if self.connection is None:
                kept = {} if PRECISION in os.environ else self._kept
                self.connection = Connection({**kept, **self._environment}, self._hear, self._note_end)
                self.connection.send("engine.report_ready(task)", on_main_thread=True)

    def begin(self, run: Run) -> None:
        """Do a run, once the process is ready."""
        with self.lock:
            self.start()
            self.run = run
            self._serve()

    def measure(self, device: str, threads: int | None) -> None:
        """Have the speed measured as soon as nothing else is wanted; see `client.Engine.calibrate`."""
        with self.lock:
            self._machine = (device, threads)
            self._calibrate()

    def end_run(self, event: Event | Mapping[str, Any]) -> None:
        """Let go of the run; `event` is the last of it."""
        with self.lock:
            run, self.run = self.run, None
            if run is not None:
                run.end()
                self._events.put(event)
            self._is_measuring = False  # the run has ended it
            self._calibrate()

    def end_by_force(self, run: Run, event: Event) -> None:
        """Kill the process if the run is still there, and start another."""
        with self.lock:
            if self.run is run and self.connection is not None:
                self._drop().kill()
                self.end_run(event)
                self._start_again()

    def close(self) -> Connection | None:
        """End all; return the process that is about to end."""
        with self.lock:
            self._is_closed = True
            self._events.close()
            if self.run is not None:
                self.run.end()
                self.run = None
            if self.connection is None:
                return None
            connection = self._drop()
            connection.kill()
            return connection

    def _drop(self) -> Connection:
        connection, self.connection, self.is_ready = self.connection, None, False
        assert connection is not None
        self._measured, self._is_measuring = None, False
        self.log = connection.error_lines
        return connection

    def _start_again(self) -> None:
        if not self._is_closed:
            with contextlib.suppress(OSError):  # said by the next start
                self.start()

    def _serve(self) -> None:
        if self.connection is None or not self.is_ready:
            return
        if self.run is None:
            self._calibrate()
        elif not self.run.is_sent:
            self.run.serve(self.connection, self._note_failure)

    def _calibrate(self) -> None:
        if not self.is_ready or self.connection is None or self.run is not None or self._is_measuring:
            return
        if self._measured != self._machine:
            self._is_measuring = True
            device, threads = self._machine
            inputs = {"device": device, "threads": threads}
            self.connection.send("engine.calibrate(task, device, threads)", inputs, on_main_thread=True)

    # -- called from other threads ---------------------------------------------------------------

    def _hear(self, connection: Connection, message: Mapping[str, Any]) -> None:
        with self.lock:
            if connection is not self.connection:
                return
            if "broken" in message:
                self._note_broken(message["broken"], message["script"])
            elif message["run"] == 0:
                self._hear_of_engine(unpack_event(message), time.perf_counter() - connection.began)
            elif self.run is not None and message["run"] == self.run.number:
                self._hear_of(self.run, message)

    def _hear_of_engine(self, event: Event, seconds: float) -> None:
        if isinstance(event, EngineReady):
            event = dataclasses.replace(event, start_seconds=seconds)
            if event.precision:  # on a busy machine another process may measure otherwise, and its labels would differ
                self._kept = {PRECISION: event.precision}
            self.is_ready = True
        elif isinstance(event, Calibrated):
            self._measured, self._is_measuring = (event.device, event.threads), False
            if self._measured != self._machine:  # another is wanted by now
                self._calibrate()
                return
        self._events.put(event)
        if isinstance(event, EngineReady):
            self._serve()

    def _hear_of(self, run: Run, message: Mapping[str, Any]) -> None:
        if "want" in message:
            run.want(message["want"])
        elif message["event"] in LAST_EVENTS:
            self.end_run(Cancelled() if run.wishes.cancelled else message)
        else:
            if message["event"] == "TrainingDone":
                run.is_learning = False
            self._events.put(message, lambda: not run.wishes.cancelled)

    def _note_failure(self, run: Run, event: Failed) -> None:
        """A run could not be handed over."""
        with self.lock:
            if self.run is run:
                self.end_run(Cancelled() if run.wishes.cancelled else event)

    def _note_broken(self, details: str, script: str) -> None:
        """A task failed in a way that the engine itself had no words for: it is not to be trusted any more."""
        if "calibrate" in script:  # a device that is not there: a run will say so
            self._measured, self._is_measuring = self._machine, False
            return
        last_line = (details.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
        was_ready, run = self.is_ready, self.run
        self._drop().kill()
        if not was_ready:
            if run is not None:
                run.end()
                self.run = None
            self._events.put(EngineDied(f"The engine could not start: {last_line}.", details))
            return
        if run is not None:
            self.end_run(Failed(f"The engine met an error that was not foreseen: {last_line}.", details))
        self._start_again()

    def _note_end(self, connection: Connection) -> None:
        """A process has ended; if it is the present one, nobody wanted that."""
        with self.lock:
            if connection is not self.connection:
                return
            self._drop()
            run = self.run
            if run is not None and run.wishes.cancelled:
                self.end_run(Cancelled())
                self._start_again()
                return
            if run is not None:
                run.end()
                self.run = None
            self._events.put(EngineDied(connection.ending, "\n".join(self.log)))
