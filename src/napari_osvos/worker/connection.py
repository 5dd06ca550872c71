"""One engine process as its client sees it: started, told things, heard, killed."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from appose.service import ResponseType, Service, TaskEvent

from napari_osvos.worker.mailbox import Mailbox

SPINS = 30_000
"""Turns for which a thread of torch that waits for another keeps its core before it sleeps, some 0.1 ms.

Where others want the cores, spinning for long costs all of them dear; where nobody does, sleeping at once does.
"""
WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
"""Environment variables by which a user decides that."""
LAST_LINES = 40
"""Lines of the standard error that are worth showing."""


class Connection:
    """An engine process, from its start to its end.

    Everything that can block is done in threads of its own. They are daemons, and so are those of Appose, as they are
    started from one: a Python that exits without closing the engine does not wait for them.

    Parameters
    ----------
    environment : mapping
        Environment variables beside those of this process.
    heard : callable
        Takes this connection and each message of the engine, in order, from one thread.
    ended : callable
        Takes this connection after the last message, once the process is gone, however it ended.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        heard: Callable[[Connection, Mapping[str, Any]], None],
        ended: Callable[[Connection], None],
    ) -> None:
        self.mailbox = Mailbox.create()
        self.began = time.perf_counter()
        self._heard, self._ended = heard, ended
        self._killed = threading.Event()
        self._outbox: queue.SimpleQueue[tuple[str, dict[str, Any], str | None] | None] = queue.SimpleQueue()
        self._exit: int | str | None = None
        # The paths of this process: it may have been started from a folder, or a script may have added some.
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        command = (sys.executable, "-P", "-m", "napari_osvos.worker", str(os.getpid()), *map(str, self.mailbox.folders))
        waiting = {} if WAITING & os.environ.keys() else {"GOMP_SPINCOUNT": str(SPINS)}
        self._service = Service(".", {**waiting, **environment, "PYTHONPATH": paths}, *command)
        self._thread = threading.Thread(target=self._live, name="napari-osvos engine", daemon=True)
        self._thread.start()

    def send(self, script: str, inputs: dict[str, Any] | None = None, *, on_main_thread: bool = False) -> None:
        """Have the engine execute a script; returns at once."""
        self._outbox.put((script, inputs or {}, "main" if on_main_thread else None))

    def kill(self) -> None:
        """End the process at once, whatever it does; `ended` is called when it is gone."""
        self._killed.set()
        self._outbox.put(None)
        if self._service.is_alive():
            with contextlib.suppress(OSError):
                self._service.kill()
        self.mailbox.remove()

    def wait(self, seconds: float) -> None:
        """Wait until the process is gone and nothing of it is left."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, or is about to."""
        return self._thread.is_alive() and not self._killed.is_set() and self._exit is None

    @property
    def pid(self) -> int | None:
        """Process id, once there is one."""
        process = self._service._process  # Appose has no public name for it
        return None if process is None else process.pid

    @property
    def error_lines(self) -> list[str]:
        """The last lines of the standard error."""
        return list(self._service.error_lines()[-LAST_LINES:])

    @property
    def ending(self) -> str:
        """One sentence that says how the process ended."""
        code = self._exit
        if isinstance(code, str):
            return f"The engine could not be started: {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                likely = "; the computer has probably run out of memory" if name == "SIGKILL" else ""
                return f"The engine was ended by the signal {name}{likely}."
        lines = [line for line in self.error_lines if line.strip()]
        last = f": {lines[-1].strip()}" if lines else ""
        return f"The engine has ended unexpectedly with exit code {code}{last}".rstrip(".") + "."

    def _live(self) -> None:
        try:
            self._service.start()
        except OSError as error:
            self._exit = str(error)
        else:
            threading.Thread(target=self._send_all, name="napari-osvos sender", daemon=True).start()
            if self._killed.is_set():
                self._service.kill()
            self._exit = self._service.wait_for()  # and until all that it said is heard
            self._close_pipes()
        self._outbox.put(None)
        self.mailbox.remove()
        self._ended(self)

    def _close_pipes(self) -> None:
        process = self._service._process
        for pipe in (process.stdin, process.stdout, process.stderr) if process is not None else ():
            with contextlib.suppress(OSError):  # what was still to be sent
                pipe.close()

    def _send_all(self) -> None:
        while (message := self._outbox.get()) is not None:
            script, inputs, where = message
            try:
                self._service.task(script, inputs, where).listen(self._hear).start()
            except (OSError, ValueError):  # the pipe is closed: the end of the process is noticed elsewhere
                return

    def _hear(self, event: TaskEvent) -> None:
        if self._killed.is_set():
            return
        if event.response_type is ResponseType.UPDATE and event.info is not None:
            self._heard(self, event.info)
        elif event.response_type is ResponseType.FAILURE:
            self._heard(self, {"broken": event.task.error or "", "script": event.task.script})
