"""The engine process: ``python -m napari_osvos.worker PARENT_PID FOLDER...``, started by its client."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import psutil

NICENESS = 5
PARENT_LOOK = 0.5
"""Seconds between two looks whether the client is still there."""


class WholeLines(io.TextIOBase):
    """A text stream that writes whole lines only, so that those of several threads do not mix.

    Appose's messages are lines, which its threads print without a lock.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._begun = threading.local()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Write what is whole now; keep the rest for the next call of this thread."""
        begun = getattr(self._begun, "text", "") + text
        whole, newline, self._begun.text = begun.rpartition("\n")
        if newline:
            with self._lock:
                self._stream.write(whole + newline)
                self._stream.flush()
        return len(text)


class Tasks(dict[str, Any]):
    """Tasks by name: one thread of Appose looks through them while another adds some."""

    def items(self) -> Any:
        """Copies, at once."""
        return list(super().items())


def main() -> None:
    """Serve the client until it closes the pipe or is gone."""
    parent, folders = int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    _keep_protocol_apart()
    _leave_terminal()
    _die_first()
    threading.Thread(target=_follow, args=(parent, folders), name="parent watch", daemon=True).start()

    # On Windows, libraries that are first imported after a thread reads the standard input hang.
    import numpy  # noqa: F401
    import torch  # noqa: F401
    from appose.python_worker import Worker

    from napari_osvos.worker.engine import EngineProcess
    from napari_osvos.worker.mailbox import Mailbox

    worker = Worker()
    worker.tasks = Tasks()
    worker.exports["engine"] = EngineProcess(Mailbox(folders))
    _step_back()  # not before: the user waits for the start
    worker.run()  # until the client closes the pipe
    _leave(folders)


def _keep_protocol_apart() -> None:
    """Let only Appose's lines reach the client; what libraries written in C print goes to the standard error."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = WholeLines(protocol)


def _leave_terminal() -> None:
    """Let signals of the terminal (Ctrl+C, closing it) reach napari alone: its end is this process' end, in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.setsid()


def _die_first() -> None:
    """Have the system end this process, and not the viewer, when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _step_back() -> None:
    """Let the viewer have the processor first."""
    me = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError):
        me.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else me.nice() + NICENESS)


def _follow(parent: int, folders: list[Path]) -> None:
    """End this process when its client is gone, whatever the main thread computes."""
    try:
        client = psutil.Process(parent)
        while client.is_running() and client.status() != psutil.STATUS_ZOMBIE:
            time.sleep(PARENT_LOOK)
    except psutil.NoSuchProcess:
        pass
    _leave(folders)


def _leave(folders: list[Path]) -> None:
    """End this process, and not only when its threads are done; a client that was killed has not cleared up."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
