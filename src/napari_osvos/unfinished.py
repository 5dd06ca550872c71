"""The folder of a run that has not come to its end: where it lies, what it may overwrite, and whose it is."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_osvos.machine import is_running, replacing

RUN = "run.json"
"""File in the folder that says which process fills it, and what that writes in the end."""
CLOCK_SECONDS = 5.0
"""By so much two looks at when a process began may differ."""


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


def check_unclaimed(folder: str | Path) -> None:
    """Make sure that no other process of this computer fills the folder, before anything in it is touched.

    Raises
    ------
    ValueError
        If one does.
    """
    other = _run(Path(folder)).get("process")
    if other is not None and _is_another(other):
        raise ValueError(
            f"{folder} is being filled by another run (process {other['pid']}); wait for it, or choose another output."
        )


def claim(folder: str | Path, outputs: Iterable[Path]) -> None:
    """Note that this process fills the folder, and what it will write in the end.

    Raises
    ------
    ValueError
        As `check_unclaimed`.
    OSError
        If it cannot be written.
    """
    folder = Path(folder)
    check_unclaimed(folder)
    written = sorted({str(path) for path in (*own_outputs(folder), *(path.resolve() for path in outputs))})
    with replacing(folder / RUN) as partial:
        partial.write_text(json.dumps({"process": _this_process(), "outputs": written}, indent=1), encoding="utf-8")


def _run(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / RUN).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _this_process() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}


def _is_another(process: dict[str, Any]) -> bool:
    """Whether this is another process of this computer, and running; of those of other computers nothing is known."""
    import psutil

    try:
        if process["host"] != socket.gethostname() or process["pid"] == os.getpid() or not is_running(process["pid"]):
            return False
        # When the clock is set, a process seems to have begun at another time.
        return bool(abs(psutil.Process(process["pid"]).create_time() - process["began"]) < CLOCK_SECONDS)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
