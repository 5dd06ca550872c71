"""The folder of a run that has not come to its end: where it lies, what it may overwrite, and whose it is."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_osvos.machine import replacing

RUN = "run.json"
"""File in the folder that says which process fills it, and what that writes in the end."""


def unfinished_path(output: str | Path) -> Path:
    """Return where the frames of an output lie until all are there: ``unfinished-NAME.zarr`` beside it."""
    output = Path(output)
    name = f"unfinished-{output.name}"
    return output.with_name(name if output.suffix.lower() == ".zarr" else f"{name}.zarr")


def is_unfinished(folder: str | Path) -> bool:
    """Whether a folder is one of `unfinished_path`."""
    return Path(folder, RUN).is_file()


def own_outputs(folder: str | Path) -> frozenset[Path]:
    """Return what a run that was broken off was to write: if it is there, that run wrote it, or was told to replace it.

    Parameters
    ----------
    folder : str or Path
        See `unfinished_path`.
    """
    return frozenset(Path(path) for path in _run(Path(folder)).get("outputs", ()))


def claim(folder: str | Path, outputs: Iterable[Path]) -> None:
    """Note that this process fills the folder, and what it will write in the end.

    Raises
    ------
    ValueError
        If another process of this machine does.
    OSError
        If it cannot be written.
    """
    folder, own = Path(folder), _this_process()
    run = _run(folder)
    other = run.get("process")
    if other is not None and other != own and _is_alive(other):
        raise ValueError(
            f"{folder} is being filled by another run (process {other['pid']}); wait for it, or choose another output."
        )
    written = sorted({str(path) for path in (*own_outputs(folder), *(path.resolve() for path in outputs))})
    with replacing(folder / RUN) as partial:
        partial.write_text(json.dumps({"process": own, "outputs": written}, indent=1), encoding="utf-8")


def _run(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / RUN).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _this_process() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}


def _is_alive(process: dict[str, Any]) -> bool:
    """Whether a process of this machine is running; of those of others nothing is known."""
    import psutil

    try:
        same_host = process["host"] == socket.gethostname()
        return same_host and bool(psutil.Process(process["pid"]).create_time() == process["began"])
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
