"""Calls that a cluster works off, as many at a time as keep its workers busy; workers may come and go."""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from napari_osvos.cluster_link import is_lost, worker_addresses

AHEAD = 2
"""Calls for each worker: one that it works at, one that waits for it."""
LOOK = 2.0
"""Seconds between two looks at which workers there are."""
POLL = 0.1
"""Seconds between two looks at what the user wants."""
PATIENCE = 300.0
"""Seconds for which workers of this machine may be gone: they start anew by themselves, if at all."""
LARGEST = "4 GiB"
"""Of a broadcast, before dask warns that it is large."""
LOSSES = 10
"""Times that a call is sent again after the cluster has forgotten it, or what it was given."""


@dataclass(eq=False)
class Call:
    """A function to be called by a worker.

    Attributes
    ----------
    function : callable
        Of a module, so that workers find it by its name.
    arguments : tuple
        Plain data, `Broadcast` or `Parcel`.
    about : Any
        Comes back with what the call returned.
    name : str
        What the dashboard calls it.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    about: Any = None
    name: str = "call"
    losses: int = field(default=0, init=False)


class Broadcast:
    """Bytes that every worker gets once, however many calls are given them.

    They are what a task of the cluster returns: workers take them from one another, and the scheduler makes them again
    where all who held them are gone. Scattered data would be lost for good then.

    Parameters
    ----------
    payload : bytes
    """

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.times_sent = 0
        self._future: Any = None

    def future(self, client: Any) -> Any:
        """Return what stands for the bytes in a call."""
        import dask

        if self._future is None or self._future.status in _GONE:
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": LARGEST}):
                self._future = client.submit(bytes, self.payload, key=f"segmenter-{uuid.uuid4().hex}", pure=False)
            self.times_sent += 1
        return self._future

    def forget(self) -> None:
        """Send them anew with the next call."""
        self._future = None


class Parcel:
    """Something large that only the worker of one call gets.

    Parameters
    ----------
    payload : object
    """

    def __init__(self, payload: Any) -> None:
        self.payload = payload

    def future(self, client: Any) -> Any:
        """Return what stands for it in a call."""
        return client.scatter(self.payload, hash=False)


class Flow:
    """Has a cluster work off calls.

    Parameters
    ----------
    client : distributed.Client
        As `cluster_link.connected` yields it.
    check : callable, optional
        Called several times a second while it waits; may raise to end it.
    """

    def __init__(self, client: Any, check: Callable[[], None] = lambda: None) -> None:
        self._client, self._check = client, check
        self._running: dict[str, tuple[Any, Call, str]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._again: list[Call] = []
        self._workers: list[str] = []
        self._looked, self._seen = -LOOK, time.monotonic()

    def run(self, next_call: Callable[[], Call | None]) -> Generator[tuple[Call, Any]]:
        """Yield each call with what it returned, or the exception that it raised, as they come.

        Parameters
        ----------
        next_call : callable
            Returns the next call; None if there is none as long as nothing more has come back.

        Raises
        ------
        ConnectionError
            If the scheduler is lost.
        """
        try:
            while True:
                self._send(next_call)
                if not self._running and not self._again:
                    return
                for key in self._wait():
                    future, call, _ = self._running.pop(key)
                    outcome = self._outcome(future, call)
                    if outcome is not _FORGOTTEN:
                        yield call, outcome
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Take back what has not come back."""
        futures = [future for future, *_ in self._running.values()]
        self._running.clear()
        if futures and not is_lost(self._client):
            with contextlib.suppress(Exception):  # the connection may end just now
                self._client.cancel(futures, force=True)

    def _send(self, next_call: Callable[[], Call | None]) -> None:
        self._look()
        while len(self._running) < AHEAD * len(self._workers):
            call = self._again.pop(0) if self._again else next_call()
            if call is None:
                return
            try:
                self._submit(call)
            except Exception as error:
                if is_lost(self._client):
                    raise self._lost() from error
                if not isinstance(error, TimeoutError | OSError):
                    raise
                self._again.insert(0, call)  # its worker has just gone
                self._looked = -LOOK
                return

    def _submit(self, call: Call) -> None:
        arguments = [one.future(self._client) if isinstance(one, Broadcast | Parcel) else one for one in call.arguments]
        key = f"{call.name}-{uuid.uuid4().hex}"
        worker = self._least_busy()
        future = self._client.submit(
            call.function, *arguments, key=key, pure=False, workers=[worker], allow_other_workers=True
        )
        self._running[key] = future, call, worker
        future.add_done_callback(lambda ended, key=key: self._ended.put(key))

    def _least_busy(self) -> str:
        """Return the worker with the fewest calls: the scheduler would keep to those that have the broadcast."""
        calls = Counter(worker for _, _, worker in self._running.values())
        return min(self._workers, key=lambda worker: calls[worker])

    def _look(self) -> None:
        if time.monotonic() - self._looked >= LOOK or not self._workers:
            self._workers = worker_addresses(self._client)
            self._looked = time.monotonic()
            if self._workers:
                self._seen = self._looked
            elif self._client.cluster is not None and self._looked - self._seen > PATIENCE:
                raise ConnectionError("All workers of this machine have ended, and none starts anew")

    def _wait(self) -> list[str]:
        """Return the calls that have come back, after a moment at most."""
        self._check()
        if is_lost(self._client):
            raise self._lost()
        keys = []
        with contextlib.suppress(queue.Empty):
            keys.append(self._ended.get(timeout=POLL))
            while True:
                keys.append(self._ended.get_nowait())
        return [key for key in keys if key in self._running]

    def _outcome(self, future: Any, call: Call) -> Any:
        from concurrent.futures import CancelledError

        if future.status == "finished":
            try:
                return future.result()
            except CancelledError:
                pass
            except Exception as error:
                if is_lost(self._client):
                    raise self._lost() from error
                return error
        elif future.status == "error":
            return future.exception()
        if is_lost(self._client):
            raise self._lost()
        call.losses += 1
        if call.losses > LOSSES:
            return RuntimeError(f"The cluster has lost its workers {LOSSES} times while they did the same")
        for one in call.arguments:
            if isinstance(one, Broadcast):
                one.forget()
        self._again.append(call)
        return _FORGOTTEN

    def _lost(self) -> ConnectionError:
        return ConnectionError("The connection to the scheduler is lost")


_FORGOTTEN = object()
_GONE = ("cancelled", "lost", "error")
