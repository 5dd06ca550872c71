"""What a worker process of this machine does first; dask loads it by its name."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl+C to the process that was started in the terminal, and close the port of dask's own pages."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    close_pages(worker)


def close_pages(node: Any) -> None:
    """Close the port at which a scheduler or worker serves its state by HTTP, even without a dashboard."""
    node.http_server.stop()
