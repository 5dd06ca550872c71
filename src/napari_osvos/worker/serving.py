"""What the client does for one run: hand over the request, then the planes that the engine wants."""

from __future__ import annotations

import dataclasses
import queue
import threading
import traceback
from collections.abc import Callable, Sequence

from napari_osvos.clip import Clip
from napari_osvos.worker.connection import Connection
from napari_osvos.worker.events import Failed
from napari_osvos.worker.mailbox import Mailbox
from napari_osvos.worker.packing import Wishes, pack_request
from napari_osvos.worker.request import Request


class Run:
    """A run that is going on: its request, what the user wants of it, and the thread that reads its planes.

    Parameters
    ----------
    request : Request
        What to do.
    wishes : Wishes
        What the user wants at first, with the number of the run.
    """

    def __init__(self, request: Request, wishes: Wishes) -> None:
        self.request = request
        self.wishes = wishes
        self.is_learning = request.annotations is not None
        self._wanted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._connection: Connection | None = None

    @property
    def number(self) -> int:
        """Which run it is."""
        return self.wishes.run

    @property
    def is_sent(self) -> bool:
        """Whether the engine knows of it."""
        return self._connection is not None

    def serve(self, connection: Connection, on_failure: Callable[[Run, Failed], None]) -> None:
        """Hand the request to an engine that is ready, and read planes for it until `end`."""
        self._connection = connection
        self._steer()  # ends a calibration
        threading.Thread(
            target=self._serve, args=(connection, on_failure), name="napari-osvos planes", daemon=True
        ).start()

    def wish(self, **changes: int | bool) -> None:
        """Note what the user wants now, and tell the engine."""
        self.wishes = dataclasses.replace(self.wishes, turn=self.wishes.turn + 1, **changes)  # type: ignore[arg-type]
        self._steer()

    def want(self, planes: Sequence[int]) -> None:
        """Have planes read for the engine."""
        for p in planes:
            self._wanted.put(p)

    def end(self) -> None:
        """Read no more planes."""
        self._over.set()
        self._wanted.put(None)

    def _steer(self) -> None:
        if self._connection is not None:
            self._connection.send("engine.steer(wishes)", {"wishes": dataclasses.asdict(self.wishes)})

    def _serve(self, connection: Connection, on_failure: Callable[[Run, Failed], None]) -> None:
        try:
            plain = pack_request(self.request, self.wishes, connection.mailbox)
        except Exception as error:
            on_failure(self, Failed(f"The annotations cannot be handed to the engine: {error}", traceback.format_exc()))
            return
        connection.send("engine.run(task, request)", {"request": plain}, on_main_thread=True)
        while (p := self._wanted.get()) is not None and not self._over.is_set():
            address, complaint = _post_plane(self.request.clip, p, connection.mailbox)
            if self._over.is_set():
                Mailbox.discard(address)
                return
            inputs = {"run": self.number, "plane": p, "address": address, "complaint": complaint}
            connection.send("engine.deliver(run, plane, address, complaint)", inputs)


def _post_plane(clip: Clip, p: int, mailbox: Mailbox) -> tuple[str, str]:
    """Read a plane and leave it in the mailbox: its address, or a complaint."""
    try:
        return mailbox.post(clip.plane(p)), ""
    except Exception as error:  # whatever a layer's array may raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        return "", f"Frame {clip.frame_numbers[p // clip.depth]} of {clip.name} cannot be read: {reason}."
